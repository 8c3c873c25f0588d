"""CLIP's dense features by windows: a large input in parts of the size that the network knows, spliced into one map.

Windows overlap, are all of one size and lie on the patch grid; the last one of a row or column is flush with the edge.
Where several see a place, its features are averaged (as in ProxyCLIP, M. Lan et al., ECCV 2024, logits are).
"""

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from wilss.data.images import to_pixels
from wilss.equations.kernels import unit
from wilss.models.encoders.clip.encoder import DenseClip


@dataclass(frozen=True, kw_only=True)
class Windows:
    """size, stride: in pixels, brought down to whole patches, at least one; a stride above the size leaves no gaps."""

    size: int
    stride: int

    def along(self, side: int, patch: int) -> tuple[slice, ...]:
        """The windows along a side of so many patches, as slices of patches; one where it fits into one window."""
        size = min(max(1, self.size // patch), side)
        stride = min(max(1, self.stride // patch), size)
        starts = [*range(0, side - size, stride), side - size]
        return tuple(slice(start, start + size) for start in starts)


def features_by_windows(clip: DenseClip, images: Tensor, windows: Windows, proxy: Tensor | None = None) -> Tensor:
    """`DenseClip.features` of the images, one window of the whole batch after the other.

    images, proxy: as for `DenseClip.features`; of the proxy each window takes its part. Where one window is enough the
    result is the same bits. Returns float32 [B, D, h, w], unit length along D.
    """
    grid = (images.shape[-2] // clip.patch, images.shape[-1] // clip.patch)
    rows, columns = (windows.along(side, clip.patch) for side in grid)
    if len(rows) == len(columns) == 1:
        return clip.features(images, proxy)
    there = None if proxy is None else to_pixels(proxy.float(), *grid)
    total, times = torch.zeros(()), torch.zeros(grid, device=images.device)
    for place in product(rows, columns):
        part = None if there is None else there[..., place[0], place[1]]
        found = clip.features(_pixels(images, place, clip.patch), part)
        total = found.new_zeros((*found.shape[:2], *grid)) if total.ndim == 0 else total
        total[..., place[0], place[1]] += found
        times[place] += 1
    return unit(total / times, dim=1)


def _pixels(images: Tensor, place: tuple[slice, slice], patch: int) -> Tensor:
    rows, columns = (slice(side.start * patch, side.stop * patch) for side in place)
    return images[..., rows, columns].contiguous()
