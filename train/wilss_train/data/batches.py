"""Batches of a mask store's images, cut and pasted alike whatever the number of loader threads."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from wilss.data.protocol import StepProtocol
from wilss.data.taxonomy import VOID
from wilss.errors import StoreError
from wilss.randomness import generator_for, numpy_generator_for, seed_for

from ..params import TrainParams
from .augment import cut_image, cut_masks, is_outside, on_stride, planar, view_of
from .batch_source import Order, Share, TensorBatch, Visit, prefetch
from .copy_paste import PasteParams, draw_instance, paste
from .image_pool import Broken, BrokenImages, ImagePool
from .masked_images import MaskedImage, MaskedImages
from .trust import Trust, trusted

if TYPE_CHECKING:
    from ..memory import MemoryBank


@dataclass(frozen=True, kw_only=True)
class SegBatch(TensorBatch):
    """What one optimiser step (or a part of it) sees.

    images: uint8 [B, 3, H, W]. tags: bool [B, C_new], the new classes that an image is tagged with, whatever its view
    shows. pseudo: bool [B, C_new, h, w], their masks. pasted: uint8 [B, h, w],
    the channel of the pasted instance, VOID where nothing was pasted. void: bool [B, h, w]. The maps are taken on
    every `loss_stride`-th pixel. seeds: one per image, for what the losses draw at random. views: one per image, by
    which its view, and what is pasted on it, is known again; () where views are not shown again.
    """

    images: Tensor
    tags: Tensor
    pseudo: Tensor
    pasted: Tensor
    void: Tensor
    seeds: tuple[int, ...]
    views: tuple[int, ...] = ()


class SegBatchSource:
    """Batches of the finished images of a store, with instances of old classes pasted from the memory bank.

    rank, world: this process's part of every batch. on_broken: called once for each image that cannot be read; another
    image, named by epoch and image, takes its place.
    """

    def __init__(
        self,
        images: MaskedImages,
        protocol: StepProtocol,
        step: int,
        params: TrainParams,
        *,
        seed: int,
        bank: "MemoryBank | None" = None,
        pasting: PasteParams | None = None,
        rank: int = 0,
        world: int = 1,
        on_broken: Callable[[Broken], None] = lambda broken: None,
    ) -> None:
        self._trust = Trust.of(images.store, params.trust, seed, least_confidence=params.least_confidence)
        rows = images.trained_on(params.limit, seed, self._trust, negatives=params.negative_images)
        if not len(rows):
            raise StoreError(
                "the store holds no image with masks of this step, or none but those of classes that no mask shows, or "
                "that `trust` or `least_confidence` does not take; `wilss-masks info` shows why."
            )
        self.image_count, self._rows = len(rows), rows
        self.order = Order(count=len(rows), batch=params.batch_size, seed=seed, least=params.epoch_steps)
        self._share = Share(rank=rank, world=world, accumulate=params.accumulate)
        self._pool = ImagePool(
            images.store.image_ids, rows, images.read,
            cache_mib=params.cache_mib, seed=seed, broken=BrokenImages(on_broken),
        )  # fmt: skip
        self._params, self._seed, self._store = params, seed, images.store
        self._bank, self._pasting = bank, pasting
        self._place = {identity: place for place, identity in enumerate(protocol.new(step))}
        self._old_channels = {identity: protocol.channel_of(identity, step) for identity in protocol.old(step)}

    def stream(self, first: int, last: int, *, workers: int = 1) -> Iterator[list[SegBatch]]:
        """This process's part of the optimiser steps `first` to `last` - 1, each as `accumulate` batches."""
        return prefetch(self._jobs, SegBatch.of, first, last, workers=workers, fetch=self._fetch)

    def sample(self, visit: Visit) -> SegBatch:
        """One image as a batch of one; a substitute where it cannot be read."""
        return self._augmented(self._pool.take(visit.position, *visit.names), visit.names)

    def _jobs(self, step: int) -> list[list[Callable[[], SegBatch]]]:
        return [[partial(self.sample, visit) for visit in part] for part in self._share.parts(self.order.visits(step))]

    def _fetch(self, step: int) -> None:
        self._store.fetch(int(self._rows[visit.position]) for visit in self.order.visits(step))

    def _augmented(self, read: MaskedImage, names: Sequence[int]) -> SegBatch:
        shown = self._shown(names)
        view = view_of(read.image, self._params, numpy_generator_for(self._seed, "view", *shown, read.image_id))
        tags = torch.zeros(1, len(self._place), dtype=torch.bool)
        pseudo = np.zeros((len(self._place), view.size, view.size), np.bool_)
        places = [self._place[identity] for identity in read.category_ids]
        masks, unknown = trusted(read.masks, read.void, self._kept(read, names))
        tags[0, places], pseudo[places] = True, cut_masks(masks, view)
        height, width = read.image.shape[:2]
        void = is_outside(height, width, view)
        if unknown is not None:
            void = void | cut_masks(unknown[None], view)[0]
        maps = (
            planar(cut_image(read.image, view)),
            torch.from_numpy(pseudo),
            torch.full((view.size, view.size), VOID, dtype=torch.uint8),
            torch.from_numpy(void),
        )
        image, *others = self._pasted(maps, read.image_id, shown)
        pseudo_map, pasted, void_map = (on_stride(plane, self._params.loss_stride)[None] for plane in others)
        return SegBatch(
            images=image[None],
            tags=tags,
            pseudo=pseudo_map,
            pasted=pasted,
            void=void_map,
            image_ids=(read.image_id,),
            seeds=(seed_for(self._seed, "losses", *names, read.image_id),),
            views=(seed_for(self._seed, "view", *shown, read.image_id),) if self._params.views else (),
        )

    def _kept(self, read: MaskedImage, names: Sequence[int]) -> list[bool]:
        """Which of an image's masks are learnt from in this view."""
        positions = [self._store.category_ids.index(identity) for identity in read.category_ids]
        return self._trust.kept(self._store.position(read.image_id), positions, read.image_id, names)

    def _shown(self, names: Sequence[int]) -> tuple[int, ...]:
        """What names the view of a visit: the visit itself, or where views come again, which of them it is."""
        if not self._params.views:
            return tuple(names)
        epoch, again = (*names, 0)[:2]
        return ((epoch * self.order.rounds + again) % self._params.views,)

    def _pasted(self, maps: tuple[Tensor, ...], image_id: str, names: Sequence[int]) -> tuple[Tensor, ...]:
        """With instances of old classes from memory, where the method pastes and there are any."""
        if self._bank is None or self._pasting is None or not len(self._bank):
            return maps
        image, pseudo, pasted, void = maps
        for number in range(self._pasting.per_image):
            generator = generator_for(self._seed, "paste", *names, image_id, number)
            if float(torch.rand((), generator=generator)) < self._pasting.probability:
                instance = draw_instance(self._bank, tuple(self._old_channels), generator)
                channel = self._old_channels[instance.category_id]
                image, pseudo, pasted, void = paste(
                    image, pseudo, pasted, void, instance, channel, self._pasting, generator
                )
        return image, pseudo, pasted, void
