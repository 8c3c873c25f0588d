"""MiB: cross-entropy and distillation that know of the background's shift.

F. Cermelli et al., "Modeling the Background for Incremental Learning in Semantic Segmentation", CVPR 2020
(arXiv:2002.00718), Sec. 3. The outputs are a softmax. What is read in the public code is marked [C]. Losses are
computed in float32 at least, whatever autocast says, and averaged over the valid pixels of an image, then over images,
one without a valid pixel counting as 0.

Shapes: `B` batch, `C` channels seen, of which the first `C_old`, background at 0, are the old model's; `H W` pixels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from wilss.data.taxonomy import BACKGROUND, VOID
from wilss.equations.kernels import exact
from wilss_train.methods.losses.kernels import mean_inside


def unbiased_ce(logits: Tensor, labels: Tensor, num_old: int) -> Tensor:
    """Cross-entropy where "background" in a label means background or any old class:

        -log p~(y),   p~(background) = sum_{k < C_old} p_k,   p~(c) = p_c of a new class.

    logits: [B, C, H, W]; labels: [B, H, W], any integers, channels or VOID; an old class counts as background.
    num_old: C_old >= 1. Returns a scalar >= 0.
    """
    log_probabilities = exact(logits).log_softmax(dim=1)
    either = log_probabilities[:, :num_old].logsumexp(dim=1, keepdim=True)
    joined = torch.cat([either, log_probabilities[:, num_old:]], dim=1)
    known = labels != VOID
    places = (labels.long() - (num_old - 1)).clamp_min(BACKGROUND).masked_fill(~known, BACKGROUND)
    return mean_inside(F.nll_loss(joined, places, reduction="none"), known)


def unbiased_distillation(logits: Tensor, old: Tensor, valid: Tensor) -> Tensor:
    """Distillation where the old model's "background" means background or any new class:

        -1/C_old sum_{c < C_old} q_c log p^_c,   p^_background = p_0 + sum_{k >= C_old} p_k,   p^_c = p_c else.

    The mean over classes is the public code's [C]. logits: [B, C, H, W]; old: [B, C_old, H, W], the old model's
    logits, without gradient; valid: bool [B, H, W]. Returns a scalar >= 0.
    """
    taught = with_new_as_background(exact(logits).log_softmax(dim=1), old.shape[1])
    shares = exact(old.detach()).softmax(dim=1).to(taught.dtype)
    return mean_inside(-(shares * taught).mean(dim=1), valid)


def with_new_as_background(log_values: Tensor, num_old: int) -> Tensor:
    """log(exp(v_0) + sum_{k >= C_old} exp(v_k)) in the background's place. [B, C, H, W] to [B, C_old, H, W]."""
    background = torch.cat([log_values[:, :1], log_values[:, num_old:]], dim=1).logsumexp(dim=1, keepdim=True)
    return torch.cat([background, log_values[:, 1:num_old]], dim=1)


@torch.no_grad()
def labels_of_masks(masks: Tensor, void: Tensor, num_old: int) -> Tensor:
    """Masks as one label per pixel: background where none is, VOID where several are and where nothing is known.

    masks: bool [B, C_new, H, W], of the channels from `num_old` on; void: bool [B, H, W]. Returns int64 [B, H, W].
    """
    held = masks.sum(dim=1)
    labels = torch.where(held == 1, masks.to(torch.uint8).argmax(dim=1) + num_old, BACKGROUND)
    return labels.masked_fill((held > 1) | void, VOID)
