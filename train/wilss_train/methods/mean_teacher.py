"""A teacher that is the moving average of its student: UniMatch V2's networks and losses on one batch.

L. Yang et al., "UniMatch V2: Pushing the Limit of Semi-Supervised Semantic Segmentation", TPAMI 2025
(arXiv:2410.10777). A. Tarvainen and H. Valpola, "Mean teachers are better role models", NeurIPS 2017.
"""

import copy
from itertools import chain
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from wilss.models.networks.norms import unremembered
from wilss.models.networks.segmenter import Segmenter

from ..context import EpochState
from ..data.augment import on_stride
from ..data.semi.batches import SemiBatch
from ..data.semi.pairs import PairBatch
from ..params import TrainParams
from .base import as_input, at_size
from .losses.kernels import pixel_ce
from .losses.unimatch import averaged, complementary, cut_mixed, share_kept, sure_ce, sure_labels

if TYPE_CHECKING:
    from .unimatch import Unimatch


class UnimatchObjective(nn.Module):
    """Student on labelled images and on two strong views of the others, which learn what the teacher says of weak ones.

    Labelled images and strong views go through the student one after the other, so that each are normalised by their
    own statistics; those that are kept are the labelled images' [D]. The teacher is in evaluation mode for good, so
    that a label depends on no batch mate.
    """

    def __init__(self, params: "Unimatch", student: Segmenter, run: TrainParams) -> None:
        super().__init__()
        self.student = student
        self.teacher = _teacher_of(student)
        self._params, self._run = params, run

    def forward(self, batch: SemiBatch, state: EpochState) -> dict[str, Tensor]:
        """The terms `sup` and, where the others are learnt from, `cons`."""
        assert isinstance(batch, PairBatch)
        labels = batch.labels.long()
        logits = at_size(self.student(as_input(batch.images, self._run)), labels.shape[-2:])
        terms = {"sup": pixel_ce(logits, labels)}
        if state.epoch >= self._params.supervised_epochs:
            terms["cons"] = self._params.unlabelled * self._consistency(batch)
        return terms

    @torch.no_grad()
    def follow(self, taken: int) -> None:
        """The teacher goes after the student. taken: optimiser steps so far, this one too."""
        kept = share_kept(taken, self._params.average)
        pairs = zip(_values(self.teacher), _values(self.student), strict=True)
        for mine, its in pairs:
            mine.copy_(averaged(mine, its, kept))

    def _consistency(self, batch: PairBatch) -> Tensor:
        """The mean loss of both strong views."""
        labels, sure = self._labels(batch)
        small = on_stride(batch.boxes, self._run.loss_stride).unbind(dim=1)
        views = zip((batch.strong, batch.second), batch.boxes.unbind(dim=1), strict=True)
        strong = torch.cat([cut_mixed(view, boxes) for view, boxes in views])
        logits = at_size(self._of_strong(strong), labels.shape[-2:])
        losses = [
            sure_ce(of_view, cut_mixed(labels, boxes), cut_mixed(sure, boxes), cut_mixed(batch.valid, boxes))
            for of_view, boxes in zip(logits.chunk(2), small, strict=True)
        ]
        return torch.stack(losses).mean()

    def _of_strong(self, images: Tensor) -> Tensor:
        """The student's logits of both strong views [2 U, 3, H, W], with complementary dropout on its features."""
        with unremembered(self.student):
            features = self.student.features(as_input(images, self._run))
            count, width = len(images) // 2, features.shape[1]
            drawn = torch.rand(count, width, device=features.device) < 0.5
            whole = torch.rand(count, device=features.device) >= self._params.dropped
            factors = complementary(drawn, whole).flatten(0, 1).to(features.dtype)
            return self.student.logits(features * factors[:, :, None, None])

    @torch.no_grad()
    def _labels(self, batch: PairBatch) -> tuple[Tensor, Tensor]:
        """What the teacher says of weak views, long [U, h, w], and where it is sure enough, bool [U, h, w]."""
        logits = at_size(self.teacher(as_input(batch.weak, self._run)), batch.valid.shape[-2:])
        return sure_labels(logits, self._params.threshold)


def _teacher_of(student: Segmenter) -> Segmenter:
    """A copy that no gradient and no `train()` reaches; unlike a frozen network's, its weights are kept in states."""
    teacher = copy.deepcopy(student).requires_grad_(requires_grad=False).eval()
    teacher.train = lambda mode=True: teacher  # type: ignore[method-assign]
    return teacher


def _values(network: nn.Module) -> "chain[Tensor]":
    """Weights and statistics."""
    return chain(network.parameters(), network.buffers())
