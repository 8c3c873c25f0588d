"""New classes beside a network that does not know them: how the outputs of two heads become those of one.

Where the newer head finds no class of its own, the older head's word stays. F. Cermelli et al., "Modeling the
Background for Incremental Learning in Semantic Segmentation", CVPR 2020, Sec. 3.2, say this of the background alone;
here an older class gives way as well, since an older head takes what it has never seen for what it knows [D].

Shapes: `B` batch, `C` channels, `h w` grid.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from wilss.equations.kernels import exact


def joined_logits(known: Tensor, newer: Tensor) -> Tensor:
    """The logits of an older head's classes, and of the classes that a newer head finds beside them.

    A new class has the newer head's odds against all its other channels, and the older probabilities g(known), g the
    logistic function, are what is left:

        p_new = exp(x_new) / sum_j exp(x_j),  p_old = g(known) (1 - sum of the p_new).

    Which older class is the likeliest, background included, stays as it was.

    known: [B, C, h, w]; newer: [B, C + C_new, h, w], the same channels first. Returns [B, C + C_new, h, w], float32 at
    least. C_new = 0 leaves `known`.
    """
    known, newer = exact(known), exact(newer)
    old, new = newer[:, : known.shape[1]], newer[:, known.shape[1] :]
    if not new.shape[1]:
        return known
    against = old.logsumexp(dim=1, keepdim=True)
    taken = new.logsumexp(dim=1, keepdim=True) - against
    # with m the logarithm of odds, 1 / p - 1 is exp(-x) + exp(m) (1 + exp(-x)): no logit is too large for it
    left = -torch.logaddexp(-known, taken + F.softplus(-known))
    others = [[place for place in range(new.shape[1]) if place != one] for one in range(new.shape[1])]
    rivals = [torch.cat([against, new[:, rest]], dim=1).logsumexp(dim=1) for rest in others]
    return torch.cat([left, new - torch.stack(rivals, dim=1)], dim=1)
