"""Who says what: a CLIP of open_clip's, or a vision transformer of timm's with its text side beside it (TIPSv2)."""

from typing import Literal

import torch

from wilss.data.manifest import EncoderSpec
from wilss.errors import EncoderError
from wilss.models.encoders.arithmetic import Precision
from wilss.models.encoders.clip.configs import DenseForm, clip_name
from wilss.models.encoders.clip.encoder import DenseClip, open_clip_encoder, require_clip
from wilss.models.encoders.clip.tips import open_tips
from wilss.models.encoders.clip.tips_files import require_tips
from wilss.models.encoders.vit.encoder import require_vit


def open_what(
    spec: EncoderSpec,
    device: torch.device | str,
    *,
    form: DenseForm | Literal["auto"] = "auto",
    precision: Precision | None = None,
) -> DenseClip:
    """Opens the `clip` of a manifest, see `encoder.open_clip_encoder`. Raises what that or `tips.open_tips` raises."""
    if spec.library == "timm":
        return open_tips(spec, device, form=form, precision=precision)
    _refuse_text(spec)
    return open_clip_encoder(spec, device, form=form, precision=precision)


def require_what(spec: EncoderSpec) -> None:
    """Raise EncoderError for a `clip` that cannot be opened, by its names; see `encoder.require_clip`."""
    if spec.library == "open_clip":
        _refuse_text(spec)
        require_clip(spec)
        return
    require_tips(spec)
    require_vit(spec)


def _refuse_text(spec: EncoderSpec) -> None:
    if spec.text is not None:
        raise EncoderError(f"{clip_name(spec)} of open_clip has its text tower in its weights; leave `text` out.")
