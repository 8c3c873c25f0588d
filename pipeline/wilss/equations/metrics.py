"""Counting pixels: the confusion matrix of label maps, and the figures read from it. The one home of both."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wilss.data.taxonomy import VOID


def confusion(truth: NDArray[np.uint8], predicted: NDArray[np.uint8], category_ids: Sequence[int]) -> NDArray[np.int64]:
    """Pixels of every true class (row) that were labelled as every class (column); background comes first.

    truth, predicted: [H, W] taxonomy ids. Ids outside `category_ids` count as background in both; pixels that
    are VOID in the truth are left out; VOID in the prediction counts as background, since no mask is there.
    Returns int64 [C + 1, C + 1] for the C `category_ids`, exact.
    """
    size = len(category_ids) + 1
    channel = np.zeros(256, np.int32)
    channel[list(category_ids)] = np.arange(1, size)
    true_channel = channel.copy()
    true_channel[VOID] = size  # a row of its own, dropped below
    pairs = true_channel[truth] * size + channel[predicted]
    counts = np.bincount(pairs.ravel(), minlength=size * (size + 1))
    return counts.reshape(size + 1, size)[:size].astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Figures of one confusion matrix int64 [C + 1, C + 1]; names: background, then the C classes.

    A class that is neither in the truth nor predicted has no IoU: it is NaN and no part of a mean.
    """

    names: tuple[str, ...]
    matrix: NDArray[np.int64]

    @property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union per class [C + 1]."""
        union = self.matrix.sum(axis=0) + self.matrix.sum(axis=1) - self._hits
        return _ratio(self._hits, union)

    @property
    def precision(self) -> NDArray[np.float64]:
        """The share of the pixels labelled as a class that are of it [C + 1]; NaN where none was."""
        return _ratio(self._hits, self.matrix.sum(axis=0))

    @property
    def recall(self) -> NDArray[np.float64]:
        """The share of a class's pixels that were labelled as it [C + 1]; NaN where it has none."""
        return _ratio(self._hits, self.matrix.sum(axis=1))

    @property
    def mean_iou(self) -> float:
        """Mean IoU over background and classes ("All" in published tables)."""
        return _mean(self.iou)

    @property
    def mean_iou_classes(self) -> float:
        """Mean IoU over classes, without background."""
        return _mean(self.iou[1:])

    def as_json(self) -> dict[str, Any]:
        """Means and figures per class as JSON values; ratios in [0, 1], null where there is none."""
        return {
            "mean_iou": or_none(self.mean_iou),
            "mean_iou_without_background": or_none(self.mean_iou_classes),
            "iou": self._per_class(self.iou),
            "precision": self._per_class(self.precision),
            "recall": self._per_class(self.recall),
        }

    def matrix_as_json(self) -> dict[str, Any]:
        """The matrix as JSON values."""
        return {"classes": list(self.names), "rows": "truth", "pixels": self.matrix.tolist()}

    def _per_class(self, values: NDArray[np.float64]) -> dict[str, float | None]:
        return {name: or_none(value) for name, value in zip(self.names, values.tolist(), strict=True)}

    @property
    def _hits(self) -> NDArray[np.int64]:
        return np.diagonal(self.matrix)


def or_none(value: float) -> float | None:
    """A figure for JSON, which knows no NaN."""
    return None if np.isnan(value) else value


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
