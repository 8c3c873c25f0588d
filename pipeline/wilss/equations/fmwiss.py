"""FMWISS, mask making (Sec. 3.2): from image and text features to the fused masks of an image's tags.

C. Yu et al., "Foundation Model Drives Weakly Incremental Learning for Semantic Segmentation", CVPR 2023.
The functions stand in the order of the section; M_init = T . F is the kernel `score_map`. FMWISS has no public
code: what its text leaves open is our decision and marked [D]; what follows other public code is marked [C].

Shapes: `B` batch, `C` categories, `T` an image's tags, `G` background words, `K` prompts, `D` feature width,
`h w` patch grid, `H W` pixels, `n` attention heads, `L` tokens, `S` seeds. Row before column.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from wilss.equations.kernels import attention_rows, unit

Foreground = Literal["softmax", "margin", "minmax"]
Affinity = Literal["qk", "kk"]
Keep = Literal["mass", "locations", "std"]
Fusion = Literal["union", "intersection", "init", "seeds"]


class Seeds(NamedTuple):
    """Seeds of one class: `points` int64 [S, 2] (row, column); `fell_back` if there was no foreground."""

    points: Tensor
    fell_back: bool


def ensemble(prompt_features: Tensor) -> Tensor:
    """The text feature T of a class: unit(mean_k unit(f_T(prompt_k))) (FMWISS Sec. 3.2, prompt ensemble).

    prompt_features: [..., K, D], any length along D.
    Returns [..., D], unit length (zero if the prompts cancel exactly).
    """
    return unit(unit(prompt_features).mean(dim=-2))


def foreground_score(tags: Tensor, background: Tensor, *, mode: Foreground, logit_scale: float) -> Tensor:
    """How much each patch belongs to each tag, in [0, 1]; binarised M_init is this score cut at a threshold.

    softmax: softmax over tags and background words of logit_scale * score; the tags' part of it.
    margin:  score minus the best background word's, then min-max per class.
    minmax:  min-max per class alone.

    The paper binarises M_init without saying how. A softmax over an image's tags alone is degenerate, so
    background words join it [D]; which mode is a parameter [D].

    tags:       [..., T, h, w] scores; background: [..., G, h, w], G may be 0.
    Returns [..., T, h, w]. Limits: one tag and no background words give 1 everywhere under `softmax` and
    plain min-max under `margin`; a map without contrast gives 0 under `margin` and `minmax`.
    """
    if mode == "softmax":
        logits = logit_scale * torch.cat([tags, background], dim=-3)
        return logits.softmax(dim=-3)[..., : tags.shape[-3], :, :]
    if mode == "margin":
        return _minmax(_margin(tags, background))
    if mode == "minmax":
        return _minmax(tags)
    raise ValueError(f"foreground_score has no mode {mode!r}; use softmax, margin or minmax.")


def _margin(tags: Tensor, background: Tensor) -> Tensor:
    """[..., T, h, w] scores minus the best background word's; unchanged without background words."""
    return tags - background.amax(dim=-3, keepdim=True) if background.shape[-3] else tags


def _minmax(maps: Tensor) -> Tensor:
    """[..., h, w] stretched to [0, 1] map by map; a map that is constant but for rounding gives 0."""
    low, high = (f(maps, dim=(-2, -1), keepdim=True) for f in (torch.amin, torch.amax))
    span = high - low
    flat = span <= 1e-6
    return torch.where(flat, torch.zeros_like(maps), (maps - low) / span.masked_fill(flat, 1.0))


def seed_points(foreground: Tensor, score: Tensor, count: int, generator: torch.Generator) -> Seeds:
    """N seeds drawn uniformly from the foreground of binarised M_init (FMWISS Sec. 3.2, N = 9).

    Without replacement while there is enough foreground, with replacement where it has fewer than `count`
    patches [D]. An empty foreground falls back to the highest-scoring patch (the first in raster order among
    equals), `count` times, and says so [D]. The draw belongs to `generator` alone: no batch mate, device or
    thread count changes it.

    foreground: bool [h, w]; score: [h, w]; count >= 1; generator: on the CPU.
    Returns points int64 [count, 2] on the CPU, each inside the foreground unless fell_back.
    """
    return seed_draws(foreground, score, count, [generator])


def seed_draws(foreground: Tensor, score: Tensor, count: int, generators: Sequence[torch.Generator]) -> Seeds:
    """`seed_points` for each of `generators`, one draw after the other: points int64 [len(generators) * count, 2]."""
    if count < 1:
        raise ValueError(f"seed_points needs a count of at least 1, not {count}.")
    width = foreground.shape[-1]
    places = foreground.flatten().nonzero().flatten().cpu()
    if len(places) == 0:
        highest = int(score.flatten().cpu().numpy().argmax())
        return Seeds(_points(torch.full((len(generators) * count,), highest), width), True)
    drawn = torch.cat([_draw(len(places), count, generator) for generator in generators])
    return Seeds(_points(places[drawn], width), False)


def _draw(size: int, count: int, generator: torch.Generator) -> Tensor:
    """`count` indices below `size`: distinct where `size` allows it, else with repetition."""
    if size >= count:
        return torch.randperm(size, generator=generator)[:count]
    return torch.randint(size, (count,), generator=generator)


def _points(flat: Tensor, width: int) -> Tensor:
    return torch.stack([flat // width, flat % width], dim=-1)


def move_points(points: Tensor, from_grid: tuple[int, int], to_grid: tuple[int, int]) -> Tensor:
    """The patches of `to_grid` that hold the centres of the patches `points` of `from_grid`, of one image.

    row' = floor((row + 1/2) h' / h), in exact integers; the same for columns.

    points: int64 [..., 2], inside from_grid = (h, w). Returns int64 [..., 2], inside to_grid.
    """
    source = torch.tensor(from_grid, dtype=torch.int64, device=points.device)
    target = torch.tensor(to_grid, dtype=torch.int64, device=points.device)
    return torch.div((2 * points + 1) * target, 2 * source, rounding_mode="floor")


def seed_attention(queries: Tensor, keys: Tensor, *, prefix: int, affinity: Affinity) -> Tensor:
    """Seed attention M_seeds: rows of the last self-attention, mean over heads and seeds (FMWISS Sec. 3.2).

    qk: mean_{head, seed} softmax_l(q_seed . k_l / sqrt(d)), over all tokens, then the prefix columns are
        dropped: the literal attention.
    kk: max(0, mean_{head, seed} cos(k_seed, k_l)) [D]; for it `queries` are the seeds' keys.

    queries: [..., n, S, d], the seeds' rows only; keys: [..., n, L, d], L counts the prefix tokens; leading
    dimensions broadcast, so all tags of an image go at once as [T, n, S, d] against [n, L, d].
    prefix: how many leading tokens (class, registers) are no patches.
    Returns [..., L - prefix] in raster order, >= 0; under `qk` it sums to at most 1, under `kk` each value is
    at most 1. Averaging R draws of S seeds is the same as one call with their R * S seeds.
    """
    if affinity == "qk":
        return attention_rows(queries, keys)[..., prefix:].mean(dim=(-3, -2))
    if affinity == "kk":
        cosine: Tensor = unit(queries) @ unit(keys[..., prefix:, :]).transpose(-2, -1)
        return cosine.mean(dim=(-3, -2)).clamp_min(0.0)
    raise ValueError(f"seed_attention has no affinity {affinity!r}; use qk or kk.")


def keep_top(maps: Tensor, amount: float, by: Keep) -> Tensor:
    """The threshold that keeps the top K of a map: kept is what is >= it (FMWISS Sec. 3.2, K = 70%).

    mass:      the highest values that together hold at least `amount` of the map's sum, and no more of them
               than that needs. K is ambiguous in the paper; this reading, DINO's visualiser's, is our
               default [D][C].
    locations: the highest ceil(amount * h * w) places: the letter of the text.
    std:       mean + amount * (population) standard deviation. Ours, not the paper's [D].

    Equal values are kept or dropped together, so ties can keep more. `amount` = 1 keeps everything under
    `mass` and `locations`. A map that is zero everywhere has no top: its threshold is infinite, unless
    `amount` = 1 keeps all.

    maps: [..., h, w], non-negative. amount: in (0, 1]; for `std` any finite number.
    Returns [...], the dtype of `maps`; sums run in float64.
    """
    _check_amount(amount, by)
    flat = maps.flatten(-2)
    if by != "std" and amount == 1:
        return flat.amin(dim=-1)
    threshold = _top(flat, amount, by)
    return threshold.masked_fill(flat.amax(dim=-1) <= 0, math.inf)


def _check_amount(amount: float, by: Keep) -> None:
    if by not in ("mass", "locations", "std"):
        raise ValueError(f"keep_top cannot keep by {by!r}; use mass, locations or std.")
    if not math.isfinite(amount) or (by != "std" and not 0 < amount <= 1):
        raise ValueError(f"keep_top by {by} needs an amount in (0, 1], or for std a finite number, not {amount}.")


def _top(flat: Tensor, amount: float, by: Keep) -> Tensor:
    """keep_top's threshold [...] of maps flattened to [..., h * w], before its limits."""
    if by == "std":
        exact = flat.double()
        return (exact.mean(dim=-1) + amount * exact.std(dim=-1, correction=0)).to(flat.dtype)
    ranked = flat.sort(dim=-1, descending=True).values
    if by == "locations":
        return ranked[..., math.ceil(amount * flat.shape[-1] - 1e-9) - 1]
    mass = ranked.double().cumsum(dim=-1)
    last = (mass < amount * mass[..., -1:]).sum(dim=-1, keepdim=True)
    return ranked.gather(-1, last).squeeze(-1)


def fuse(init: Tensor, seeds: Tensor, mode: Fusion) -> Tensor:
    """M_refine = M_init union M_seeds (FMWISS Sec. 3.2); the other modes are the paper's ablation.

    init, seeds: bool [..., H, W], of one shape. Returns bool [..., H, W]: their union, their intersection, or one
    alone.
    """
    if mode == "union":
        return init | seeds
    if mode == "intersection":
        return init & seeds
    if mode not in ("init", "seeds"):
        raise ValueError(f"fuse has no mode {mode!r}; use union, intersection, init or seeds.")
    return init if mode == "init" else seeds


def agreement(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of two masks; a diagnostic of M_init against M_seeds, ours.

    a, b: bool [..., H, W]. Returns float32 [...] in [0, 1]; two empty masks agree fully: 1.
    """
    union = area(a | b)
    return torch.where(union > 0, area(a & b) / union.clamp_min(1), torch.ones_like(union, dtype=torch.float32))


def confidence(score: Tensor, mask: Tensor) -> Tensor:
    """Mean score inside the mask; a diagnostic, ours.

    score: [..., H, W]; mask: bool, the same shape. Returns float32 [...]; 0 for an empty mask. Sums run in
    float64.
    """
    inside = torch.where(mask, score, 0.0).sum(dim=(-2, -1), dtype=torch.float64)
    return (inside / area(mask).clamp_min(1)).float()


def area(mask: Tensor) -> Tensor:
    """Pixels inside the mask. mask: bool [..., H, W]. Returns int64 [...]."""
    return mask.sum(dim=(-2, -1))
