"""Regions without a class, of whatever origin: as a partition of the picture, as voters, as bounds of an attention.

Proposals overlap and have holes; as a partition every pixel is in one region or in none (-1). Attention inside regions
follows CorrCLIP (D. Zhang et al., "CorrCLIP: Reconstructing Patch Correlations in CLIP for Open-Vocabulary Semantic
Segmentation", ICCV 2025), and so does the vote; what its text leaves open is our decision and marked [D].

Shapes: `M` proposals, `R` regions, `K` labels, `h w` pixels, `gh gw` patches, `L` = gh * gw in raster order, `S` rows
of an affinity, `D` feature width. Row before column.
"""

import heapq
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wilss.equations.kernels import first_greatest, unit

NONE = -1  # the region of what is in no region

#: Numbers in a block of rows: 16 MiB of float32.
_BLOCK = 2**22


def from_below(areas: Sequence[float], scores: Sequence[float] | None = None) -> list[int]:
    """The order in which proposals are laid on one another, so that small ones stay seen: the greatest area first.

    Of equal areas the lower score lies below; of equal scores the later one [D]. areas, scores: M numbers.
    Returns the places 0 .. M - 1 in this order.
    """
    scores = [0.0] * len(areas) if scores is None else scores
    return sorted(range(len(areas)), key=lambda place: (-areas[place], scores[place], -place))


def partition(order: Sequence[int], mask_of: Callable[[int], Tensor], height: int, width: int) -> Tensor:
    """Overlapping proposals as regions: a pixel is in the one of its proposals that lies on top.

    order: places of proposals, from below (`from_below`); mask_of: gives the mask of a place, bool [h, w]. It is
    asked for one mask at a time, so that no more than one of them is ever held.
    Returns int32 [h, w]: the place of a proposal, or -1 where there is none. What shows through a hole is what lies
    below; a proposal that is all covered has no pixel.
    """
    regions = torch.full((height, width), NONE, dtype=torch.int32)
    for place in order:
        regions[mask_of(place)] = place
    return regions


def numbered(regions: Tensor) -> tuple[Tensor, int]:
    """Regions numbered without gaps, in the order of their numbers. regions: int, any shape, -1 for none.

    Returns int64 of the same shape in -1 .. R - 1, and R.
    """
    found, numbers = torch.unique(regions.clamp_min(NONE), return_inverse=True)
    below = int(bool(len(found)) and found[0].item() == NONE)
    return numbers - below, len(found) - below


def vote(probabilities: Tensor, regions: Tensor) -> Tensor:
    """Every region takes the mode of its pixels' labels; so do small ones (CorrCLIP).

    A pixel's label is that of its greatest probability, the first among equals. What comes back are the shares of the
    labels in the region, of which the mode is the greatest: a close vote can be told from a clear one [D].

    probabilities: [K, h, w], K <= 255; regions: int [h, w], -1 for pixels of no region, which stay as they are.
    Returns [K, h, w], of the kind of `probabilities`; inside regions >= 0 and of sum 1.
    """
    count = len(probabilities)
    numbers, size = numbered(regions)
    labels = first_greatest(probabilities).long()
    inside = numbers >= 0
    votes = torch.bincount(numbers[inside] * count + labels[inside], minlength=size * count).reshape(size, count)
    shares = votes.to(probabilities.dtype) / votes.sum(dim=1, keepdim=True).clamp_min(1)
    voted = probabilities.clone()
    voted[:, inside] = shares[numbers[inside]].T
    return voted


# -- regions of alike patches -------------------------------------------------------------------------------


def agglomerate(features: Tensor, *, least: float) -> Tensor:
    """Patches joined to regions: the two adjacent ones whose means are most alike, until none are alike enough; ours.

    A region's feature is the mean of its patches' unit features; two regions are alike by their cosine, adjacent
    where patches share a side. Among equals the pair of the first patches goes first.

    features: [D, gh, gw], of any length along D; least: in [-1, 1], the cosine that two regions need to be joined.
    Returns int64 [gh, gw]: regions numbered without gaps by their first patch. least > 1 joins nothing. Memory grows
    with the number of patches, never with its square.
    """
    sums = unit(features.flatten(1).T.double()).cpu().numpy()
    regions = _Joined(sums, _sides(features.shape[1], features.shape[2]))
    while regions.join(least):
        pass
    return torch.from_numpy(regions.numbers().reshape(tuple(features.shape[1:]))).to(features.device)


def _sides(height: int, width: int) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """The pairs [n, 2] of patches of a grid that share a side, the first first."""
    places = np.arange(height * width).reshape(height, width)
    across, down = (np.stack([a.ravel(), b.ravel()]) for a, b in (
        (places[:, :-1], places[:, 1:]), (places[:-1], places[1:]),
    ))  # fmt: skip
    return np.concatenate([across, down], axis=1).T


class _Joined:
    """Regions that are joined pair by pair; each goes by its first patch. sums: of unit features, float64 [L, D]."""

    def __init__(self, sums: Any, pairs: Any) -> None:
        self._sums, self._of = sums, np.arange(len(sums))
        self._beside: list[set[int]] = [set() for _ in range(len(sums))]
        self._changed = [0] * len(sums)
        for a, b in pairs.tolist():
            self._beside[a].add(b)
            self._beside[b].add(a)
        cosines = (sums[pairs[:, 0]] * sums[pairs[:, 1]]).sum(axis=1).tolist()
        self._waiting = [(-cosine, a, b, 0, 0) for cosine, (a, b) in zip(cosines, pairs.tolist(), strict=True)]
        heapq.heapify(self._waiting)

    def join(self, least: float) -> bool:
        """Join the two that are most alike; False where none have a cosine of `least`."""
        while self._waiting:
            cosine, a, b, then_a, then_b = heapq.heappop(self._waiting)
            if (self._changed[a], self._changed[b]) == (then_a, then_b):
                if -cosine < least:
                    return False
                self._unite(a, b)
                return True
        return False

    def _unite(self, a: int, b: int) -> None:
        self._sums[a] += self._sums[b]
        self._of[b] = a
        beside = (self._beside[a] | self._beside[b]) - {a, b}
        self._changed[a] += 1
        self._changed[b] = -1
        self._beside[a], self._beside[b] = beside, set()
        others = sorted(beside)
        lengths = np.linalg.norm(self._sums[others], axis=1) * np.linalg.norm(self._sums[a])
        cosines = (self._sums[others] @ self._sums[a] / np.maximum(lengths, 1e-12)).tolist()
        for other, cosine in zip(others, cosines, strict=True):
            self._beside[other].discard(b)
            self._beside[other].add(a)
            first, second = min(a, other), max(a, other)
            heapq.heappush(self._waiting, (-cosine, first, second, self._changed[first], self._changed[second]))

    def numbers(self) -> Any:
        """int64 [L]: the number of each patch's region."""
        for place in range(len(self._of)):  # a region's name is lower than its patches', so that it is settled before
            self._of[place] = self._of[self._of[place]]
        return np.unique(self._of, return_inverse=True)[1].astype(np.int64)


def at_pixels(regions: Tensor, height: int, width: int) -> Tensor:
    """Regions of patches as those of pixels: each is of the patch that holds its centre. [gh, gw] to int32 [h, w]."""
    rows, columns = (_cells(size, count, regions) for size, count in zip((height, width), regions.shape, strict=True))
    return regions[rows][:, columns].int()


# -- attention inside regions only --------------------------------------------------------------------------


def of_patches(regions: Tensor, grid: tuple[int, int]) -> Tensor:
    """The region of each patch: the one that most of its pixels are in, the first among equals [D].

    regions: int [h, w], -1 for none, which counts as one more; grid: (gh, gw), over the whole picture. A pixel is of
    the patch that holds its centre; a patch that holds none takes the pixel that holds the patch's own centre.
    Returns int32 [L], the numbers of `regions`.
    """
    height, width = regions.shape
    rows, columns = _cells(height, grid[0], regions), _cells(width, grid[1], regions)
    patches = (rows[:, None] * grid[1] + columns).flatten()
    low = regions.long().flatten() + 1
    kinds = int(low.max()) + 1
    pairs, counts = torch.unique(patches * kinds + low, return_counts=True)
    middle = regions[_cells(grid[0], height, regions)][:, _cells(grid[1], width, regions)].flatten().clone()
    # the rarest first, so that the most frequent is written last; among equals the first region last
    last = torch.argsort(counts * kinds - pairs % kinds, stable=True)
    seen = _last_written(pairs[last] // kinds, len(middle))
    return torch.where(seen >= 0, (pairs[last] % kinds - 1)[seen].int(), middle.int())


def _cells(size: int, count: int, like: Tensor) -> Tensor:
    """Which of `count` cells holds the centre of each of `size` places along a side: floor((i + 1/2) count / size)."""
    places = torch.arange(size, device=like.device)
    return torch.div((2 * places + 1) * count, 2 * size, rounding_mode="floor")


def _last_written(targets: Tensor, size: int) -> Tensor:
    """The greatest index of `targets` at which each of 0 .. size - 1 stands, -1 where it does not. int64 [size]."""
    seen = torch.full((size,), -1, dtype=torch.int64, device=targets.device)
    return seen.scatter_reduce(0, targets, torch.arange(len(targets), device=targets.device), "amax")


def merge_alike(regions: Tensor, features: Tensor, *, least: float = 0.8) -> Tensor:
    """Regions joined whose mean features are alike (CorrCLIP: DBSCAN on cosines, eps 0.2, at least 1 a cluster).

    With one a cluster DBSCAN gives the connected components of the graph whose edges are cosines >= 1 - eps = least.

    regions: int [L], -1 for none; features: [L, D], of any length along D. least: in [-1, 1].
    Returns int64 [L]: regions numbered without gaps by the first region in them, -1 where it was.
    Limits: least > 1 joins nothing, -1 joins all. No more than a block of rows of [R, R] is held.
    """
    numbers, count = numbered(regions)
    if count < 2:
        return numbers
    means = _region_means(numbers, unit(features), count)
    joined = torch.from_numpy(_components(means, least)).to(numbers.device)
    return torch.where(numbers >= 0, joined[numbers.clamp_min(0)], NONE)


def _region_means(numbers: Tensor, features: Tensor, count: int) -> Tensor:
    """Unit means [R, D] of the features in each region."""
    inside = numbers >= 0
    sums = features.new_zeros(count, features.shape[1], dtype=torch.float64)
    return unit(sums.index_add_(0, numbers[inside], features[inside].double()))


def _components(means: Tensor, least: float) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Connected components int64 [R] of cosines >= least, block of rows by block; numbered by their first member."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(means)
    groups = np.arange(count)
    step = max(_BLOCK // count, 1)
    for start in range(0, count, step):
        rows, columns = (means[start : start + step] @ means.T >= least).nonzero(as_tuple=True)
        # edges of this block, and one from each region to its group so far
        ends = np.concatenate([rows.cpu().numpy() + start, np.arange(count)])
        others = np.concatenate([columns.cpu().numpy(), groups])
        graph = coo_array((np.ones(len(ends), np.bool_), (ends, others)), shape=(count, count))
        _, parts = connected_components(graph, directed=False)
        groups = np.unique(parts, return_index=True)[1][parts]
    return np.unique(groups, return_inverse=True)[1].astype(np.int64)


def within(affinity: Tensor, scope: Tensor, rows: slice) -> Tensor:
    """Rows of an affinity in which patches attend inside their own region only, each row summing to 1 (CorrCLIP).

    A patch of no region attends to what is above the mean of its row. A row in which nothing is left attends to
    itself [D].

    affinity: [S, L], >= 0; scope: int [L], the region of each patch, -1 for none; rows: which patches these are.
    Returns [S, L], >= 0. Of a softmax over the whole row this is the softmax over the region.
    """
    own = scope[rows, None]
    kept = torch.where(own >= 0, own == scope, affinity > affinity.mean(dim=-1, keepdim=True))
    bounded = affinity * kept
    total = bounded.sum(dim=-1, keepdim=True)
    itself = torch.arange(rows.start, rows.stop, device=scope.device)[:, None]
    alone = (torch.arange(len(scope), device=scope.device) == itself).to(affinity.dtype)
    return torch.where(total > 0, bounded / total.clamp_min(1e-30), alone)
