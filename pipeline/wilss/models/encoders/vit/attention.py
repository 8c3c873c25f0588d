"""What the attention of a block compares, and on request what it passes on: of one block, never an L x L map.

A plain block's queries and keys are computed by hand, without its values. Every other block is run, and what it hands
to `scaled_dot_product_attention` is caught: that is after qk norm, rotation and the spreading of shared keys.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from wilss.errors import EncoderError

#: What a block tells beside its queries and keys, only where it is asked for; tokens: the last one's, which are no part
#: of its attention.
Part = Literal["values", "outputs", "tokens"]

_ATTENTION = F.scaled_dot_product_attention


@dataclass(frozen=True, kw_only=True, eq=False)
class Compared:
    """Queries and keys as the attention compares them, before scaling, and the values that it mixes: [B, n, L, d].

    outputs: the mixed values, heads joined, before any norm, gate or projection: [B, L, n d]. None: not asked for.
    """

    queries: Tensor
    keys: Tensor
    values: Tensor | None = None
    outputs: Tensor | None = None


def compared(queries: Tensor, keys: Tensor, values: Callable[[], Tensor], parts: Sequence[Part]) -> Compared:
    """With the parts that are asked for. queries, keys, and what `values` makes where it is needed: [B, n, L, d]."""
    if not {"values", "outputs"}.intersection(parts):
        return Compared(queries=queries, keys=keys)
    mixed = values()
    return Compared(
        queries=queries,
        keys=keys,
        values=mixed if "values" in parts else None,
        outputs=joined(_ATTENTION(queries, keys, mixed)) if "outputs" in parts else None,
    )


def joined(heads: Tensor) -> Tensor:
    """[B, n, L, d] to [B, L, n d]."""
    return heads.transpose(1, 2).flatten(2)


def by_head(projected: Tensor, heads: int, width: int) -> Tensor:
    """[B, L, times n d] to [times, B, n, L, d]. heads, width: n and d."""
    return projected.reshape(*projected.shape[:2], -1, heads, width).permute(2, 0, 3, 1, 4)


def timm_attention(block: Any, tokens: Tensor, rope: Tensor | None, parts: Sequence[Part] = ()) -> Compared:
    """Of a block of timm's that is given `tokens` [B, L, D], see `Trunk.attention`."""
    if type(block).__name__ == "Block" and type(block.attn).__name__ == "Attention":
        return _plain(block, tokens, parts)
    queries, keys, values = _caught(block, tokens, rope)
    return compared(queries, keys, lambda: values, parts)


def _plain(block: Any, tokens: Tensor, parts: Sequence[Part]) -> Compared:
    attention, x = block.attn, block.norm1(tokens)
    split = 2 * attention.num_heads * attention.head_dim
    weight, bias = attention.qkv.weight, attention.qkv.bias

    def projected(rows: slice) -> Tensor:
        """[times, B, n, L, d] of so many rows of the projection."""
        found = F.linear(x, weight[rows], None if bias is None else bias[rows])
        return by_head(found, attention.num_heads, attention.head_dim)

    queries, keys = projected(slice(split))
    return compared(attention.q_norm(queries), attention.k_norm(keys), lambda: projected(slice(split, None))[0], parts)


def _caught(block: Any, tokens: Tensor, rope: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    caught: list[tuple[Tensor, Tensor, Tensor]] = []

    def keep(queries: Tensor, keys: Tensor, values: Tensor, **_: Any) -> Tensor:
        caught.append((queries, keys, values))
        raise _CaughtError

    with contextlib.suppress(_CaughtError), Attending(keep):
        run(block, tokens, rope)
    if not caught:
        raise EncoderError(f"timm's {type(block).__name__} calls no attention of torch's; install a tested timm.")
    return caught[0]


def run(block: Any, tokens: Tensor, rope: Tensor | None) -> Tensor:
    """A block of timm's, or its attention alone: [B, L, D] to [B, L, D]."""
    return cast(Tensor, block(tokens) if rope is None else block(tokens, rope=rope))


class _CaughtError(Exception):
    """Ends a block's run at its attention."""


class Attending(TorchFunctionMode):
    """Within it, `scaled_dot_product_attention` of this thread is `answer` of queries, keys and values."""

    def __init__(self, answer: Callable[..., Tensor]) -> None:
        super().__init__()
        self.answer = answer

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """What torch calls for every function."""
        named = kwargs or {}
        return self.answer(*args, **named) if func is _ATTENTION else func(*args, **named)
