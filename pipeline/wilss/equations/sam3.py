"""SAM 3 by tags: from what the network says of an image and each of its tags to evidence that masks are cut from.

N. Carion et al., "SAM 3: Segment Anything with Concepts", 2025, is the network; the score of a tag and the background's
rule are those of training-free segmentation of many classes with it. Our own decisions are marked [D].

Shapes: `T` an image's tags, `Q` the network's queries, `h w` its grid or pixels.
"""

import math

import torch
from torch import Tensor

from wilss.equations.kernels import exact


def tag_score(masks: Tensor, scores: Tensor, semantic: Tensor, least: float = 0.3) -> Tensor:
    """The score of one tag at every place, of single objects and of all that the tag names:

        M = max(max_i [score_i >= least] score_i sigmoid(mask_i), sigmoid(semantic)).

    masks: logits [Q, h, w]; scores: [Q] in [0, 1]; semantic: logits [h, w]; least: in [0, 1].
    Returns [h, w] in [0, 1], float32 at least. Only masks of enough score are looked at, one at a time.
    """
    score = exact(semantic).sigmoid()
    for number in (scores >= least).nonzero().flatten().tolist():
        score = torch.maximum(score, exact(scores[number]) * exact(masks[number]).sigmoid())
    return score


def lead(scores: Tensor, threshold: float = 0.4) -> Tensor:
    """Evidence of a tag by its score and by how far it leads the others, 1 where the background begins to lose:

        e_t = s_t sqrt(max(s_t - max_(u != t) s_u, 0)) / threshold^1.25.

    A place goes to the background where s1 sqrt(s1 - s2) < threshold^1.25, s1 and s2 the greatest and the second
    greatest score there: so at most one tag has evidence of 1 and more, and of equals none. A tag alone has a rival of
    score 0 [D]: it is what an absent class is in the rule for many classes, and a second tag that scores 0 everywhere
    changes nothing. Alone it is cut at threshold^(5/6), 0.466 of the default.

    scores: [T, h, w] in [0, 1], T >= 1; threshold: in (0, 1].
    Returns [T, h, w] >= 0, float32 at least. One tag of all is above 0 at most.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"lead needs a threshold above 0 and at most 1, not {threshold}.")
    scores = exact(scores)
    best = scores.topk(min(len(scores), 2), dim=0).values
    rival = torch.where(scores == best[0], best[1] if len(best) > 1 else 0.0, best[0])
    ahead = (scores - rival).clamp_min(0)
    return scores * ahead.sqrt() / math.pow(threshold, 1.25)
