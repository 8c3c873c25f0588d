"""What the batch sources of all methods share: the order of images, a process's part of a step, batches made ahead.

Every draw is named by seed, epoch and image, so a batch depends on its number alone: on no order of reading, no
thread, no process, and not on whether the run was killed before it.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from wilss.randomness import numpy_generator_for

_AHEAD = 3  # steps whose batches are being made while one is trained on
_FETCHED_AHEAD = 12  # steps whose masks are being read, where that takes long

Item = TypeVar("Item")
Sample = TypeVar("Sample")
Batch = TypeVar("Batch")


class Visit(NamedTuple):
    """An image that is shown.

    position: among the images. names: what names its draws, the epoch and, where the image has been shown in this epoch
    already, how often.
    """

    position: int
    names: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Order:
    """Which positions make up which batch: shuffled again in every epoch, by seed and epoch.

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

    @property
    def rounds(self) -> int:
        """How often an image is shown in an epoch at most."""
        return -(-self.steps_per_epoch * self.batch // self.count)

    def places(self, step: int) -> tuple[int, range]:
        """The epoch of an optimiser step, and the step's places in it; steps are counted from 0 over all epochs."""
        epoch, number = divmod(step, self.steps_per_epoch)
        return epoch, range(number * self.batch, (number + 1) * self.batch)

    def visits(self, step: int) -> list[Visit]:
        """The images of an optimiser step."""
        epoch, places = self.places(step)
        rounds = (divmod(place, self.count) for place in places)
        return [
            Visit(int(_shuffled(self.count, self.seed, *names)[place]), names)
            for names, place in (((epoch, again) if again else (epoch,), place) for again, place in rounds)
        ]


@lru_cache(maxsize=4)
def _shuffled(count: int, seed: int, *names: int) -> NDArray[np.int32]:
    return numpy_generator_for(seed, "order", *names).permutation(count).astype(np.int32)


@dataclass(frozen=True, kw_only=True)
class Share:
    """Which part of every step is this process's. rank, world: which of how many processes it is.

    accumulate: batches that this part is cut into; their gradients are averaged.
    """

    rank: int = 0
    world: int = 1
    accumulate: int = 1

    def parts(self, items: Sequence[Item]) -> list[Sequence[Item]]:
        """This process's items of a step, by the batch that they belong to. The number of items divides evenly."""
        size = len(items) // (self.world * self.accumulate)
        first = self.rank * self.accumulate
        return [items[part * size : (part + 1) * size] for part in range(first, first + self.accumulate)]


def prefetch(
    jobs: Callable[[int], Sequence[Sequence[Callable[[], Sample]]]],
    join: Callable[[Sequence[Sample]], Batch],
    first: int,
    last: int,
    *,
    workers: int,
    fetch: Callable[[int], None] = lambda step: None,
) -> Iterator[list[Batch]]:
    """The batches of the optimiser steps `first` to `last` - 1, made in `workers` threads while earlier ones are used.

    jobs: the calls that make the samples of a step, by batch. join: makes a batch of samples. fetch: told of steps that
    are some way ahead, to begin reading what they need. What was begun is dropped when nobody asks on.
    """
    with ThreadPoolExecutor(workers, thread_name_prefix="loader") as pool:
        waiting: deque[Any] = deque()
        try:
            for step in range(first, min(first + _FETCHED_AHEAD, last)):
                fetch(step)
            for step in range(first, last):
                if step + _FETCHED_AHEAD < last:
                    fetch(step + _FETCHED_AHEAD)
                waiting.append([[pool.submit(job) for job in part] for part in jobs(step)])
                if len(waiting) > _AHEAD:
                    yield _joined(waiting.popleft(), join)
            while waiting:
                yield _joined(waiting.popleft(), join)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _joined(parts: Any, join: Callable[[Sequence[Sample]], Batch]) -> list[Batch]:
    return [join([future.result() for future in part]) for part in parts]


@dataclass(frozen=True, kw_only=True)
class TensorBatch:
    """Tensors with a row for every image, and tuples with an entry for every image."""

    image_ids: tuple[str, ...]

    @classmethod
    def of(cls, samples: Sequence[Self]) -> Self:
        """One batch out of several."""
        columns = {field.name: [getattr(sample, field.name) for sample in samples] for field in fields(cls)}
        joined: dict[str, Any] = {
            name: torch.cat(values) if isinstance(values[0], torch.Tensor) else sum(values, ())
            for name, values in columns.items()
        }
        return cls(**joined)

    def to(self, device: torch.device | str) -> Self:
        """The same on `device`."""
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
            for name, value in vars(self).items()
        }
        return type(self)(**moved)
