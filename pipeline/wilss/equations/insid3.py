"""INSID3: a few annotated examples and frozen features, clusters of which become the mask; nothing is trained.

C. Cuttano et al., "INSID3: Training-Free In-Context Segmentation with DINOv3", CVPR 2026 (arXiv:2603.28480). The
functions stand in the order of the paper. What follows its public code is marked [C], our own decisions [D].

Shapes: `K` shots, `I` support images, `R` clusters, `D` feature width, `r` directions of a basis, `h w` patches of an
image, `L` = h * w in raster order; `M` patches of a support image. Row before column. Features have unit length unless
it is said otherwise.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from wilss.equations.kernels import exact, unit
from wilss.equations.panet import pooling_weights

#: Where nothing is similar to the prototype, this share of the patches is taken for similar all the same [C].
_MOST_SIMILAR = 0.1

# -- positional debiasing ------------------------------------------------------------------------------------


def positional_basis(blank: Tensor, directions: int) -> Tensor:
    """Where in a picture a patch lies, as directions of the feature space: what the patches of a blank image differ in.

    The first left singular vectors of the blank image's unit features about their mean. There are never more than
    there are patches or values of a feature.

    blank: [D, h, w], of any length. directions: how many are wanted, at least 0. Returns [D, r], orthonormal.
    """
    flat = unit(exact(blank), dim=0).flatten(1)
    centred = flat - flat.mean(dim=1, keepdim=True)
    vectors: Tensor = torch.linalg.svd(centred, full_matrices=False)[0]
    return vectors[:, :directions]


def debiased(features: Tensor, basis: Tensor) -> Tensor:
    """What is left of features beside the basis, at unit length; a vector that lies in it is 0.

    features: [..., D, h, w], of any length; basis: [D, r]. Returns [..., D, h, w].
    """
    flat = unit(exact(features), dim=-3).flatten(-2)
    return unit(flat - basis @ (basis.T @ flat), dim=-2).reshape(features.shape)


# -- candidates -----------------------------------------------------------------------------------------------


def foreground_patches(foreground: Tensor, known: Tensor, grid: tuple[int, int]) -> Tensor:
    """Which patches of a support are the object: those that show more of it than of what else is known there.

    An object of no such patch has the one that shows most of it, so that a small one is never lost. The public code
    takes a mask's bilinear samples above a half; a box and a scribble leave most pixels unknown, which say nothing [D].

    foreground, known: bool [H, W], of one support; grid: (h, w). Returns bool [h, w].
    """
    inside = pooling_weights(foreground & known, grid)
    patches = inside > pooling_weights(known & ~foreground, grid)
    if not bool(patches.any()) and bool((inside > 0).any()):
        patches.view(-1)[inside.argmax()] = True
    return patches


def prototype_of(features: Sequence[Tensor], patches: Sequence[Tensor]) -> Tensor:
    """The mean of a shot's debiased object patches, then of all shots that have any, at unit length.

    features: [D, M] of K shots; patches: bool [M] of each. Returns [D]; zeros where no shot has a patch.
    """
    means = [one[:, inside].mean(dim=1) for one, inside in zip(features, patches, strict=True) if bool(inside.any())]
    return unit(torch.stack(means).mean(dim=0)) if means else torch.zeros_like(features[0][:, 0])


def similar(cosines: Tensor) -> Tensor:
    """Which patches are like the prototype: cosine above 0; where none is, the tenth that is most like it [C].

    cosines: [L] with the prototype. Returns bool [L].
    """
    above = cosines > 0
    return above if bool(above.any()) else cosines > torch.quantile(cosines, 1 - _MOST_SIMILAR)


def nearest(features: Tensor, supports: Tensor) -> tuple[Tensor, Tensor]:
    """Which patch of a support image every patch is most like, the first among equals, and how much.

    features: [D, L]; supports: [D, M], at least one patch; both debiased. Returns cosines [L] and places long [L].
    """
    cosines = features.T @ supports
    places = cosines.argmax(dim=1)
    return cosines.gather(1, places[:, None])[:, 0], places


def winners(cosines: Tensor, labels: Tensor) -> Tensor:
    """Which class's object, or the background, lies nearest over the support images of all classes [D].

    cosines: [I, L], how like each image's nearest patch is; labels: long [I, L], what that patch is. Returns long [L].
    """
    return labels.gather(0, cosines.argmax(dim=0)[None])[0]


def candidates(alike: Tensor, backward: Tensor) -> Tensor:
    """Patches that are like the prototype, and that half of the shots or more take for the object.

    alike: bool [L]; backward: bool [K, L], whether the nearest patch of each shot is the object. Returns bool [L].
    """
    return alike & (2 * backward.sum(dim=0) >= len(backward))


# -- clusters -------------------------------------------------------------------------------------------------


def clusters(features: Tensor, tau: float) -> Tensor:
    """Patches that belong together: agglomerative clusters, average linkage of cosine distances up to 1 - tau.

    features: [D, L], plain (not debiased), L at least 1; tau: in (-1, 1). Returns long [L], numbered 0 to R - 1 by
    their first patch.
    """
    import numpy as np
    from scipy.cluster.hierarchy import fcluster, linkage

    if features.shape[1] == 1:
        return torch.zeros(1, dtype=torch.long)
    rows, columns = torch.triu_indices(features.shape[1], features.shape[1], offset=1)
    distances = (1.0 - (features.T @ features).clamp(-1, 1))[rows.to(features.device), columns.to(features.device)]
    tree = linkage(distances.double().cpu().numpy(), method="average")
    numbers = fcluster(tree, t=1.0 - tau, criterion="distance")
    _, first, inverse = np.unique(numbers, return_index=True, return_inverse=True)
    return torch.from_numpy(np.argsort(np.argsort(first))[inverse]).long()


def cluster_means(values: Tensor, numbers: Tensor) -> Tensor:
    """The mean of every cluster. values: [D, L]; numbers: long [L], all of 0 to R - 1. Returns [D, R]."""
    count = int(numbers.max()) + 1
    sums = values.new_zeros(len(values), count).index_add_(1, numbers, values)
    return sums / torch.bincount(numbers, minlength=count)


def cluster_scores(cosines: Tensor, found: Tensor, plain: Tensor, numbers: Tensor) -> Tensor:
    """How much every cluster belongs to the object, in three factors.

    Its likeness to the prototype, that to the surest cluster, and the share of it that are candidates, 1 for the surest
    itself. The surest has the greatest mean likeness of those with a candidate.

    cosines: [L], of debiased features with the prototype; found: bool [L], the candidates; plain: [D, L], plain
    features; numbers: long [L], the clusters. Returns [R], each value in [-1, 1]; zeros where there is no candidate.
    """
    shares = cluster_means(found.to(cosines.dtype)[None], numbers)[0]
    across = cluster_means(cosines[None], numbers)[0]
    if not bool(found.any()):
        return torch.zeros_like(across)
    surest = across.masked_fill(shares == 0, -torch.inf).argmax()
    centres = unit(cluster_means(plain, numbers), dim=0)
    shares[surest] = 1.0
    return across * (centres.T @ centres[:, surest]) * shares


def cluster_shares(cosines: Tensor, found: Tensor, numbers: Tensor) -> Tensor:
    """The same for an image that need not show the object: no cluster is the surest, each stands for itself [D].

    cosines, found, numbers: as for `cluster_scores`. Returns [R]: likeness to the prototype times share of candidates.
    """
    shares = cluster_means(found.to(cosines.dtype)[None], numbers)[0]
    return cluster_means(cosines[None], numbers)[0] * shares


def patch_labels(scores: Tensor, least: float) -> Tensor:
    """The class whose score is greatest, the first among equals, or 0 where none is above `least`.

    scores: [T, L] of T classes, at least one. Returns long [L], 1 to T or 0. With one class this is the paper's mask;
    several may not overlap [D].
    """
    greatest, place = scores.max(dim=0)
    return torch.where(greatest > least, place + 1, 0)
