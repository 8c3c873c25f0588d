"""A transformer of timm's, taken apart at its last block: its queries and keys, its output, each token by itself.

Taken are timm's VisionTransformer (also with a convolution stem), Eva (DINOv3, PE, EVA02, RoPE ViTs) and NaFlexVit,
whoever opened them. All blocks but the last run as timm runs them, on any grid; the L x L attention map of the last
one is never formed.

A plain block's queries and keys are computed by hand, without its values. Every other block is run, and what it hands
to `scaled_dot_product_attention` is caught: that is after qk norm, rotation and the spreading of shared keys.
"""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from wilss.errors import EncoderError
from wilss.models.encoders.grids import Resampling, resample_positions
from wilss.models.encoders.vit.refusals import why_not

Form = Literal["maskclip", "value"]

_ATTENTION = F.scaled_dot_product_attention


@dataclass(frozen=True, kw_only=True, eq=False)
class State:
    """What the last block is given.

    tokens: [B, L, D], the prefix (class, registers) first, then the patches in raster order.
    grid: (h, w), L = prefix + h * w.
    rope: how that block rotates queries and keys, in timm's form; None where it does not.
    """

    tokens: Tensor
    grid: tuple[int, int]
    rope: Tensor | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Trunk(ABC):
    """A network in eval mode. patch: pixels per token, to a side. prefix: how many tokens stand before the patches."""

    network: nn.Module = field(repr=False)
    patch: int
    prefix: int
    positions: Callable[[tuple[int, int]], Tensor] = field(repr=False)

    @abstractmethod
    def before_last(self, pixels: Tensor, grid: tuple[int, int]) -> State:
        """Everything up to the last block.

        pixels: normalised, float [B, 3, H, W], H and W multiples of `patch`; grid: (H / patch, W / patch).
        """

    @abstractmethod
    def queries_and_keys(self, state: State) -> tuple[Tensor, Tensor]:
        """As the last attention compares them, before scaling: two of [B, n, L, d]."""

    @abstractmethod
    def after(self, state: State) -> Tensor:
        """The last block's output [B, L, D] under the final norm."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TimmTrunk(Trunk):
    """A transformer of timm's."""

    def first(self, pixels: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor | None]:
        """The first block's tokens [B, L, D], and the rotation of all blocks. pixels: as for `before_last`."""
        network: Any = self.network
        if _is(network, "NaFlexVit"):
            found = network._forward_embeds(pixels, None, None, None)
            return found["patches"], found["rope_embeds"]
        rope = getattr(network, "rope", None)
        return _tokens(network, pixels, self.positions(grid)), None if rope is None else rope.get_embed(shape=grid)

    def before_last(self, pixels: Tensor, grid: tuple[int, int]) -> State:
        """Everything up to the last block, see `Trunk.before_last`."""
        tokens, rope = self.first(pixels, grid)
        each = rope if rope is not None and _is_mixed(self.network) else None
        blocks = self._blocks
        for place, block in enumerate(blocks[:-1]):
            tokens = _run(block, tokens, rope if each is None else each[place])
        return State(tokens=tokens, grid=grid, rope=rope if each is None else each[len(blocks) - 1])

    def queries_and_keys(self, state: State) -> tuple[Tensor, Tensor]:
        """As the last attention compares them, before scaling: two of [B, n, L, d]."""
        block = self._blocks[-1]
        if _is(block, "Block") and _is(block.attn, "Attention"):
            return _plain_queries_and_keys(block, state.tokens)
        return _caught_queries_and_keys(block, state)

    def after(self, state: State) -> Tensor:
        """The last block's output [B, L, D] under the final norm, see `_finished`."""
        return _finished(self.network, _run(self._blocks[-1], state.tokens, state.rope))

    def alone(self, state: State, form: Form = "maskclip") -> Tensor:
        """The last block [B, L, D] with every token attending to itself alone, under the final norm; linear in L.

        maskclip: with its residual connections and its feed-forward part; value: its attention alone.
        """
        block = self._blocks[-1]
        with _Attending(lambda queries, keys, values, **_: values):
            tokens = (_run if form == "maskclip" else _attention_of)(block, state.tokens, state.rope)
        return _finished(self.network, tokens)

    @property
    def _blocks(self) -> Sequence[Any]:
        return list(cast(Any, self.network).blocks)


def trunk_of(network: nn.Module, *, how: Resampling = "timm", name: str = "") -> TimmTrunk:
    """`network` (timm's, in eval mode, built with `dynamic_img_size=True` where it takes that) as a trunk.

    how: by which its position table is resampled.  name: what messages call it.
    Raises EncoderError, with the reason, for a network that cannot be taken apart.
    """
    whole: Any = network
    if (reason := why_not(network)) is not None:
        raise EncoderError(f"{name or 'the network'} {reason}.")
    if _is(whole, "NaFlexVit") and how != "timm":
        raise EncoderError(f"{name or 'the network'} resamples its positions itself; leave `pos_interp: {how}` out.")
    last = whole.blocks[-1]
    parts: tuple[Any, ...] = (last, getattr(last, "attn", None))
    for part in parts:
        if hasattr(part, "fused_attn"):
            part.fused_attn = True  # else, with TIMM_FUSED_ATTN=0, there is nothing to catch
    return TimmTrunk(
        network=network, patch=_patch(whole, name), prefix=whole.num_prefix_tokens, positions=_positions(whole, how)
    )


def _is(part: object, name: str) -> bool:
    return type(part).__name__ == name


def _is_mixed(network: Any) -> bool:
    """Whether every block has a rotation of its own."""
    return bool(getattr(network, "rope_mixed", False) or getattr(network, "rope_is_mixed", False))


def _patch(network: Any, name: str) -> int:
    embed = network.embeds if _is(network, "NaFlexVit") else network.patch_embed
    height, width = embed.feat_ratio(as_scalar=False)
    if height != width:
        raise EncoderError(
            f"{name or 'the network'} has patches of {height} x {width} pixels; wilss needs square ones."
        )
    return int(height)


def _positions(network: Any, how: Resampling) -> Callable[[tuple[int, int]], Tensor]:
    @lru_cache(maxsize=32)
    def positions(grid: tuple[int, int]) -> Tensor:
        """[prefix + h * w, width]; a zero of no dimension where the network has no table."""
        if network.pos_embed is None:
            return torch.zeros((), device=next(network.parameters()).device)
        prefix = 0 if network.no_embed_class else network.num_prefix_tokens
        old = tuple(network.patch_embed.grid_size)
        return resample_positions(network.pos_embed[0], old, grid, prefix=prefix, how=how)

    return positions


def _tokens(network: Any, pixels: Tensor, positions: Tensor) -> Tensor:
    """Normalised pixels to the first block's tokens [B, L, D]: prefix, then patches in raster order."""
    x = network.patch_embed(pixels).flatten(1, 2)
    special = (network.cls_token, getattr(network, "dist_token", None), network.reg_token)
    prefix = [token.expand(len(x), -1, -1) for token in special if token is not None]
    if network.no_embed_class:
        x = torch.cat([*prefix, x + positions], dim=1)
    else:
        x = torch.cat([*prefix, x], dim=1) + positions
    return cast(Tensor, network.norm_pre(x))


def _run(block: Any, tokens: Tensor, rope: Tensor | None) -> Tensor:
    return cast(Tensor, block(tokens) if rope is None else block(tokens, rope=rope))


def _attention_of(block: Any, tokens: Tensor, rope: Tensor | None) -> Tensor:
    """What a block's attention adds to its tokens [B, L, D]."""
    if _is(block, "ParallelScalingBlock"):
        raise EncoderError("a block whose attention and feed-forward part are one has no form `value`; use maskclip.")
    after_norm = type(block).__name__ in ("ResPostBlock", "EvaBlockPostNorm")
    found = _run(block.attn, tokens if after_norm else block.norm1(tokens), rope)
    if after_norm:
        return cast(Tensor, block.norm1(found))
    if _is(block, "EvaBlock"):
        return found if block.gamma_1 is None else cast(Tensor, block.gamma_1 * found)
    return cast(Tensor, block.ls1(found))


def norms_after_pooling(network: nn.Module) -> bool:
    """Whether a network's only final norm is that of its pooled tokens, which is applied to each of them here."""
    whole: Any = network
    norm = getattr(whole, "fc_norm", None)
    return getattr(whole, "attn_pool", None) is None and norm is not None and not isinstance(norm, nn.Identity)


def _finished(network: Any, tokens: Tensor) -> Tensor:
    """The final norm, for every token: also where the network pools first and then norms; RADIO has none at all."""
    x = network.norm(tokens)
    return cast(Tensor, x if network.attn_pool is not None else network.fc_norm(x))


# -- queries and keys ---------------------------------------------------------------------------------------


def _plain_queries_and_keys(block: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """[B, L, D] to two of [B, n, L, d]. The values are not computed."""
    attention = block.attn
    split = 2 * attention.num_heads * attention.head_dim
    bias = attention.qkv.bias
    both = F.linear(block.norm1(x), attention.qkv.weight[:split], None if bias is None else bias[:split])
    queries, keys = both.reshape(*both.shape[:2], 2, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
    return attention.q_norm(queries), attention.k_norm(keys)


def _caught_queries_and_keys(block: Any, state: State) -> tuple[Tensor, Tensor]:
    caught: list[tuple[Tensor, Tensor]] = []

    def keep(queries: Tensor, keys: Tensor, values: Tensor, **_: Any) -> Tensor:
        caught.append((queries, keys))
        raise _CaughtError

    with contextlib.suppress(_CaughtError), _Attending(keep):
        _run(block, state.tokens, state.rope)
    if not caught:
        raise EncoderError(f"timm's {type(block).__name__} calls no attention of torch's; install a tested timm.")
    return caught[0]


class _CaughtError(Exception):
    """Ends a block's run at its attention."""


class _Attending(TorchFunctionMode):
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
