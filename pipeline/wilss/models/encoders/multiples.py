"""What an encoder's input sides must be multiples of, without building it: a plan needs only that.

Nothing here imports torch; open_clip's model configs are read as the json files that they are.
"""

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

from wilss.data.manifest import EncoderSpec
from wilss.errors import EncoderError
from wilss.models.encoders.weights import config_file, read_config

RESNET_STRIDE = 32
VIT_PATCH = 16


def input_multiple(spec: EncoderSpec) -> int:
    """The patch (ViT) or stride (ResNet) of the encoder, in pixels: height and width must be multiples of it.

    Raises EncoderError for a model that is not known, WeightsError for a config that cannot be read.
    """
    return _clip_multiple(spec) if spec.library == "open_clip" else _vit_multiple(spec)


def clip_config(spec: EncoderSpec) -> dict[str, Any]:
    """open_clip's json of `spec` as {model_cfg, preprocess_cfg}: own file, hub's, or open_clip's list."""
    content = _clip_json(spec)
    whole = content if "model_cfg" in content else {"model_cfg": content, "preprocess_cfg": {}}
    missing = [key for key in ("embed_dim", "vision_cfg", "text_cfg") if key not in whole["model_cfg"]]
    if missing:
        raise EncoderError(f"the config of {_called(spec)} lacks {', '.join(missing)}; write open_clip's form.")
    return whole


def _clip_json(spec: EncoderSpec) -> dict[str, Any]:
    if (own := config_file(spec)) is not None:
        return read_config(own)
    name = spec.model or ""
    folder = _open_clip_folder() / "model_configs"
    known = {path.stem: path for path in folder.glob("*.json")}
    if name not in known:
        raise EncoderError(f"open_clip has no model {name!r}; use one such as ViT-B-16-quickgelu, or pass `config:`.")
    content: dict[str, Any] = json.loads(known[name].read_text(encoding="utf-8"))
    return content


def _open_clip_folder() -> Path:
    library = importlib.util.find_spec("open_clip")
    if library is None or library.origin is None:
        raise EncoderError("open_clip is not installed; run `pip install open_clip_torch`.")
    return Path(library.origin).parent


def _clip_multiple(spec: EncoderSpec) -> int:
    vision = clip_config(spec)["model_cfg"]["vision_cfg"]
    if isinstance(vision.get("layers"), list):
        return RESNET_STRIDE
    return _square(vision.get("patch_size", VIT_PATCH), spec)


def _vit_multiple(spec: EncoderSpec) -> int:
    patch = dict(spec.args or {}).get("patch_size")
    if patch is not None:
        return _square(patch, spec)
    named = re.search(r"patch(\d+)", spec.model or "")
    return int(named.group(1)) if named else VIT_PATCH


def _square(patch: Any, spec: EncoderSpec) -> int:
    sides = set(patch) if isinstance(patch, (list, tuple)) else {patch}
    if len(sides) != 1:
        raise EncoderError(f"{_called(spec)} has patches of {patch} pixels; wilss needs square ones.")
    return int(sides.pop())


def _called(spec: EncoderSpec) -> str:
    return str(spec.config or spec.model or spec.library)
