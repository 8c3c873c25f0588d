"""`finetune`: the masks are the labels, and nothing prevents forgetting. The lower bound of every table."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from wilss.data.taxonomy import BACKGROUND
from wilss.models.networks.segmenter import Segmenter

from ..context import EpochState, RunContext
from ..data.batches import SegBatch
from .base import at_size
from .features import FeatureSource
from .losses.fmwiss import masked_bce
from .losses.kernels import run_of
from .segmenter import MaskMethod


@dataclass(frozen=True, kw_only=True)
class Finetune(MaskMethod):
    """No parameters."""

    name: ClassVar[str] = "finetune"

    def objective(self, student: Segmenter, old: Segmenter | None, context: RunContext) -> nn.Module:
        """BCE against the masks as labels."""
        return LabelObjective(student, context)


class LabelObjective(nn.Module):
    """The masks are the labels: BCE of all channels, background where no mask is. Also every method's step 0.

    Old classes are labelled background, and nothing keeps them.
    """

    def __init__(self, student: Segmenter, context: RunContext) -> None:
        super().__init__()
        self.student = student
        self._features = FeatureSource(student, context.params)
        self._new = context.inputs.protocol.new_channels(context.inputs.step)

    def forward(self, batch: SegBatch, state: EpochState) -> dict[str, Tensor]:
        """The one term `seg`."""
        logits = at_size(self.student.logits(self._features.of(batch)), batch.void.shape[-2:])
        targets = label_targets(batch.pseudo, self._new, logits.shape[1])
        return {"seg": masked_bce(logits, targets, ~batch.void)}


@torch.no_grad()
def label_targets(masks: Tensor, new_channels: Sequence[int], num_channels: int) -> Tensor:
    """Masks as labels of all channels: the new ones as drawn, background where no mask is, old ones nowhere.

    masks: bool [B, C_new, H, W]. Returns float32 [B, num_channels, H, W], each value 0 or 1.
    """
    targets = torch.zeros(len(masks), num_channels, *masks.shape[-2:], device=masks.device)
    targets[:, run_of(new_channels)] = masks.float()
    targets[:, BACKGROUND] = (~masks.any(dim=1)).float()
    return targets
