"""New classes beside a network that calls them background: how the outputs of two heads become those of one.

What was background when the older head was learnt is background or one of the new classes (F. Cermelli et al.,
"Modeling the Background for Incremental Learning in Semantic Segmentation", CVPR 2020, Sec. 3.2). There one softmax
says which; here classes have a sigmoid each, and only the background's share is handed on, by the newer head's odds
[D].

Shapes: `B` batch, `C` channels, `h w` grid.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from wilss.equations.kernels import exact


def joined_logits(known: Tensor, newer: Tensor) -> Tensor:
    """The logits of an older head's classes, and of the classes that a newer head finds in its background.

    The older background's probability g(b), g the logistic function, is shared among background and new classes:

        logit( g(b) exp(x_k) / sum_j exp(x_j) ),  x the newer head's logits of background and new classes.

    The probabilities of background and new classes then sum to what the background's was, and no older class moves.

    known: [B, C, h, w], background first; newer: [B, 1 + C_new, h, w], background first. Returns
    [B, C + C_new, h, w], float32 at least. C_new = 0 leaves `known`.
    """
    known, newer = exact(known), exact(newer)
    if newer.shape[1] < 2:
        return known
    shared = _shared(known[:, :1], newer)
    return torch.cat([shared[:, :1], known[:, 1:], shared[:, 1:]], dim=1)


def _shared(background: Tensor, newer: Tensor) -> Tensor:
    """The background's logit [B, 1, h, w] shared out by `newer`, [B, K, h, w], K >= 2. Returns [B, K, h, w].

    With m the logarithm of the odds against a class, 1 / p - 1 is exp(-b) + exp(m) (1 + exp(-b)): added as logarithms,
    so that no logit is too large for it.
    """
    others = [[place for place in range(newer.shape[1]) if place != one] for one in range(newer.shape[1])]
    against = torch.stack([newer[:, rest].logsumexp(dim=1) for rest in others], dim=1) - newer
    return -torch.logaddexp((-background).expand_as(against), against + F.softplus(-background))
