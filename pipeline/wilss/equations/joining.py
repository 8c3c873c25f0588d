"""New classes beside a network that does not know them: how the outputs of two heads become those of one.

Where the newer head finds no class of its own, the older head's word stays. F. Cermelli et al., "Modeling the
Background for Incremental Learning in Semantic Segmentation", CVPR 2020, Sec. 3.2, say this of the background alone;
here an older class gives way as well, since an older head takes what it has never seen for what it knows [D].

Every picture that a step of one class learns from holds that class. Its head so learns which pixels are of the class
where it is, and never that it may be nowhere: what Bayes' rule takes off for that belongs to pictures, not to pixels.

Shapes: `B` batch, `C` channels, `h w` grid.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from wilss.equations.kernels import exact

#: The share of a picture that is looked at for whether a class is in it: where its odds are best [D].
EVIDENCE = 0.02


def joined_logits(known: Tensor, newer: Tensor, shifts: Sequence[float] = ()) -> Tensor:
    """The logits of an older head's classes, and of the classes that a newer head finds beside them.

    A new class has the newer head's odds against all its other channels, and the older probabilities g(known), g the
    logistic function, are what is left:

        p_new = exp(x_new) / sum_j exp(x_j),  p_old = g(known) (1 - sum of the p_new).

    Which older class is the likeliest, background included, stays as it was. A new class with a shift s < 0, a pixel's
    log odds under another prior less those under that of training, is taken to be in a picture with probability
    g(e + s), e the evidence of its log odds (`evidence`):

        p_new = g(e + s) exp(x_new) / sum_j exp(x_j).

    known: [B, C, h, w]; newer: [B, C + C_new, h, w], the same channels first. shifts: of each new class, 0 for none;
    () for none at all. Returns [B, C + C_new, h, w], float32 at least. C_new = 0 leaves `known`.
    """
    known, newer = exact(known), exact(newer)
    old, new = newer[:, : known.shape[1]], newer[:, known.shape[1] :]
    if not new.shape[1]:
        return known
    against = old.logsumexp(dim=1, keepdim=True)
    others = [(against, new[:, :one], new[:, one + 1 :]) for one in range(new.shape[1])]
    odds = new - torch.stack([torch.cat(other, dim=1).logsumexp(dim=1) for other in others], dim=1)
    taken = new.logsumexp(dim=1, keepdim=True) - against
    if any(shifts):
        odds, taken = _where_present(odds, new - against, shifts)
    # with m the logarithm of odds, 1 / p - 1 is exp(-x) + exp(m) (1 + exp(-x)): no logit is too large for it
    left = -torch.logaddexp(-known, taken + F.softplus(-known))
    return torch.cat([left, odds], dim=1)


def evidence(odds: Tensor) -> Tensor:
    """How sure a class is where it is surest: the mean log odds of the best 2 % of a picture, one cell at least.

    odds: [B, C, h, w]. Returns [B, C, 1, 1].
    """
    flat = odds.flatten(2)
    best = flat.topk(max(1, math.ceil(EVIDENCE * flat.shape[2])), dim=2).values
    return best.mean(dim=2)[..., None, None]


def _where_present(odds: Tensor, against: Tensor, shifts: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Log odds of each new class, and of all of them, once a picture may hold none; [B, C_new, h, w], [B, 1, h, w].

    odds: before that. against: each new class's logit less that of all old ones together.
    """
    # number by number: a GPU would be waited for where a tensor is made of a list
    sure = zip(evidence(odds).unbind(dim=1), shifts, strict=True)
    present = torch.stack([one + shift if shift else torch.full_like(one, torch.inf) for one, shift in sure], dim=1)
    # 1 / (g(a) g(b)) - 1 is exp(-a) + exp(-b) + exp(-a - b)
    each = -torch.stack([-odds, -present.expand_as(odds), -odds - present]).logsumexp(dim=0)
    taken = (against + F.logsigmoid(present)).logsumexp(dim=1, keepdim=True)
    spared = torch.cat([torch.zeros_like(taken), against + F.logsigmoid(-present)], dim=1)
    return each, taken - spared.logsumexp(dim=1, keepdim=True)
