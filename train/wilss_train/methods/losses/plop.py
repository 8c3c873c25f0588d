"""PLOP: what a network says is kept by its pooled features, and old classes by labels of the old model.

A. Douillard et al., "PLOP: Learning without Forgetting for Continual Semantic Segmentation", CVPR 2021
(arXiv:2011.11390), Sec. 3. What is read in the public code is marked [C], what is ours [D].

Shapes: `B` batch, `D` feature width, `h w` feature grid, `C_old` channels of the old model, background first, `H W`
pixels.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from wilss.data.taxonomy import BACKGROUND, VOID
from wilss.equations.kernels import exact

_SCALES = (1, 2, 4)


def pod_distance(features: Tensor, old: Tensor, valid: Tensor, scales: Sequence[int] = _SCALES) -> Tensor:
    """Local POD: || E(x^2) - E(x_old^2) ||_2 of an image, the mean over images.

    E: for every scale s the map is cut into s x s regions; of each the means over its columns and over its rows, all of
    them side by side (the square, and means for sums, are the code's [C]). Where s does not divide the grid, regions
    differ by a row or a column, scales finer than the grid are left out, and what is not valid is 0 in both [D].

    features, old: [B, D, h, w], no gradient for the second; valid: bool [B, h, w]; scales: >= 1. Returns a scalar >= 0.
    """
    inside = valid[:, None]
    new, known = (pooled(exact(maps).square() * inside, scales) for maps in (features, old.detach()))
    distances: Tensor = torch.linalg.vector_norm(new - known, dim=1)
    return distances.mean()


def pooled(maps: Tensor, scales: Sequence[int] = _SCALES) -> Tensor:
    """The means of `pod_distance`. maps: [B, D, h, w]. Returns [B, E], E = D (h + w) (1 + ... + s) for what divides."""
    means = [region.mean(dim=dim).flatten(1) for region in _regions(maps, scales) for dim in (-1, -2)]
    return torch.cat(means, dim=1)


def _regions(maps: Tensor, scales: Sequence[int]) -> Iterator[Tensor]:
    height, width = maps.shape[-2:]
    for scale in scales:
        if scale > min(height, width):
            continue
        for i in range(scale):
            rows = maps[..., i * height // scale : (i + 1) * height // scale, :]
            for j in range(scale):
                yield rows[..., j * width // scale : (j + 1) * width // scale]


def with_new_in_background(logits: Tensor, num_old: int) -> Tensor:
    """Logits of the old channels, those of new ones added to the background's [C]. [B, C, h, w] to [B, C_old, h, w]."""
    background = logits[:, :1] + logits[:, num_old:].sum(dim=1, keepdim=True)
    return torch.cat([background, logits[:, 1:num_old]], dim=1)


def growth(num_old: int, num_new: int) -> float:
    """sqrt(channels seen / new ones), by which distillation weighs more the more there is to keep [C]."""
    return math.sqrt((num_old + num_new) / num_new)


@torch.no_grad()
def old_labels(labels: Tensor, old: Tensor, *, least: float = 1e-3) -> tuple[Tensor, Tensor]:
    """Background becomes the old model's likeliest class where that is sure, and VOID where not.

    Sure is a pixel whose entropy, over log C_old, is at most `least` or the median of its class's background pixels.
    The median is taken in the image, the paper's over the training set: so a label depends on its image alone [D].

    labels: int64 [B, H, W], channels or VOID; old: [B, C_old, H, W], the old model's logits. Returns labels, and [B] in
    [0, 1]: nu, the share of an image's background pixels that stay; 1 where there are none.
    """
    log_shares = exact(old).log_softmax(dim=1)
    entropy = -(log_shares.exp() * log_shares).sum(dim=1) / math.log(max(old.shape[1], 2))
    likeliest, open_ = log_shares.argmax(dim=1), labels == BACKGROUND
    medians = _medians(entropy, likeliest, open_, old.shape[1])
    sure = open_ & (entropy <= medians.clamp_min(least))
    kept, count = (mask.sum(dim=(-2, -1)) for mask in (sure, open_))
    made = torch.where(sure, likeliest, labels).masked_fill(open_ & ~sure, VOID)
    return made, torch.where(count > 0, kept / count.clamp_min(1), 1.0)


def _medians(values: Tensor, classes: Tensor, inside: Tensor, num_classes: int) -> Tensor:
    """At every pixel the lower median of the values inside of its image's pixels of its class, 0 outside.

    All [B, H, W]; classes: int64, below `num_classes`. Sorted, so that nobody has to know which classes there are.
    """
    pixels, groups = values.flatten(1), torch.where(inside, classes, num_classes).flatten(1)
    by_value = pixels.sort(dim=1, stable=True).indices
    by_class = groups.gather(1, by_value).sort(dim=1, stable=True)  # within a class by value
    order = by_value.gather(1, by_class.indices)
    numbers = torch.arange(num_classes + 2, device=values.device).expand(len(values), -1).contiguous()
    bounds = torch.searchsorted(by_class.values, numbers)
    middle = bounds[:, :-1] + (bounds.diff() - 1).clamp_min(0) // 2
    medians = pixels.gather(1, order.gather(1, middle.clamp_max(pixels.shape[1] - 1)))
    return torch.where(inside, medians.gather(1, groups).view_as(values), 0.0)
