"""Images as networks take them, in size and values; and back from the patch grid to pixels.

torch comes with the functions that need it: a plan wants sizes alone, and should not wait for it.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

#: Of ImageNet's images in [0, 1], per colour channel.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def patch_grid_size(
    height: int, width: int, *, shorter: int | None, longest: int | None, patch: int
) -> tuple[int, int]:
    """Size (H', W') at which an image enters an encoder: multiples of `patch` nearest to its aspect.

    shorter: what the shorter side becomes, None for the image's own size. longest: the longer side is at
    most this many pixels. No side is below one patch.
    """
    scale = shorter / min(height, width) if shorter else 1.0
    if longest:
        scale = min(scale, longest / max(height, width))
    rows, columns = (max(1, math.floor(side * scale / patch + 0.5)) for side in (height, width))
    most = max(longest // patch, 1) if longest else max(rows, columns)
    return min(rows, most) * patch, min(columns, most) * patch


def size_within(height: int, width: int, longest: int) -> tuple[int, int]:
    """Size (H', W') of this shape whose longer side is at most `longest`; the image's own where it is no larger."""
    scale = min(1.0, longest / max(height, width))
    rows, columns = (max(1, math.floor(side * scale + 0.5)) for side in (height, width))
    return rows, columns


def resize_uint8(image: "Tensor", size: tuple[int, int]) -> "Tensor":
    """`image` uint8 [3, H, W] at `size`, bicubic with antialiasing; itself where the size is the same."""
    if tuple(image.shape[-2:]) == tuple(size):
        return image
    import torchvision.transforms.v2.functional as transforms

    bicubic = transforms.InterpolationMode.BICUBIC
    resized: Tensor = transforms.resize(image, list(size), bicubic, antialias=True)
    return resized


def normalise(images: "Tensor", mean: Sequence[float], std: Sequence[float]) -> "Tensor":
    """(images / 255 - mean) / std, float32 [B, 3, H, W].

    images: uint8 [B, 3, H, W]. mean, std: of the three channels, for values in [0, 1].
    """
    import torch

    values = images.to(torch.float32, copy=True)
    centre, spread = (torch.tensor(tuple(each))[:, None, None] for each in (mean, std))
    centre, spread = (each.to(values.device, non_blocking=True) for each in (centre, spread))
    return values.div_(255).sub_(centre).div_(spread)


def to_pixels(maps: "Tensor", height: int, width: int) -> "Tensor":
    """Patch-grid maps at the image's own size: bilinear, pixel centres (align_corners=False).

    maps: float [..., h, w], the grid covering the whole image. Returns [..., height, width].
    """
    import torch.nn.functional as F

    flat = maps.reshape(1, -1, *maps.shape[-2:])
    if not flat.shape[1]:
        return maps.new_zeros((*maps.shape[:-2], height, width))
    grown = F.interpolate(flat, size=(height, width), mode="bilinear", align_corners=False)
    return grown.reshape(*maps.shape[:-2], height, width)
