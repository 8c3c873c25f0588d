"""PseudoSeg, learning: the losses on labelled and unlabelled images.

Y. Zou et al., "PseudoSeg: Designing Pseudo Labels for Semantic Segmentation", ICLR 2021.
Losses are computed in float32 at least, whatever autocast says. What is our decision is marked [D].

Shapes: `B` batch, `C` channels, background first; `H W` pixels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from wilss.equations.kernels import exact
from wilss_train.methods.losses.kernels import mean_inside


def soft_ce(logits: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
    """Consistency: cross-entropy with a soft label, -sum_c y~_c log softmax(x)_c.

    Averaged over the valid pixels of an image, then over all images; one without a valid pixel counts as 0, as
    in `pixel_ce` [D]. No pixel is left out for lack of confidence.

    logits: [B, C, H, W]; targets: [B, C, H, W], rows sum to 1, no gradient reaches them; valid: bool [B, H, W],
    False on padding and in the hole of CutOut. Returns a scalar >= 0, the targets' entropy at the least.
    """
    log_probabilities = exact(logits).log_softmax(dim=1)
    return mean_inside(-(targets.detach().to(log_probabilities.dtype) * log_probabilities).sum(dim=1), valid)


def multi_label_bce(logits: Tensor, tags: Tensor) -> Tensor:
    """The image classifier's loss: sigmoid BCE, averaged over classes and images.

    logits: [B, C - 1], background left out; tags: bool [B, C - 1]. Returns a scalar >= 0; 0, with a gradient,
    where there is no image or no class.
    """
    logits = exact(logits)
    each = F.binary_cross_entropy_with_logits(logits, tags.to(logits.dtype), reduction="none")
    return each.sum() / max(torch.numel(each), 1)
