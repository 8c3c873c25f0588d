"""Of which family and licence published weights are, tag by tag."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from wilss.data.manifest import EncoderSpec
from wilss.models.encoders.clip.families import ClipFamily, clip_family_of
from wilss.models.encoders.tags import cfgs_of
from wilss.models.encoders.vit.families import Family, family_of

#: timm's spelling, and that of the families.
_SPELT = {"apache-2.0": "Apache-2.0", "apple-ascl": "Apple ASCL", "cc-by-nc-4.0": "CC-BY-NC-4.0", "mit": "MIT"}


@dataclass(frozen=True, kw_only=True)
class KnownWeights:
    """Published weights of one family and licence. tags: of the model. licence: "" where only their page says it."""

    family: str
    licence: str
    tags: tuple[str, ...]


def by_licence(name: str, tags: Sequence[str], library: Literal["open_clip", "timm"]) -> tuple[KnownWeights, ...]:
    """The published weights `tags` of the model `name`, in groups of one family and licence."""
    groups: dict[tuple[str, str], list[str]] = {}
    for tag in tags:
        family = family_of_tag(name, tag, library)
        groups.setdefault((family.name, family.licence or _licence_of(name, tag, library)), []).append(tag)
    return tuple(
        KnownWeights(family=family_name, licence=licence, tags=tuple(own))
        for (family_name, licence), own in groups.items()
    )


def family_of_tag(name: str, tag: str, library: Literal["open_clip", "timm"]) -> Family | ClipFamily:
    """The family of a model's weights."""
    if library == "open_clip":
        return clip_family_of(EncoderSpec(library=library, model=name, pretrained=tag))
    return family_of(EncoderSpec(library=library, model=f"{name}.{tag}"))


def _licence_of(name: str, tag: str, library: Literal["open_clip", "timm"]) -> str:
    """As timm's entry of these weights has it, "" where it has none; of open_clip's by their repository on the hub."""
    full = f"{name}.{tag}"
    if library == "open_clip":
        from open_clip.pretrained import get_pretrained_cfg

        owner, _, repository = str(get_pretrained_cfg(name, tag).get("hf_hub") or "").strip("/").partition("/")
        full = repository.partition("/")[0] if owner == "timm" else ""
    model, _, own_tag = full.partition(".")
    entry = cfgs_of(model).get(own_tag) if own_tag else None
    licence = (entry.license if entry else None) or ""
    return _SPELT.get(licence, licence)
