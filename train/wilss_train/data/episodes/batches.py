"""Batches of episodes for training.

Every draw is named by seed, epoch and the episode's place in it, so a batch depends on its number alone: on no thread,
no process, and not on whether the run was killed before it.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wilss.data.supports.simulate import Kind
from wilss.randomness import seed_for

from ..batch_source import Order, Share, prefetch
from ..image_pool import Broken, BrokenImages
from .draw import Episode, Index, draw_episode, require_enough, sorted_index
from .features import FeatureBank, Support, Void, labels_for, support_map


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What an episode is: so many ways and shots, supports annotated by masks, boxes or scribbles.

    void: what void is in a support's mask. flip: how often an image is shown as its mirror image.
    """

    ways: int = 1
    shots: int = 1
    support: Kind = "mask"
    void: Void = "unknown"
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
            supports=tuple(support.to(device, non_blocking=True) for support in self.supports),
            maps=tuple(known.to(device, non_blocking=True) for known in self.maps),
            query=self.query.to(device, non_blocking=True),
            labels=self.labels.to(device, non_blocking=True),
        )


@dataclass(frozen=True)
class EpisodeBatch:
    """The episodes of one part of an optimiser step."""

    samples: tuple[EpisodeSample, ...]

    @classmethod
    def of(cls, samples: Sequence[EpisodeSample]) -> Self:
        """One batch of these episodes."""
        return cls(tuple(samples))

    @property
    def image_ids(self) -> tuple[str, ...]:
        """The images of all its episodes."""
        return tuple(image for sample in self.samples for image in sample.image_ids)

    def to(self, device: torch.device | str) -> "EpisodeBatch":
        """The same on `device`."""
        return EpisodeBatch(tuple(sample.to(device) for sample in self.samples))


class EpisodeBatchSource:
    """Batches of episodes. count: episodes of an epoch; the order's batch is that of one optimiser step.

    rank, world: this process's part of every batch. on_broken: called once for each image that cannot be read; another
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
        self.image_count = len({image for images in index.values() for image in images})
        self._share = Share(rank=rank, world=world, accumulate=accumulate)
        self._bank, self._index, self._shape, self._seed = bank, sorted_index(index), shape, seed
        self._broken = BrokenImages(on_broken)

    def stream(self, first: int, last: int, *, workers: int = 1) -> Iterator[list[EpisodeBatch]]:
        """This process's part of the optimiser steps `first` to `last` - 1, each as `accumulate` batches."""
        return prefetch(self._jobs, EpisodeBatch.of, first, last, workers=workers)

    def sample(self, epoch: int, place: int) -> EpisodeSample:
        """Episode `place` of an epoch; another one where an image of it cannot be read."""
        return self._broken.first(self._attempts(epoch, place))

    def _jobs(self, step: int) -> list[list[Callable[[], EpisodeSample]]]:
        epoch, places = self.order.places(step)
        return [[partial(self.sample, epoch, place) for place in part] for part in self._share.parts(places)]

    def _attempts(self, epoch: int, place: int) -> Iterator[EpisodeSample | None]:
        for attempt in itertools.count():
            names = ("training", epoch, place, *((attempt,) if attempt else ()))
            episode = draw_episode(
                self._index, ways=self._shape.ways, shots=self._shape.shots, seed=self._seed, names=names
            )
            yield None if self._broken.any_of(episode.image_ids) else self._read(episode, names)

    def _read(self, episode: Episode, names: tuple[str | int, ...]) -> EpisodeSample | None:
        """The episode's tensors, every image read once; None where one cannot be."""
        images: dict[str, tuple[Tensor, NDArray[np.uint8]]] = {}
        for image in episode.image_ids:
            read = self._broken.read(image, partial(self._read_image, image, names))
            if read is None:
                return None
            images[image] = read
        return self._sample(episode, images)

    def _read_image(self, image: str, names: tuple[str | int, ...]) -> tuple[Tensor, NDArray[np.uint8]]:
        """What the embedding is given and the label, mirrored or not as `names` draw it."""
        mirrored = seed_for(self._seed, *names, "flip", image) / 2**63 < self._shape.flip
        return self._bank.input_of(image, mirrored=mirrored), self._bank.label(image, mirrored=mirrored)

    def _sample(self, episode: Episode, images: Mapping[str, tuple[Tensor, NDArray[np.uint8]]]) -> EpisodeSample:
        shown = [(image, way) for way, shots in zip(episode.ways, episode.supports, strict=True) for image in shots]
        query, labels = images[episode.query]
        return EpisodeSample(
            supports=tuple(images[image][0] for image, _ in shown),
            maps=tuple(self._map(episode, image, way, images[image][1]) for image, way in shown),
            ways=tuple(episode.ways.index(way) + 1 for _, way in shown),
            query=query,
            labels=torch.from_numpy(labels_for(labels, episode.ways)),
            image_ids=episode.image_ids,
        )

    def _map(self, episode: Episode, image: str, way: int, label: NDArray[np.uint8]) -> Tensor:
        others = tuple(other for other in episode.ways if other != way)
        support = Support(image, way, self._shape.support, others)
        return torch.from_numpy(support_map(label, support, self._seed, void=self._shape.void))
