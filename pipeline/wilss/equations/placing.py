"""Where the attention is asked from: weights of all patches in the place of a few drawn seeds.

Shapes: `T` an image's tags, `L` patches in raster order, `h w` their grid.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def soft_weights(score: Tensor, power: float) -> Tensor:
    """w_c = score_c^p / sum score_c^p: every patch is a seed, by how sure its score is; ours.

    score: float [T, L], non-negative. Returns [T, L], each row sums to 1; a map of zeros weighs all patches alike.
    """
    raised = score.double().pow(power)
    total = raised.sum(dim=-1, keepdim=True)
    even = torch.full_like(raised, 1 / raised.shape[-1])
    return torch.where(total > 0, raised / total.clamp_min(torch.finfo(torch.float64).tiny), even).to(score.dtype)


def counted_weights(points: Tensor, width: int, length: int) -> Tensor:
    """w_c = how often a patch is a seed, over how many seeds there are: FMWISS' mean over seeds as weights.

    points: int64 [T, S, 2], row and column on a grid of `width` columns and `length` patches. Returns float32 [T, L].
    """
    places = points[..., 0] * width + points[..., 1]
    weights = torch.zeros(len(points), length)
    return weights.scatter_add_(1, places.cpu(), torch.full(places.shape, 1 / places.shape[-1]))


def spread_again(
    weights: Tensor, score: Tensor, spread: Callable[[Tensor], Tensor], *, passes: int, power: float
) -> Tensor:
    """M_c = w_c A, then w_c <- (M_c / max M_c * score_c)^p and M_c = w_c A again, `passes` times in all; ours.

    weights: of the first pass, float [T, L]; score: float [T, L] in [0, 1]; spread: weights [T, L] to their product
    with the affinity A. Returns M, float [T, L], >= 0.
    """
    maps = spread(weights)
    for _ in range(passes - 1):
        top = maps.amax(dim=-1, keepdim=True).clamp_min(torch.finfo(maps.dtype).tiny)
        maps = spread(soft_weights(maps / top * score, power))
    return maps
