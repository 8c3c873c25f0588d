"""open_clip's model configs, read as the json files that they are: what a CLIP is made of, before it is built.

Nothing here imports torch: a plan, a check and a refusal need only this.
"""

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wilss.data.manifest import EncoderSpec
from wilss.errors import EncoderError
from wilss.models.encoders.weights import config_file, read_config

RESNET_STRIDE = 32
VIT_PATCH = 16


def clip_config(spec: EncoderSpec) -> dict[str, Any]:
    """open_clip's json of `spec` as {model_cfg, preprocess_cfg}: own file, hub's, or open_clip's list.

    Raises EncoderError for a model that is not known, WeightsError for a config that cannot be read.
    """
    content = _clip_json(spec)
    whole = content if "model_cfg" in content else {"model_cfg": content, "preprocess_cfg": {}}
    missing = [key for key in ("embed_dim", "vision_cfg", "text_cfg") if key not in whole["model_cfg"]]
    if missing:
        raise EncoderError(f"the config of {clip_name(spec)} lacks {', '.join(missing)}; write open_clip's form.")
    return whole


def clip_name(spec: EncoderSpec) -> str:
    """What a CLIP is called in sentences."""
    return str(spec.config or spec.model)


def _clip_json(spec: EncoderSpec) -> dict[str, Any]:
    if (own := config_file(spec)) is not None:
        return read_config(own)
    name = spec.model or ""
    known = {path.stem: path for path in (_open_clip_folder() / "model_configs").glob("*.json")}
    if name not in known:
        raise EncoderError(f"open_clip has no model {name!r}; use one such as ViT-B-16-quickgelu, or pass `config:`.")
    content: dict[str, Any] = json.loads(known[name].read_text(encoding="utf-8"))
    return content


def _open_clip_folder() -> Path:
    library = importlib.util.find_spec("open_clip")
    if library is None or library.origin is None:
        raise EncoderError("open_clip is not installed; run `pip install open_clip_torch`.")
    return Path(library.origin).parent


def check_tower(config: Mapping[str, Any], name: str) -> None:
    """EncoderError for a model that has no dense value path, or whose text side is not to be had, by its config."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    reason = None
    if "multimodal_cfg" in config or vision.get("attentional_pool"):
        reason = "an attentional pool (CoCa)"
    elif vision.get("timm_model_name"):
        reason = f"a timm image tower ({vision['timm_model_name']}; as SigLIP, ConvNeXt and EVA have)"
    if reason:
        raise EncoderError(f"{name} has {reason}, which wilss cannot use; take a CLIP ViT or ResNet of OpenAI's form.")
    _check_text(text, name)


def _check_text(text: Mapping[str, Any], name: str) -> None:
    """EncoderError for a text side that needs a package which is not there. text: open_clip's text_cfg."""
    needed = text.get("hf_model_name") or text.get("hf_tokenizer_name")
    if needed and not importlib.util.find_spec("transformers"):
        kind = "text tower" if text.get("hf_model_name") else "tokenizer"
        raise EncoderError(f"{name} has a {kind} of transformers ({needed}); run `pip install 'wilss[text]'`.")


def clip_stride(config: Mapping[str, Any]) -> Any:
    """The patch (ViT) or stride (ResNet) of an image tower, as its config writes it. config: open_clip's model_cfg."""
    vision = config["vision_cfg"]
    return RESNET_STRIDE if isinstance(vision.get("layers"), list) else vision.get("patch_size", VIT_PATCH)
