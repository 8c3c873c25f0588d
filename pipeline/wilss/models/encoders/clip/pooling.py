"""CLIP's answer for a whole image, from what its last block is given, so that a gradient can be taken: `gradcam`.

The attention is written out: in blocks of rows that are made again on the way back, so that no [L, L] is kept, and
without the fused kernels, whose gradients are not the same twice on a GPU. Where one token is pooled, only its row is
asked.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from wilss.models.encoders.vit.attention import Attending, run
from wilss.models.encoders.vit.trunks import State

#: Numbers in all heads' rows of a block: 64 MiB of float32.
_BLOCK = 2**24


def timm_pooled(network: nn.Module, head: Callable[[Tensor], Tensor]) -> Callable[[State], Tensor]:
    """For a network of timm's, and what comes after it: from what the last block is given to [B, D]."""
    whole: Any = network
    one_token = whole.attn_pool is None and whole.global_pool == "token"

    def pooled(state: State) -> Tensor:
        """[B, D]."""
        with Attending(_first_row if one_token else _all_rows):
            tokens = run(whole.blocks[-1], state.tokens, state.rope)
        return head(whole.forward_head(whole.norm(tokens)))

    return pooled


def _first_row(queries: Tensor, keys: Tensor, values: Tensor, **_: object) -> Tensor:
    """Attention [B, n, L, d] of the first token; the others, which nobody asks, get zeros."""
    return torch.cat([attention(queries[..., :1, :], keys, values), torch.zeros_like(values[..., 1:, :])], dim=-2)


def _all_rows(queries: Tensor, keys: Tensor, values: Tensor, **_: object) -> Tensor:
    return attention(queries, keys, values)


def attention(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v. queries: [B, n, S, d]; keys, values: [B, n, L, d]. Returns [B, n, S, d]."""
    step = max(1, _BLOCK // keys.shape[:3].numel())
    if queries.shape[-2] <= step:
        return _rows(queries, keys, values)
    parts = torch.split(queries, step, dim=-2)
    return torch.cat([checkpoint(_rows, part, keys, values, use_reentrant=False) for part in parts], dim=-2)


def _rows(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    with torch.autocast(queries.device.type, enabled=False):
        logits: Tensor = queries.float() @ keys.float().transpose(-2, -1) * queries.shape[-1] ** -0.5
        mixed: Tensor = logits.softmax(dim=-1) @ values.float()
    return mixed.to(values.dtype)
