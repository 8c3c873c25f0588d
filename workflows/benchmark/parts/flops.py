"""Floating-point operations of networks, counted by torch; what torch leaves out is put in.

`FlopCounterMode` knows GPUs' fused attention, not the CPU's; not `_native_multi_head_attention`, which stands for a
whole attention layer in evaluation mode; and not oneDNN's linear: a ViT would come out far too small.
"""

import math
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

Shape = tuple[int, ...]


def attention_flops(query: Shape, key: Shape, value: Shape, *others: Any, **named: Any) -> int:
    """Q K^T and its product with V. query: [..., L, d], key: [..., S, d], value: [..., S, e]."""
    return 2 * math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def attention_backward_flops(
    gradient: Shape, query: Shape, key: Shape, value: Shape, *others: Any, **named: Any
) -> int:
    """Twice the two products, and Q K^T once more, which is not kept."""
    return 2 * attention_flops(query, key, value) + 2 * math.prod(query[:-1]) * key[-2] * query[-1]


def attention_layer_flops(query: Shape, key: Shape, value: Shape, width: int, *others: Any, **named: Any) -> int:
    """Four products with weights [D, D], and the attention between. query: [B, L, D]."""
    rows, columns = math.prod(query[:-1]), key[-2]
    products = 2 * width**2 * (2 * rows + 2 * query[0] * columns)
    return products + 4 * rows * columns * width


def linear_flops(rows: Shape, weight: Shape, *others: Any, **named: Any) -> int:
    """oneDNN's linear. rows: [..., I], weight: [O, I]."""
    return 2 * math.prod(rows) * weight[0]


_AT = torch.ops.aten
MISSING = {
    _AT._scaled_dot_product_flash_attention_for_cpu: attention_flops,
    _AT._scaled_dot_product_flash_attention_for_cpu_backward: attention_backward_flops,
    _AT._native_multi_head_attention: attention_layer_flops,
    torch.ops.mkldnn._linear_pointwise: linear_flops,
}


def counter() -> FlopCounterMode:
    """A context that counts; ask its `get_total_flops()`."""
    return FlopCounterMode(display=False, custom_mapping=MISSING)
