"""`distill`: the masks for the new classes, the old model for the old ones; no teacher, no copy-paste."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from wilss.models.networks.segmenter import Segmenter

from ..context import EpochState, RunContext
from ..data.batches import SegBatch
from .base import at_size, frozen, without_gradient
from .features import FeatureSource
from .finetune import LabelObjective
from .losses.fmwiss import masked_bce, old_targets
from .losses.kernels import run_of
from .segmenter import MaskMethod


@dataclass(frozen=True, kw_only=True)
class Distill(MaskMethod):
    """No parameters."""

    name: ClassVar[str] = "distill"

    def objective(self, student: Segmenter, old: Segmenter | None, context: RunContext) -> nn.Module:
        """BCE against masks and the old model's probabilities."""
        return LabelObjective(student, context) if old is None else DistillObjective(student, old, context)


class DistillObjective(nn.Module):
    """The student learns new channels from the masks and old ones, background too, from the old model.

    Where an instance was pasted its label replaces what the old model says.
    """

    def __init__(self, student: Segmenter, old: Segmenter, context: RunContext) -> None:
        super().__init__()
        self.student = student
        self.old = frozen(old)
        self._features = FeatureSource(student, context.params)
        protocol, step = context.inputs.protocol, context.inputs.step
        self._new_channels, self._old_channels = protocol.new_channels(step), protocol.old_channels(step)
        self._new, self._old = run_of(self._new_channels), run_of(self._old_channels)

    def forward(self, batch: SegBatch, state: EpochState) -> dict[str, Tensor]:
        """The terms `new` and `old`."""
        features, size = self._features.of(batch), batch.void.shape[-2:]
        logits = at_size(self.student.logits(features), size)
        return self.distilled(batch, logits, self.old_says(batch, features, size))

    def old_says(self, batch: SegBatch, features: Tensor, size: tuple[int, ...]) -> Tensor:
        """What the old model says of a batch, [B, C, *size]. features: the student's of the same."""
        return without_gradient(self.old.logits, self._features.of_old(self.old, batch, features), size)

    def distilled(self, batch: SegBatch, logits: Tensor, old: Tensor) -> dict[str, Tensor]:
        """New channels against the masks, old ones against the old model's probabilities. All [B, C, h, w]."""
        known = ~batch.void
        return {
            "new": masked_bce(logits[:, self._new], batch.pseudo.float(), known),
            "old": masked_bce(logits[:, self._old], old_targets(old, batch.pasted, batch.pseudo), known),
        }
