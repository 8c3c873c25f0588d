"""A transformer of timm's, taken apart at its last block: its queries and keys, its output, each token by itself.

Taken are timm's VisionTransformer (also with a convolution stem), Eva (DINOv3, PE, EVA02, RoPE ViTs) and NaFlexVit,
whoever opened them. All blocks but the last run as timm runs them, on any grid; the L x L attention map of the last
one is never formed.

What a block compares is told by `attention`.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from wilss.errors import EncoderError
from wilss.models.encoders.grids import Resampling, resample_positions
from wilss.models.encoders.vit.attention import Attending, Compared, Part, run, timm_attention
from wilss.models.encoders.vit.refusals import why_not

Form = Literal["maskclip", "value"]
#: From queries, keys and values [B, n, L, d] to what is mixed of the values, of the same shape.
Mixing = Callable[..., Tensor]


@dataclass(frozen=True, kw_only=True, eq=False)
class State:
    """What the last block is given, or one before it.

    tokens: [B, L, D], the prefix (class, registers) first, then the patches in raster order.
    grid: (h, w), L = prefix + h * w.
    rope: how that block rotates queries and keys, in timm's form; None where it does not.
    place: of the block among all, -1 for the last.
    """

    tokens: Tensor
    grid: tuple[int, int]
    rope: Tensor | None = None
    place: int = -1


def refuse_more_blocks(count: int, depth: int) -> None:
    """EncoderError for more blocks than a transformer has, or none."""
    if not 1 <= count <= depth:
        raise EncoderError(f"the vision transformer has {depth} blocks, not {count}; ask for 1 to {depth} of them.")


@dataclass(frozen=True, kw_only=True, eq=False)
class Trunk(ABC):
    """A network in eval mode. patch: pixels per token, to a side. prefix: how many tokens stand before the patches."""

    network: nn.Module = field(repr=False)
    patch: int
    prefix: int
    positions: Callable[[tuple[int, int]], Tensor] = field(repr=False)

    @property
    @abstractmethod
    def blocks(self) -> Sequence[Any]:
        """All blocks, first to last."""

    @abstractmethod
    def states(self, pixels: Tensor, grid: tuple[int, int]) -> Iterator[State]:
        """What each block is given, first to last; the last one is not run.

        pixels: normalised, float [B, 3, H, W], H and W multiples of `patch`; grid: (H / patch, W / patch).
        """

    @abstractmethod
    def attention(self, state: State, parts: Sequence[Part] = ()) -> Compared:
        """What the attention of the block that is given `state` compares, and those `parts` of it."""

    @abstractmethod
    def attended(self, state: State, mixing: Mixing) -> Tensor:
        """What the last attention [B, L, D] would add if it mixed its values by `mixing`, under the final norm."""

    @abstractmethod
    def after(self, state: State) -> Tensor:
        """The last block's output [B, L, D] under the final norm."""

    def before_last(self, pixels: Tensor, grid: tuple[int, int]) -> State:
        """Everything up to the last block, see `states`."""
        return self.before(pixels, grid, 1)[0]

    def before(self, pixels: Tensor, grid: tuple[int, int], count: int) -> tuple[State, ...]:
        """What the `count` last blocks are given, first to last. Raises EncoderError for more than there are."""
        refuse_more_blocks(count, len(self.blocks))
        return tuple(deque(self.states(pixels, grid), maxlen=count))

    def queries_and_keys(self, state: State) -> tuple[Tensor, Tensor]:
        """As the attention compares them, before scaling: two of [B, n, L, d]."""
        found = self.attention(state)
        return found.queries, found.keys


@dataclass(frozen=True, kw_only=True, eq=False)
class TimmTrunk(Trunk):
    """A transformer of timm's."""

    def first(self, pixels: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor | None]:
        """The first block's tokens [B, L, D], and the rotation of all blocks. pixels: as for `states`."""
        network: Any = self.network
        if _is(network, "NaFlexVit"):
            found = network._forward_embeds(pixels, None, None, None)
            return found["patches"], found["rope_embeds"]
        rope = getattr(network, "rope", None)
        return _tokens(network, pixels, self.positions(grid)), None if rope is None else rope.get_embed(shape=grid)

    @property
    def blocks(self) -> Sequence[Any]:
        """All blocks, see `Trunk.blocks`."""
        return list(cast(Any, self.network).blocks)

    def states(self, pixels: Tensor, grid: tuple[int, int]) -> Iterator[State]:
        """What each block is given, see `Trunk.states`."""
        tokens, rope = self.first(pixels, grid)
        each = rope if rope is not None and _is_mixed(self.network) else None
        blocks = self.blocks
        for place, block in enumerate(blocks):
            own = rope if each is None else each[place]
            yield State(tokens=tokens, grid=grid, rope=own, place=place - len(blocks))
            if place < len(blocks) - 1:
                tokens = run(block, tokens, own)

    def attention(self, state: State, parts: Sequence[Part] = ()) -> Compared:
        """What the attention of the block that is given `state` compares, see `Trunk.attention`."""
        return timm_attention(self.blocks[state.place], state.tokens, state.rope, parts)

    def after(self, state: State) -> Tensor:
        """The last block's output [B, L, D] under the final norm, see `_finished`."""
        return _finished(self.network, run(self.blocks[-1], state.tokens, state.rope))

    def alone(self, state: State, form: Form = "maskclip") -> Tensor:
        """The last block [B, L, D] with every token attending to itself alone, under the final norm; linear in L.

        maskclip: with its residual connections and its feed-forward part; value: its attention alone.
        """
        if form == "value":
            return self.attended(state, _values_alone)
        with Attending(_values_alone):
            tokens = run(self.blocks[-1], state.tokens, state.rope)
        return _finished(self.network, tokens)

    def attended(self, state: State, mixing: Mixing) -> Tensor:
        """What the last attention would add, see `Trunk.attended`."""
        with Attending(mixing):
            tokens = _attention_of(self.blocks[-1], state.tokens, state.rope)
        return _finished(self.network, tokens)


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


def _values_alone(queries: Tensor, keys: Tensor, values: Tensor, **_: object) -> Tensor:
    return values


def _attention_of(block: Any, tokens: Tensor, rope: Tensor | None) -> Tensor:
    """What a block's attention adds to its tokens [B, L, D]."""
    if _is(block, "ParallelScalingBlock"):
        raise EncoderError(
            "a block with its attention beside its feed-forward part has only the form maskclip; use that."
        )
    after_norm = type(block).__name__ in ("ResPostBlock", "EvaBlockPostNorm")
    found = run(block.attn, tokens if after_norm else block.norm1(tokens), rope)
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
