"""Distribution alignment: the classes of soft labels as frequent as those of the labels that people drew.

D. Berthelot et al., "ReMixMatch: Semi-Supervised Learning with Distribution Alignment and Augmentation Anchoring", ICLR
2020 (arXiv:1911.09785), Sec. 3.1, for pictures; of pixels, R. He et al., "Re-distributing Biased Pseudo Labels for
Semi-supervised Semantic Segmentation", ICCV 2021 (arXiv:2107.11279). What is our decision is marked [D].

Shapes: `U` images, `C` channels, background first; `H W` pixels.
"""

import torch
from torch import Tensor

from wilss.data.taxonomy import VOID

#: A class that has not been seen counts as if it were one pixel in so many, so that no label is 0 for good [D].
_LEAST = 1e-4


def aligned(labels: Tensor, given: Tensor, wanted: Tensor, strength: float) -> Tensor:
    """Soft labels times (wanted / given) ** strength, normalised: y~_c ~ y_c (p_c / q_c)^a.

    strength: a; 1 is the paper's, 0 leaves the labels as they are, and between them they go a part of the way [D].

    labels: [U, C, H, W], rows sum to 1. given, wanted: [C], the share of pixels that soft labels give to each class,
    and that drawn labels do. Returns the shape and kind of `labels`; rows sum to 1.
    """
    factors = (wanted.clamp_min(_LEAST) / given.clamp_min(_LEAST)) ** strength
    scaled = labels * factors.to(labels.dtype)[None, :, None, None]
    return scaled / scaled.sum(dim=1, keepdim=True)


def soft_counts(labels: Tensor, valid: Tensor) -> Tensor:
    """How many valid pixels soft labels give to each class.

    labels: [U, C, H, W]; valid: bool [U, H, W]. Returns float64 [C], whose sum is the number of valid pixels.
    """
    return torch.where(valid[:, None], labels, 0.0).sum(dim=(0, 2, 3), dtype=torch.float64)


def drawn_counts(labels: Tensor, channels: int) -> Tensor:
    """How many pixels a label map gives to each class, those that are VOID left out.

    labels: long [B, H, W]. Returns float64 [channels].
    """
    flat = labels.flatten()
    counts = torch.zeros(VOID + 1, dtype=torch.float64, device=flat.device)  # bincount would wait for a GPU
    return counts.scatter_add(0, flat, torch.ones_like(flat, dtype=torch.float64))[:channels]
