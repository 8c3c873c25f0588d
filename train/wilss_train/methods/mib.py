"""`mib`: losses that know of the background's shift, for steps with pixel labels; the outputs are a softmax.

F. Cermelli et al., "Modeling the Background for Incremental Learning in Semantic Segmentation" (MiB), CVPR 2020.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from wilss.data.taxonomy import BACKGROUND
from wilss.models.networks.segmenter import Segmenter
from wilss.params import NonNegativeFloat

from ..context import EpochState, RunContext
from ..data.batches import SegBatch
from ..inputs import RunInputs
from .base import at_size, frozen
from .features import FeatureSource
from .losses.kernels import pixel_ce
from .losses.mib import labels_of_masks, unbiased_ce, unbiased_distillation
from .segmenter import MaskMethod

_GUESSED = (
    "%s holds masks that were made by %s, and %s takes every mask for a pixel label, and what no mask covers for "
    "background; make a store of labels with `wilss-masks generate --step %d --source annotation`, or learn from these "
    "by fmwiss or wilson."
)


class LabelMethod(MaskMethod):
    """A method that takes masks for pixel labels; its outputs are one softmax, whose classes have one head."""

    own_heads: ClassVar[bool] = False

    def doubts(self, inputs: RunInputs) -> Iterator[str]:
        """That the masks were guessed, where they were."""
        source = inputs.store.attributes.get("source")
        if inputs.is_weak and source != "annotation":
            yield _GUESSED % (inputs.store.path, source, self.name, inputs.step)


@dataclass(frozen=True, kw_only=True)
class Mib(LabelMethod):
    """Parameters of MiB. distillation: weight of the unbiased distillation; the public code takes 10."""

    name: ClassVar[str] = "mib"

    distillation: NonNegativeFloat = 10.0

    def objective(self, student: Segmenter, old: Segmenter | None, context: RunContext) -> nn.Module:
        """Unbiased losses; at step 0 cross-entropy."""
        return SoftmaxObjective(student, context) if old is None else MibObjective(self, student, old, context)


class SoftmaxObjective(nn.Module):
    """Cross-entropy with the masks as labels, of outputs that compete."""

    def __init__(self, student: Segmenter, context: RunContext) -> None:
        super().__init__()
        self.student = student
        self._features = FeatureSource(student, context.params)
        self._num_old = len(context.inputs.protocol.old_channels(context.inputs.step))

    def forward(self, batch: SegBatch, state: EpochState) -> dict[str, Tensor]:
        """The one term `seg`."""
        logits = at_size(self.student.logits(self._features.of(batch)), batch.void.shape[-2:])
        return {"seg": pixel_ce(logits, labels_of_masks(batch.pseudo, batch.void, self._num_old))}


class MibObjective(SoftmaxObjective):
    """Student and frozen old model on one batch."""

    def __init__(self, params: Mib, student: Segmenter, old: Segmenter, context: RunContext) -> None:
        super().__init__(student, context)
        self.old = frozen(old)
        self._params = params
        if context.params.new_rows == "background":
            share_background(student, student.spec.num_channels - self._num_old)

    def forward(self, batch: SegBatch, state: EpochState) -> dict[str, Tensor]:
        """The terms `seg` and `old`."""
        features, size = self._features.of(batch), batch.void.shape[-2:]
        logits = at_size(self.student.logits(features), size)
        with torch.no_grad():
            old = at_size(self.old.logits(self._features.of_old(self.old, batch, features)), size)
        labels = labels_of_masks(batch.pseudo, batch.void, self._num_old)
        distilled = unbiased_distillation(logits, old, ~batch.void)
        return {
            "seg": unbiased_ce(logits, labels, self._num_old),
            "old": self._params.distillation * distilled,
        }


def share_background(student: Segmenter, num_new: int) -> None:
    """Lower the background's bias by log(n + 1), as its n copies in the new rows have it (MiB Eqs. 9 and 10).

    Background and new classes then share what the softmax gave to the background.
    """
    bias = student.classifier.bias
    if bias is not None:
        with torch.no_grad():
            bias[BACKGROUND] -= math.log(num_new + 1)
