"""What networks say of an image as one row of numbers for each token, which is what is kept, and the way back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from wilss.models.encoders.vit.encoder import LastBlock

if TYPE_CHECKING:
    from torch import Tensor

    from wilss.models.encoders.vit.attention import Part

#: The parts of a block that have heads, in the order of their columns; all blocks' stand one after the other.
_WITH_HEADS = ("queries", "keys", "values", "outputs")


@dataclass(frozen=True, kw_only=True)
class BlockForm:
    """What the columns of a vision transformer's rows are: of every block its parts, heads joined, then the tokens.

    blocks: how many last ones. heads, head_width: n and d. prefix: rows before those of the patches.
    """

    parts: tuple[str, ...]
    blocks: int
    heads: int
    head_width: int
    prefix: int

    @classmethod
    def of(cls, blocks: Sequence[LastBlock]) -> "BlockForm":
        """The form in which `block_rows` has these."""
        last = blocks[-1]
        names = (*_WITH_HEADS, "tokens")
        _, heads, _, width = last.keys.shape
        return cls(
            parts=tuple(name for name in names if getattr(last, name) is not None),
            blocks=len(blocks),
            heads=heads,
            head_width=width,
            prefix=last.prefix,
        )

    @classmethod
    def from_notes(cls, notes: Mapping[str, Any], prefix: int) -> "BlockForm":
        """From what a store notes of it."""
        numbers = {name: int(notes[name]) for name in ("blocks", "heads", "head_width")}
        return cls(parts=tuple(notes["parts"]), prefix=prefix, **numbers)

    @property
    def notes(self) -> dict[str, Any]:
        """What a store notes of it."""
        return {
            "parts": list(self.parts),
            "blocks": self.blocks,
            "heads": self.heads,
            "head_width": self.head_width,
        }


def patch_rows(features: "Tensor") -> "Tensor":
    """[B, D, h, w] to [B, h w, D], patches in raster order."""
    return features.flatten(2).transpose(1, 2)


def block_rows(blocks: Sequence[LastBlock]) -> "Tensor":
    """All that blocks tell of a batch, [B, P + L, W]; see `BlockForm`."""
    columns = []
    for block in blocks:
        for name in _WITH_HEADS:
            part = getattr(block, name)
            if part is not None:
                columns.append(part if name == "outputs" else part.transpose(1, 2).flatten(2))
    if blocks[-1].tokens is not None:
        columns.append(blocks[-1].tokens)
    return torch.cat(columns, dim=-1)


def blocks_of(
    rows: "Tensor", form: BlockForm, grid: tuple[int, int], count: int, parts: "Sequence[Part]"
) -> tuple[LastBlock, ...]:
    """The `count` last blocks of one image, as a batch of one, with those `parts` beside queries and keys.

    rows: [P + L, W], L = h w of `grid`.
    """
    joined = form.heads * form.head_width
    with_heads = [name for name in form.parts if name != "tokens"]
    columns = torch.split(rows[:, : form.blocks * len(with_heads) * joined], joined, dim=-1)
    wanted = ("queries", "keys", *parts)
    found = []
    for place in range(form.blocks - count, form.blocks):
        own = dict(zip(with_heads, columns[place * len(with_heads) :], strict=False))
        told = {name: _of_heads(own[name], name, form.heads) for name in with_heads if name in wanted}
        if "tokens" in wanted and place == form.blocks - 1:
            told["tokens"] = rows[None, :, form.blocks * len(with_heads) * joined :]
        found.append(LastBlock(prefix=form.prefix, grid=grid, **told))
    return tuple(found)


def _of_heads(part: "Tensor", name: str, heads: int) -> "Tensor":
    """[L, n d] to [1, n, L, d]; outputs stay [1, L, n d]."""
    return part[None] if name == "outputs" else part.reshape(len(part), heads, -1).transpose(0, 1)[None]
