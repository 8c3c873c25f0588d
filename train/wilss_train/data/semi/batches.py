"""Batches of labelled and unlabelled images together, each image in its own random views.

Every draw is named by seed, visit (the epoch, and how often in it) and image, so a batch depends on its number alone.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wilss.data.protocol import StepProtocol
from wilss.data.taxonomy import BACKGROUND, VOID
from wilss.randomness import numpy_generator_for, seed_for

from ...params import TrainParams
from ..augment import View, cut_image, cut_masks, is_outside, on_stride, planar, view_of
from ..batch_source import Order, Share, TensorBatch, Visit, prefetch
from ..image_pool import Broken, BrokenImages, ImagePool
from ..masked_images import MaskedImage, MaskedImages, limited
from .labelled import Labelled
from .soft import SoftLabels, warped
from .views import StrongParams, strong_view


@dataclass(frozen=True, kw_only=True)
class SemiBatch(TensorBatch):
    """`L` labelled and `U` unlabelled images; maps are taken on every `loss_stride`-th pixel.

    images: uint8 [L, 3, H, W]. labels: uint8 [L, h, w], channels, VOID where unknown. inside: bool [L, h, w], where
    the view shows the image. weak, strong: uint8 [U, 3, H, W], the two views of an unlabelled image. shown, valid: bool
    [U, h, w], where they show the image. targets: float16 [U, C, h, w], stored soft labels in [0, 1]. Where nobody asks
    for weak views or targets there are 0 of them.
    """

    images: Tensor
    labels: Tensor
    inside: Tensor
    weak: Tensor
    strong: Tensor
    shown: Tensor
    valid: Tensor
    targets: Tensor


@dataclass(frozen=True, kw_only=True)
class SemiParts:
    """What a batch is made of.

    labelled: labelled images of a step over all processes. unlabelled: whether there are unlabelled ones.
    weak: whether their weak views are made, for labels that are made while training. strong: how strong views are made.
    """

    labelled: int
    unlabelled: bool
    weak: bool
    strong: StrongParams


@dataclass(frozen=True, kw_only=True)
class _UnlabelledImage:
    """image: uint8 [H, W, 3]. soft: float16 [C, h, w] in [0, 1], None where no soft labels are stored."""

    image_id: str
    image: NDArray[np.uint8]
    soft: NDArray[np.float16] | None

    @property
    def nbytes(self) -> int:
        return self.image.nbytes + (0 if self.soft is None else self.soft.nbytes)


class SemiBatchSource:
    """Batches of labelled images with their masks, and of others whose masks are never read.

    chosen: rows of both kinds. soft: stored soft labels of the unlabelled images. `order` is that of unlabelled images.
    rank, world: this process's part of every batch. on_broken: called once for each image that cannot be read; another
    one, named by step and image, takes its place. kind: of its batches.
    """

    kind: ClassVar[type[SemiBatch]] = SemiBatch

    def __init__(
        self,
        images: MaskedImages,
        chosen: Labelled,
        protocol: StepProtocol,
        step: int,
        params: TrainParams,
        parts: SemiParts,
        *,
        soft: SoftLabels | None = None,
        seed: int,
        rank: int = 0,
        world: int = 1,
        on_broken: Callable[[Broken], None] = lambda broken: None,
    ) -> None:
        self._images, self._soft, self._params, self._wanted, self._seed = images, soft, params, parts, seed
        self._channels = dict(zip(protocol.new(step), protocol.new_channels(step), strict=True))
        self._share = Share(rank=rank, world=world, accumulate=params.accumulate)
        unlabelled = limited(chosen.unlabelled, images.store.image_ids, params.limit, seed)
        self.image_count = len(chosen.rows) + (len(unlabelled) if parts.unlabelled else 0)
        self.order = Order(count=len(unlabelled), batch=params.batch_size, seed=seed, least=params.epoch_steps)
        self._labelled_order = Order(count=len(chosen.rows), batch=parts.labelled, seed=seed_for(seed, "labelled"))
        pool = partial(ImagePool, images.store.image_ids, cache_mib=params.cache_mib / 2, seed=seed)
        self._labelled = pool(chosen.rows, images.read, broken=BrokenImages(on_broken))
        self._unlabelled = pool(unlabelled, self._read_unlabelled, broken=BrokenImages(on_broken))

    def stream(self, first: int, last: int, *, workers: int = 1) -> Iterator[list[SemiBatch]]:
        """This process's part of the optimiser steps `first` to `last` - 1, each as `accumulate` batches."""
        return prefetch(self._jobs, self.kind.of, first, last, workers=workers)

    def _jobs(self, step: int) -> list[list[partial[SemiBatch]]]:
        """The samples of a step by batch; labelled ones first."""
        labelled = self._share.parts(self._labelled_order.visits(step))
        unlabelled = self._share.parts(self.order.visits(step) if self._wanted.unlabelled else [])
        return [
            [partial(self.labelled, visit) for visit in known] + [partial(self.unlabelled, visit) for visit in others]
            for known, others in zip(labelled, unlabelled, strict=True)
        ]

    def _read_unlabelled(self, row: int) -> _UnlabelledImage:
        image_id = self._images.store.image_ids[row]
        image = self._images.whole(image_id)
        return _UnlabelledImage(
            image_id=image_id, image=image, soft=None if self._soft is None else self._soft.read(image_id)
        )

    def labelled(self, visit: Visit) -> SemiBatch:
        """A labelled image in a weak view."""
        read = self._labelled.take(visit.position, "labelled", *visit.names)
        view = self._view(read, "labelled view", *visit.names)
        height, width = read.image.shape[:2]
        inside = ~is_outside(height, width, view)
        return self._batch(
            read.image_id,
            images=planar(cut_image(read.image, view)),
            labels=self._map(self._labels(read, view, inside)),
            inside=self._map(inside),
        )

    def unlabelled(self, visit: Visit) -> SemiBatch:
        """An unlabelled image in its two views, with its soft labels in the same view where there are any."""
        read = self._unlabelled.take(visit.position, *visit.names)
        view = self._view(read, "view", *visit.names)
        height, width = read.image.shape[:2]
        weak = cut_image(read.image, view)
        rng = numpy_generator_for(self._seed, "strong", *visit.names, read.image_id)
        strong, hole = strong_view(weak, self._wanted.strong, rng, self._params.mean)
        inside = ~is_outside(height, width, view)
        tensors = {"strong": planar(strong), "valid": self._map(inside & ~hole)}
        if self._wanted.weak:
            tensors |= {"weak": planar(weak), "shown": self._map(inside)}
        if read.soft is not None:
            soft = warped(read.soft, view, height, width, self._params.loss_stride)
            tensors["targets"] = torch.from_numpy(soft.astype(np.float16))
        return self._batch(read.image_id, **tensors)

    def _view(self, read: MaskedImage | _UnlabelledImage, *names: str | int) -> View:
        return view_of(read.image, self._params, numpy_generator_for(self._seed, *names, read.image_id))

    def _labels(self, read: MaskedImage, view: View, inside: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """The masks of a view as channels [S, S]; VOID where unknown, where two overlap and beyond the edge."""
        labels = np.full((view.size, view.size), BACKGROUND, np.uint8)
        masks = cut_masks(read.masks, view)
        for identity, mask in zip(read.category_ids, masks, strict=True):
            labels[mask] = self._channels[identity]
        labels[masks.sum(axis=0) > 1] = VOID
        if read.void is not None:
            labels[cut_masks(read.void[None], view)[0]] = VOID
        labels[~inside] = VOID
        return labels

    def _map(self, plane: NDArray[np.generic]) -> Tensor:
        return on_stride(torch.from_numpy(plane), self._params.loss_stride)

    def _batch(self, image_id: str, **tensors: Tensor) -> SemiBatch:
        """A batch of one image: these tensors, and nothing of the rest."""
        rows = {
            name: tensors[name][None] if name in tensors else torch.empty((0, *shape), dtype=kind)
            for name, (shape, kind) in self._shapes().items()
        }
        return self.kind(**rows, image_ids=(image_id,))

    def _shapes(self) -> Mapping[str, tuple[tuple[int, ...], torch.dtype]]:
        """What an image has of every tensor of a batch, and of which type."""
        side, small = self._params.crop, self._params.crop // self._params.loss_stride
        return {
            "images": ((3, side, side), torch.uint8),
            "labels": ((small, small), torch.uint8),
            "inside": ((small, small), torch.bool),
            "weak": ((3, side, side), torch.uint8),
            "strong": ((3, side, side), torch.uint8),
            "shown": ((small, small), torch.bool),
            "valid": ((small, small), torch.bool),
            "targets": ((1 + len(self._channels), small, small), torch.float16),
        }
