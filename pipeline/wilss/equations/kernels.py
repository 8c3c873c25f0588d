"""The four kernels that all methods share: score, propagate, fuse (a file per paper) and write.

score:     the cosine of features with vectors: text (FMWISS), prototypes (PANet), rows of a classifier (PseudoSeg).
propagate: attention times scores: of a frozen ViT (FMWISS), of learnt queries and keys (PseudoSeg).
write:     the mask that scores say, the greatest of them at every pixel.

Shapes: `C` categories or channels, `D` feature width, `h w` patch grid, `H W` pixels, `d` width of queries and
keys, `S` rows asked for, `L` tokens. Row before column.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def unit(x: Tensor, dim: int = -1) -> Tensor:
    """Vectors of length one along `dim`: x / max(|x|, 1e-12). The zero vector stays zero.

    x: any shape. Returns the same shape, each value in [-1, 1].
    """
    return F.normalize(x, dim=dim)


def score_map(image: Tensor, vectors: Tensor) -> Tensor:
    """The product of every patch with every vector; their cosine where both are of unit length.

    image: [..., D, h, w]; vectors: [C, D].
    Returns [..., C, h, w], of unit vectors each value in [-1, 1] up to rounding.
    """
    return torch.einsum("...dhw,cd->...chw", image, vectors)


def attention_rows(queries: Tensor, keys: Tensor, valid: Tensor | None = None) -> Tensor:
    """Rows of scaled dot-product attention: softmax_l(q_s . k_l / sqrt(d)).

    queries: [..., S, d]; keys: [..., L, d]; leading dimensions broadcast. valid: bool [..., L], tokens that may
    be attended to; without one the row is even over all of them.
    Returns [..., S, L], >= 0, each row sums to 1.
    """
    if queries.ndim == 4 and keys.ndim == 3 and valid is None:  # several sets of rows share their keys: one product
        sets, heads, seeds, width = queries.shape
        rows = attention_rows(queries.transpose(0, 1).reshape(heads, sets * seeds, width), keys)
        return rows.reshape(heads, sets, seeds, -1).transpose(0, 1)
    logits: Tensor = queries @ keys.transpose(-2, -1) * queries.shape[-1] ** -0.5
    if valid is not None:
        logits = logits.masked_fill(~valid[..., None, :], torch.finfo(logits.dtype).min)
    return logits.softmax(dim=-1)


def propagate(attention: Tensor, maps: Tensor) -> Tensor:
    """Maps spread along attention: the value of cell s becomes sum_l attention_sl map_l.

    attention: [..., h * w, h * w], cells in raster order; maps: [..., C, h, w]. Returns [..., C, h, w], within
    the range of each map where rows of the attention sum to 1.
    """
    spread: Tensor = maps.flatten(-2) @ attention.transpose(-2, -1)
    return spread.reshape(maps.shape)


def first_greatest(scores: Tensor) -> Tensor:
    """argmax over the channels, the first among equals: [..., C, H, W] to uint8 [..., H, W], C <= 255.

    torch's argmax over any dimension but the last takes ten times longer on a CPU.
    """
    count = scores.shape[-3]
    from_last = torch.arange(count, 0, -1, dtype=torch.uint8, device=scores.device)[:, None, None]
    greatest = scores == scores.amax(dim=-3, keepdim=True)
    return count - (greatest * from_last).amax(dim=-3)


def exact(x: Tensor) -> Tensor:
    """x, of any shape [...], in float32, or as it is where it is float64."""
    return x if x.dtype == torch.float64 else x.float()
