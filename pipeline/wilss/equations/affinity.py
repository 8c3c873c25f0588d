"""How alike the patches of an image are: an affinity [L, L] of the last blocks, and weights spread along it.

Whatever is done to the affinity, only its products with a few vectors are wanted, so that no more of it stands in
memory than a block of rows; where all of it is small it is made once.

Shapes: `n` heads, `L` patches (`P + L` tokens with P prefix tokens before them), `d` width, `S` rows, `T` maps. Rows
attend to columns; row before column.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from wilss.equations.kernels import unit
from wilss.equations.regions import within

Kind = Literal["qk", "qq+kk", "kk", "vv", "outputs"]
Balance = Literal["none", "symmetric", "sinkhorn"]
Negatives = Literal["zero", "cut"]

#: Numbers in all heads' rows of a block: 64 MiB of float32.
_BLOCK = 2**24
#: An affinity of so many numbers is made once and kept: 16 MiB of float32, 2,048 patches.
_KEPT = 2**22


def softmax_rows(queries: Tensor, keys: Tensor, *, prefix: int, rows: slice) -> Tensor:
    """Rows of the mean over heads of softmax(q k^T / sqrt(d)) over all tokens, without the prefix's columns.

    queries, keys: float [n, P + L, d]; rows: of patches. Returns float [S, L], >= 0, each row sums to at most 1.
    """
    wanted = queries[:, prefix + rows.start : prefix + rows.stop] * queries.shape[-1] ** -0.5
    keys = keys.contiguous()
    if wanted.is_cuda:
        attention: Tensor = (wanted @ keys.transpose(-2, -1)).softmax(dim=-1)
        return attention[..., prefix:].mean(dim=0)
    # head by head: what a CPU's cache holds is one head's rows
    first, *others = ((own @ its.T).softmax(dim=-1) for own, its in zip(wanted, keys, strict=True))
    for one in others:
        first += one
    mean: Tensor = first.div_(len(keys))
    return mean[:, prefix:]


def cosine_rows(features: Tensor, rows: slice) -> Tensor:
    """Rows of the mean over heads of the cosine of patches. features: [n, L, d] of unit length. Returns [S, L]."""
    return (features[:, rows] @ features.transpose(-2, -1)).mean(dim=0)


def without_negatives(cosine: Tensor, rows: slice, how: Negatives, *, mean: Tensor, sharpness: float) -> Tensor:
    """Cosines as rows of an affinity, each summing to 1.

    zero: max(0, S) over its row's sum.
    cut:  softmax of G = sharpness (S - 1.2 mean S) where G is not negative or j = i, 0 elsewhere (ProxyCLIP: M. Lan et
          al., ECCV 2024, with sharpness 3). The diagonal stays, so that every row has something [D].

    cosine: [S, L]; rows: which patches these are; mean: the mean of all [L, L] cosines of the image, a scalar.
    Returns [S, L], >= 0.
    """
    if how == "zero":
        positive = cosine.clamp_min(0.0)
        return positive / positive.sum(dim=-1, keepdim=True).clamp_min(1e-12)
    raised = sharpness * (cosine - 1.2 * mean)
    itself = torch.arange(rows.start, rows.stop, device=cosine.device)[:, None]
    kept = (raised >= 0) | (torch.arange(cosine.shape[-1], device=cosine.device) == itself)
    return raised.masked_fill(~kept, -torch.inf).softmax(dim=-1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Affinity:
    """A non-negative matrix A [L, L], balanced and perhaps squared, by its products.

    rows: gives A's rows [S, L] of a slice. step: how many of them at once.
    none: A itself. symmetric: (A + A^T) / 2. sinkhorn: columns, then rows divided by their sums, `rounds` times, then
    the mean with its transpose (CLIP-ES: Y. Lin et al., CVPR 2023, affinity of attention). squared: that times itself.
    """

    rows: Callable[[slice], Tensor]
    length: int
    step: int
    balance: Balance = "none"
    rounds: int = 3
    squared: bool = False

    def spread(self, weights: Tensor) -> Tensor:
        """weights A: what patches of these weights attend to. weights: [T, L]. Returns [T, L]."""
        once = self._balanced(weights)
        return self._balanced(once) if self.squared else once

    def _balanced(self, weights: Tensor) -> Tensor:
        if self.balance == "none":
            return self._products(weights, None)[0]
        if self.balance == "symmetric":
            there, back = self._products(weights, weights)
            return (there + back) / 2
        by_row, by_column = self._scales
        there, back = self._products(weights * by_row, weights * by_column)
        return (there * by_column + back * by_row) / 2

    @cached_property
    def _scales(self) -> tuple[Tensor, Tensor]:
        """r, c [L] with which diag(r) A diag(c) has columns, then rows that sum to 1."""
        by_row = torch.ones_like(self._block(slice(0, 1))[0])
        by_column = by_row
        for _ in range(self.rounds):
            by_column = 1 / self._products(by_row[None], None)[0][0].clamp_min(1e-12)
            by_row = 1 / self._products(None, by_column[None])[1][0].clamp_min(1e-12)
        return by_row, by_column

    def _products(self, left: Tensor | None, right: Tensor | None) -> tuple[Tensor, Tensor]:
        """left A and right A^T [T, L], by one walk over A; empty for None."""
        there, back = None, []
        for rows, block in self._blocks():
            if left is not None:
                part = left[:, rows] @ block
                there = part if there is None else there + part
            if right is not None:
                back.append(right @ block.T)
        nothing = torch.empty(0)
        return nothing if there is None else there, torch.cat(back, dim=-1) if back else nothing

    def _blocks(self) -> Iterator[tuple[slice, Tensor]]:
        for start in range(0, self.length, self.step):
            rows = slice(start, min(start + self.step, self.length))
            yield rows, self._block(rows)

    def _block(self, rows: slice) -> Tensor:
        return self.rows(rows) if self._whole is None else self._whole[rows]

    @cached_property
    def _whole(self) -> Tensor | None:
        if self.length**2 > _KEPT:
            return None
        starts = range(0, self.length, self.step)
        if len(starts) == 1:
            return self.rows(slice(0, self.length))
        return torch.cat([self.rows(slice(start, min(start + self.step, self.length))) for start in starts])


@dataclass(frozen=True, kw_only=True, eq=False)
class Patches:
    """What a block says of an image's tokens: queries, keys, values [n, P + L, d], outputs [P + L, D]; None: not asked.

    prefix: P.
    """

    queries: Tensor
    keys: Tensor
    prefix: int
    values: Tensor | None = None
    outputs: Tensor | None = None


def rows_of(
    patches: Sequence[Patches], kind: Kind, *, negatives: Negatives = "zero", sharpness: float = 3.0
) -> Callable[[slice], Tensor]:
    """The rows [S, L] of the affinity `kind`, the mean over blocks.

    qk:      softmax(q k^T / sqrt(d)), the literal attention.
    qq+kk:   the mean of softmax(q q^T / sqrt(d)) and softmax(k k^T / sqrt(d)) (SCLIP: F. Wang et al., ECCV 2024).
    kk, vv:  the cosine of keys, or of values, see `without_negatives`.
    outputs: the cosine of what the attention puts out; with `cut` as in RADSeg [D].
    """
    each = [_rows_of_one(one, kind, negatives, sharpness) for one in patches]
    if len(each) == 1:
        return each[0]
    return lambda rows: torch.stack([one(rows) for one in each]).mean(dim=0)


def _rows_of_one(one: Patches, kind: Kind, negatives: Negatives, sharpness: float) -> Callable[[slice], Tensor]:
    if kind == "qk":
        return lambda rows: softmax_rows(one.queries, one.keys, prefix=one.prefix, rows=rows)
    if kind == "qq+kk":
        alike = (one.queries, one.keys)
        return lambda rows: sum(softmax_rows(x, x, prefix=one.prefix, rows=rows) for x in alike) / 2  # type: ignore[return-value]
    chosen = {"kk": one.keys, "vv": one.values, "outputs": None if one.outputs is None else one.outputs[None]}
    if kind not in chosen:
        raise ValueError(f"there is no affinity {kind!r}; use qk, qq+kk, kk, vv or outputs.")
    features = chosen[kind]
    if features is None:
        raise ValueError(f"the affinity {kind!r} needs what this block was not asked for.")
    features = unit(features[:, one.prefix :])
    mean = features.mean(dim=1).square().sum(dim=-1).mean()  # of all cosines, without forming them
    return lambda rows: without_negatives(cosine_rows(features, rows), rows, negatives, mean=mean, sharpness=sharpness)


def affinity_of(
    patches: Sequence[Patches],
    kind: Kind,
    *,
    negatives: Negatives = "zero",
    sharpness: float = 3.0,
    balance: Balance = "none",
    rounds: int = 3,
    squared: bool = False,
    scope: Tensor | None = None,
) -> Affinity:
    """The affinity of an image's patches, the mean over the blocks `patches`; see `rows_of` and `Affinity`.

    scope: int [L], the region of each patch, inside which it attends, see `wilss.equations.regions.within`.
    """
    heads, tokens = patches[0].keys.shape[:2]
    length = tokens - patches[0].prefix
    rows = rows_of(patches, kind, negatives=negatives, sharpness=sharpness)
    return Affinity(
        rows=rows if scope is None else lambda some: within(rows(some), scope, some),
        length=length,
        step=max(1, min(length, _BLOCK // (heads * tokens))),
        balance=balance,
        rounds=rounds,
        squared=squared,
    )
