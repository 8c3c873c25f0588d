"""What few-shot segmentation is judged by: IoU of classes and of foreground, over all episodes of a run.

Pixels are summed up over the episodes, and ratios are taken once at the end; VOID is in no count.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wilss.equations.metrics import confusion

#: `wilss` counts a class's false positives in every episode that asks for it. `panet`, the paper's public code, counts
#: a class, and the background, only where the query holds it, and takes the sum of the classes' counts as foreground's.
#: With one way and some background in every query both are the same.
Metric = Literal["wilss", "panet"]


@dataclass
class EpisodeCounts:
    """Pixels of a run so far. by_class: id -> (true positives, false positives, false negatives).

    binary: the same of background (row 0) and of foreground (row 1). For `wilss` a pixel of one way that is taken for
    another is a hit of foreground; for `panet` it is a false negative of the one and a false positive of the other.
    """

    metric: Metric = "wilss"
    by_class: dict[int, NDArray[np.int64]] = field(default_factory=dict)
    binary: NDArray[np.int64] = field(default_factory=lambda: np.zeros((2, 3), np.int64))

    def add(self, truth: NDArray[np.uint8], predicted: NDArray[np.uint8], ways: Sequence[int]) -> None:
        """One query: taxonomy ids [H, W] of both; what is no way of the episode is background in the truth."""
        pixels = confusion(truth, predicted, ways)
        counted = [place for place in range(len(ways) + 1) if self.metric == "wilss" or pixels[place].any()]
        for place in counted:
            if place:
                identity = ways[place - 1]
                self.by_class[identity] = self.by_class.get(identity, np.zeros(3, np.int64)) + _counts(pixels, place)
        if self.metric == "wilss":
            pixels, counted = _two_by_two(pixels), [0, 1]
        for place in counted:
            self.binary[min(place, 1)] += _counts(pixels, place)

    def iou(self) -> dict[int, float]:
        """IoU of every class that came up, NaN where it was neither there nor predicted."""
        return {
            identity: float(counts[0] / counts.sum()) if counts.any() else float("nan")
            for identity, counts in sorted(self.by_class.items())
        }

    def mean_iou(self) -> float:
        """Foreground mIoU: mean over the classes; NaN where there is none."""
        known = [value for value in self.iou().values() if not np.isnan(value)]
        return float(np.mean(known)) if known else float("nan")

    def binary_iou(self) -> float:
        """Mean of the IoU of foreground, all classes as one, and of background; NaN where neither came up."""
        known = self.binary[self.binary.any(axis=1)]
        return float((known[:, 0] / known.sum(axis=1)).mean()) if len(known) else float("nan")


def _two_by_two(pixels: NDArray[np.int64]) -> NDArray[np.int64]:
    """A confusion matrix of background and of any way."""
    return np.array([[pixels[0, 0], pixels[0, 1:].sum()], [pixels[1:, 0].sum(), pixels[1:, 1:].sum()]], np.int64)


def _counts(pixels: NDArray[np.int64], place: int) -> NDArray[np.int64]:
    """True positives, false positives and false negatives of one class of a confusion matrix."""
    hits = pixels[place, place]
    return np.array([hits, pixels[:, place].sum() - hits, pixels[place].sum() - hits], np.int64)
