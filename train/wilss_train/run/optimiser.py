"""Optimiser and learning rates: SGD with poly decay and a faster head, as published."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..params import TrainParams

_BACKBONE, _HEAD = "backbone", "head"


def poly(step: int, steps: int, *, power: float = 0.9, warmup: int = 0) -> float:
    """The factor on every learning rate at optimiser step `step` of `steps`: (1 - step / steps) ** power.

    warmup: over so many first steps the factor also grows linearly.
    """
    grown = min(1.0, (step + 1) / warmup) if warmup else 1.0
    return grown * float((1.0 - step / steps) ** power)


def in_steps(step: int, *, every: int, by: float) -> float:
    """The factor on every learning rate at optimiser step `step`: by ** (step // every)."""
    return float(by ** (step // every))


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The factor on every learning rate, by optimiser step.

    steps: of the whole run. constant: in so many first ones, which do not train the student, the rates do not fall;
    afterwards they fall as if they had all along (WILSON's public code). Linear growth starts again after them, since
    the student's new rows do.
    """

    params: TrainParams
    steps: int
    constant: int = 0

    def factor(self, step: int) -> float:
        """At optimiser step `step`, from 0; in (0, 1]."""
        began = self.constant if step >= self.constant else 0
        grown = min(1.0, (step - began + 1) / self.params.warmup) if self.params.warmup else 1.0
        return grown * (self._decayed(step) if step >= self.constant else 1.0)

    def _decayed(self, step: int) -> float:
        if self.params.decay == "steps":
            return in_steps(step, every=self.params.decay_every, by=self.params.decay_by)
        return poly(step, self.steps, power=self.params.power)


def make_optimiser(objective: nn.Module, params: TrainParams) -> torch.optim.Optimizer:
    """SGD (or AdamW) in two groups: the student's backbone, and all else at `head_lr` times its rate.

    Frozen parameters are left out. Biases and normalisation are decayed like all others, as published. Nesterov's
    momentum without momentum is plain descent, which torch refuses by that name.
    """
    backbone = {id(parameter) for parameter in objective.student.backbone.parameters()}  # type: ignore[union-attr]
    trained = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {"name": _BACKBONE, "params": [p for p in trained if id(p) in backbone], "peak": params.lr},
        {"name": _HEAD, "params": [p for p in trained if id(p) not in backbone], "peak": params.lr * params.head_lr},
    ]
    groups = [group for group in groups if group["params"]]
    if params.optimiser == "adamw":
        return torch.optim.AdamW(groups, lr=params.lr, weight_decay=params.weight_decay)
    return torch.optim.SGD(
        groups,
        lr=params.lr,
        momentum=params.momentum,
        nesterov=params.nesterov and params.momentum > 0,
        weight_decay=params.weight_decay,
    )


def set_learning_rates(optimiser: torch.optim.Optimizer, factor: float) -> None:
    """Every group at `factor` times its peak."""
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] * factor


def learning_rates(optimiser: torch.optim.Optimizer) -> dict[str, float]:
    """The rates as they are, by group."""
    return dict(_named(optimiser))


def _named(optimiser: torch.optim.Optimizer) -> Iterator[tuple[str, float]]:
    for group in optimiser.param_groups:
        yield group["name"], float(group["lr"])
