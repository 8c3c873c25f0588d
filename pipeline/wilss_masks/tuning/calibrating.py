"""How sure the masks of the chosen setting are: a curve from one half of a sample's images, told on the other half."""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from wilss.equations import calibration
from wilss.errors import OneImageError

from ..inspect.reliability import Kept, Reliability, Tally, counted
from ..sources.fmwiss import FmwissSource
from ..sources.fmwiss_params import FmwissParams
from ..sources.fusion import evidence_of
from ..stages.chain import stage_size
from ..stages.unsure import labels_of, sureness_of
from .masks import maps_and_masks
from .sample import Sample
from .scratch import Scratch, Seen

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Images of either half, fewer than which say too little of how sure masks are.
LEAST_IMAGES = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibration:
    """A curve from one half of the images, and what it does on the other half.

    before, after: reliability of the other half's pixels by sureness as it is, and calibrated. images: of either half.
    """

    curve: tuple[tuple[float, float], ...]
    before: Reliability
    after: Reliability
    images: tuple[int, int]

    def offers(self) -> list[Kept]:
        """What void would leave of the other half, by values of `unsure` that leave some of the masks."""
        return [kept for kept in self.after.kept() if kept.below <= self.curve[-1][1]]


def calibrate(
    scratch: Scratch, sample: Sample, source: FmwissSource, params: FmwissParams, names: "Mapping[int, str]"
) -> Calibration | None:
    """The calibration of the masks of `params`; None for few images. names: of the step's classes, by id."""
    params = dataclasses.replace(params, unsure=0.0, calibration=())
    half = {sample.records[place].image_id: turn % 2 for turn, place in enumerate(sample.order)}
    labels = ("background", *(names[identity] for identity in sample.classes))
    tallies = [Tally(len(labels), is_calibrated=False) for _ in range(2)]
    images = [0, 0]
    for number in range(len(scratch.batches)):
        for seen in scratch.read(number):
            turn = half[seen.task.record.image_id]
            if _add(tallies[turn], sample, source, params, seen):
                images[turn] += 1
    if min(images) < LEAST_IMAGES:
        return None
    learnt, told = (tally.whole(labels) for tally in tallies)
    curve = calibration.isotonic(learnt.sums())
    return Calibration(curve=curve, before=told, after=told.calibrated(curve), images=(images[0], images[1]))


def _add(tally: Tally, sample: Sample, source: FmwissSource, params: FmwissParams, seen: Seen) -> bool:
    """Count the pixels of an image, where it can be judged."""
    try:
        truths = sample.truths(seen.task.record)
        maps, refined = maps_and_masks(source, params, seen)
    except OneImageError:
        return False
    size = stage_size(seen.task.height, seen.task.width, params)
    with torch.inference_mode():
        evidence = evidence_of(maps.score, maps.attention, size, params)
        labels = labels_of(evidence, refined.fused)
        sure = sureness_of(evidence, labels).cpu().numpy()
    ids = np.array([0, *(sample.classes[position] for position in seen.task.categories)], np.uint8)
    for truth in truths:
        tally.add(counted(sure, truth.labels, ids[labels.cpu().numpy()], sample.classes))
    return True
