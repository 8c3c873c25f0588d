"""Whether the encoders that a manifest names can be opened: local weights are, and nothing is fetched."""

from collections.abc import Iterator

from wilss.data.manifest import EncoderSpec, Manifest
from wilss.errors import EncoderError, WeightsError

from ..sources.base import require_encoder


def encoder_faults(manifest: Manifest) -> Iterator[str]:
    """A sentence for every encoder that is not known, or whose local file is not there or does not fit it."""
    for name in ("clip", "vit"):
        spec: EncoderSpec = getattr(manifest.encoders, name)
        try:
            require_encoder(name, spec)
            if name == "clip":
                _require_form(manifest, spec)
            if spec.file is not None:
                _open(name, spec)
            elif name == "clip" and spec.text is not None:
                _check_text_side(spec)
        except (EncoderError, WeightsError) as error:
            yield f"{manifest.path}: encoders.{name}: {error}"


def _require_form(manifest: Manifest, spec: EncoderSpec) -> None:
    """EncoderError for a `form` under `masks` that the image tower does not have."""
    from wilss.models.encoders.clip_configs import FORMS, form_of

    form = manifest.masks.get("fmwiss", {}).get("form")
    if form in FORMS:  # else the section itself is at fault
        form_of(spec, form)


def _check_text_side(spec: EncoderSpec) -> None:
    from wilss.models.encoders.tips import check_text_side

    check_text_side(spec)


def _open(name: str, spec: EncoderSpec) -> None:
    from wilss.models.encoders.dino import open_vit
    from wilss.models.encoders.what import open_what

    if name == "clip":
        open_what(spec, "cpu")
    else:
        open_vit(spec, "cpu")
