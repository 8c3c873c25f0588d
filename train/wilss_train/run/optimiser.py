"""Optimiser and learning rates: SGD with poly decay and a faster head, as published."""

from collections.abc import Iterator
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


def make_optimiser(objective: nn.Module, params: TrainParams) -> torch.optim.Optimizer:
    """SGD (or AdamW) in two groups: the student's backbone, and all else at `head_lr` times its rate.

    Frozen parameters are left out. Biases and normalisation are decayed like all others, as published.
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
    return torch.optim.SGD(groups, lr=params.lr, momentum=params.momentum, weight_decay=params.weight_decay)


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
