"""Whether the encoders that a manifest names can be opened: local weights are, and nothing is fetched."""

from collections.abc import Collection, Iterator
from typing import NamedTuple

from wilss.data.manifest import EncoderSpec, Manifest
from wilss.errors import EncoderError, WeightsError
from wilss.models.encoders.to_fetch import to_fetch

from ..sources.base import require_encoder
from ..sources.section import encoders_of

_NOT_FOR_ALL = (
    " Masks by cam, sam3 or annotation need no encoders: `manifest check --source cam` looks at those alone that a "
    "source needs, --no-weights at none."
)


class EncoderReport(NamedTuple):
    """faults: encoders that would stop a command. warnings: what the first use of one will fetch."""

    faults: list[str]
    warnings: list[str]


def check_encoders(manifest: Manifest, source: str | None = None) -> EncoderReport:
    """A sentence for every encoder that is not known, does not fit its file, cannot be had, or will be fetched.

    Files of the hub are looked for where a step's masks need them. With `vit: same` an error of clip is told once.
    source: of the masks, whose encoders alone are looked at; None for all, by the supervision of the steps.
    """
    report = EncoderReport([], [])
    wanted = ("clip", "vit") if source is None else encoders_of(manifest, source)
    for name in wanted:
        if name == "vit" and manifest.encoders.is_one and report.faults:
            break
        try:
            report.warnings.extend(_checked(manifest, name, wanted if source else _needed(manifest)))
        except WeightsError as error:
            report.faults.append(f"{manifest.path}: encoders.{name}: {error}{_NOT_FOR_ALL if source is None else ''}")
        except EncoderError as error:
            report.faults.append(f"{manifest.path}: encoders.{name}: {error}")
    return EncoderReport(report.faults, list(dict.fromkeys(report.warnings)))


def _checked(manifest: Manifest, name: str, needed: Collection[str]) -> Iterator[str]:
    spec: EncoderSpec = getattr(manifest.encoders, name)
    require_encoder(name, spec)
    if name == "clip":
        _require_form(manifest, spec)
    _require_blocks(manifest, name, spec)
    if name in needed and (missing := to_fetch(spec, with_text=name == "clip")):
        yield f"not here, will be fetched at first use: {'; '.join(missing)}."
    if spec.file is not None:
        _open(name, spec)
    elif name == "clip" and spec.text is not None:
        _check_text_side(spec)


def _needed(manifest: Manifest) -> set[str]:
    """The encoders that the sources of steps without pixel labels open."""
    kinds = {manifest.supervision(step) for step in range(manifest.protocol.num_steps)}
    return ({"clip", "vit"} if "tags" in kinds else set()) | ({"vit"} if "shots" in kinds else set())


def _require_form(manifest: Manifest, spec: EncoderSpec) -> None:
    """EncoderError for a `form` or `score` under `masks` that the image tower does not have."""
    from wilss.models.encoders.clip.configs import FORMS, form_of, require_last_block

    section = manifest.masks.get("fmwiss", {})
    form = section.get("form")
    if form in FORMS:  # else the section itself is at fault
        form_of(spec, form)
    if section.get("score") == "gradcam":
        require_last_block(spec)


def _require_blocks(manifest: Manifest, name: str, spec: EncoderSpec) -> None:
    """EncoderError for more `attention_blocks` under `masks` than the network has."""
    from wilss.models.encoders.vit.encoder import require_blocks

    section = manifest.masks.get("fmwiss", {})
    count, of_clip = section.get("attention_blocks"), section.get("clip_attention")
    if isinstance(count, int) and count > 1 and (name == "vit" or of_clip is True):  # else the section is at fault
        require_blocks(spec, count)


def _check_text_side(spec: EncoderSpec) -> None:
    from wilss.models.encoders.clip.tips import check_text_side

    check_text_side(spec)


def _open(name: str, spec: EncoderSpec) -> None:
    from wilss.models.encoders.clip.opening import open_what
    from wilss.models.encoders.vit.encoder import open_vit

    if name == "clip":
        open_what(spec, "cpu")
    else:
        open_vit(spec, "cpu")
