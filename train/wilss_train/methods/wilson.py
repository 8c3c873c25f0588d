"""`wilson`: a localizer learns tags on the student's features, with the old model's word as its prior; no masks.

F. Cermelli et al., "Incremental Learning in Semantic Segmentation from Image Labels" (WILSON), CVPR 2022.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wilss.equations.boundaries import pamr
from wilss.errors import StoreError
from wilss.models.networks.segmenter import Segmenter
from wilss.params import NonNegativeFloat, NonNegativeInt, Share

from ..context import EpochState, Experiment, RunContext
from ..data.batches import SegBatch
from .base import at_size, frozen, on_grid, require_student_epochs
from .features import FeatureSource
from .finetune import LabelObjective
from .localizer import Localizer
from .losses.fmwiss import masked_bce
from .losses.kernels import run_of
from .losses.wilson import (
    balanced_ce,
    feature_distance,
    localized_targets,
    outside_bce,
    prior_bce,
    sure_labels,
    tag_bce,
    tag_scores,
    with_tags,
)
from .segmenter import MaskMethod
from .step_prior import on_all_pictures

_DILATIONS = (1, 2, 4, 8, 12)  # of PAMR's neighbours, on the feature grid


@dataclass(frozen=True, kw_only=True)
class Wilson(MaskMethod):
    """Parameters of WILSON. Of the store the tags are read, and not the masks unless `negatives` says so.

    alpha: weight of the localizer's hard labels in the student's targets.
    warmup_epochs: the localizer is trained alone for so long.
    localizer_gradient: whether the localizer's losses reach the backbone.
    own_labels: weight of what the localizer learns from its own sure labels after the warm-up; 0 leaves it out.
    refine: rounds of PAMR on the maps that these labels are taken from.
    features: weight of the squared distance to the old model's features; 0 leaves it out.
    negatives: what shows the localizer where a class is not: `images` without its tag (as published), and all that lies
        outside its `masks`, or `auto`: `masks` of a class that all images of the step hold.
    """

    name: ClassVar[str] = "wilson"
    by_tags: ClassVar[bool] = True

    alpha: Share = 0.5
    warmup_epochs: NonNegativeInt = 5
    localizer_gradient: bool = True
    own_labels: NonNegativeFloat = 1.0
    refine: NonNegativeInt = 10
    features: NonNegativeFloat = 1.0
    negatives: Literal["auto", "images", "masks"] = "auto"

    def epochs_alone(self, step: int) -> int:
        """Those of the warm-up; at step 0 there is no localizer."""
        return self.warmup_epochs if step else 0

    def experiment(self, context: RunContext) -> Experiment:
        """As every method's. Raises StoreError where the store's images have no tags."""
        store = context.inputs.store
        if context.inputs.step and store.attributes.get("uses_tags") is False:
            raise StoreError(
                f"{store.path} was made without tags, of all classes in all images, and wilson learns from tags; make "
                f"a store of the tags with `wilss-masks generate --step {context.inputs.step}`, or take another method."
            )
        return super().experiment(context)

    def objective(self, student: Segmenter, old: Segmenter | None, context: RunContext) -> nn.Module:
        """Localizer and student; at step 0 the masks are labels."""
        if old is None:
            return LabelObjective(student, context)
        require_student_epochs(self.warmup_epochs, context.params.epochs)
        return WilsonObjective(self, student, old, context)


class WilsonObjective(nn.Module):
    """Student, localizer and frozen old model on one batch."""

    def __init__(self, params: Wilson, student: Segmenter, old: Segmenter, context: RunContext) -> None:
        super().__init__()
        self.student = student
        self.old = frozen(old)
        self.localizer = Localizer.like(student, seed=context.seed)
        self._params = params
        self._features = FeatureSource(student, context.params)
        protocol, step = context.inputs.protocol, context.inputs.step
        self._new_channels = protocol.new_channels(step)
        self._new, self._old = run_of(self._new_channels), run_of(protocol.old_channels(step))
        self._by_masks = _by_masks(params.negatives, context)

    def forward(self, batch: SegBatch, state: EpochState) -> dict[str, Tensor]:
        """The terms `tags`, `prior` and `features`, and after the warm-up `own` and the student's `seg`."""
        features = self._features.of(batch)
        old_features = self._features.of_old(self.old, batch, features)
        with torch.no_grad():
            old_logits = self.old.logits(old_features)
        seen = features if self._params.localizer_gradient else features.detach()
        alone = state.epoch < self._params.warmup_epochs
        maps = None if alone else self.localizer.settled(seen)  # before this batch moves its statistics
        logits, valid = self.localizer(seen), on_grid(~batch.void, features)
        terms = {
            "tags": self._tag_term(logits, batch, valid),
            "prior": prior_bce(logits[:, self._old].contiguous(), old_logits.sigmoid(), valid),
        }
        if self._params.features:
            terms["features"] = self._params.features * feature_distance(features, old_features, valid)
        if maps is not None:
            if self._params.own_labels:
                terms["own"] = self._params.own_labels * self._own(logits, maps, batch, valid)
            terms["seg"] = self._student_term(batch, features, maps, old_logits)
        return terms

    def _tag_term(self, logits: Tensor, batch: SegBatch, valid: Tensor) -> Tensor:
        """What the localizer learns from tags, and outside masks where they are looked at."""
        known = valid.any(dim=-1).any(dim=-1)
        loss = tag_bce(tag_scores(logits, valid)[:, self._new], batch.tags, known)
        if not any(self._by_masks):
            return loss
        everywhere = torch.ones_like(valid)  # outside of which nothing is
        given = zip(batch.pseudo.unbind(dim=1), self._by_masks, strict=True)
        masks = torch.stack([on_grid(mask, logits) if is_used else everywhere for mask, is_used in given], dim=1)
        return loss + outside_bce(logits[:, self._new].contiguous(), masks, batch.tags, valid)

    def _own(self, logits: Tensor, maps: Tensor, batch: SegBatch, valid: Tensor) -> Tensor:
        """The localizer's own sure labels, of maps that follow the picture's edges."""
        pictures = F.interpolate(batch.images.float() / 255, size=maps.shape[-2:], mode="bilinear", align_corners=False)
        pairs = zip(pictures, maps.float().softmax(dim=1), strict=True)
        refined = torch.stack([pamr(*pair, rounds=self._params.refine, dilations=_DILATIONS) for pair in pairs])
        return balanced_ce(
            logits, sure_labels(with_tags(refined, batch.tags, self._new_channels), valid), batch.tags, valid
        )

    def _student_term(self, batch: SegBatch, features: Tensor, maps: Tensor, old_logits: Tensor) -> Tensor:
        """L_SEG at the pixels of the batch."""
        size = batch.void.shape[-2:]
        tagged = with_tags(at_size(maps, size).softmax(dim=1), batch.tags, self._new_channels)
        targets = localized_targets(
            tagged, at_size(old_logits, size).sigmoid(), new_channels=self._new_channels, alpha=self._params.alpha
        )
        return masked_bce(at_size(self.student.logits(features), size), targets, ~batch.void)


def _by_masks(negatives: str, context: RunContext) -> list[bool]:
    """Of which of a step's classes masks show where they are not, in the protocol's order."""
    known = context.inputs.protocol.new(context.inputs.step)
    if negatives != "auto":
        return [negatives == "masks"] * len(known)
    held = on_all_pictures(context.inputs.store, context.params.negative_images)
    return [identity in held for identity in known]
