"""Where an image speaks for a class: Grad-CAM of CLIP's pooled answer, through its last block alone (CLIP-ES).

Y. Lin et al., "CLIP is Also an Efficient Segmenter", CVPR 2023; R. Selvaraju et al., "Grad-CAM", ICCV 2017.

Shapes: `T` an image's tags, `K` tags and background words, `N` patches, `D` width of the tokens, `M` prompts.
"""

import torch
from torch import Tensor


def log_odds(logits: Tensor, tags: int) -> Tensor:
    """log(p_c / (1 - p_c)) of the softmax p of an image's tags and the background words, for the tags.

    Its gradient is that of p_c over p_c (1 - p_c): the same map once it is divided by its maximum, but for a class that
    the image is sure of, or sure is not there, no less exact.

    logits: float [..., K], the tags first; tags: T, at most K; K at least 2, since one word alone has probability 1.
    Returns [..., T].
    """
    count = logits.shape[-1]
    if count < 2:
        raise ValueError("log_odds needs two words at least: a softmax over one is 1 whatever the image shows.")
    itself = torch.eye(count, dtype=torch.bool, device=logits.device)[:tags]
    others = logits[..., None, :].masked_fill(itself, -torch.inf)
    return logits[..., :tags] - others.logsumexp(dim=-1)


def class_maps(gradients: Tensor, features: Tensor) -> Tensor:
    """CAM_c = relu(sum_k mean_N(dy_c / dF_k) F_k), divided by its maximum.

    gradients: float [..., N, D] of a class's answer by the features; features: F [..., N, D].
    Returns [..., N] in [0, 1]; a map that is nowhere above 0 stays 0. Limits: no scale of the gradients matters.
    """
    weights = gradients.mean(dim=-2, keepdim=True)
    maps = (weights * features).sum(dim=-1).clamp_min(0)
    top = maps.amax(dim=-1, keepdim=True)
    return torch.where(top > 0, maps / top.clamp_min(torch.finfo(maps.dtype).tiny), torch.zeros_like(maps))


def greatest_of_names(values: Tensor, counts: tuple[int, ...]) -> Tensor:
    """Of each class the greatest value among those of its names.

    values: [..., M, h, w], the names of a class side by side; counts: how many names each class has, M in all.
    Returns [..., C, h, w].
    """
    return torch.stack([names.amax(dim=-3) for names in torch.split(values, list(counts), dim=-3)], dim=-3)
