"""One random view of an image: which part, how large, mirrored or not, in which light. Image and masks alike.

A view is drawn first, as plain numbers, and applied afterwards, so that image, masks and void are cut by the same
numbers. Pixel centres; the image is resized with antialiasing, masks take the nearest pixel.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ..params import TrainParams

Colour = tuple[int, int, int]

_TRIES = 10  # draws of a window before the middle is taken


@dataclass(frozen=True, kw_only=True)
class View:
    """left, top: the window's corner in image pixels, which may lie outside. factor: view pixels per image pixel.

    stretch: how many times as many of them down a column as along a row. size: side of the square view. outside: the
    colour beyond the image's edge. gain, offset: of every colour channel, `gain * value + offset` on [0, 255].
    """

    left: float
    top: float
    factor: float
    size: int
    stretch: float = 1.0
    mirrored: bool = False
    outside: Colour = (124, 116, 104)
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def down(self) -> float:
        """View pixels per image pixel down a column; `factor` are those along a row."""
        return self.factor * self.stretch


class Window(NamedTuple):
    """A part of an image, in whole pixels."""

    left: int
    top: int
    wide: int
    high: int


class _Place(NamedTuple):
    """Which part of an image a view shows; see `View`."""

    left: float
    top: float
    factor: float
    stretch: float = 1.0


def _scaled(height: int, width: int, *, crop: int, scale: Sequence[float], rng: np.random.Generator) -> _Place:
    """What a square of `crop` pixels shows of an image that is resized by a factor drawn log-uniformly from `scale`.

    It lies inside the image at random; where the image is smaller, around it at random.
    """
    factor = math.exp(rng.uniform(math.log(scale[0]), math.log(scale[1])))
    side = crop / factor
    left, top = (rng.uniform(min(0.0, whole - side), max(0.0, whole - side)) for whole in (width, height))
    return _Place(left, top, factor)


def published_window(
    height: int, width: int, *, area: Sequence[float], aspect: Sequence[float], rng: np.random.Generator
) -> Window:
    """A part of the image as torchvision's RandomResizedCrop draws it, as WILSON's public code does.

    area: share of the image's, uniform, which may be above 1. aspect: width over height, log-uniform. Whole pixels; of
    ten draws the first that fits, else the middle of the image, as much of it as has such an aspect.
    """
    for _ in range(_TRIES):
        pixels = rng.uniform(area[0], area[1]) * height * width
        ratio = math.exp(rng.uniform(math.log(aspect[0]), math.log(aspect[1])))
        wide, high = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
        if 0 < wide <= width and 0 < high <= height:
            top, left = int(rng.integers(height - high + 1)), int(rng.integers(width - wide + 1))
            return Window(left, top, wide, high)
    ratio = min(max(width / height, aspect[0]), aspect[1])
    wide, high = min(width, round(height * ratio)), min(height, round(width / ratio))
    return Window((width - wide) // 2, (height - high) // 2, wide, high)


def _view_at(
    place: _Place, *, crop: int, flip: float, colour: float, rng: np.random.Generator, mean: Sequence[float]
) -> View:
    """A square of `crop` pixels of this place, mirrored or not, in some light."""
    mirrored = bool(rng.random() < flip)
    gain, offset = _draw_light(colour, rng)
    return View(
        **place._asdict(),
        size=crop,
        mirrored=mirrored,
        outside=mean_colour(mean),
        gain=gain,
        offset=offset,
    )


def mean_colour(mean: Sequence[float]) -> Colour:
    """The colour that is nearest to 0 once it is normalised."""
    red, green, blue = (round(255 * value) for value in mean)
    return red, green, blue


def view_of(image: NDArray[np.uint8], params: TrainParams, rng: np.random.Generator) -> View:
    """A random view of an image uint8 [H, W, 3], of the size and range that a run has."""
    height, width = image.shape[:2]
    if params.cropping == "published":
        window = published_window(height, width, area=params.area, aspect=params.aspect, rng=rng)
        place = _Place(window.left, window.top, params.crop / window.wide, window.wide / window.high)
    else:
        place = _scaled(height, width, crop=params.crop, scale=params.scale, rng=rng)
    return _view_at(place, crop=params.crop, flip=params.flip, colour=params.colour, rng=rng, mean=params.mean)


def cut_image(image: NDArray[np.uint8], view: View) -> NDArray[np.uint8]:
    """The view of an image uint8 [H, W, 3], uint8 [size, size, 3]; the input's mean beyond its edge."""
    height, width = image.shape[:2]
    rows, columns = _inside(view.top, height, view.down, view.size), _inside(view.left, width, view.factor, view.size)
    cut = _empty(view.size, view.outside).copy()
    if rows[1] > rows[0] and columns[1] > columns[0]:
        left, right = _source(view.left, columns, view.factor)
        top, bottom = _source(view.top, rows, view.down)
        box = (left, top, right, bottom)
        size = (columns[1] - columns[0], rows[1] - rows[0])
        part = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR, box=_clipped(box, width, height))
        cut[rows[0] : rows[1], columns[0] : columns[1]] = np.asarray(_lit(part, view))
    return cut[:, ::-1] if view.mirrored else cut


@lru_cache(maxsize=4)
def _empty(size: int, colour: Colour) -> NDArray[np.uint8]:
    """A view of nothing, uint8 [size, size, 3]; to be copied."""
    return np.full((size, size, 3), colour, np.uint8)


def cut_masks(masks: NDArray[np.bool_], view: View) -> NDArray[np.bool_]:
    """The view of masks [T, H, W], bool [T, size, size]; False beyond the image's edge."""
    rows, columns = _shown(view)
    height, width = masks.shape[1:]
    row_inside, column_inside = (rows >= 0) & (rows < height), (columns >= 0) & (columns < width)
    taken = masks.take(rows, axis=1, mode="clip").take(columns, axis=2, mode="clip")
    taken &= row_inside[:, None] & column_inside
    return taken[..., ::-1] if view.mirrored else taken


def is_outside(height: int, width: int, view: View) -> NDArray[np.bool_]:
    """Where the view shows nothing of an image of this size, bool [size, size]."""
    rows, columns = _shown(view)
    outside = ((rows < 0) | (rows >= height))[:, None] | ((columns < 0) | (columns >= width))
    return np.ascontiguousarray(outside[:, ::-1] if view.mirrored else outside)


def planar(image: NDArray[np.uint8]) -> Tensor:
    """An image uint8 [H, W, 3] as a tensor uint8 [3, H, W]."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def on_stride(planes: Tensor, stride: int) -> Tensor:
    """Maps [..., S, S] on every `stride`-th pixel, the middle of a cell: [..., S / stride, S / stride]."""
    return planes[..., stride // 2 :: stride, stride // 2 :: stride]


def _draw_light(
    strength: float, rng: np.random.Generator
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Random contrast about the middle grey, brightness, and half as much of a colour cast."""
    contrast, brightness, *cast = (1 + strength * rng.uniform(-1.0, 1.0, 5)).tolist()
    red, green, blue = (contrast * brightness * (1 + (tint - 1) / 2) for tint in cast)
    shift = 127.5 * (1 - contrast) * brightness
    return (red, green, blue), (shift, shift, shift)


def _lit(image: Image.Image, view: View) -> Image.Image:
    if view.gain == (1.0, 1.0, 1.0) and view.offset == (0.0, 0.0, 0.0):
        return image
    values = np.arange(256, dtype=np.float64)
    tables = [np.rint(gain * values + offset) for gain, offset in zip(view.gain, view.offset, strict=True)]
    return image.point(np.clip(np.concatenate(tables), 0, 255).astype(np.uint8).tolist())


def _shown(view: View) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The image's rows, and its columns, that those of the view show; they may lie outside."""
    return _nearest(view.top, view.down, view.size), _nearest(view.left, view.factor, view.size)


def _nearest(corner: float, factor: float, size: int) -> NDArray[np.int64]:
    shown: NDArray[np.int64] = np.floor(corner + (np.arange(size) + 0.5) / factor).astype(np.int64)
    return shown


def _inside(corner: float, side: int, factor: float, size: int) -> tuple[int, int]:
    """The rows (or columns) of the view that lie wholly on the image: first, and one past the last."""
    first = max(0, math.ceil(-corner * factor - 1e-9))
    last = min(size, math.floor((side - corner) * factor + 1e-9))
    return first, max(first, last)


def _source(corner: float, rows: tuple[int, int], factor: float) -> tuple[float, float]:
    """Where these rows (or columns) of the view begin and end in the image."""
    return corner + rows[0] / factor, corner + rows[1] / factor


def _clipped(box: tuple[float, ...], width: int, height: int) -> tuple[float, float, float, float]:
    """Rounding must not lead Pillow over the edge."""
    left, top, right, bottom = box
    return max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height))
