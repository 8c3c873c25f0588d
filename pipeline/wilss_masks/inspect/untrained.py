"""What a network shows that was never trained: numbers that stand exactly where training would begin."""

import math
from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn

#: CLIP's (open_clip.model, init_logit_scale) and SigLIP's (Zhai et al., ICCV 2023, Algorithm 1).
_BEGINS = (1 / 0.07, 10.0)
_STORED_AS = (torch.float32, torch.float16, torch.bfloat16)


def is_initial(logit_scale: float) -> bool:
    """Whether a logit scale is where training begins, as any of the usual types keeps its logarithm."""
    begins = (float(torch.tensor(math.log(scale)).to(kind).float().exp()) for scale in _BEGINS for kind in _STORED_AS)
    return any(math.isclose(logit_scale, begin, rel_tol=1e-6) for begin in begins)


def norms_are_initial(network: nn.Module) -> bool:
    """Whether all norms of a network have factors of 1 (or 0, as in residual branches) and biases of 0, at least one.

    That is sure for every family: the first step of training moves them.
    """
    norms = list(_norms(network))
    return bool(norms) and all(map(_is_initial, norms))


def _norms(network: nn.Module) -> Iterator[nn.Module]:
    for part in network.modules():
        if "norm" in type(part).__name__.lower() and isinstance(getattr(part, "weight", None), Tensor):
            yield part


def _is_initial(norm: nn.Module) -> bool:
    weight, bias = cast(Tensor, norm.weight), getattr(norm, "bias", None)
    is_plain = any(torch.equal(weight, torch.full_like(weight, value)) for value in (0, 1))
    return is_plain and not (isinstance(bias, Tensor) and bool(bias.any()))
