"""PseudoSeg's networks and losses on one batch of labelled images and of others in two views.

Y. Zou et al., "PseudoSeg: Designing Pseudo Labels for Semantic Segmentation", ICLR 2021 (arXiv:2010.09713).
"""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from wilss.data.taxonomy import VOID
from wilss.models.networks.attention_cam import Labeller, on_grid, soft_labels
from wilss.models.networks.norms import unremembered
from wilss.models.networks.segmenter import Segmenter

from ..context import EpochState
from ..data.semi.batches import SemiBatch
from ..params import TrainParams
from .alignment import Alignment
from .base import as_input, at_size
from .losses.kernels import pixel_ce
from .losses.pseudoseg import multi_label_bce, soft_ce

if TYPE_CHECKING:
    from .pseudoseg import Pseudoseg


class PseudosegObjective(nn.Module):
    """Student and labeller on labelled images, and the student on strong views of the others.

    Labelled images and strong views go through the network together, or one after the other, so that what is kept of
    their statistics is the labelled images' (`strong_norm`). Weak views go through it without gradient and in
    evaluation mode, so that a label depends on no batch mate and is what the trained network would say [D].
    """

    def __init__(
        self,
        params: "Pseudoseg",
        student: Segmenter,
        labeller: Labeller | None,
        run: TrainParams,
        alignment: Alignment | None = None,
    ) -> None:
        super().__init__()
        self.student = student
        self.labeller = labeller
        self.alignment = alignment
        self._params, self._run = params, run

    def forward(self, batch: SemiBatch, state: EpochState) -> dict[str, Tensor]:
        """The terms `sup`, then `cons` where unlabelled images are learnt from, `cls` and `sgc` of the labeller."""
        consistent = self._params.target != "none" and state.epoch >= self._params.supervised_epochs
        targets, valid = self._targets(batch) if consistent else (None, None)
        size, labels = batch.labels.shape[-2:], batch.labels.long()
        previous, last, logits, strong = self._passes(batch, consistent=consistent)
        terms = {"sup": pixel_ce(at_size(logits, size), labels)}
        if targets is not None and valid is not None:
            terms["cons"] = self._params.unlabelled * soft_ce(at_size(strong, size), targets, valid)
        if self.labeller is not None:
            terms.update(self._labeller_terms(self.labeller, previous, last, batch))
        return terms

    def _passes(self, batch: SemiBatch, *, consistent: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The last two stages and the logits of labelled images, and the logits of strong views, on the feature grid.

        Without consistency there are 0 strong views.
        """
        known = len(batch.images)
        own = self._params.strong_norm == "own"
        together = torch.cat([batch.images, batch.strong]) if consistent and not own else batch.images
        previous, last = self.student.stages(as_input(together, self._run))
        logits = self.student.logits(last)
        strong = logits[known:]
        if consistent and own:
            with unremembered(self.student):
                strong = self.student(as_input(batch.strong, self._run))
        return previous[:known], last[:known], logits[:known], strong

    def _labeller_terms(
        self, labeller: Labeller, previous: Tensor, last: Tensor, batch: SemiBatch
    ) -> dict[str, Tensor]:
        """The labeller on labelled images, whose classes are known."""
        labels = batch.labels.long()
        present = classes_in(labels, labeller.classes.out_features + 1)[:, 1:]
        output = labeller(previous, last, present=present, inside=on_grid(batch.inside, last))
        return {
            "cls": self._params.classes * multi_label_bce(output.tags, present),
            "sgc": self._params.attention * pixel_ce(at_size(output.scores, labels.shape[-2:]), labels),
        }

    @torch.no_grad()
    def _targets(self, batch: SemiBatch) -> tuple[Tensor, Tensor]:
        """What strong views learn, [U, C, h, w], and where, bool [U, h, w]."""
        size = batch.valid.shape[-2:]
        if len(batch.targets):
            targets = batch.targets.float()
        else:
            with _evaluating(self):
                grid = soft_labels(
                    self.student, self.labeller, as_input(batch.weak, self._run), self._params.labels, batch.shown
                )
            torch.clear_autocast_cache()  # else the casts of this pass, which carry no gradient, serve the next one
            targets = at_size(grid, size)
        if self.alignment is not None:
            targets = self.alignment(targets, batch.valid, batch.labels.long())
        if self._params.target != "fixmatch":
            return targets, batch.valid
        surest, channel = targets.max(dim=1)
        hard = nn.functional.one_hot(channel, targets.shape[1]).movedim(-1, 1).to(targets.dtype)
        return hard, batch.valid & (surest >= self._params.threshold)


def classes_in(labels: Tensor, channels: int) -> Tensor:
    """Which channels a label map holds: long [B, h, w] with VOID to bool [B, C]."""
    flat = labels.flatten(1)
    counts = torch.zeros(len(flat), VOID + 1, dtype=torch.bool, device=flat.device)
    return counts.scatter(1, flat, True)[:, :channels]


@contextlib.contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, and as it was afterwards."""
    was = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was)
