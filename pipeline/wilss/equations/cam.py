"""Class activation maps: where a classifier of image tags has found what it says, and how such a classifier learns.

B. Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016. What the paper leaves open, or
what is ours, is marked [D].

Shapes: `N` images, `C` classes, `T` an image's tags, `D` feature width, `h w` feature grid, `L` = h w patches, `S`
rows asked for. Row before column.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from wilss.equations.kernels import score_map, unit


def activation_maps(features: Tensor, weights: Tensor) -> Tensor:
    """M_c = max(0, sum_d w_cd f_d), without the bias (Eq. 2; the rectifier is that of later work).

    features: [..., D, h, w]; weights: [T, D], the classifier's rows. Returns [..., T, h, w], >= 0.
    """
    return score_map(features, weights).clamp_min(0.0)


def over_maximum(maps: Tensor) -> Tensor:
    """Each map over its own maximum. maps: [..., h, w], >= 0. Returns values in [0, 1]; a map of zeros stays so."""
    highest = maps.amax(dim=(-2, -1), keepdim=True)
    return torch.where(highest > 0, maps / highest.clamp_min(torch.finfo(maps.dtype).tiny), torch.zeros_like(maps))


def patch_features(stages: Sequence[Tensor], grid: tuple[int, int]) -> Tensor:
    """What a patch is compared by: each stage on one grid, centred over the patches, of unit length, side by side [D].

    The product of two rows is the mean over stages of their cosines.

    stages: K of [D_k, h_k, w_k]; grid: (h, w). Returns [L, sum D_k], each row of length 1, or less where a stage says
    the same of all patches.
    """
    each = [
        _centred(F.interpolate(stage[None], size=grid, mode="bilinear", align_corners=False)[0]) for stage in stages
    ]
    together: Tensor = torch.cat(each, dim=-1) * len(each) ** -0.5
    return together


def _centred(stage: Tensor) -> Tensor:
    """[D, h, w] to [L, D]: without its mean, unit rows."""
    rows = stage.flatten(1).T
    found: Tensor = unit(rows - rows.mean(dim=0))
    return found


def feature_rows(features: Tensor, temperature: float) -> Callable[[slice], Tensor]:
    """Rows of the affinity softmax_l(f_s . f_l / temperature) of patches [D]; see `affinity.Affinity`.

    features: [L, D], see `patch_features`; temperature: above 0. Gives [S, L] of a slice, >= 0, each row sums to 1.
    """
    return lambda rows: (features[rows] @ features.T / temperature).softmax(dim=-1)


def spread_often(maps: Tensor, spread: Callable[[Tensor], Tensor], *, passes: int, power: float) -> Tensor:
    """M <- spread(M^p) over its maximum, `passes` times [D]; 0 passes give the maps as they are.

    maps: [T, h, w] in [0, 1]; spread: [T, L] to their product with an affinity. Returns [T, h, w] in [0, 1].
    """
    for _ in range(passes):
        maps = over_maximum(spread(maps.pow(power).flatten(1)).reshape(maps.shape))
    return maps


def positive_weights(tags: Tensor, power: float, most: float) -> Tensor:
    """min(most, ((N - n_c) / n_c)^power): how much more it costs to miss a class than to name it wrongly [D].

    tags: bool [N, C]. Returns float32 [C]; a class without images has the weight of one with one image.
    """
    with_it = tags.sum(dim=0).clamp_min(1).float()
    return ((len(tags) - with_it) / with_it).clamp_min(1e-3).pow(power).clamp_max(most)


def drawing_weights(tags: Tensor, power: float) -> Tensor:
    """How often an image is drawn: as its rarest class, n_c^-power [D].

    tags: bool [N, C]. Returns float64 [N], summing to 1; an image without tags is drawn as one of the commonest class.
    """
    rarity = tags.sum(dim=0).clamp_min(1).double().pow(-power)
    shown = torch.where(tags, rarity, rarity.min()).amax(dim=1)
    return shown / shown.sum()


def tag_loss(logits: Tensor, tags: Tensor, positive: Tensor) -> Tensor:
    """Binary cross entropy of every class of every image, the mean of both; positive: [C], see `positive_weights`.

    logits: [N, C]; tags: bool [N, C]. Returns a scalar.
    """
    return F.binary_cross_entropy_with_logits(logits, tags.to(logits.dtype), pos_weight=positive)


def stacked_features(stages: Sequence[Tensor], grid: tuple[int, int]) -> Tensor:
    """Each stage on one grid, side by side. stages: K of [D_k, h_k, w_k]; grid: (h, w). Returns [L, sum D_k]."""
    each = [F.interpolate(stage[None], size=grid, mode="bilinear", align_corners=False)[0] for stage in stages]
    return torch.cat([stage.flatten(1).T for stage in each], dim=-1)


def patch_labels(maps: Tensor, cut: float) -> Tensor:
    """What a patch is said to be: 0, the background, where no map is at least `cut`, else 1 + the greatest [D].

    maps: [T, L] in [0, 1]. Returns int64 [L]; of equals the first wins.
    """
    highest, which = maps.max(dim=0)
    return torch.where(highest >= cut, which + 1, 0)


def balanced_weights(labels: Tensor, count: int, power: float) -> Tensor:
    """(M / (count n_k))^power of M patches, n_k of which have the label k: a rare one weighs more [D].

    labels: int64 [M] below `count`. Returns float32 [M]; power 0 gives 1, power 1 weighs all labels alike.
    """
    shown = torch.bincount(labels, minlength=count).clamp_min(1).float()
    return (len(labels) / (count * shown)).pow(power)[labels]
