"""CLIP's last attention asked by other rules than its own, for features of places instead of one vector of an image.

Shapes: `n` heads, `N` patches in raster order on a grid h w, `P + N` tokens with P prefix tokens before them, `d` width
of keys and values. No more of an attention [N, N] stands in memory than a block of rows.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from wilss.equations.affinity import cosine_rows, without_negatives
from wilss.equations.kernels import unit

#: Numbers in all heads' rows of a block: 64 MiB of float32.
_BLOCK = 2**24


def neighbour_attention(
    keys: Tensor, values: Tensor, *, prefix: int, grid: tuple[int, int], deviation: float = 5.0
) -> Tensor:
    """softmax_j(k_i . k_j / sqrt(d) + omega_ij) v_j: a patch asks those like it, and those nearby.

    S. Hajimiri et al., "Pay Attention to Your Neighbours", WACV 2025 (NACLIP), with their deviation of 5 patches.
    omega_ij = exp(-|i - j|^2 / (2 deviation^2)) by rows and columns between patches, at most 1; 0 to a prefix token,
    which is attended to as well [D].

    keys, values: float32 [n, P + N, d]; prefix: P; grid: (h, w), N = h w; deviation: in patches, above 0.
    Returns [n, N, d] of the patches, each within the range of the values. Limits: without any deviation only the patch
    itself is raised; of an endless one it is the softmax over keys, its prefix lowered by 1.
    """
    places = places_of(grid, keys.device)
    scale = keys.shape[-1] ** -0.5

    def attention(rows: slice) -> Tensor:
        logits: Tensor = keys[:, prefix:][:, rows] @ keys.transpose(-2, -1) * scale
        logits[..., prefix:] += nearness(places[rows], places, deviation)
        return logits.softmax(dim=-1)

    return _mixed(attention, values, grid[0] * grid[1])


def nearness(places: Tensor, others: Tensor, deviation: float) -> Tensor:
    """exp(-|i - j|^2 / (2 deviation^2)): 1 at a place itself. places: [S, 2]; others: [N, 2]. Returns [S, N]."""
    apart = (places[:, None] - others).square().sum(dim=-1)
    return (apart / (-2 * deviation**2)).exp()


def places_of(grid: tuple[int, int], device: torch.device | str = "cpu") -> Tensor:
    """Row and column of each patch in raster order: float32 [h w, 2]."""
    rows, columns = (torch.arange(side, dtype=torch.float32, device=device) for side in grid)
    return torch.cartesian_prod(rows, columns).reshape(-1, 2)


def proxy_attention(features: Tensor, values: Tensor, *, sharpness: float = 3.0) -> Tensor:
    """softmax_j(G_ij) v_j with G = sharpness (S - 1.2 mean S), S the cosine of another network's patches.

    M. Lan et al., "ProxyCLIP", ECCV 2024, with their sharpness of 3.
    Negative G are left out but for the patch itself, and the mean is that of the image, see `without_negatives`. All
    heads mix by the same attention; the prefix is not attended to.

    features: float32 [N, D] of any length; values: float32 [n, N, d] of the patches.
    Returns [n, N, d], each within the range of the values. Limits: where all features are equal, every patch is itself
    alone, since no S is above its mean; where none is like another, so it is as well.
    """
    own = unit(features)[None]
    mean = own.mean(dim=1).square().sum()  # of all cosines, without forming them

    def attention(rows: slice) -> Tensor:
        return without_negatives(cosine_rows(own, rows), rows, "cut", mean=mean, sharpness=sharpness)

    return _mixed(attention, values, values.shape[-2])


def _mixed(attention: Callable[[slice], Tensor], values: Tensor, length: int) -> Tensor:
    """Rows of an attention [.., S, L] times values [n, L, d], block by block: [n, length, d]."""
    return torch.cat([attention(rows) @ values for rows in _blocks(length, values.shape[0] * values.shape[1])], dim=-2)


def _blocks(length: int, numbers: int) -> Iterator[slice]:
    """Slices of `length` rows, each row of so many numbers."""
    step = max(1, _BLOCK // max(1, numbers))
    return (slice(start, min(start + step, length)) for start in range(0, length, step))
