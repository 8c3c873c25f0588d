"""Which of timm's published weights a spec stands for: by the tag in its model's name, or by its `pretrained`."""

from typing import TYPE_CHECKING

from wilss.data.manifest import EncoderSpec
from wilss.data.taxonomy import closest
from wilss.errors import EncoderError

if TYPE_CHECKING:
    from timm.models import PretrainedCfg


def full_name(spec: EncoderSpec) -> str:
    """timm's name of the weights: the model's, with the tag that `pretrained` names ("" without a model).

    Raises EncoderError for two tags.
    """
    name, tag = spec.model or "", spec.pretrained or ""
    if not tag or _is_random(spec):
        return name
    tag = tag.removeprefix(f"{name.partition('.')[0]}.")
    if "." in name and name.partition(".")[2] != tag:
        raise EncoderError(f"{name} has a tag, and `pretrained: {spec.pretrained}` names another; keep one of them.")
    return f"{name.partition('.')[0]}.{tag}"


def fetched_name(spec: EncoderSpec) -> str:
    """The same, with timm's default tag where its weights are fetched and none is named."""
    name = full_name(spec)
    if not name or "." in name or spec.file or _is_random(spec):
        return name
    entry = pretrained_cfg(spec)
    return f"{name}.{entry.tag}" if entry and entry.tag else name


def _is_random(spec: EncoderSpec) -> bool:
    return (spec.pretrained or "").partition(":")[0] == "random"


def pretrained_cfg(spec: EncoderSpec) -> "PretrainedCfg | None":
    """timm's entry of these weights; of its default weights for a name without a tag; None for an own network.

    Raises EncoderError for a tag that timm does not know.
    """
    from timm.models import get_pretrained_cfg

    name = full_name(spec)
    if "." in name:
        _require_known_tag(name)
    return get_pretrained_cfg(name, allow_unregistered=True) if name else None


def cfgs_of(model: str) -> "dict[str, PretrainedCfg]":
    """timm's entries of all published weights of a model, by tag. model: with or without a tag."""
    from timm.models import get_arch_pretrained_cfgs

    return {name.partition(".")[2]: cfg for name, cfg in sorted(get_arch_pretrained_cfgs(model).items())}


def require_known(model: str) -> None:
    """EncoderError where timm has no model of this name, with the closest that it has."""
    from timm.models import is_model, list_models

    if is_model(model):
        return
    from open_clip import list_models as open_clip_models

    name = model.partition(".")[0]
    if name in open_clip_models():
        raise EncoderError(f"timm has no model {name!r}; it is one of open_clip's.")
    raise EncoderError(f"timm has no model {name!r}{closest(name, list_models(), or_all=False)}.")


def require_activation(spec: EncoderSpec) -> None:
    """EncoderError for weights of a CLIP that were trained with QuickGELU, in a network of GELU.

    timm has two models of each such form, and lists some weights under both.
    """
    model, _, tag = fetched_name(spec).partition(".")
    quick = model.replace("_clip_", "_clip_quickgelu_", 1)
    if quick == model or "quickgelu" in model or "act_layer" in spec.args:
        return
    tags = cfgs_of(quick)
    if tag in tags:
        raise EncoderError(f"the weights {tag!r} were trained with QuickGELU, and {model} computes GELU; use {quick}.")
    if tags and not tag and spec.file:
        raise EncoderError(
            f"{spec.file} may have been trained with GELU or QuickGELU; name the weights that it is a copy of by "
            f"`pretrained:`, and with QuickGELU `model: {quick}`."
        )


def _require_known_tag(name: str) -> None:
    model, _, tag = name.partition(".")
    known = cfgs_of(model)
    if known and tag not in known:
        raise EncoderError(f"timm has no weights {tag!r} for {model}{closest(tag, known)}.")
