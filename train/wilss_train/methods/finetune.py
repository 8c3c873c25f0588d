"""`finetune`: the masks are the labels, and nothing stands against forgetting. The lower bound of every table."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from ..context import Course, Ground
from .base import LabelObjective, Setup
from .course import SegmenterMethod, course_of

__all__ = ["Finetune"]


@dataclass(frozen=True, kw_only=True)
class Finetune(SegmenterMethod):
    """No parameters."""

    name: ClassVar[str] = "finetune"
    pasting: ClassVar[None] = None

    def parameters(self) -> Mapping[str, object]:
        """None."""
        return {}

    def course(self, ground: Ground) -> Course:
        """Student, batches and results."""
        return course_of(self, ground)

    def objective(self, setup: Setup) -> nn.Module:
        """BCE against the masks as labels."""
        return LabelObjective(setup)
