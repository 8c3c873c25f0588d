"""A bank of features from the masks of a whole data set, and the vote of its nearest: a second pass over masks.

The way is ModuSeg's (2026, training-free weakly supervised segmentation): first masks are eroded, what lies inside is
pooled, of every class the outliers are dropped, and every place of every image takes the vote of the features that are
most alike. What the paper leaves open or we do otherwise is marked [D]. Pooling is `wilss.equations.panet`'s.

All is exact and needs no index: a bank is capped, and patches are compared with it a block at a time.

Shapes: `K` labels, the background first; `D` feature width; `N` features of a label in the bank; `L` patches; `h w`
patch grid; `H W` pixels.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from wilss.equations.kernels import exact, unit

#: Cosines that are held at once: 64 MiB of float32.
_BLOCK = 2**24


def erode(mask: Tensor, rounds: int) -> Tensor:
    """A mask without its rim: `rounds` times the minimum over 3x3 pixels.

    What lies beyond the image is taken to go on as the mask does, so that an object which the image cuts off keeps
    that side [D].

    mask: bool [..., H, W]; rounds: 0 or more. Returns bool [..., H, W], a part of `mask`.
    """
    outside = (~mask).to(torch.float32).reshape(-1, 1, *mask.shape[-2:])
    for _ in range(rounds):
        outside = F.max_pool2d(outside, 3, stride=1, padding=1)
    return (outside == 0).reshape(mask.shape)


def shares(mask: Tensor, grid: tuple[int, int]) -> Tensor:
    """How much of every patch lies inside a mask: the mean of the pixels that a cell covers, wholly or in part.

    mask: bool or float [..., H, W]; grid: (h, w). Returns float32 [..., h, w] in [0, 1].
    """
    flat = mask.to(torch.float32).reshape(1, -1, *mask.shape[-2:])
    return F.adaptive_avg_pool2d(flat, grid).reshape(*mask.shape[:-2], *grid)


def directions(vectors: Tensor, centre: Tensor) -> Tensor:
    """(v - centre) / |v - centre|: what sets a feature apart from the mean of the data set; 0 where it is that mean.

    Features of a vision transformer share a large part, which makes all cosines alike; taking the mean away spreads
    them [D].

    vectors: [..., D]; centre: [D]. Returns the same shape.
    """
    return unit(exact(vectors) - centre)


def typical(vectors: Tensor, dropped: float) -> Tensor:
    """Which features of a label stay when the share that lies farthest from their centroid is dropped.

    Far is a small cosine with the mean of the unit vectors; of equals the later is dropped. floor(dropped * N) go, and
    so one alone always stays.

    vectors: unit [N, D]; dropped: in [0, 1). Returns bool [N].
    """
    kept = torch.ones(len(vectors), dtype=torch.bool, device=vectors.device)
    order = (vectors @ unit(vectors.mean(dim=0))).argsort(descending=True, stable=True)
    kept[order[len(vectors) - int(dropped * len(vectors)) :]] = False
    return kept


def vote_of_each(patches: Tensor, bank: Sequence[Tensor], nearest: int, temperature: float) -> Tensor:
    """softmax_k(s_k / temperature), s_k the mean cosine of a patch with the `nearest` features of label k.

    Every label is asked for its own nearest, so that the background, of which there is most, cannot win by number [D].
    A label of fewer features is asked for all of them, and one without any has no part.

    patches: unit [L, D]; bank: per label unit [N_k, D], one of them filled at least; nearest: 1 or more; temperature:
    above 0. Returns float32 [K, L], each column sums to 1.
    """

    def of_block(block: Tensor) -> Tensor:
        means = [_nearest(block, features, nearest)[0].mean(dim=1) if len(features) else None for features in bank]
        nothing = block.new_full((len(block),), -torch.inf)
        return torch.stack([nothing if mean is None else mean for mean in means])

    return (_by_blocks(patches, bank, of_block) / temperature).softmax(dim=0)


def vote_of_nearest(patches: Tensor, bank: Sequence[Tensor], nearest: int, temperature: float) -> Tensor:
    """sum_j [label_j = k] w_j / sum_j w_j over the `nearest` features j of all labels, w_j = exp(cos_j / temperature).

    ModuSeg's vote. All features take part where the bank holds fewer. Arguments and result: as for `vote_of_each`.
    """
    together = torch.cat(list(bank))
    counts = torch.tensor([len(features) for features in bank], device=patches.device)
    labels = torch.arange(len(bank), device=patches.device).repeat_interleave(counts)
    numbers = torch.arange(len(bank), device=patches.device)[:, None, None]

    def of_block(block: Tensor) -> Tensor:
        cosines, places = _nearest(block, together, nearest)
        weights = (cosines / temperature).softmax(dim=1)
        return (weights * (labels[places] == numbers)).sum(dim=2)

    return _by_blocks(patches, bank, of_block)


def _nearest(patches: Tensor, features: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The greatest cosines [L, k] and where they are; k at most the number of features."""
    greatest = (patches @ features.T).topk(min(count, len(features)), dim=1)
    return greatest.values, greatest.indices


def _by_blocks(patches: Tensor, bank: Sequence[Tensor], of_block: Callable[[Tensor], Tensor]) -> Tensor:
    step = max(1, _BLOCK // max(1, sum(map(len, bank))))
    return torch.cat([of_block(patches[start : start + step]) for start in range(0, len(patches), step)], dim=1)


def smoothed(probabilities: Tensor, spread: Callable[[Tensor], Tensor]) -> Tensor:
    """p_i = sum_j A_ji p_j / sum_j A_ji: every patch takes the mean of those that attend to it.

    probabilities: [K, L]; spread: gives W A of weights W [T, L], as `wilss.equations.affinity.Affinity.spread` does.
    Returns [K, L], each column sums to what it did on the mean; a patch that none attends to keeps its own.
    """
    reached = spread(torch.cat([probabilities, torch.ones_like(probabilities[:1])]))
    return torch.where(reached[-1:] > 0, reached[:-1] / reached[-1:].clamp_min(1e-30), probabilities)
