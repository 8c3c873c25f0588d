"""PANet, mask making: from a few supports to prototypes, and from prototypes to masks.

K. Wang et al., "PANet: Few-Shot Image Semantic Segmentation with Prototype Alignment", ICCV 2019.
The functions stand in the order of the paper. What follows the paper's public code is marked [C], our own
decisions [D].

A support's annotation, whatever its kind, is one map: BACKGROUND, FOREGROUND or VOID (unknown) at every pixel.

Shapes: `K` supports, `N` ways (classes of an episode), `P` = N + 1 prototypes, background first; `D` feature
width, `h w` feature grid, `H W` pixels. Row before column.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from wilss.data.taxonomy import BACKGROUND
from wilss.equations.kernels import exact, first_greatest, score_map, unit

FOREGROUND = 1  # in a support's map; a map knows one class

ALPHA = 20.0
_BIASES = 101  # an odd number, so that 0 is one of them


# -- prototype learning -------------------------------------------------------------------------------------


def pooling_weights(mask: Tensor, grid: tuple[int, int]) -> Tensor:
    """How much each cell of the feature grid says inside a mask: the adjoint of bilinear upsampling.

    The paper upsamples the features to the mask's size and averages them inside it (Eq. 1). Since upsampling is
    linear, sum_{H W} mask * up(F) = sum_{h w} weights * F with weights = A_rows mask A_columns^T, exactly; and
    nothing of size [D, H, W] is ever made. Upsampling takes pixel centres (align_corners=False), as
    `wilss.data.images.to_pixels` does.

    mask: [..., H, W], bool or float; grid: (h, w).
    Returns [..., h, w], the dtype of `mask` (float32 for bool); its sum is that of the mask.
    """
    weights = mask.to(torch.float32) if not mask.is_floating_point() else mask
    rows, columns = (_upsampling(cells, side, weights) for cells, side in zip(grid, mask.shape[-2:], strict=True))
    pooled: Tensor = rows @ weights @ columns.transpose(-2, -1)
    return pooled


def _upsampling(cells: int, side: int, like: Tensor) -> Tensor:
    """[cells, side]: what each of `cells` grid cells gives to each of `side` pixels along one dimension."""
    each = torch.eye(cells, dtype=like.dtype, device=like.device)
    return F.interpolate(each[None], size=side, mode="linear", align_corners=False)[0]


def weighted_average(features: Tensor, weights: Tensor) -> Tensor:
    """sum weights * F / sum weights over the grid; zeros where the weights are.

    features: [..., D, h, w]; weights: [..., h, w], >= 0. Returns [..., D], float32 at least.
    """
    features = exact(features)
    total = torch.einsum("...dhw,...hw->...d", features, weights.to(features.dtype))
    area = weights.to(features.dtype).sum(dim=(-2, -1))[..., None]
    return total / area.masked_fill(area <= 0, 1.0)


def masked_average(features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Masked average pooling of each image by itself: mean of the upsampled features inside its mask (Eq. 1).

    features: [..., D, h, w]; mask: [..., H, W], bool or in [0, 1], the grid covering the whole image.
    Returns vectors [..., D], zeros where a mask is empty, and the masks' areas in pixels [...].
    """
    inside = mask.to(exact(features).dtype)
    weights = pooling_weights(inside, (features.shape[-2], features.shape[-1]))
    return weighted_average(features, weights), inside.sum(dim=(-2, -1))


def mean_of_filled(vectors: Tensor, areas: Tensor) -> Tensor:
    """Mean over the shots whose mask is not empty: each of them counts the same, whatever its area (Eq. 1).

    The paper does not say what an empty mask gives, and its code counts it as a vector of zeros; that would
    only shorten a prototype whose length the cosine does not see, so leaving it out changes no mask [D].

    vectors: [K, D]; areas: [K]. Returns [D]; zeros where all are empty, or there is none (K = 0).
    """
    filled = (areas > 0).to(vectors.dtype)
    return (vectors * filled[:, None]).sum(dim=0) / filled.sum().clamp_min(1)


def prototype(features: Tensor, masks: Tensor) -> Tensor:
    """The prototype of a class: masked average pooling per shot, mean over the shots (Eq. 1, late fusion).

    The image is never masked, its features are. Shots whose images differ in size: `masked_average` of each,
    then `mean_of_filled`, or `prototypes`, which does that.

    features: [K, D, h, w]; masks: [K, H, W], bool. Returns [D]; zeros where every mask is empty.
    """
    return mean_of_filled(*masked_average(features, masks))


def prototypes(
    features: Sequence[Tensor], maps: Sequence[Tensor], ways: Sequence[int], count: int
) -> tuple[Tensor, Tensor]:
    """All prototypes of some supports (Eqs. 1 and 2): row 0 the background of all, row n that of way n.

    Supports may differ in size, and ways in how many they have. A pixel that a map does not know (VOID) is in
    none.

    features: [D, h, w] per support, at least one; maps: [H, W] per support, FOREGROUND, BACKGROUND or VOID;
    ways: per support its way, 1 to `count`.
    Returns [count + 1, D], float32 at least, and bool [count + 1]: which of them has a pixel; the others are
    zeros, and may not win (`with_absent`).
    """
    if not len(features) == len(maps) == len(ways) or not len(features):
        raise ValueError(f"prototypes needs as many features, maps and ways, not {len(features)}, {len(maps)}, ...")
    pooled = [_either(one, known) for one, known in zip(features, maps, strict=True)]
    groups = [[outside for outside, _ in pooled]] + [
        [inside for (_, inside), of in zip(pooled, ways, strict=True) if of == way] for way in range(1, count + 1)
    ]
    rows = [_mean(group, like=pooled[0][0][0]) for group in groups]
    return torch.stack([vector for vector, _ in rows]), torch.stack([present for _, present in rows])


def _either(features: Tensor, known: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Vector [D] and area [] of the background of one support and of its foreground."""
    vectors, areas = masked_average(features[None], torch.stack([known == BACKGROUND, known == FOREGROUND]))
    return list(zip(vectors, areas, strict=True))


def _mean(pooled: list[tuple[Tensor, Tensor]], like: Tensor) -> tuple[Tensor, Tensor]:
    """The mean [D] of what the shots of one prototype gave, and whether one of them had a pixel."""
    if not pooled:
        return torch.zeros_like(like), torch.zeros((), dtype=torch.bool, device=like.device)
    vectors, areas = (torch.stack(part) for part in zip(*pooled, strict=True))
    return mean_of_filled(vectors, areas), (areas > 0).any()


# -- non-parametric metric learning -------------------------------------------------------------------------


def scores(features: Tensor, prototypes: Tensor, alpha: float = ALPHA) -> Tensor:
    """Scaled cosine of every cell with every prototype, alpha cos(F, p) (Eq. 3; alpha = 20).

    features: [..., D, h, w]; prototypes: [P, D]; both of any length. Returns [..., P, h, w] in
    [-alpha, alpha]; a prototype of zeros scores 0, which can win: see `with_absent`.
    """
    return alpha * score_map(unit(features, dim=-3), unit(prototypes))


def with_absent(scores: Tensor, present: Tensor) -> Tensor:
    """Scores in which only what is present can win; the others are -inf.

    For ways without a pixel, and for classes that an image's tags rule out [D]. To be done after upsampling,
    which would turn -inf into nan, and one at least must be present, else the softmax is nan.

    scores: [..., P, H, W]; present: bool [P], or [..., P] per image. Returns [..., P, H, W].
    """
    return scores.masked_fill(~present[..., None, None], -math.inf)


def probabilities(scores: Tensor) -> Tensor:
    """Softmax over the prototypes (Eq. 3): [..., P, H, W] to the same, >= 0, sums to 1 over P."""
    return scores.softmax(dim=-3)


def label_map(scores: Tensor) -> Tensor:
    """The mask: the prototype that scores highest, the first among equals (Eq. 4).

    scores: [..., P, H, W] (or probabilities). Returns uint8 [..., H, W], 0 where it is the background.
    """
    return first_greatest(scores)


# -- a bias of the background [D] ---------------------------------------------------------------------------
#
# Eq. 4 draws the line where both prototypes are as near, and how near a class and the background come to theirs depends
# on embedding and number of shots. What is best can be found on classes that are known.


def with_bias(scores: Tensor, bias: float) -> Tensor:
    """Scores of which the background's are raised by `bias`, or lowered where it is below 0; 0 is as published [D].

    scores: [..., P, H, W], the background's first. Returns [..., P, H, W].
    """
    if not bias:
        return scores
    return torch.cat([scores[..., :1, :, :] + bias, scores[..., 1:, :, :]], dim=-3)


def biases(alpha: float = ALPHA) -> Tensor:
    """What is tried: 101 values from -alpha / 4 to alpha / 4 at equal distances, 0 among them [D]. float32 [B]."""
    half = _BIASES // 2
    return torch.arange(-half, half + 1) * (alpha / (4 * half))


def counts_by_bias(scores: Tensor, labels: Tensor, biases: Tensor) -> Tensor:
    """What `label_map(with_bias(scores, b))` gets right and wrong of every way, for many biases `b` at once [D].

    A bias of the background leaves the order of the ways as it is: the best of them wins where it is more than the
    bias above the background. So one sum over a histogram of these margins answers for all biases.

    scores: [P, H, W], -inf for what is absent; labels: [H, W], 0 the background, 1 to N the ways, other values (VOID)
    in no count; biases: [B], rising.
    Returns int64 [N, B, 3]: true positives, false positives, false negatives.
    """
    margin = scores[1:].amax(dim=0) - scores[0]
    below = torch.searchsorted(biases.to(margin), margin.contiguous())  # how many biases the margin is above
    best, known = first_greatest(scores[1:]) + 1, labels < len(scores)
    return torch.stack(
        [_of_way(below, best == way, labels == way, known, len(biases)) for way in range(1, len(scores))]
    )


def _of_way(below: Tensor, best: Tensor, true: Tensor, known: Tensor, count: int) -> Tensor:
    """[B, 3] of one way: true positives, false positives, false negatives; every argument but `count` is [H, W]."""
    won, right = (
        torch.bincount(below[pixels], minlength=count + 1).flip(0).cumsum(0).flip(0)[1:]
        for pixels in (best & known, best & true)
    )
    return torch.stack([right, won - right, true.sum() - right], dim=-1)


def mean_iou_by_bias(counts: Tensor) -> Tensor:
    """Mean over the classes of TP / (TP + FP + FN), of those that have a pixel [D].

    counts: [C, B, 3]. Returns float64 [B] in [0, 1], 0 where no class has a pixel.
    """
    right, all_three = counts[..., 0].double(), counts.sum(dim=-1).double()
    some = all_three > 0
    return (right / all_three.clamp_min(1)).sum(dim=0) / some.sum(dim=0).clamp_min(1)


def best_bias(counts: Tensor, biases: Tensor) -> float:
    """The bias with which the mean IoU is highest, and among equals the one nearest 0 [D].

    counts: [C, B, 3] of C classes, see `counts_by_bias`; biases: [B].
    """
    values = mean_iou_by_bias(counts)
    best = biases[values == values.max()]
    return float(best[best.abs().argmin()])
