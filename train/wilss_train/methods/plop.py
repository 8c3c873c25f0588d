"""`plop`: pooled features are kept, and the old model labels what is background; for steps with pixel labels.

A. Douillard et al., "PLOP: Learning without Forgetting for Continual Semantic Segmentation", CVPR 2021.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from wilss.models.networks.segmenter import Segmenter
from wilss.params import NonNegativeFloat, Share

from ..context import EpochState, RunContext
from ..data.batches import SegBatch
from ..inputs import SOFTMAX, RunInputs
from .base import as_input, at_size, frozen, on_grid
from .losses.kernels import weighted_pixel_ce
from .losses.mib import labels_of_masks
from .losses.plop import growth, old_labels, pod_distance, with_new_in_background
from .mib import LabelMethod, SoftmaxObjective, share_background

_NO_SOFTMAX = (
    "%s was trained by %s, with a sigmoid for each class, and PLOP compares outputs of a softmax: the sum of new "
    "logits would drown the rest; say --set pod_logits=0, or start from a base by --method mib."
)
_MAPS = 4  # two stages, the head's body and the outputs


@dataclass(frozen=True, kw_only=True)
class Plop(LabelMethod):
    """Parameters of PLOP, the public code's values.

    pod: weight of the local POD of the backbone's last two stages and of the head's body. pod_logits: of that of the
    outputs. least_entropy: of its greatest value, below which the old model's label is taken whatever the median is.
    """

    name: ClassVar[str] = "plop"

    pod: NonNegativeFloat = 0.01
    pod_logits: NonNegativeFloat = 0.0005
    least_entropy: Share = 0.001

    def doubts(self, inputs: RunInputs) -> Iterator[str]:
        """That masks were guessed, and that outputs would be compared that are no softmax's."""
        yield from super().doubts(inputs)
        if inputs.parent is not None and inputs.parent.method not in SOFTMAX and self.pod_logits:
            yield _NO_SOFTMAX % (inputs.parent.path, inputs.parent.method)

    def objective(self, student: Segmenter, old: Segmenter | None, context: RunContext) -> nn.Module:
        """Labels by the old model and pooled distillation; at step 0 cross-entropy."""
        return SoftmaxObjective(student, context) if old is None else PlopObjective(self, student, old, context)


class PlopObjective(SoftmaxObjective):
    """Student and frozen old model on one batch."""

    def __init__(self, params: Plop, student: Segmenter, old: Segmenter, context: RunContext) -> None:
        super().__init__(student, context)
        self.old = frozen(old)
        self._params, self._run = params, context.params
        num_new = student.spec.num_channels - self._num_old
        self._growth = growth(self._num_old, num_new)
        if context.params.new_rows == "background":
            share_background(student, num_new)

    def forward(self, batch: SegBatch, state: EpochState) -> dict[str, Tensor]:
        """The terms `seg` and `pod`."""
        images, size = as_input(batch.images, self._run), batch.void.shape[-2:]
        *stages, logits = _stages(self.student, images)
        with torch.no_grad():
            *old_stages, old_logits = _stages(self.old, images)
        labels = labels_of_masks(batch.pseudo, batch.void, self._num_old)
        made, share = old_labels(labels, at_size(old_logits, size), least=self._params.least_entropy)
        known = ~batch.void
        return {
            "seg": weighted_pixel_ce(at_size(logits, size), made, share, known),
            "pod": self._pod(stages, old_stages, known) + self._pod_logits(logits, old_logits, known),
        }

    def _pod(self, stages: Sequence[Tensor], old: Sequence[Tensor], known: Tensor) -> Tensor:
        """Of the features; with the outputs' it makes a mean over maps."""
        pairs = zip(stages, old, strict=True)
        total = torch.stack([pod_distance(*pair, on_grid(known, pair[0])) for pair in pairs]).sum()
        return self._growth * self._params.pod * total / _MAPS

    def _pod_logits(self, logits: Tensor, old: Tensor, known: Tensor) -> Tensor:
        distance = pod_distance(with_new_in_background(logits, self._num_old), old, on_grid(known, old))
        return self._growth * self._params.pod_logits * distance / _MAPS


def _stages(network: Segmenter, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The features of the last two stages and of the head's body, and logits, all on grids."""
    previous, features = network.stages(images)
    embedded = network.body(features)
    return previous, features, embedded, network.classifier(embedded)
