"""open_clip's model configs, read as the json files that they are: what a CLIP is made of, before it is built.

Nothing here imports torch: a plan, a check and a refusal need only this.
"""

import functools
import importlib.util
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from wilss.data.manifest import EncoderSpec
from wilss.data.taxonomy import closest
from wilss.digests import digest_of_json
from wilss.errors import EncoderError
from wilss.models.encoders.weights import config_file, read_config

VIT_PATCH = 16
CONVOLUTION_STRIDE = 32
_FIVE_STAGES, _THEIR_STRIDE = ("fastvit_mci3", "fastvit_mci4"), 64  # MobileCLIP2-S3 and S4

#: How a place gets a feature in the space of the text: see `towers` and `timm_towers`.
DenseForm = Literal["maskclip", "value", "pool_each", "head_each", "neighbour", "proxy"]
FORMS: tuple[DenseForm, ...] = get_args(DenseForm)
_OF_A_RESNET: tuple[DenseForm, ...] = ("maskclip", "value")
_OF_A_PLAIN_VIT: tuple[DenseForm, ...] = ("maskclip", "value", "neighbour", "proxy")

#: How the names of timm's image towers begin: those that are taken, and why others are not.
_CONVOLUTIONS = ("convnext_", "fastvit_")
_TRANSFORMERS = (
    "eva_",
    "eva02_",
    "vit_tiny_",
    "vit_small_",
    "vit_medium_",
    "vit_base_",
    "vit_large_",
    "vit_huge_",
    "vit_so400m_",
    "vit_giantopt_",
    "vit_gigantic_",
    "vit_pe_core_",
    "vitamin_",
)
_NOT_TAKEN = {
    "vit_relpos_": "has a relative position bias between its patches",
    "swin": "attends in windows whose number is fixed",
    "resnet": "has a pool of its own in no published model",
}


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


def noted_config(spec: EncoderSpec) -> dict[str, str]:
    """model_cfg: sha256 of what a CLIP's config says of it, whichever file says so; nothing for another library's."""
    return {"model_cfg": digest_of_json(clip_config(spec)["model_cfg"])} if spec.library == "open_clip" else {}


def clip_name(spec: EncoderSpec) -> str:
    """What a CLIP is called in sentences."""
    return str(spec.config or spec.model)


def _clip_json(spec: EncoderSpec) -> dict[str, Any]:
    if (own := config_file(spec)) is not None:
        return read_config(own)
    name = spec.model or ""
    known = _files()
    if name not in known:
        raise EncoderError(f"open_clip has no model {name!r}{_instead(name)}")
    content: dict[str, Any] = json.loads(known[name].read_text(encoding="utf-8"))
    return content


def _instead(name: str) -> str:
    """The end of a sentence about a name that is none of open_clip's."""
    from timm.models import is_model

    if is_model(name):
        return "; it is one of timm's, which has no text side."
    near = closest(name, open_clip_models(), or_all=False)
    return f"{near or '; use one such as ViT-B-16-quickgelu, or pass `config:`'}."


def open_clip_models() -> list[str]:
    """The names of open_clip's own models, sorted."""
    return sorted(_files())


def _files() -> dict[str, Path]:
    return _files_in(_open_clip_folder() / "model_configs")


@functools.cache  # a library's folder stays as it was installed
def _files_in(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in folder.glob("*.json")}


def _open_clip_folder() -> Path:
    library = importlib.util.find_spec("open_clip")
    if library is None or library.origin is None:
        raise EncoderError("open_clip is not installed; run `pip install open_clip_torch`.")
    return Path(library.origin).parent


def check_tower(config: Mapping[str, Any], name: str) -> None:
    """EncoderError for a model that has no dense path, or whose text side is not to be had, by its config."""
    vision = config["vision_cfg"]
    if "multimodal_cfg" in config or vision.get("attentional_pool"):
        reason: str | None = (
            "has an attentional pool with queries of its own (CoCa), which has no value of a single place"
        )
    else:
        reason = _why_not(str(vision.get("timm_model_name") or ""), vision)
    if reason:
        raise EncoderError(f"{name} {reason}; take one such as ViT-B-16-quickgelu or ViT-B-16-SigLIP2.")
    _check_text(config["text_cfg"], name)


def _why_not(tower: str, vision: Mapping[str, Any]) -> str | None:
    """Why a timm image tower cannot be used, by its name, as the end of a sentence; None for those that can."""
    if not tower or tower.startswith((*_CONVOLUTIONS, *_TRANSFORMERS)):
        custom = vision.get("timm_pool") in ("abs_attn", "rot_attn")
        return f"pools by {vision['timm_pool']}, which no published model does" if custom else None
    for begin, reason in _NOT_TAKEN.items():
        if tower.startswith(begin):
            return f"has the image tower {tower} of timm, which {reason}"
    return f"has the image tower {tower} of timm, of which wilss knows no dense features"


def _check_text(text: Mapping[str, Any], name: str) -> None:
    """EncoderError for a text side that needs a package which is not there. text: open_clip's text_cfg."""
    needed = text.get("hf_model_name") or text.get("hf_tokenizer_name")
    if needed and not importlib.util.find_spec("transformers"):
        kind = "text tower" if text.get("hf_model_name") else "tokenizer"
        raise EncoderError(f"{name} has a {kind} of transformers ({needed}); run `pip install 'wilss[text]'`.")


def clip_stride(config: Mapping[str, Any]) -> Any:
    """The patch (ViT) or stride (convolutions) of an image tower, as its config says. config: open_clip's model_cfg."""
    vision = config["vision_cfg"]
    tower = vision.get("timm_model_name")
    if has_convolutions(vision):
        return _THEIR_STRIDE if str(tower).startswith(_FIVE_STAGES) else CONVOLUTION_STRIDE
    if tower:
        named = re.search(r"patch(\d+)", tower)
        return int(named.group(1)) if named else VIT_PATCH  # ViTamin's and MobileCLIP-B's stems: 16
    return vision.get("patch_size", VIT_PATCH)


def has_convolutions(vision: Mapping[str, Any]) -> bool:
    """Whether an image tower is convolutional up to its head. vision: open_clip's vision_cfg."""
    tower = vision.get("timm_model_name")
    return tower.startswith(_CONVOLUTIONS) if tower else isinstance(vision.get("layers"), list)


def forms_of(config: Mapping[str, Any]) -> tuple[DenseForm, ...]:
    """The dense forms that an image tower has, the default first. config: open_clip's model_cfg."""
    vision = config["vision_cfg"]
    if has_convolutions(vision):
        return ("head_each",) if vision.get("timm_model_name") else _OF_A_RESNET
    if vision.get("timm_model_name") and vision.get("timm_pool") == "map":
        return ("pool_each", *_OF_A_PLAIN_VIT)
    return _OF_A_PLAIN_VIT


def form_of(spec: EncoderSpec, form: DenseForm | Literal["auto"] = "auto") -> DenseForm:
    """The dense form of a CLIP: `form`, or its tower's default for `auto`.

    Raises EncoderError for one that its tower does not have, and what `clip_config` raises.
    """
    known = _OF_A_PLAIN_VIT if spec.library == "timm" else forms_of(clip_config(spec)["model_cfg"])
    if form == "auto":
        return known[0]
    if form not in known:
        why = ", whose attention it is about: its image tower is convolutional" if form in _OF_A_PLAIN_VIT[2:] else ""
        raise EncoderError(f"{clip_name(spec)} has no dense form {form!r}{why}; use {', '.join(known)} or auto.")
    return form


def require_last_block(spec: EncoderSpec) -> None:
    """Raise EncoderError for a CLIP without the last block of a transformer, which Grad-CAM (CLIP-ES) is taken of."""
    if spec.library == "open_clip" and has_convolutions(clip_config(spec)["model_cfg"]["vision_cfg"]):
        raise EncoderError(
            f"{clip_name(spec)} has a convolutional image tower, and score: gradcam is of a transformer's last block; "
            "use score: text."
        )
