"""How sure a mask is at a pixel, whether that can be believed, and the curve that makes it so.

The sureness of a pixel is that of a contest of two: its label against the strongest rival. Reliability diagrams and
their error (ECE) are those of C. Guo et al., "On Calibration of Modern Neural Networks", ICML 2017; the rising curve is
that of B. Zadrozny and C. Elkan, "Transforming Classifier Scores into Accurate Multiclass Probability Estimates", KDD
2002.

Pixels are counted in `FINE` bins of confidence, so that what is known of a million images is as large as that of one:
`sums` float64 [..., 3, B], by bin how many pixels there are, the sum of their confidences, and how many are right. Sums
of several images are added.

torch comes with the function that needs it: parameters that hold a curve should not wait for it.

Shapes: `T` tags of an image, `h w` pixels or patches, `n` pixels, `B` bins. Row before column.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

#: Bins of confidence in which pixels are counted; those of a diagram are made of so many of them.
FINE, SHOWN = 300, 15

#: A rising curve from confidence to the share that is right, by its knots (x, y); straight between, level outside.
Curve = Sequence[tuple[float, float]]


class Reliability(NamedTuple):
    """By bin, float64 [B] each: the mean confidence, the share that is right, how many; NaN where there are none."""

    confidence: NDArray[np.float64]
    right: NDArray[np.float64]
    pixels: NDArray[np.float64]


def sureness(evidence: "Iterable[Tensor]", labels: "Tensor", background: "Tensor | float" = 1.0) -> "Tensor":
    """e_y / (e_y + max_{k != y} e_k): the label of a pixel against its strongest rival, the background among them.

    The probability that it wins a contest of two by the evidence of both (Bradley and Terry, Biometrika 1952). Of
    probabilities over all labels it differs where three or more compete; there it told right from wrong better [D].

    evidence: [T, h, w], finite, >= 0, of the tags, or one map after the other. labels: [h, w], 0 for the background,
    t + 1 for tag t. background: its evidence, [h, w] or the same everywhere; never 0 together with all others.
    Returns [h, w] in [0, 1], float32 or the dtype of `evidence`; below 1/2 where another label has more evidence.
    """
    import torch

    is_background = (labels == 0).float()
    chosen, rival = is_background * background, (1 - is_background) * background
    for tag, one in enumerate(evidence, start=1):
        is_chosen = labels == tag
        chosen = torch.where(is_chosen, one, chosen)
        rival = torch.where(is_chosen, rival, torch.maximum(rival, one))
    return chosen / (chosen + rival)


def binned(confidence: NDArray[np.floating], right: NDArray[np.bool_], bins: int = FINE) -> NDArray[np.float64]:
    """Sums float64 [3, bins] of pixels by confidence, in bins of equal width.

    confidence: [n] in [0, 1]; right: bool [n].
    """
    if confidence.size and not (confidence.min() >= 0 and confidence.max() <= 1):
        raise ValueError("binned takes confidences in [0, 1] alone.")
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    weights = (None, confidence, right)
    return np.stack([np.bincount(place, weight, minlength=bins) for weight in weights]).astype(np.float64)


def reliability(sums: NDArray[np.float64], bins: int = SHOWN) -> Reliability:
    """The diagram of a calibration (Guo et al., Sec. 2): confidence and share that is right, bin by bin.

    sums: [3, B]; bins: how many it shall have, B a multiple of it.
    """
    count, confidence, right = sums.reshape(3, bins, -1).sum(axis=-1)
    means = [np.where(count > 0, part / np.maximum(count, 1), np.nan) for part in (confidence, right)]
    return Reliability(confidence=means[0], right=means[1], pixels=count)


def expected_error(sums: NDArray[np.float64], bins: int = SHOWN) -> float:
    """ECE = sum_b n_b / n |right_b - confidence_b| (Guo et al., Eq. 3), in [0, 1]; NaN without a pixel.

    sums: [3, B], B a multiple of `bins`.
    """
    count, confidence, right = sums.reshape(3, bins, -1).sum(axis=-1)
    return float(np.abs(right - confidence).sum() / count.sum()) if count.sum() else math.nan


def isotonic(sums: NDArray[np.float64], knots: int = 12) -> tuple[tuple[float, float], ...]:
    """The rising curve nearest to the share that is right, in squares (Zadrozny and Elkan, Sec. 3.2).

    Pool-adjacent-violators over the bins gives levels; neighbours that differ least are joined until `knots` are left,
    each at its mean confidence [D].

    sums: [3, B]. Returns at most `knots` pairs (confidence, share) in [0, 1], the first rising, the second never
    falling, rounded to 4 digits; none without a pixel.
    """
    from scipy.optimize import isotonic_regression

    count, confidence, right = sums[:, sums[0] > 0]
    if not count.size:
        return ()
    first = isotonic_regression(right / count, weights=count).blocks[:-1]
    levels = np.stack([np.add.reduceat(part, first) for part in (count, confidence, right)])
    while levels.shape[1] > 1 and (levels.shape[1] > knots or not _rises(levels)):
        levels = _with_nearest_joined(levels)
    return tuple(zip(_rounded(levels[1] / levels[0]), _rounded(levels[2] / levels[0]), strict=True))


def _rises(levels: NDArray[np.float64]) -> bool:
    places = _rounded(levels[1] / levels[0])
    return all(a < b for a, b in itertools.pairwise(places))


def _with_nearest_joined(levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Levels [3, K] with those two neighbours made one that costs the least in squares; [3, K - 1]."""
    count, height = levels[0], levels[2] / levels[0]
    cost = count[1:] * count[:-1] / (count[1:] + count[:-1]) * np.diff(height) ** 2
    place = int(cost.argmin())
    joined = levels[:, place : place + 2].sum(axis=1, keepdims=True)
    return np.concatenate([levels[:, :place], joined, levels[:, place + 2 :]], axis=1)


def _rounded(values: NDArray[np.float64]) -> list[float]:
    return [round(value, 4) for value in values.tolist()]


def calibrated(confidence: NDArray[np.floating], curve: Curve) -> NDArray[np.float64]:
    """Confidences [...] as a curve has them; themselves where it has no knot."""
    if not curve:
        return np.asarray(confidence, np.float64)
    x, y = zip(*curve, strict=True)
    return np.asarray(np.interp(confidence, x, y))


def least_confidence(curve: Curve, wanted: float) -> float:
    """The least confidence that a curve brings to `wanted`: what is below it is below `wanted` when calibrated.

    So a whole picture is compared, and never calibrated. Limits: 0 where all of the curve is as high, infinite where
    none is; `wanted` itself without a knot.
    """
    if not curve:
        return wanted
    x, y = zip(*curve, strict=True)
    place = next((number for number, height in enumerate(y) if height >= wanted), None)
    if place is None:
        return math.inf
    if place == 0:
        return 0.0
    before = place - 1
    return float(x[before] + (x[place] - x[before]) * (wanted - y[before]) / (y[place] - y[before]))
