"""What a run runs with, and what a method makes of that: networks with losses, batches, and results to write."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

import torch
from torch import Tensor, nn

from .data.batch_source import Order
from .data.image_pool import Broken
from .inputs import RunInputs
from .params import TrainParams

#: Brings the rows of a tensor from all processes together, in the order of their ranks, with gradients.
Gather = Callable[[Tensor], Tensor]


def _same(rows: Tensor) -> Tensor:
    return rows


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """What a run runs with.

    rank, world: which of how many processes this is. device: that it trains on. gather: brings rows from all
    processes together. on_broken: called with every image that cannot be read.
    """

    inputs: RunInputs
    params: TrainParams
    seed: int
    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    gather: Gather = _same
    on_broken: Callable[[Broken], None] = lambda broken: None


class EpochState(NamedTuple):
    """Where training is: the epoch, and how many there are."""

    epoch: int
    epochs: int


class Batch(Protocol):
    """What one part of an optimiser step sees."""

    @property
    def image_ids(self) -> Sequence[str]:
        """The images in it, for the sentence about a loss that is not finite."""

    def to(self, device: torch.device | str) -> Self:
        """The same on `device`."""


class BatchSource(Protocol):
    """Makes the batches of a run; which ones depends on the number of the optimiser step alone."""

    @property
    def order(self) -> Order:
        """How many optimiser steps an epoch has, and the seed that names the draws."""

    @property
    def image_count(self) -> int:
        """How many images are trained on."""

    def stream(self, first: int, last: int, *, workers: int = 1) -> Iterator[Sequence[Any]]:
        """This process's part of the optimiser steps `first` to `last` - 1, each as `accumulate` batches."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One run of a method, ready to be trained.

    objective: networks with their losses; called with a batch and an `EpochState`, gives the loss terms by name, each
        already weighted, so that their sum is what is optimised. Its `student` is what is trained and kept, and the
        student's `backbone`, if it has one, learns at the lower rate.
    batches: of this process.
    write: puts the results of so many optimiser steps into the run's folder, model.safetensors last, with these facts
        in its header.
    alone: so many first epochs do not train the student yet. constant: so many first epochs the rates stand still.
    after: called after each optimiser step with how many there have been, before a state is saved.
    """

    objective: nn.Module
    batches: BatchSource
    write: Callable[[Path, int, Mapping[str, Any]], None]
    alone: int = 0
    constant: int = 0
    after: Callable[[int], None] = lambda taken: None
