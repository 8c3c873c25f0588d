"""`distill`: the masks for the new classes, the old model for the old ones; no teacher, no copy-paste."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from wilss.models.networks.segmenter import Segmenter

from ..context import Course, Ground
from ..data.batches import SegBatch
from .base import LabelObjective, Moment, Setup, at_size_of, frozen, input_of, without_gradient
from .course import SegmenterMethod, course_of
from .losses.fmwiss import masked_bce, old_targets

__all__ = ["Distill", "DistillObjective"]


@dataclass(frozen=True, kw_only=True)
class Distill(SegmenterMethod):
    """No parameters."""

    name: ClassVar[str] = "distill"
    pasting: ClassVar[None] = None

    def parameters(self) -> Mapping[str, object]:
        """None."""
        return {}

    def course(self, ground: Ground) -> Course:
        """Student, batches and results."""
        return course_of(self, ground)

    def objective(self, setup: Setup) -> nn.Module:
        """BCE against masks and the old model's probabilities."""
        return LabelObjective(setup) if setup.old is None else DistillObjective(setup, setup.old)


class DistillObjective(nn.Module):
    """The student learns new channels from the masks and old ones, background too, from the old model.

    Where an instance was pasted its label stands in the place of the old model's word.
    """

    def __init__(self, setup: Setup, old: Segmenter) -> None:
        super().__init__()
        self.student = setup.student
        self.old = frozen(old)
        self._new = list(setup.protocol.new_channels(setup.step))
        self._old = list(setup.protocol.old_channels(setup.step))

    def forward(self, batch: SegBatch, moment: Moment) -> dict[str, Tensor]:
        """The terms `new` and `old`."""
        images = input_of(batch)
        logits = at_size_of(batch, self.student(images))
        old = without_gradient(self.old, batch, images)
        known = ~batch.void
        return {
            "new": masked_bce(logits[:, self._new], batch.pseudo.float(), known),
            "old": masked_bce(logits[:, self._old], old_targets(old, batch.pasted, batch.pseudo), known),
        }
