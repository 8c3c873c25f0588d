"""PANet, learning: the loss on the query, and prototype alignment back to the supports.

K. Wang et al., "PANet: Few-Shot Image Semantic Segmentation with Prototype Alignment", ICCV 2019.
Losses are computed in float32 at least, whatever autocast says. What follows the paper's public code is marked
[C], our own decisions [D].

Shapes: `N` ways, `P` = N + 1 prototypes, background first; `D` feature width, `h w` feature grid, `H W` pixels.
Images of one episode may differ in size.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from wilss.data.images import to_pixels
from wilss.equations.kernels import exact
from wilss.equations.panet import ALPHA, label_map, scores, weighted_average
from wilss_train.methods.losses.kernels import pixel_ce


def query_ce(scores: Tensor, labels: Tensor) -> Tensor:
    """L_seg: cross-entropy of the query's scores with its labels, mean over labelled pixels (Eq. 5).

    scores: [P, H, W] at pixels, of no absent prototype that a label names; labels: [H, W], any integers, ways or
    VOID. Returns a scalar >= 0; 0, with a gradient, where no pixel is labelled.
    """
    return pixel_ce(scores[None], labels[None])


def label_shares(labels: Tensor, count: int, grid: tuple[int, int]) -> Tensor:
    """How much of each cell of the feature grid is of each prototype by a label: its mask in the scores' place [D].

    labels: [H, W], any integers, 0 the background; of other values than 0 to `count` - 1, as VOID, no share is told.
    grid: (h, w). Returns float32 [P, h, w] in [0, 1].
    """
    each = torch.stack([labels == channel for channel in range(count)]).float()
    return F.adaptive_avg_pool2d(each, grid)


def alignment_loss(
    query: Tensor,
    query_scores: Tensor,
    supports: Sequence[Tensor],
    maps: Sequence[Tensor],
    ways: Sequence[int],
    alpha: float = ALPHA,
) -> Tensor:
    """L_PAR: prototypes from the query's own predicted mask must segment the supports.

    One way at a time: a support of way n is told from the background alone by the query's prototypes of n and of
    the background. The predicted mask is taken on the feature grid [C]; choosing it carries no gradient, the
    features under it do. A way that the query's mask does not hold is skipped: it counts as 0, and does count in
    the mean over all supports [C]. So does a support without a known pixel. A query that is all foreground leaves
    a background prototype of zeros, which scores 0 everywhere [C].

    query: [D, h, w]; query_scores: [P, h, w], on the same grid; supports: [D, h', w'] each, at least one; maps:
    [H', W'] each, FOREGROUND (1), BACKGROUND (0) or VOID; ways: the way of each, 1 to N.
    Returns a scalar >= 0; 0, with a gradient, where every way is skipped.
    """
    if not len(supports) == len(maps) == len(ways) or not len(supports):
        raise ValueError(f"alignment_loss needs as many supports, maps and ways, not {len(supports)}, {len(maps)}, ...")
    with torch.autocast(query.device.type, enabled=False):
        vectors, present = _query_prototypes(query, query_scores)
        total = exact(query)[:0].sum()  # 0 that has a gradient
        for features, known, way in zip(supports, maps, ways, strict=True):
            either = torch.stack([vectors[0], vectors[way]])
            at_pixels = to_pixels(scores(exact(features), either, alpha), *known.shape)
            total = total + torch.where(present[way], pixel_ce(at_pixels[None], known[None]), 0.0)
    return total / len(supports)


def _query_prototypes(query: Tensor, query_scores: Tensor) -> tuple[Tensor, Tensor]:
    """What the query's predicted mask says each prototype is (Eq. 1 on the feature grid) [C].

    query: [D, h, w]; query_scores: [P, h, w]. Returns [P, D], zeros where nothing is predicted, and bool [P].
    """
    channels = torch.arange(len(query_scores), dtype=torch.uint8, device=query.device)
    masks = label_map(query_scores.detach()) == channels[:, None, None]
    return weighted_average(query[None], masks), masks.any(dim=-1).any(dim=-1)
