"""Pictures of one image's masks and maps, all at a size that is given: the panels of a contact sheet.

Maps lie on patch grids and go to pixels through `wilss.data.images.to_pixels`, the one pixel-centre convention, so
a patch is drawn over the very pixels that it stands for. Everything here is pure: arrays in, arrays out.
"""

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from wilss.data.images import to_pixels
from wilss.data.taxonomy import BACKGROUND, VOID
from wilss.drawing import borders, class_colours

Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]

_HEAT_OVER_PICTURE = 0.62
_FILL_OVER_PICTURE = 0.42
_GREY_BESIDE_MASK = 0.8
_WHITE, _DARK = (255, 255, 255), (20, 20, 24)


def picture(image: Picture, size: tuple[int, int]) -> Picture:
    """`image` [H, W, 3] at `size` (height, width)."""
    resized = Image.fromarray(image).resize(size[::-1], Image.Resampling.LANCZOS)
    return np.array(resized)


def resized_mask(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """`mask` [H, W] at `size`, smooth where it grows: a pixel is inside when half of what it covers is."""
    grey = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(grey.resize(size[::-1], Image.Resampling.BILINEAR)) >= 128


def heat(base: Picture, values: NDArray[np.floating], cut: float, map_name: str) -> Picture:
    """A patch-grid map [h, w] in [0, 1] over `base` in grey, with the outline of where it reaches `cut`."""
    height, width = base.shape[:2]
    pixels = to_pixels(torch.from_numpy(values.astype(np.float32)), height, width).numpy()
    colours = _colour_table(map_name)[(pixels.clip(0, 1) * 255).round().astype(np.uint8)]
    grey = base.mean(axis=2, keepdims=True)
    mixed = _HEAT_OVER_PICTURE * colours + (1 - _HEAT_OVER_PICTURE) * grey
    return contour(mixed.round().astype(np.uint8), pixels >= cut, _WHITE, line=2)


def overlay(
    base: Picture,
    mask: NDArray[np.bool_],
    colour: Colour,
    *,
    unknown: NDArray[np.bool_] | None = None,
    line: int = 4,
) -> Picture:
    """`mask` over `base` as a translucent colour with a firm outline; `unknown` pixels are whitened.

    The rest of `base` loses most of its colour, so that a mask stands out from things of its own hue.
    base: [h, w, 3]; mask, unknown: [h, w].
    """
    grey = base.mean(axis=2, keepdims=True)
    mixed = np.where(mask[..., None], base, _GREY_BESIDE_MASK * grey + (1 - _GREY_BESIDE_MASK) * base)
    mixed[mask] = _FILL_OVER_PICTURE * np.array(colour, np.float32) + (1 - _FILL_OVER_PICTURE) * mixed[mask]
    if unknown is not None:
        mixed[unknown] = 0.35 * mixed[unknown] + 0.65 * 255
    return contour(mixed.round().astype(np.uint8), mask, colour, line=line)


def label_overlay(base: Picture, labels: NDArray[np.uint8]) -> Picture:
    """`labels` [H, W] of any size over `base` [h, w, 3], each class in its colour with a firm edge; void whitened."""
    height, width = base.shape[:2]
    large = np.asarray(Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST))
    grey = base.mean(axis=2, keepdims=True)
    mixed = _GREY_BESIDE_MASK * grey + (1 - _GREY_BESIDE_MASK) * base
    inside = (large != BACKGROUND) & (large != VOID)
    colours = class_colours()[large].astype(np.float32)
    mixed[inside] = _FILL_OVER_PICTURE * colours[inside] + (1 - _FILL_OVER_PICTURE) * base[inside]
    mixed[large == VOID] = 0.35 * mixed[large == VOID] + 0.65 * 255
    drawn: Picture = mixed.round().astype(np.uint8)
    edge = grown(borders(large), 1) & inside
    drawn[edge] = colours[edge].astype(np.uint8)
    return drawn


def contour(base: Picture, mask: NDArray[np.bool_], colour: Colour, *, line: int) -> Picture:
    """`base` with a line along the inside of `mask`, and a thin dark one outside, to show on any ground."""
    drawn = base.copy()
    halo = grown(mask, 1) & ~mask
    drawn[halo] = (0.5 * drawn[halo]).astype(np.uint8)
    drawn[mask & ~_shrunk(mask, line)] = colour
    return drawn


def with_dots(base: Picture, points: NDArray[np.integer], grid: tuple[int, int], *, radius: int) -> Picture:
    """`base` with a dot at the centre of each patch of `points` [S, 2] (row, column) on `grid` (h, w)."""
    drawn = base.copy()
    rows, columns = np.ogrid[: base.shape[0], : base.shape[1]]
    for row, column in np.unique(points, axis=0):
        y = (row + 0.5) * base.shape[0] / grid[0] - 0.5
        x = (column + 0.5) * base.shape[1] / grid[1] - 0.5
        distance = (rows - y) ** 2 + (columns - x) ** 2
        drawn[distance <= (radius + 2) ** 2] = _DARK
        drawn[distance <= radius**2] = _WHITE
    return drawn


def colour_bar(map_name: str, size: tuple[int, int]) -> Picture:
    """The colours of a heat map from 0 (left) to 1 (right), at `size` (height, width)."""
    steps = np.linspace(0, 255, size[1]).round().astype(np.uint8)
    return np.broadcast_to(_colour_table(map_name)[steps], (*size, 3)).astype(np.uint8)


@lru_cache(maxsize=4)
def _colour_table(map_name: str) -> NDArray[np.float32]:
    """256 colours [256, 3] of a matplotlib colour map."""
    from matplotlib import colormaps

    return (np.asarray(colormaps[map_name](np.arange(256)))[:, :3] * 255).astype(np.float32)


def grown(mask: NDArray[np.bool_], by: int) -> NDArray[np.bool_]:
    """`mask` [h, w] and all within `by` pixels of it, diagonally as well."""
    # Pillow's filter of a rank looks at each window anew: six times as long for a line of one pixel, thirty for five.
    found: NDArray[np.bool_] = ndimage.maximum_filter(mask.view(np.uint8), 2 * by + 1, mode="nearest").view(np.bool_)
    return found


def _shrunk(mask: NDArray[np.bool_], by: int) -> NDArray[np.bool_]:
    """Borders of the picture do not shrink a mask, so that no line runs along the frame."""
    return ~grown(~mask, by)
