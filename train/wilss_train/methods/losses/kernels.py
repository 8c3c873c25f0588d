"""What the losses of several methods share: cross-entropy at labelled pixels, means, and channels as numbers.

Computed in float32 at least, whatever autocast says. Shapes: `B` batch, `C` channels, `H W` pixels.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from wilss.data.taxonomy import VOID
from wilss.equations.kernels import exact


def pixel_ce(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy with pixel labels, averaged over the labelled pixels of an image, then over all images.

    An image without a labelled pixel counts as 0, and does count: the mean over a batch is thus the mean over
    its equal parts, on one process or several [D].

    logits: [B, C, H, W]; labels: [B, H, W], any integers, channels or VOID. Returns a scalar >= 0.
    """
    known = labels != VOID
    per_pixel = F.cross_entropy(exact(logits), labels.long(), ignore_index=VOID, reduction="none")
    return mean_inside(per_pixel, known)


def weighted_pixel_ce(logits: Tensor, labels: Tensor, weights: Tensor, valid: Tensor) -> Tensor:
    """Cross-entropy at labelled pixels, times the weight of their image, averaged over all valid ones.

    logits: [B, C, H, W]; labels: [B, H, W], channels or VOID; weights: [B], >= 0; valid: bool [B, H, W]. Returns a
    scalar >= 0.
    """
    per_pixel = F.cross_entropy(exact(logits), labels.long(), ignore_index=VOID, reduction="none")
    return mean_inside(weights[:, None, None] * per_pixel, valid)


def mean_inside(per_pixel: Tensor, valid: Tensor) -> Tensor:
    """Mean over the valid pixels of an image, 0 where there is none, then over all images.

    per_pixel: [B, H, W]; valid: bool [B, H, W]. Returns a scalar; what is not valid has no gradient.
    """
    per_image = torch.where(valid, per_pixel, 0.0).sum(dim=(-2, -1)) / valid.sum(dim=(-2, -1)).clamp_min(1)
    return per_image.sum() / max(len(per_image), 1)


def run_of(channels: Sequence[int]) -> slice:
    """Channels that follow one another as a slice: a list would be brought to the device again in every step.

    channels: ascending by one, as those of a step are; may be none. Raises ValueError for others.
    """
    first = channels[0] if len(channels) else 0
    if list(channels) != list(range(first, first + len(channels))):
        raise ValueError(f"channels have to follow one another, not {list(channels)}.")
    return slice(first, first + len(channels))


def numbers_of(channels: Sequence[int], device: torch.device) -> Tensor:
    """Channels, in any order, as uint8 [C] on a device, which is not waited for."""
    return torch.tensor(list(channels), dtype=torch.uint8).to(device, non_blocking=True)
