"""Batches for training: which images when, cut and pasted alike whatever the number of loader threads.

Every draw is named by seed, epoch and image, so a batch depends on its number alone: on no order of reading, no
thread, no process, and not on whether the run was killed before it.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from wilss.data.protocol import StepProtocol
from wilss.data.taxonomy import VOID
from wilss.errors import ImageError, StoreError
from wilss.randomness import generator_for, numpy_generator_for, seed_for

from ..params import TrainParams
from .augment import cut_image, cut_masks, draw_view, is_outside
from .copy_paste import PasteParams, draw_instance, paste
from .masked_images import MaskedImage, MaskedImages
from .prefetch import made_ahead

if TYPE_CHECKING:
    from ..memory import MemoryBank

__all__ = ["BatchMaker", "Broken", "Order", "SegBatch", "Shown"]

_MOST_SUBSTITUTES = 1000


@dataclass(frozen=True, kw_only=True)
class SegBatch:
    """What one optimiser step (or a part of it) sees.

    images: uint8 [B, 3, H, W]. pseudo: bool [B, C_new, h, w], the masks of the new classes. pasted: uint8 [B, h, w],
    the channel of the pasted instance, VOID where nothing was pasted. void: bool [B, h, w]. The maps are taken on
    every `loss_stride`-th pixel. seeds: one per image, for what the losses draw at random.
    """

    images: Tensor
    pseudo: Tensor
    pasted: Tensor
    void: Tensor
    image_ids: tuple[str, ...]
    seeds: tuple[int, ...]

    @classmethod
    def of(cls, samples: Sequence[Self]) -> Self:
        """One batch out of several."""
        joined: dict[str, Any] = {
            one.name: torch.cat([getattr(sample, one.name) for sample in samples])
            if isinstance(getattr(samples[0], one.name), Tensor)
            else sum((getattr(sample, one.name) for sample in samples), ())
            for one in fields(cls)
        }
        return cls(**joined)

    def to(self, device: torch.device | str) -> Self:
        """The same on `device`."""
        moved = {name: getattr(self, name).to(device, non_blocking=True) for name in _TENSORS}
        return replace(self, **moved)


_TENSORS = ("images", "pseudo", "pasted", "void")


@dataclass(frozen=True, kw_only=True)
class Order:
    """Which positions make up which batch: every epoch shuffled anew, by seed and epoch.

    count: images. batch: images of one optimiser step, over all processes. least: optimiser steps that an epoch has at
    least. What is left of an epoch after its last whole batch is not shown in it; where the images are too few for
    an epoch they come again, shuffled again and in other views.
    """

    count: int
    batch: int
    seed: int
    least: int = 1

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of an epoch."""
        return max(self.least, self.count // self.batch)

    def shown(self, step: int) -> "list[Shown]":
        """The images of optimiser step `step`, counted from 0 over all epochs."""
        epoch, number = divmod(step, self.steps_per_epoch)
        places = (divmod(place, self.count) for place in range(number * self.batch, (number + 1) * self.batch))
        return [
            Shown(_shuffled(self.count, self.seed, epoch, again)[place], (epoch, again)[: 2 if again else 1])
            for again, place in places
        ]


class Shown(NamedTuple):
    """An image that is shown.

    position: among the images. visit: what names its draws, the epoch and, where it has been shown in this epoch
    already, how often.
    """

    position: int
    visit: tuple[int, ...]


@lru_cache(maxsize=8)
def _shuffled(count: int, seed: int, *visit: int) -> list[int]:
    names = visit if visit[-1] else visit[:-1]
    order: list[int] = numpy_generator_for(seed, "order", *names).permutation(count).tolist()
    return order


@dataclass(frozen=True)
class Broken:
    """An image that could not be read, and why."""

    image_id: str
    error: str


class BatchMaker:
    """Makes batches of a store's images in threads, ahead of the training that takes them.

    rank, world: this process's part of every batch. on_broken: told once of each image that cannot be read; another
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
        if not len(images):
            raise StoreError("the store holds no image with masks of this step; `wilss-masks info` shows why.")
        self.order = Order(count=len(images), batch=params.batch_size, seed=seed, least=params.epoch_steps)
        self._images, self._params, self._seed = images, params, seed
        self._protocol, self._step = protocol, step
        self._bank, self._pasting = bank, pasting
        self.world = world
        self._rank = rank
        self._on_broken = on_broken
        self._broken: dict[int, Broken] = {}

    def stream(self, first: int, last: int, *, workers: int = 1) -> Iterator[list[SegBatch]]:
        """This process's part of the optimiser steps `first` to `last` - 1, each as `accumulate` batches."""
        yield from made_ahead(self._submit, self._collect, first, last, workers=workers)

    def sample(self, shown: Shown) -> SegBatch:
        """One image as a batch of one; a substitute where it cannot be read."""
        position, visit = shown
        for attempt in range(_MOST_SUBSTITUTES):
            if position not in self._broken:
                try:
                    read = self._images.read(position)
                except (ImageError, StoreError) as error:
                    self._note(position, str(error))
                else:
                    return self._augmented(read, visit)
            name = self._images.image_ids[position]
            rng = numpy_generator_for(self._seed, "substitute", *visit, name, attempt)
            position = int(rng.integers(len(self._images)))
        one = next(iter(self._broken.values()))
        raise StoreError(f"{len(self._broken)} images cannot be read, so there is nothing to train on: {one.error}")

    def _submit(self, pool: ThreadPoolExecutor, step: int) -> list["Future[SegBatch]"]:
        shown = self.order.shown(step)
        share = len(shown) // self.world
        return [pool.submit(self.sample, one) for one in shown[self._rank * share : (self._rank + 1) * share]]

    def _collect(self, futures: Sequence["Future[SegBatch]"]) -> list[SegBatch]:
        samples = [future.result() for future in futures]
        size = len(samples) // self._params.accumulate
        return [SegBatch.of(samples[start : start + size]) for start in range(0, len(samples), size)]

    def _augmented(self, read: MaskedImage, visit: tuple[int, ...]) -> SegBatch:
        params = self._params
        height, width = read.image.shape[:2]
        rng = numpy_generator_for(self._seed, "view", *visit, read.image_id)
        view = draw_view(
            height, width, crop=params.crop, scale=params.scale, flip=params.flip, colour=params.colour, rng=rng
        )
        pseudo = np.zeros((len(self._protocol.new(self._step)), view.size, view.size), np.bool_)
        pseudo[list(read.places)] = cut_masks(read.masks, view)
        void = is_outside(height, width, view)
        if read.void is not None:
            void = void | cut_masks(read.void[None], view)[0]
        maps = (
            torch.from_numpy(np.ascontiguousarray(cut_image(read.image, view).transpose(2, 0, 1))),
            torch.from_numpy(pseudo),
            torch.full((view.size, view.size), VOID, dtype=torch.uint8),
            torch.from_numpy(void),
        )
        return self._batch_of_one(read.image_id, visit, self._pasted(maps, read.image_id, visit))

    def _pasted(self, maps: tuple[Tensor, ...], image_id: str, visit: tuple[int, ...]) -> tuple[Tensor, ...]:
        """With instances of old classes from memory, where the method pastes and there are any."""
        if self._bank is None or self._pasting is None or not len(self._bank):
            return maps
        image, pseudo, pasted, void = maps
        old = self._protocol.old(self._step)
        for number in range(self._pasting.per_image):
            generator = generator_for(self._seed, "paste", *visit, image_id, number)
            if float(torch.rand((), generator=generator)) < self._pasting.probability:
                instance = draw_instance(self._bank, old, generator)
                channel = self._protocol.channel_of(instance.category_id, self._step)
                image, pseudo, pasted, void = paste(
                    image, pseudo, pasted, void, instance, channel, self._pasting, generator
                )
        return image, pseudo, pasted, void

    def _batch_of_one(self, image_id: str, visit: tuple[int, ...], maps: tuple[Tensor, ...]) -> SegBatch:
        stride = self._params.loss_stride
        image, *others = maps
        pseudo, pasted, void = (one[..., stride // 2 :: stride, stride // 2 :: stride][None] for one in others)
        return SegBatch(
            images=image[None],
            pseudo=pseudo,
            pasted=pasted,
            void=void,
            image_ids=(image_id,),
            seeds=(seed_for(self._seed, "losses", *visit, image_id),),
        )

    def _note(self, position: int, error: str) -> None:
        broken = Broken(self._images.image_ids[position], error)
        if self._broken.setdefault(position, broken) is broken:  # one of two threads that met it
            self._on_broken(broken)
