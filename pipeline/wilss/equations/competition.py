"""How strongly each pixel belongs to each tag, and how tags compete for it.

Evidence is what a mask is cut from, scaled so that 1 is the cut: a map over its own threshold. The union of two masks
is then the greater of their evidences, and the background stands at 1.

Shapes: `T` an image's tags, `K` = T + 1 labels with the background first, `h w` any grid or pixels.
"""

import torch
from torch import Tensor

from wilss.equations.fmwiss import Fusion
from wilss.equations.kernels import first_greatest


def evidence(score: Tensor, attention: Tensor, threshold: float, cut: Tensor, mode: Fusion) -> Tensor:
    """e_c = f(score_c / threshold, attention_c / cut_c): FMWISS' fusion of both masks before they are cut; ours.

    f is the greater (union), the smaller (intersection), or one alone (init: the score, seeds: the attention). A
    threshold of 0 lets the score in everywhere; an infinite cut nothing of the attention.

    score: float [T, h, w] in [0, 1]; attention: float [T, h, w], non-negative; threshold: in [0, 1];
    cut: float [T] above 0. Returns float [T, h, w], non-negative; the mask of its mode is where it is at least 1.
    """
    by_score = score / threshold if threshold > 0 else torch.ones_like(score)
    by_attention = attention / cut[:, None, None]
    if mode == "union":
        return torch.maximum(by_score, by_attention)
    if mode == "intersection":
        return torch.minimum(by_score, by_attention)
    if mode not in ("init", "seeds"):
        raise ValueError(f"evidence has no mode {mode!r}; use union, intersection, init or seeds.")
    return by_score if mode == "init" else by_attention


def compete(evidences: Tensor) -> Tensor:
    """Every pixel goes to the greatest evidence, or to the background where none is at least 1; ours.

    So the mask of one tag alone is where a cut puts it, also at equality: a map of one value is kept whole.

    evidences: float [T, h, w]. Returns float32 [T + 1, h, w], one-hot, the background first; of equal tags the first
    wins.
    """
    one = torch.ones_like(evidences[:1])
    background = torch.nextafter(one, torch.zeros_like(one))  # of equals a tag wins
    return one_hot(first_greatest(torch.cat([background, evidences])), len(evidences) + 1)


def against_background(probabilities: Tensor) -> Tensor:
    """r_c = p_c / (p_c + p_0): how much more a place looks like a class than like the background, whatever its rivals.

    A half where both are as probable, which is where a class alone is cut; ours.

    probabilities: float [K, ...], >= 0, the background first. Returns [K - 1, ...] in [0, 1]; 0 where both are 0.
    """
    background, classes = probabilities[:1], probabilities[1:]
    return classes / (classes + background).clamp_min(torch.finfo(probabilities.dtype).tiny)


def one_hot(labels: Tensor, count: int) -> Tensor:
    """labels: uint8 [h, w] below `count`. Returns float32 [count, h, w]: 1 where a pixel has the label, else 0."""
    numbers = torch.arange(count, dtype=labels.dtype, device=labels.device)[:, None, None]
    return (labels == numbers).float()
