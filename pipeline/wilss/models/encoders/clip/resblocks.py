"""open_clip's own image transformer, taken apart at its last block as `trunks` takes timm's apart.

So a CLIP can say where as well as what: the queries and keys of its last block, from the pass that gives its features.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wilss.models.encoders.clip.pooling import attention
from wilss.models.encoders.grids import resample_positions
from wilss.models.encoders.vit.attention import Compared, Part, by_head, compared, joined
from wilss.models.encoders.vit.trunks import Form, Mixing, State, Trunk


@dataclass(frozen=True, kw_only=True, eq=False)
class ResblockTrunk(Trunk):
    """open_clip's VisionTransformer in eval mode; its prefix is the class token alone."""

    @property
    def blocks(self) -> Sequence[Any]:
        """All blocks, first to last."""
        return list(cast(Any, self.network).transformer.resblocks)

    def states(self, pixels: Tensor, grid: tuple[int, int]) -> Iterator[State]:
        """What each block is given, see `Trunk.states`."""
        visual: Any = self.network
        x = visual.conv1(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([visual.class_embedding.to(x.dtype).expand(len(x), 1, x.shape[-1]), x], dim=1)
        x = visual.ln_pre(x + self.positions(grid).to(x.dtype))
        blocks = self.blocks
        for place, block in enumerate(blocks, -len(blocks)):
            yield State(tokens=x, grid=grid, place=place)
            if place < -1:
                x = block(x)

    def attention(self, state: State, parts: Sequence[Part] = ()) -> Compared:
        """What the attention of the block that is given `state` compares, see `Trunk.attention`."""
        block = self.blocks[state.place]
        return _compared(block.attn, block.ln_1(state.tokens), parts)

    def attended(self, state: State, mixing: Mixing) -> Tensor:
        """What the last attention would add, see `Trunk.attended`."""
        block, visual = self._last, cast(Any, self.network)
        found = _compared(block.attn, block.ln_1(state.tokens), ("values",))
        mixed = mixing(found.queries, found.keys, found.values)
        return cast(Tensor, visual.ln_post(block.ls_1(_projected(block, joined(mixed)))))

    def after(self, state: State) -> Tensor:
        """The last block's output [B, L, D] under the final norm."""
        visual: Any = self.network
        return cast(Tensor, visual.ln_post(self._last(state.tokens)))

    def output(self, state: State, *, first_alone: bool) -> Tensor:
        """The last block's output [B, L, D] before any norm, of parts that a gradient can be taken of.

        first_alone: of the first token alone, [B, 1, D].
        """
        block = self._last
        found = _compared(block.attn, block.ln_1(state.tokens), ("values",))
        assert found.values is not None
        rows = slice(0, 1 if first_alone else None)
        attended = attention(found.queries[..., rows, :], found.keys, found.values)
        x = state.tokens[:, rows] + block.ls_1(_projected(block, joined(attended)))
        return cast(Tensor, x + block.ls_2(block.mlp(block.ln_2(x))))

    def patches_alone(self, state: State, form: Form) -> Tensor:
        """The last block [B, h * w, D] with every patch attending to itself alone, under the final norm.

        ln_post is applied to every patch, whether the model pools before it (`final_ln_after_pool`) or after, and
        whichever token it pools: that order matters only to the pooled vector. maskclip: with residual connections and
        feed-forward part; value: the attention alone.
        """
        x = state.tokens[:, self.prefix :]
        block, visual = self._last, cast(Any, self.network)
        values = block.ls_1(_values(block, block.ln_1(x)))
        if form == "value":
            return cast(Tensor, visual.ln_post(values))
        x = x + values
        return cast(Tensor, visual.ln_post(x + block.ls_2(block.mlp(block.ln_2(x)))))

    @property
    def _last(self) -> Any:
        return self.blocks[-1]


def resblock_trunk(visual: nn.Module) -> ResblockTrunk:
    """The image tower of a CLIP, whose positions are resampled as open_clip does."""
    whole: Any = visual

    @lru_cache(maxsize=32)
    def positions(grid: tuple[int, int]) -> Tensor:
        """[1 + h * w, width]."""
        return resample_positions(whole.positional_embedding, tuple(whole.grid_size), grid, prefix=1, how="timm")

    return ResblockTrunk(network=visual, patch=int(whole.conv1.stride[0]), prefix=1, positions=positions)


def _compared(attention: Any, x: Tensor, parts: Sequence[Part]) -> Compared:
    """x: [B, L, width], normed."""
    width, bias = x.shape[-1], attention.in_proj_bias

    def projected(rows: slice) -> Tensor:
        """[times, B, n, L, d] of so many rows of the projection."""
        found = F.linear(x, attention.in_proj_weight[rows], None if bias is None else bias[rows])
        return by_head(found, attention.num_heads, width // attention.num_heads)

    queries, keys = projected(slice(2 * width))
    queries, keys = _as_compared(attention, queries, keys)
    return compared(queries, keys, lambda: projected(slice(2 * width, None))[0], parts)


def _as_compared(attention: Any, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """Under the norms of open_clip's custom attention, where it has them.

    Its scaled cosine attention compares unit vectors by a learned factor; queries take that and sqrt(d), by which all
    scores are divided.
    """
    if (scale := getattr(attention, "logit_scale", None)) is not None:
        factor = scale.clamp(max=attention.logit_scale_max).exp() * queries.shape[-1] ** 0.5
        return F.normalize(queries, dim=-1) * factor, F.normalize(keys, dim=-1)
    none = nn.Identity()
    return getattr(attention, "ln_q", none)(queries), getattr(attention, "ln_k", none)(keys)


def _values(block: Any, x: Tensor) -> Tensor:
    """out_proj(W_v x), with the parts that open_clip's custom blocks have around it. x: [B, L, width]."""
    attention = block.attn
    bias = attention.in_proj_bias
    width = x.shape[-1]
    values = F.linear(x, attention.in_proj_weight[-width:], None if bias is None else bias[-width:])
    return _projected(block, values)


def _projected(block: Any, mixed: Tensor) -> Tensor:
    """What a block adds of mixed values, with the parts that open_clip's custom blocks have. mixed: [B, L, width]."""
    attention = block.attn
    if getattr(attention, "head_scale", None) is not None:
        scale = attention.head_scale.flatten()[:, None]  # [n, 1] against [..., n, d]
        mixed = (mixed.reshape(*mixed.shape[:-1], len(scale), -1) * scale).flatten(-2)
    mixed = attention.out_proj(getattr(attention, "ln_inner", nn.Identity())(mixed))
    return cast(Tensor, getattr(block, "ln_attn", nn.Identity())(mixed))
