"""Batches of labelled and unlabelled images together, each image in its own random views.

Every draw is named by seed, visit (the epoch, and how often in it) and image, so a batch depends on its number alone.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wilss.data.taxonomy import BACKGROUND, VOID
from wilss.randomness import numpy_generator_for, seed_for

from ...params import TrainParams
from ..augment import View, cut_image, cut_masks, draw_view, is_outside
from ..batches import Broken, Order, Shown
from ..prefetch import made_ahead
from .pools import Intact, Picture, Pool
from .soft import warped
from .views import StrongParams, strong_view

__all__ = ["SemiBatch", "SemiMaker", "Wanted"]


@dataclass(frozen=True, kw_only=True)
class SemiBatch:
    """`L` labelled and `U` unlabelled images; maps are taken on every `loss_stride`-th pixel.

    images: uint8 [L, 3, H, W]. labels: uint8 [L, h, w], channels, VOID where unknown. inside: bool [L, h, w], where
    the view shows the image. weak, strong: uint8 [U, 3, H, W], the two views of an unlabelled image. shown, valid: bool
    [U, h, w], where they show the image. targets: float16 [U, C, h, w], stored soft labels. Where nobody asks for weak
    views or targets there are 0 of them.
    """

    images: Tensor
    labels: Tensor
    inside: Tensor
    weak: Tensor
    strong: Tensor
    shown: Tensor
    valid: Tensor
    targets: Tensor
    image_ids: tuple[str, ...]

    @classmethod
    def of(cls, samples: Sequence[Self]) -> Self:
        """One batch out of several."""
        joined = {name: torch.cat([getattr(sample, name) for sample in samples]) for name in _TENSORS}
        return cls(**joined, image_ids=sum((sample.image_ids for sample in samples), ()))

    def to(self, device: torch.device | str) -> Self:
        """The same on `device`."""
        moved: dict[str, Any] = {name: getattr(self, name).to(device, non_blocking=True) for name in _TENSORS}
        return type(self)(**moved, image_ids=self.image_ids)


_TENSORS = tuple(one.name for one in fields(SemiBatch) if one.name != "image_ids")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What of a batch is made. labelled: images of a step over all processes. unlabelled: whether any of them.

    weak: whether their weak views are, for labels that are made while training. strong: how strong views are made.
    """

    labelled: int
    unlabelled: bool
    weak: bool
    strong: StrongParams


class SemiMaker:
    """Makes batches in threads, ahead of the training that takes them; `order` is that of the unlabelled images.

    labelled, unlabelled: the two pools. channels: C. rank, world: this process's part of every batch. on_broken: told
    once of each image that cannot be read; another one, named by step and image, takes its place.
    """

    def __init__(
        self,
        labelled: Pool,
        unlabelled: Pool,
        params: TrainParams,
        wanted: Wanted,
        *,
        channels: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        on_broken: Callable[[Broken], None] = lambda broken: None,
    ) -> None:
        self._params, self._wanted, self._seed, self._channels = params, wanted, seed, channels
        self._rank, self.world = rank, world
        self.order = Order(
            count=len(unlabelled.image_ids), batch=params.batch_size, seed=seed, least=params.epoch_steps
        )
        self._labelled_order = Order(
            count=len(labelled.image_ids), batch=wanted.labelled, seed=seed_for(seed, "labelled")
        )
        room = params.cache_mib / 2  # for each of them
        self._labelled = Intact(labelled, cache_mib=room, seed=seed, on_broken=on_broken)
        self._unlabelled = Intact(unlabelled, cache_mib=room, seed=seed, on_broken=on_broken)

    def stream(self, first: int, last: int, *, workers: int = 1) -> Iterator[list[SemiBatch]]:
        """This process's part of the optimiser steps `first` to `last` - 1, each as `accumulate` batches."""
        yield from made_ahead(self._submit, _collected, first, last, workers=workers)

    def _submit(self, pool: ThreadPoolExecutor, step: int) -> list[list["Future[SemiBatch]"]]:
        """A step's images on their way, by the part of the step that they belong to; labelled ones first."""
        labelled = self._mine(self._labelled_order.shown(step))
        unlabelled = self._mine(self.order.shown(step)) if self._wanted.unlabelled else []
        return [
            [pool.submit(self.labelled, one) for one in known] + [pool.submit(self.unlabelled, one) for one in others]
            for known, others in zip(self._parts(labelled), self._parts(unlabelled), strict=True)
        ]

    def _mine(self, shown: list[Shown]) -> list[Shown]:
        """This process's share of a step's images."""
        share = len(shown) // self.world
        return shown[self._rank * share : (self._rank + 1) * share]

    def _parts(self, shown: list[Shown]) -> list[list[Shown]]:
        size = len(shown) // self._params.accumulate
        return [shown[part * size : (part + 1) * size] for part in range(self._params.accumulate)]

    def labelled(self, shown: Shown) -> SemiBatch:
        """A labelled image in a weak view."""
        position, visit = shown
        read = self._labelled.take(position, "labelled", *visit)
        view = self._view(read, "labelled view", *visit)
        height, width = read.image.shape[:2]
        inside = ~is_outside(height, width, view)
        made = {"labels": self._thinned(_labels(read, view, inside)), "inside": self._thinned(inside)}
        return self._batch(read, images=_planar(cut_image(read.image, view)), **made)

    def unlabelled(self, shown: Shown) -> SemiBatch:
        """An unlabelled image in its two views, with its soft labels in the same view where there are any."""
        position, visit = shown
        read = self._unlabelled.take(position, *visit)
        view = self._view(read, "view", *visit)
        height, width = read.image.shape[:2]
        weak = cut_image(read.image, view)
        rng = numpy_generator_for(self._seed, "strong", *visit, read.image_id)
        strong, hole = strong_view(weak, self._wanted.strong, rng)
        inside = ~is_outside(height, width, view)
        made = {"strong": _planar(strong), "valid": self._thinned(inside & ~hole)}
        if self._wanted.weak:
            made |= {"weak": _planar(weak), "shown": self._thinned(inside)}
        if read.soft is not None:
            soft = warped(read.soft, view, height, width, self._params.loss_stride)
            made["targets"] = torch.from_numpy(soft.astype(np.float16))
        return self._batch(read, **made)

    def _view(self, read: Picture, *names: str | int) -> View:
        params = self._params
        height, width = read.image.shape[:2]
        rng = numpy_generator_for(self._seed, *names, read.image_id)
        return draw_view(
            height, width, crop=params.crop, scale=params.scale, flip=params.flip, colour=params.colour, rng=rng
        )

    def _thinned(self, plane: NDArray[Any]) -> Tensor:
        stride = self._params.loss_stride
        return torch.from_numpy(np.ascontiguousarray(plane[stride // 2 :: stride, stride // 2 :: stride]))

    def _batch(self, read: Picture, **made: Tensor) -> SemiBatch:
        """A batch of one image: what was made of it, and nothing of the rest."""
        side, small = self._params.crop, self._params.crop // self._params.loss_stride
        shapes = {
            "images": ((3, side, side), torch.uint8),
            "labels": ((small, small), torch.uint8),
            "inside": ((small, small), torch.bool),
            "weak": ((3, side, side), torch.uint8),
            "strong": ((3, side, side), torch.uint8),
            "shown": ((small, small), torch.bool),
            "valid": ((small, small), torch.bool),
            "targets": ((self._channels, small, small), torch.float16),
        }
        tensors = {
            name: made[name][None] if name in made else torch.empty((0, *shape), dtype=kind)
            for name, (shape, kind) in shapes.items()
        }
        return SemiBatch(**tensors, image_ids=(read.image_id,))


def _collected(parts: Sequence[Sequence["Future[SemiBatch]"]]) -> list[SemiBatch]:
    return [SemiBatch.of([future.result() for future in part]) for part in parts]


def _planar(image: NDArray[np.uint8]) -> Tensor:
    """[H, W, 3] as [3, H, W]."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def _labels(read: Picture, view: View, inside: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The masks of a view as channels [S, S]; VOID where unknown, where two overlap and beyond the edge."""
    labels = np.full((view.size, view.size), BACKGROUND, np.uint8)
    if read.masks is not None:
        *masks, void = cut_masks(read.masks, view)
        for channel, mask in zip(read.channels, masks, strict=True):
            labels[mask] = channel
        labels[void | (np.sum(masks, axis=0, dtype=np.int64) > 1)] = VOID
    labels[~inside] = VOID
    return labels
