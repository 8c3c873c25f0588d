"""The patch grid of a batch, and position tables resampled to it in the ways that published encoders were used with."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from wilss.errors import EncoderError

Resampling = Literal["dino", "size", "timm"]


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


def resample_positions(
    table: Tensor, old: tuple[int, int], new: tuple[int, int], *, prefix: int, how: Resampling
) -> Tensor:
    """The position table of a `new` grid, bicubic from that of the `old` grid; prefix rows stay as they are.

    dino: DINO's and iBOT's own code: `scale_factor = (n + 0.1) / old`, which also shifts the samples; no
    antialias.
    size: plain `size=`, no antialias: MaskCLIP's.
    timm: `size=` with antialias: timm's and open_clip's. With antialias torch takes another cubic kernel,
          so this differs from `size` on larger grids too.

    Both sides are compared, not the number of tokens: 7 x 28 is not 14 x 14. Sine and cosine tables are
    resampled as learned ones are, as open_clip does. The DINO papers' attention differs by 1e-2 between
    these ways at every size but the table's own, where all of them return the table itself.

    table: [prefix + old h * old w, D]. Returns [prefix + new h * new w, D], the same dtype.
    """
    if old == new:
        return table
    grid = table[prefix:].float().T.reshape(1, -1, *old)
    resized = _resize(grid, old, new, how)[0].flatten(1).T.to(table.dtype)
    return torch.cat([table[:prefix], resized])


def _resize(grid: Tensor, old: tuple[int, int], new: tuple[int, int], how: Resampling) -> Tensor:
    """[1, D, old h, old w] to [1, D, new h, new w]."""
    if how == "dino":
        scale = ((new[0] + 0.1) / old[0], (new[1] + 0.1) / old[1])
        return F.interpolate(grid, scale_factor=scale, mode="bicubic")
    return F.interpolate(grid, size=new, mode="bicubic", antialias=how == "timm")
