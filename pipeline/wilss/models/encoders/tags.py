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
    if not tag or tag.partition(":")[0] == "random":
        return name
    tag = tag.removeprefix(f"{name.partition('.')[0]}.")
    if "." in name and name.partition(".")[2] != tag:
        raise EncoderError(f"{name} has a tag, and `pretrained: {spec.pretrained}` names another; keep one of them.")
    return f"{name.partition('.')[0]}.{tag}"


def pretrained_cfg(spec: EncoderSpec) -> "PretrainedCfg | None":
    """timm's entry of these weights; of its default weights for a name without a tag; None for an own network.

    Raises EncoderError for a tag that timm does not know.
    """
    from timm.models import get_pretrained_cfg

    name = full_name(spec)
    if "." in name:
        _require_known_tag(name)
    return get_pretrained_cfg(name, allow_unregistered=True) if name else None


def _require_known_tag(name: str) -> None:
    from timm.models import get_arch_pretrained_cfgs

    model, _, tag = name.partition(".")
    known = sorted(full.partition(".")[2] for full in get_arch_pretrained_cfgs(model))
    if known and tag not in known:
        raise EncoderError(f"timm has no weights {tag!r} for {model}{closest(tag, known)}.")
