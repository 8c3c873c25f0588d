"""PseudoSeg, mask making: soft labels from a segmenter's decoder and from its activation maps.

Y. Zou et al., "PseudoSeg: Designing Pseudo Labels for Semantic Segmentation", ICLR 2021.
What follows the paper's public code is marked [C], our own decisions [D].

Shapes: `B` batch, `C` channels, background first; `h w` grid, `L` = h * w its cells in raster order, `d` width
of queries and keys. Row before column.
"""

from typing import Literal

import torch
from torch import Tensor

from wilss.equations.kernels import attention_rows, exact, propagate

Norm = Literal["image", "batch"]

_TINY = 1e-8  # added to the mean square [C]


# -- self-attention Grad-CAM (SGC) --------------------------------------------------------------------------


def max_normalised(cam: Tensor) -> Tensor:
    """An activation map as a share of its greatest value: relu(m) / max relu(m), map by map [C].

    cam: [..., h, w]. Returns [..., h, w] in [0, 1]; zeros where no value is above 0.
    """
    positive = cam.clamp_min(0)
    highest = positive.amax(dim=(-2, -1), keepdim=True)
    return positive / highest.masked_fill(highest <= 0, 1.0)


def self_attention_cam(queries: Tensor, keys: Tensor, scores: Tensor, valid: Tensor | None = None) -> Tensor:
    """Activation maps spread along learnt attention, plus themselves (SGC before its mapping W_c):

        m^_i = sum_j softmax_j(q_i . k_j / sqrt(d)) m_j + m_i.

    The background (`with_background`) and the mapping W_c come after, in the network.

    queries, keys: [B, L, d], of the hypercolumn; scores: m [B, C, h, w], background left out.
    valid: bool [B, L], cells that are no padding; the others are not attended to [C].
    Returns [B, C, h, w]; in [0, 2] where m is in [0, 1].
    """
    return propagate(attention_rows(queries, keys, valid), scores) + scores


def with_background(cam: Tensor) -> Tensor:
    """Activation maps behind a background of 2 - max over the classes, for what lies in [0, 2] [C].

    cam: [B, C - 1, h, w], C >= 2, what `self_attention_cam` gives. Returns [B, C, h, w], background first.
    """
    return torch.cat([2 - cam.amax(dim=1, keepdim=True), cam], dim=1)


# -- calibrated fusion --------------------------------------------------------------------------------------


def joint_norm(p: Tensor, m: Tensor, per: Norm = "image", valid: Tensor | None = None) -> Tensor:
    """Norm(p, m^): the root mean square of both kinds of scores together.

    The paper writes the root of a sum, under which every softmax would be even; its code takes the mean [C],
    over the whole batch. Ours is the image's own, so that a label never depends on its batch mates [D].

    p, m: [B, C, h, w]. valid: bool [B, h, w], the cells that count, all if None; none at all gives 0 [D].
    Returns [B, 1, 1, 1] per image, [1, 1, 1, 1] per batch.
    """
    if per not in ("image", "batch"):
        raise ValueError(f"joint_norm has no norm per {per!r}; use image or batch.")
    squares = ((p.square() + m.square()) / 2).mean(dim=1)
    counted = torch.ones_like(squares) if valid is None else valid.to(squares.dtype)
    over = (-2, -1) if per == "image" else (-3, -2, -1)
    total, cells = ((squares * counted).sum(dim=over, keepdim=True), counted.sum(dim=over, keepdim=True))
    return (total / cells.clamp_min(1)).sqrt()[:, None]


def sharpen(probabilities: Tensor, temperature: float = 0.5) -> Tensor:
    """Sharpen(a)_c = a_c^(1/T) / sum_c a_c^(1/T), over the channels.

    T = 1 changes nothing, T -> 0 leaves the greatest alone (equals share), T -> infinity makes all that is above
    0 equal.

    probabilities: [..., C, h, w], >= 0, not all 0 along C; temperature: > 0. Returns the same shape, sums to 1.
    """
    if not temperature > 0:
        raise ValueError(f"sharpen needs a temperature above 0, not {temperature}.")
    # in logarithms: a small number to a great power would vanish, and with it the whole sum
    return (probabilities.log() / temperature).softmax(dim=-3)


def calibrated_fusion(
    p: Tensor,
    m: Tensor,
    *,
    g: float = 0.5,
    T: float = 0.5,  # noqa: N803 - the paper's name
    norm: Norm = "image",
    valid: Tensor | None = None,
) -> Tensor:
    """The soft label of decoder and activation maps together (calibrated fusion; g = T = 0.5):

        y~ = Sharpen(g softmax(p / Norm(p, m^)) + (1 - g) softmax(m^ / Norm(p, m^)), T).

    p: decoder logits [B, C, h, w]; m: m^ [B, C, h, w]; valid: bool [B, h, w], the cells that Norm counts.
    Returns [B, C, h, w], float32 at least, >= 0, sums to 1 over C. g = 1 is the decoder alone and g = 0 the
    activation maps alone, under the joint norm still. With g = 0.5 both play the same part.
    """
    if not 0 <= g <= 1:
        raise ValueError(f"calibrated_fusion needs g in [0, 1], not {g}.")
    p, m = exact(p), exact(m)
    scale = (joint_norm(p, m, norm, valid).square() + _TINY).rsqrt()
    decoder, maps = ((scores * scale).softmax(dim=1) for scores in (p, m))
    return sharpen(g * decoder + (1 - g) * maps, T)
