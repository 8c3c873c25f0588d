"""Episodes for training, made in threads ahead of the steps that take them.

Every draw is named by seed, epoch and the episode's place in it, so a batch depends on its number alone: on no thread,
no process, and not on whether the run was killed before it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wilss.data.supports.simulate import Kind
from wilss.errors import ImageError, StoreError
from wilss.randomness import seed_for

from ..batches import Broken, Order
from ..prefetch import made_ahead
from .draw import Episode, Index, draw_episode, require_enough
from .features import FeatureBank, Support, labels_for, support_map

__all__ = ["EpisodeBatch", "EpisodeMaker", "EpisodeSample", "Shape"]

_MOST_ATTEMPTS = 1000


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What an episode is: so many ways and shots, supports annotated by masks, boxes or scribbles.

    flip: how often an image is shown as its mirror image.
    """

    ways: int = 1
    shots: int = 1
    support: Kind = "mask"
    flip: float = 0.5


@dataclass(frozen=True, kw_only=True)
class EpisodeSample:
    """An episode as tensors; images may differ in size.

    supports: what the embedding is given, [D, h, w] or [3, H, W] each. maps: uint8 [H, W] each, 1 the class, 0 not,
    VOID unknown. ways: the way of each support, from 1. query: as supports. labels: uint8 [H, W], the way of each
    pixel, 0 for none, VOID.
    """

    supports: tuple[Tensor, ...]
    maps: tuple[Tensor, ...]
    ways: tuple[int, ...]
    query: Tensor
    labels: Tensor
    image_ids: tuple[str, ...]

    def to(self, device: torch.device | str) -> Self:
        """The same on `device`."""
        return replace(
            self,
            supports=tuple(one.to(device, non_blocking=True) for one in self.supports),
            maps=tuple(one.to(device, non_blocking=True) for one in self.maps),
            query=self.query.to(device, non_blocking=True),
            labels=self.labels.to(device, non_blocking=True),
        )


@dataclass(frozen=True)
class EpisodeBatch:
    """The episodes of one part of an optimiser step."""

    samples: tuple[EpisodeSample, ...]

    @property
    def image_ids(self) -> tuple[str, ...]:
        """The images of all its episodes."""
        return tuple(image for sample in self.samples for image in sample.image_ids)

    def to(self, device: torch.device | str) -> "EpisodeBatch":
        """The same on `device`."""
        return EpisodeBatch(tuple(sample.to(device) for sample in self.samples))


class EpisodeMaker:
    """Makes the episodes of a run. count: episodes of an epoch; the order's batch is that of one optimiser step.

    rank, world: this process's part of every batch. on_broken: told once of each image that cannot be read; another
    episode takes the place of its own.
    """

    def __init__(
        self,
        bank: FeatureBank,
        index: Index,
        shape: Shape,
        *,
        count: int,
        batch_size: int,
        accumulate: int = 1,
        seed: int,
        rank: int = 0,
        world: int = 1,
        on_broken: Callable[[Broken], None] = lambda broken: None,
    ) -> None:
        require_enough(index, ways=shape.ways, shots=shape.shots)
        self.order = Order(count=count, batch=batch_size, seed=seed)
        self._bank, self._index, self._shape = bank, index, shape
        self._accumulate, self._seed = accumulate, seed
        self._rank, self._world, self._batch = rank, world, batch_size
        self._on_broken = on_broken
        self._broken: dict[str, Broken] = {}

    def stream(self, first: int, last: int, *, workers: int = 1) -> Iterator[list[EpisodeBatch]]:
        """This process's part of the optimiser steps `first` to `last` - 1, each as `accumulate` batches."""
        yield from made_ahead(self._submit, self._collect, first, last, workers=workers)

    def sample(self, epoch: int, place: int) -> EpisodeSample:
        """Episode `place` of an epoch; another one where an image of it cannot be read."""
        for attempt in range(_MOST_ATTEMPTS):
            names = ("training", epoch, place, *((attempt,) if attempt else ()))
            episode = draw_episode(
                self._index, ways=self._shape.ways, shots=self._shape.shots, seed=self._seed, names=names
            )
            if not self._broken.keys() & set(episode.image_ids) and (found := self._made(episode, names)) is not None:
                return found
        one = next(iter(self._broken.values()))
        raise StoreError(f"{len(self._broken)} images cannot be read, so there is nothing to train on: {one.error}")

    def _submit(self, pool: ThreadPoolExecutor, step: int) -> list["Future[EpisodeSample]"]:
        return [pool.submit(self.sample, *place) for place in self._places(step)]

    def _places(self, step: int) -> list[tuple[int, int]]:
        """(epoch, place in it) of this process's episodes of an optimiser step."""
        epoch, number = divmod(step, self.order.steps_per_epoch)
        share = self._batch // self._world
        first = number * self._batch + self._rank * share
        return [(epoch, place) for place in range(first, first + share)]

    def _collect(self, futures: Sequence["Future[EpisodeSample]"]) -> list[EpisodeBatch]:
        samples = [future.result() for future in futures]
        size = len(samples) // self._accumulate
        return [EpisodeBatch(tuple(samples[start : start + size])) for start in range(0, len(samples), size)]

    def _made(self, episode: Episode, names: tuple[str | int, ...]) -> EpisodeSample | None:
        """The episode's tensors, every image read once; None where one cannot be."""
        given: dict[str, tuple[Tensor, NDArray[np.uint8]]] = {}
        for image in episode.image_ids:
            mirrored = self._is_mirrored(image, names)
            try:
                given[image] = self._bank.given(image, mirrored=mirrored), self._bank.label(image, mirrored=mirrored)
            except (ImageError, StoreError) as error:
                self._note(Broken(image, str(error)))
                return None
        return self._sample(episode, given)

    def _sample(self, episode: Episode, given: Mapping[str, tuple[Tensor, NDArray[np.uint8]]]) -> EpisodeSample:
        shown = [(image, way) for way, shots in zip(episode.ways, episode.supports, strict=True) for image in shots]
        query, labels = given[episode.query]
        return EpisodeSample(
            supports=tuple(given[image][0] for image, _ in shown),
            maps=tuple(self._map(episode, image, way, given[image][1]) for image, way in shown),
            ways=tuple(episode.ways.index(way) + 1 for _, way in shown),
            query=query,
            labels=torch.from_numpy(labels_for(labels, episode.ways)),
            image_ids=episode.image_ids,
        )

    def _map(self, episode: Episode, image: str, way: int, label: NDArray[np.uint8]) -> Tensor:
        others = tuple(one for one in episode.ways if one != way)
        support = Support(image, way, self._shape.support, others)
        return torch.from_numpy(support_map(label, support, self._seed))

    def _is_mirrored(self, image: str, names: tuple[str | int, ...]) -> bool:
        return seed_for(self._seed, *names, "flip", image) / 2**63 < self._shape.flip

    def _note(self, broken: Broken) -> None:
        if self._broken.setdefault(broken.image_id, broken) is broken:
            self._on_broken(broken)
