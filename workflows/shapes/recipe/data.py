"""Training pictures: drawn once, kept in memory, cut into random views with the tags that a view still shows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from wilss.data.shapes import CLASS_NAMES, Drawing, Style, draw

#: Training pictures come from this seed and its successors; the data sets that are evaluated use other ones.
TRAINING_SEED = 1000
#: Pictures on which recipes and thresholds are compared; never reported.
TUNING_SEED = 2000
#: Pictures behind the figures that the recipe prints.
HELD_OUT_SEED = 3000

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class View:
    """image: uint8 [side, side, 3]; tags: ids of the objects that lie mostly inside the view."""

    image: Bytes
    tags: tuple[int, ...]


def pictures(count: int, seed: int = TRAINING_SEED) -> list[Drawing]:
    """`count` drawings; one in twenty shows things of no class alone, so that background words mean something."""
    empty = Style(objects=(0, 0), distractors=(3, 9))
    return [draw(seed, i, empty if i % 20 == 19 else None) for i in range(count)]


@dataclass(frozen=True)
class Crop:
    """image: uint8 [side, side, 3]; label: the part of the label it shows; box: left, top, width, height of it."""

    image: Bytes
    label: Bytes
    box: tuple[int, int, int, int]
    mirrored: bool

    def patch_centres(self, grid: int) -> NDArray[np.float32]:
        """[grid^2, 2]: (x, y) in the whole picture of the centre of every patch, row by row."""
        left, top, width, height = self.box
        middles = (np.arange(grid, dtype=np.float32) + 0.5) / grid
        x = left + width * (middles[::-1] if self.mirrored else middles)
        y = top + height * middles
        return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2).astype(np.float32)


def random_crop(drawing: Drawing, rng: np.random.Generator, side: int, scale: tuple[float, float]) -> Crop:
    """A random crop, turned into side x side and perhaps mirrored.

    scale: the crop's side as a share of the picture's shorter side, drawn log-uniformly.
    """
    left, top, width, height = _random_box(drawing.label.shape, rng, scale)
    edges = (left, top, left + width, top + height)
    image = np.asarray(Image.fromarray(drawing.image).resize((side, side), Image.Resampling.BILINEAR, box=edges))
    mirrored = bool(rng.random() < 0.5)
    return Crop(
        image=image[:, ::-1] if mirrored else image,
        label=drawing.label[top : top + height, left : left + width],
        box=(left, top, width, height),
        mirrored=mirrored,
    )


def random_view(drawing: Drawing, rng: np.random.Generator, side: int, scale: tuple[float, float]) -> View | None:
    """A random crop with its tags; None if it cuts an object so that its tag would be a matter of taste."""
    crop = random_crop(drawing, rng, side, scale)
    inside = _areas(crop.label)
    share = inside / np.maximum(_areas(drawing.label), 1)
    shown = (share >= 0.55) & (inside >= 0.015 * crop.label.size)
    if np.any((share > 0.12) & ~shown):
        return None
    return View(crop.image, tuple(int(i) for i in np.flatnonzero(shown)))


def _areas(label: Bytes) -> NDArray[np.int64]:
    """Pixels per id; background and void count as none."""
    areas = np.bincount(label[::2, ::2].ravel(), minlength=256)[: len(CLASS_NAMES)] * 4
    areas[0] = 0
    return areas


def _random_box(
    shape: tuple[int, ...], rng: np.random.Generator, scale: tuple[float, float]
) -> tuple[int, int, int, int]:
    height, width = shape
    side = min(shape) * np.exp(rng.uniform(np.log(scale[0]), np.log(scale[1])))
    stretch = np.exp(rng.uniform(-0.15, 0.15))
    w, h = min(width, round(side * stretch)), min(height, round(side / stretch))
    return int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1)), w, h


def views(
    drawings: Sequence[Drawing], rng: np.random.Generator, side: int, scale: tuple[float, float]
) -> Iterator[View]:
    """Endless random views of random drawings."""
    while True:
        view = random_view(drawings[int(rng.integers(len(drawings)))], rng, side, scale)
        if view is not None:
            yield view


def tagged(stream: Iterator[View], count: int) -> tuple[Tensor, Tensor]:
    """The next `count` views: float32 [B, 3, H, W] in [0, 1], and 1 for every tag of each, float32 [B, classes]."""
    chosen = [next(stream) for _ in range(count)]
    wanted = torch.zeros(count, len(CLASS_NAMES) - 1)
    for row, view in zip(wanted, chosen, strict=True):
        row[[tag - 1 for tag in view.tags]] = 1
    return as_batch([view.image for view in chosen]), wanted


def as_batch(images: Sequence[Bytes]) -> Tensor:
    """uint8 [B, H, W, 3] images as float32 [B, 3, H, W] in [0, 1]."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255


def jittered(images: Tensor, generator: torch.Generator, strength: float) -> Tensor:
    """Random brightness, contrast and colour cast per image. images: [B, 3, H, W] in [0, 1]."""
    batch = images.shape[0]

    def around(*shape: int) -> Tensor:
        return (torch.rand(shape, generator=generator) * 2 - 1) * strength

    contrast = 1 + around(batch, 1, 1, 1)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    cast = 1 + 0.5 * around(batch, 3, 1, 1)
    return (((images - mean) * contrast + mean) * cast * (1 + around(batch, 1, 1, 1))).clamp(0, 1)


def recoloured(images: Tensor, generator: torch.Generator, share: float) -> Tensor:
    """`share` of the images with their channels in a random order. images: [B, 3, H, W]."""
    order = torch.rand((len(images), 3), generator=generator).argsort(dim=1)
    kept = torch.rand(len(images), generator=generator) >= share
    order[kept] = torch.arange(3)
    return images.gather(1, order[:, :, None, None].expand_as(images))
