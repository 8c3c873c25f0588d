"""Which images to correct next: equations on small arrays, without a store.

`N` images, `C` classes, `K` images with a mask that nobody judged. A mask's doubt is a rank within its class, since
neither confidences nor agreements of two classes compare: calibrated or not, a rank is the same.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


def doubts(signals: Sequence[Floats], asked: NDArray[np.bool_], empty: NDArray[np.bool_]) -> Floats:
    """How doubtful each mask is, [N, C] in (0, 1]; NaN where none is asked.

    The mean over the signals of a mask's rank within its class, over the count of these, 1 for the least sure; ties
    share their mean rank. Where a signal is not known it does not count, and where none is, the doubt is 0.5. A mask
    without a pixel has doubt 1.

    signals: [N, C] each, how sure a mask is, NaN where that is not known. asked: bool [N, C]; empty: bool [N, C].
    """
    found = np.full(asked.shape, np.nan)
    for place in range(asked.shape[1]):
        rows = np.flatnonzero(asked[:, place] & ~empty[:, place])
        ranks = np.array([_falling_ranks(signal[rows, place]) for signal in signals]).reshape(len(signals), len(rows))
        known = np.isfinite(ranks)
        total = np.where(known, ranks, 0.0).sum(axis=0)
        found[rows, place] = np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), 0.5)
    found[asked & empty] = 1.0
    return found


def _falling_ranks(values: Floats) -> Floats:
    """Rank over count of every value, 1 for the least; NaN stays."""
    known = np.isfinite(values)
    ranks = np.full(len(values), np.nan)
    some = values[known]
    if some.size:
        ordered = np.sort(some)
        above = len(some) - np.searchsorted(ordered, some, side="right")
        level = len(some) - np.searchsorted(ordered, some, side="left")
        ranks[known] = (above + level + 1) / 2 / len(some)
    return ranks


def choose(
    doubt: Floats, budget: int, *, features: Floats | None = None, names: Sequence[str] | None = None
) -> list[tuple[int, int]]:
    """Images to look at, the most urgent first: (row, class) [min(budget, K)], the class that an image is chosen for.

    Classes take turns, the one with the most doubt in sum first; each takes the image whose mask of it is the most
    doubtful and that is not chosen yet. With features it is the greatest product of the doubt and the distance, one
    minus the greatest cosine, to all images chosen so far: greedy k-centre (Sener and Savarese, ICLR 2018), weighted.
    Nothing is drawn; between equals the lesser name decides.

    doubt: [N, C], NaN where nothing is asked. features: [N, D], any length along D. names: N, by default the rows.
    """
    order = np.arange(len(doubt)) if names is None else np.argsort(np.argsort(np.array(names, object)))
    turns = np.argsort(-np.nansum(doubt, axis=0), kind="stable").tolist()
    unit = None if features is None else features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    left, distance = np.where(np.isnan(doubt), -1.0, doubt), np.ones(len(doubt))
    chosen: list[tuple[int, int]] = []
    while len(chosen) < budget and (left >= 0).any():
        for place in turns:
            value = np.where(left[:, place] >= 0, left[:, place] * distance, -1.0)
            if len(chosen) == budget or value.max() < 0:
                continue
            best = np.flatnonzero(value == value.max())
            row = int(best[np.argmin(order[best])])
            chosen.append((row, place))
            left[row] = -1.0
            if unit is not None:
                distance = np.minimum(distance, np.maximum(1 - unit @ unit[row], 0.0))
    return chosen
