"""`fmwiss`: a plug-in teacher learns from masks, old model and pasted instances; the student learns from the teacher.

FMWISS (Yu et al., CVPR 2023), Secs. 3.3 to 3.5.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from wilss.data.taxonomy import VOID
from wilss.models.networks.segmenter import Segmenter
from wilss.params import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, Share, require

from ..context import EpochState, RunContext
from ..data.batches import SegBatch
from ..data.copy_paste import PasteParams
from .base import at_size, require_student_epochs
from .distill import DistillObjective
from .finetune import LabelObjective
from .losses.fmwiss import (
    DrawnPoints,
    dense_contrastive,
    drawn_points,
    embedding_at,
    labels_of,
    masked_bce,
    student_targets,
)
from .segmenter import MaskMethod
from .teacher import Teacher

log = logging.getLogger(__name__)

_IN_PARTS = (
    "accumulate=%d: the contrastive loss compares points within a part of a batch, not over all of it, so this run is "
    "not quite that of accumulate=1; every other loss is the same."
)


@dataclass(frozen=True, kw_only=True)
class Fmwiss(MaskMethod):
    """Parameters of FMWISS Secs. 3.3 to 3.5.

    alpha: weight of the teacher's hard labels in the targets of new classes. beta: weight of the old model in the
    targets of old classes. contrastive: lambda, weight of the dense contrastive loss; 0 leaves it out.
    temperature, points: of that loss; points per class and image. It compares points over all processes, and within
    each of the parts that `accumulate` cuts a batch into.
    warmup_epochs: the teacher is trained alone for so long. warmup_rate: the rates are `constant` meanwhile, as in
    WILSON's public code, or fall from the first step on (`decaying`), as they did in runs that do not say which.
    teacher: False leaves the teacher out, so that the student learns from masks and old model directly (ablation).
    teacher_gradient: whether the teacher's losses reach the backbone [D].
    paste_probability, paste_flip, paste_scale, paste_per_image: of memory copy-paste [D]; 0 pastes nothing.
    """

    name: ClassVar[str] = "fmwiss"
    former: ClassVar[Mapping[str, Any]] = {"warmup_rate": "decaying"}

    alpha: Share = 0.5
    beta: Share = 0.9
    contrastive: NonNegativeFloat = 0.1
    temperature: PositiveFloat = 0.1
    points: PositiveInt = 10
    warmup_epochs: NonNegativeInt = 5
    warmup_rate: Literal["constant", "decaying"] = "constant"
    teacher: bool = True
    teacher_gradient: bool = True
    paste_probability: Share = 0.5
    paste_flip: Share = 0.5
    paste_scale: tuple[float, ...] = (0.5, 1.5)
    paste_per_image: NonNegativeInt = 1

    def __post_init__(self) -> None:
        """Validate every value."""
        super().__post_init__()
        self._paste_params()

    @property
    def pasting(self) -> PasteParams | None:
        """How instances are pasted; None where they are not."""
        return self._paste_params() if self.paste_probability else None

    def deciding(self, step: int) -> dict[str, Any]:
        """All parameters, but for the rate of a warm-up that there is not."""
        values = self.as_json()
        return values if self.epochs_alone(step) else {name: values[name] for name in values if name != "warmup_rate"}

    def epochs_alone(self, step: int) -> int:
        """Those of the teacher's warm-up; at step 0 there is none."""
        return self.warmup_epochs if step and self.teacher else 0

    def epochs_constant(self, step: int) -> int:
        """The same, unless the rates fall meanwhile."""
        return self.epochs_alone(step) if self.warmup_rate == "constant" else 0

    def objective(self, student: Segmenter, old: Segmenter | None, context: RunContext) -> nn.Module:
        """Teacher and student against forgetting; at step 0 there is nothing to forget, and the masks are labels."""
        if old is None:
            return LabelObjective(student, context)
        if not self.teacher:
            return DistillObjective(student, old, context)
        require_student_epochs(self.warmup_epochs, context.params.epochs)
        if self.contrastive and context.params.accumulate > 1 and not context.rank:
            log.warning(_IN_PARTS, context.params.accumulate)
        return FmwissObjective(self, student, old, context)

    def _paste_params(self) -> PasteParams:
        require(len(self.paste_scale) == 2, "paste_scale", self.paste_scale, "two numbers above 0, the smaller first")
        return PasteParams(
            probability=self.paste_probability,
            scale=(self.paste_scale[0], self.paste_scale[-1]),
            flip=self.paste_flip,
            per_image=self.paste_per_image,
        )


class FmwissObjective(DistillObjective):
    """Student, plug-in teacher and frozen old model on one batch."""

    def __init__(self, params: Fmwiss, student: Segmenter, old: Segmenter, context: RunContext) -> None:
        super().__init__(student, old, context)
        self.teacher = Teacher.like(student, seed=context.seed)
        self._params, self._gather = params, context.gather

    def forward(self, batch: SegBatch, state: EpochState) -> dict[str, Tensor]:
        """The terms `new`, `dcl`, `old` of the teacher and, after the warm-up, `seg` of the student."""
        alone = state.epoch < self._params.warmup_epochs
        size = batch.void.shape[-2:]
        with torch.set_grad_enabled(torch.is_grad_enabled() and not alone):
            features = self._features.of(batch)
        old = self.old_says(batch, features, size)
        labels, drawn = self._drawn(batch, old)  # early, so that how many points there are is known when it is wanted
        seen = features if self._params.teacher_gradient else features.detach()
        on_grid, embedding = self.teacher(seen)
        logits = at_size(on_grid, size)
        terms = self.distilled(batch, logits, old)
        student = None if alone else self._student_term(batch, features, logits, old)
        if drawn is not None:
            terms["dcl"] = self._params.contrastive * self._contrastive(labels, drawn, embedding)
        if student is not None:
            terms["seg"] = student
        return terms

    def _student_term(self, batch: SegBatch, features: Tensor, logits: Tensor, old: Tensor) -> Tensor:
        """L_seg; logits: the teacher's, [B, C, h, w]."""
        targets = student_targets(
            logits.detach().sigmoid(), old, new_channels=self._new_channels, old_channels=self._old_channels,
            alpha=self._params.alpha, beta=self._params.beta, shows_none=~batch.tags.any(dim=1),
        )  # fmt: skip
        return masked_bce(at_size(self.student.logits(features), logits.shape[-2:]), targets, ~batch.void)

    def _drawn(self, batch: SegBatch, old: Tensor) -> tuple[Tensor, DrawnPoints | None]:
        """What L_dcl takes pixels to be, uint8 [B, h, w], and the points that it compares; None without it."""
        if not self._params.contrastive:
            return batch.pasted, None
        labels = labels_of(batch.pseudo, old, batch.pasted, self._new_channels).masked_fill(batch.void, VOID)
        generators = [torch.Generator().manual_seed(seed) for seed in batch.seeds]
        return labels, drawn_points(labels, self._params.points, generators)

    def _contrastive(self, labels: Tensor, drawn: DrawnPoints, embedding: Tensor) -> Tensor:
        """L_dcl over the points of the whole batch, those of other processes too."""
        points = drawn.points()
        classes = labels[tuple(points.unbind(dim=1))].long()
        vectors = embedding_at(embedding.float(), points, *labels.shape[-2:])
        return dense_contrastive(self._gather(vectors), self._gather(classes), self._params.temperature)
