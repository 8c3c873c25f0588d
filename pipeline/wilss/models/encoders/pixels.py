"""What every encoder does with its input: check the sides, choose the precision."""

import contextlib
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from wilss.errors import EncoderError
from wilss.models.encoders.arithmetic import LinearByOneDnn, has_onednn_linear

__all__ = ["Precision", "check_images", "precision_context", "precision_for"]

Precision = Literal["fp32", "bf16"]


def check_images(images: Tensor, multiple: int) -> tuple[int, int]:
    """The grid (h, w) of a uint8 batch [B, 3, H, W]; EncoderError unless both sides fit `multiple`."""
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise EncoderError(f"an encoder takes uint8 [B, 3, H, W], not {images.dtype} {list(images.shape)}.")
    height, width = images.shape[-2:]
    if not height or not width or height % multiple or width % multiple:
        raise EncoderError(
            f"images of {height} x {width} pixels do not fit patches of {multiple}; "
            f"resize both sides to multiples of {multiple}."
        )
    return height // multiple, width // multiple


def precision_for(device: torch.device, precision: Precision | None) -> Precision:
    """`precision`, or where it is None bf16 on CUDA and fp32 elsewhere."""
    if precision not in (None, "fp32", "bf16"):
        raise EncoderError(f"there is no precision {precision!r}; use fp32 or bf16.")
    return precision or ("bf16" if device.type == "cuda" else "fp32")


@contextlib.contextmanager
def precision_context(device: torch.device, precision: Precision) -> Iterator[None]:
    """Autocast to bf16, or none, whatever surrounds it; fp32 on a CPU by the faster library."""
    by_onednn = device.type == "cpu" and precision == "fp32" and has_onednn_linear()
    with (
        torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"),
        LinearByOneDnn() if by_onednn else contextlib.nullcontext(),
    ):
        yield
