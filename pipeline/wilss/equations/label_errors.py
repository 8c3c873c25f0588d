"""Signs that a tag or a mask is wrong: presence of a class, confident learning, stray parts, unusual areas.

Confident learning (C. Northcutt, L. Jiang, I. Chuang, JAIR 2021) is taken class by class, each tag a label of its own:
an image is doubted where another answer is as probable as it usually is among those for which that answer was given.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

#: Of a normal distribution the median absolute deviation times this is the standard deviation.
_MAD = 1.4826


def presence(maps: NDArray[np.floating], share: float) -> NDArray[np.float64]:
    """How surely each class is somewhere: the mean of the `share` of places where its map is greatest, [C] in [0, 1].

    maps: [C, h, w], each value in [0, 1]; at least one place counts.
    """
    flat = np.asarray(maps, np.float64).reshape(len(maps), -1)
    count = max(1, round(share * flat.shape[1]))
    return np.asarray(np.partition(flat, flat.shape[1] - count, axis=1)[:, flat.shape[1] - count :].mean(axis=1))


class Doubts(NamedTuple):
    """unsupported: tags of classes that are not there; missing: classes that are there without a tag; bool [N, C]."""

    unsupported: NDArray[np.bool_]
    missing: NDArray[np.bool_]


def confident_doubts(present: NDArray[np.floating], tags: NDArray[np.bool_]) -> Doubts:
    """Tags that confident learning doubts, one class against the rest.

    present: [N, C] in [0, 1], NaN where nothing is known. tags: bool [N, C]. With t1 the mean of `present` over the
    images that have the tag, and t0 of 1 - present over those that do not: a tag is unsupported where 1 - present >= t0
    and present < t1, and missing where present >= t1 and 1 - present < t0. Nothing is doubted of a class that all
    images or none are tagged with.
    """
    known = ~np.isnan(present)
    values = np.where(known, present, 0.0)
    with_tag, without = known & tags, known & ~tags
    t1, t0 = _means(values, with_tag), _means(1 - values, without)
    both = np.isfinite(t1) & np.isfinite(t0)
    is_there, is_not = values >= np.where(both, t1, 2.0), 1 - values >= np.where(both, t0, 2.0)
    return Doubts(unsupported=with_tag & is_not & ~is_there & both, missing=without & is_there & ~is_not & both)


def _means(values: NDArray[np.float64], where: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The mean of each column over some of its rows, [C]; NaN without any."""
    counts = where.sum(axis=0)
    return np.where(counts > 0, np.where(where, values, 0).sum(axis=0) / np.maximum(counts, 1), np.nan)


def medians(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """The median of what is known of each column of [N, C], [C]; NaN where nothing is."""
    known = [column[~np.isnan(column)] for column in np.asarray(values, np.float64).T]
    return np.array([np.median(column) if column.size else np.nan for column in known], np.float64)


def relative(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Values over the median of their column, at most 1; [N, C], NaN stays. A column whose median is 0 becomes 1."""
    known, usual = np.asarray(values, np.float64), np.nan_to_num(medians(values))
    return np.where(np.isnan(known), np.nan, np.minimum(known / np.where(usual > 0, usual, np.inf) + (usual <= 0), 1.0))


def unusual(values: NDArray[np.floating], cut: float, least: int) -> NDArray[np.float64]:
    """How unusual each value is among its like, in [0, 1): 0 within `cut` robust deviations, 0.5 at twice as many.

    values: [N]; positive ones are compared by their logarithm, others are 0. The deviation is the median absolute
    deviation times 1.4826. 0 for all where fewer than `least` are positive, or more than half are equal.
    """
    result = np.zeros(len(values))
    positive = np.asarray(values) > 0
    if positive.sum() < least:
        return result
    logs = np.log(np.asarray(values, np.float64)[positive])
    centre = np.median(logs)
    spread = _MAD * np.median(np.abs(logs - centre))
    if spread > 0:
        result[positive] = 1 - np.minimum(1, cut / np.maximum(np.abs(logs - centre) / spread, 1e-12))
    return result


def stray_parts(mask: NDArray[np.bool_], *, most: float, far: float) -> NDArray[np.bool_]:
    """The pixels of tiny parts that lie far from the main one, bool [H, W].

    mask: bool [H, W]; parts touch by sides or corners, the main one is the largest, the first among equals. A part is
    stray where it has at most `most` of the main part's pixels and no pixel of it is nearer to the main part than `far`
    of the image's diagonal.
    """
    parts, count = ndimage.label(mask, np.ones((3, 3), np.int8))
    if count < 2:
        return np.zeros_like(mask)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    main = int(sizes.argmax())
    small = np.flatnonzero((sizes > 0) & (sizes <= most * sizes[main]))
    small = small[small != main]
    if not small.size:
        return np.zeros_like(mask)
    away = np.atleast_1d(ndimage.minimum(ndimage.distance_transform_edt(parts != main), parts, small))
    return np.isin(parts, small[away >= far * np.hypot(*mask.shape)])


def stretch(mask: NDArray[np.bool_], stray: NDArray[np.bool_]) -> float:
    """By how much stray parts enlarge the box around a mask, in [0, 1): 1 - box without them / box with them."""
    with_them, without = _box_area(mask), _box_area(mask & ~stray)
    return 1 - without / with_them if with_them else 0.0


def _box_area(mask: NDArray[np.bool_]) -> int:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int((rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)) if rows.size else 0


def rim_share(mask: NDArray[np.bool_], width: float) -> float:
    """The share of a mask's pixels in the rim of the image, in [0, 1]; 0 for an empty one.

    mask: bool [H, W]. width: of the rim, in parts of the shorter side; a pixel at least.
    """
    pixels = int(mask.sum())
    if not pixels:
        return 0.0
    rim = max(1, round(width * min(mask.shape)))
    return 1 - int(mask[rim : mask.shape[0] - rim, rim : mask.shape[1] - rim].sum()) / pixels


def systematic(
    counts: NDArray[np.integer], images: NDArray[np.integer], *, share: float, least: int
) -> list[tuple[int, int, float]]:
    """Pairs of classes that are taken for each other again and again: (true, labelled as, share), the greatest first.

    counts: int [C, C], pixels by true class and label. images: int [C, C], in how many images that was most of a true
    class's pixels. A pair is systematic where it is at least `share` of the true class's pixels, and most of them in at
    least `least` images.
    """
    totals = np.asarray(counts).sum(axis=1, keepdims=True)
    parts = np.asarray(counts) / np.maximum(totals, 1)
    wanted = (parts >= share) & (np.asarray(images) >= least) & ~np.eye(len(parts), dtype=bool)
    pairs = [(int(a), int(b), float(parts[a, b])) for a, b in np.argwhere(wanted)]
    return sorted(pairs, key=lambda pair: (-pair[2], pair[0], pair[1]))
