"""`finetune`: the masks are the labels, and nothing stands against forgetting. The lower bound of every table."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from .base import LabelObjective, Setup

__all__ = ["Finetune"]


@dataclass(frozen=True, kw_only=True)
class Finetune:
    """No parameters."""

    name: ClassVar[str] = "finetune"
    pasting: ClassVar[None] = None

    def parameters(self) -> Mapping[str, object]:
        """None."""
        return {}

    def objective(self, setup: Setup) -> nn.Module:
        """BCE against the masks as labels."""
        return LabelObjective(setup)
