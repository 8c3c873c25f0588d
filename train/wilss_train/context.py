"""What a run stands on, and what a method makes of it: networks with losses, batches, and results to write."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from .data.batches import Broken, Order
from .inputs import Beginning
from .params import TrainParams

__all__ = ["Batch", "Course", "Gather", "Ground", "Maker"]

#: Brings the rows of a tensor from all processes together, in the order of their ranks, with gradients.
Gather = Callable[[Tensor], Tensor]


def _same(rows: Tensor) -> Tensor:
    return rows


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What a method is given for one run.

    rank, world: which of how many processes this is. device: that it trains on. gather: brings rows from all
    processes together. on_broken: told of every image that cannot be read.
    """

    beginning: Beginning
    params: TrainParams
    seed: int
    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    gather: Gather = _same
    on_broken: Callable[[Broken], None] = lambda broken: None


class Batch(Protocol):
    """What one part of an optimiser step sees."""

    @property
    def image_ids(self) -> Sequence[str]:
        """The images in it, for the sentence about a loss that is not finite."""

    def to(self, device: torch.device | str) -> Self:
        """The same on `device`."""


class Maker(Protocol):
    """Makes the batches of a run; which ones depends on the number of the optimiser step alone."""

    @property
    def order(self) -> Order:
        """How many optimiser steps an epoch has, and the seed that names the draws."""

    def stream(self, first: int, last: int, *, workers: int = 1) -> Iterator[Sequence[Any]]:
        """This process's part of the optimiser steps `first` to `last` - 1, each as `accumulate` batches."""


@dataclass(frozen=True, kw_only=True)
class Course:
    """One run of a method, made ready.

    objective: called with a batch and the moment, gives the loss terms, each already weighted. write: puts the
    results of so many optimiser steps into the run's folder, model.safetensors last, with these facts in its header.
    """

    objective: nn.Module
    maker: Maker
    write: Callable[[Path, int, Mapping[str, Any]], None]
