"""Maps moved to the edges of the picture: pixel-adaptive refinement and the guided filter.

PAMR: N. Araslanov and S. Roth, "Single-Stage Semantic Segmentation from Image Labels", CVPR 2020, Sec. 3.3.
Guided filter: K. He, J. Sun and X. Tang, "Guided Image Filtering", ECCV 2010 and TPAMI 2013; its short cut:
K. He and J. Sun, "Fast Guided Filter", arXiv:1505.00996.

Both are sums over neighbours with weights that the picture gives and that sum to 1, so probabilities that sum to 1
still do. Beyond the borders the outermost pixel goes on (PAMR) or the window ends (guided filter). Rows are worked on
in bands with as many rows around them as their result hangs on: memory does not grow with the height of a picture.

Shapes: `K` maps, `h w` pixels, `n` neighbours. Row before column.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

_BAND = 1 << 19  # pixels of a band, without the rows around it
_TOGETHER = 8  # maps that the guided filter works on at once
_TINY = 1e-8  # added to a standard deviation that may be 0


def pamr(
    image: Tensor,
    maps: Tensor,
    *,
    rounds: int = 10,
    dilations: Sequence[int] = (1, 2, 4, 8),
    share: float = 0.1,
    band: int = _BAND,
) -> Tensor:
    """Maps averaged `rounds` times over the neighbours that look like the pixel (PAMR, Eqs. 6 to 8):

        a_ij = softmax_j( mean_channel( -|I_i - I_j| / (share * std_i) ) ),   m_i <- sum_j a_ij m_j.

    The neighbours j are the 8 around i at every dilation, all of them in one softmax; std_i is the (population)
    standard deviation of a channel over these neighbours. The pixel itself is not among them.

    image: [3, h, w] (any number of channels) in [0, 1]; maps: [K, h, w], of the same floating kind; rounds >= 0;
    dilations >= 1; share: > 0, the smaller the harder the edges; band: pixels worked on at once.
    Returns [K, h, w], within the range of each map. Limits: no rounds or no dilations change nothing; where the
    picture is flat every neighbour counts the same; a map that is even stays even.
    """
    _check_pair("pamr", image, maps)
    if rounds < 0 or not share > 0 or any(d < 1 for d in dilations):
        raise ValueError(
            f"pamr needs rounds >= 0, dilations >= 1 and a share > 0, not {rounds}, {tuple(dilations)} and {share}."
        )
    if not rounds or not dilations:
        return maps
    shifts = _neighbours(dilations)

    def refine(image: Tensor, maps: Tensor) -> Tensor:
        kernel = _kernel(image, shifts, share)
        for _ in range(rounds):
            maps = _weighted(kernel, maps, shifts)
        return maps

    return _by_bands(refine, image, maps, rounds * max(dilations), band)


def guided(
    image: Tensor, maps: Tensor, *, radius: int = 8, eps: float = 1e-3, step: int = 1, band: int = _BAND
) -> Tensor:
    """Maps as local linear functions of the colours (guided filter with a colour guide, Eqs. 16 to 18 of TPAMI):

        a_k = (Sigma_k + eps U)^-1 cov_k(I, p),   b_k = mean_k p - a_k . mean_k I,   q_i = mean_i a . I_i + mean_i b.

    Means and covariances are those of windows of 2 radius + 1 pixels a side, cut off at the borders.

    image: [3, h, w] in [0, 1]; maps: [K, h, w], of the same floating kind; radius >= 0; eps > 0: an edge counts
    as one where its variance is well above it; step: above 1, a and b are found on picture and maps made smaller by
    it (the mean of areas), in windows of the radius over it, and made larger again (Fast Guided Filter); band: pixels
    worked on at once.
    Returns [K, h, w], which can run a little past the range of a map. Limits: radius 0 changes nothing (up to
    rounding); where the picture is flat it is a window's mean, taken twice.
    """
    _check_pair("guided", image, maps)
    if radius < 0 or not eps > 0 or step < 1 or len(image) != 3:
        raise ValueError(
            f"guided needs 3 channels, a radius >= 0, eps > 0 and a step >= 1, "
            f"not {len(image)}, {radius}, {eps} and {step}."
        )
    height, width = maps.shape[-2:]
    small = (max(1, round(height / step)), max(1, round(width / step)))
    if small == (height, width):
        return _by_bands(lambda image, maps: _smooth(image, maps, image, radius, eps), image, maps, 2 * radius, band)
    less, fewer = (F.interpolate(x[None], size=small, mode="area")[0] for x in (image, maps))
    return _smooth(less, fewer, image, round(radius / step), eps)


def _smooth(image: Tensor, maps: Tensor, whole: Tensor, radius: int, eps: float) -> Tensor:
    """The filter of maps [K, h, w] over their image [3, h, w], at the size of the `whole` one [3, H, W]."""
    guide = image - 0.5  # small numbers: the difference of two products loses fewer digits
    products = torch.cat([guide[:1] * guide, guide[1:2] * guide[1:], guide[2:].square()])
    means = _box(torch.cat([guide, products]), radius)  # many maps at once: each call is many small operations
    mean = means[:3]
    factor = _factor(mean, means[3:], eps)
    whole = whole - 0.5
    parts = torch.split(maps, _TOGETHER)
    return torch.cat([_linear(guide, mean, factor, some, radius, whole) for some in parts])


def _check_pair(name: str, image: Tensor, maps: Tensor) -> None:
    if image.ndim != 3 or maps.ndim != 3 or image.shape[1:] != maps.shape[1:]:
        raise ValueError(
            f"{name} needs an image [3, h, w] and maps [K, h, w] of one size, "
            f"not {list(image.shape)} and {list(maps.shape)}."
        )


def _by_bands(work: Callable[[Tensor, Tensor], Tensor], image: Tensor, maps: Tensor, halo: int, pixels: int) -> Tensor:
    """work(image, maps) band of rows by band, each with `halo` rows on either side, which are dropped again."""
    height, width = maps.shape[-2:]
    rows = max(pixels // max(width, 1), 2 * halo, 1)
    if rows >= height:
        return work(image, maps)
    result = torch.empty_like(maps)
    for top in range(0, height, rows):
        first, last = max(top - halo, 0), min(top + rows + halo, height)
        inner = slice(top, min(top + rows, height))
        result[:, inner] = work(image[:, first:last], maps[:, first:last])[:, top - first :][:, : inner.stop - top]
    return result


# -- PAMR ---------------------------------------------------------------------------------------------------


def _neighbours(dilations: Sequence[int]) -> list[tuple[int, int]]:
    """(rows down, columns right) of the 8 neighbours at every dilation."""
    around = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]
    return [(d * y, d * x) for d in dilations for y, x in around]


def _shifted(maps: Tensor, shifts: list[tuple[int, int]]) -> Iterator[Tensor]:
    """[..., h, w] as every neighbour sees it, as views of one padded copy."""
    height, width = maps.shape[-2:]
    reach = max(abs(y) for y, _ in shifts)
    padded = F.pad(maps[None], (reach, reach, reach, reach), mode="replicate")[0]
    for y, x in shifts:
        yield padded[:, reach + y : reach + y + height, reach + x : reach + x + width]


def _kernel(image: Tensor, shifts: list[tuple[int, int]], share: float) -> Tensor:
    """The weights [n, h, w] of a picture's neighbours, which sum to 1 over n."""
    mean = torch.zeros_like(image)
    for neighbour in _shifted(image, shifts):
        mean += neighbour
    mean /= len(shifts)
    variance = torch.zeros_like(image)
    for neighbour in _shifted(image, shifts):
        variance += (neighbour - mean).square_()
    scale = (share * (variance / len(shifts)).sqrt_() + _TINY).reciprocal_() / -len(image)
    logits = image.new_empty((len(shifts), *image.shape[1:]))
    for row, neighbour in zip(logits, _shifted(image, shifts), strict=True):
        torch.sum((neighbour - image).abs_().mul_(scale), dim=0, out=row)
    logits -= logits.amax(dim=0)
    logits.exp_()
    return logits.div_(logits.sum(dim=0))


def _weighted(kernel: Tensor, maps: Tensor, shifts: list[tuple[int, int]]) -> Tensor:
    """sum_j a_ij m_j."""
    result = torch.zeros_like(maps)
    for weights, neighbour in zip(kernel, _shifted(maps, shifts), strict=True):
        result.addcmul_(neighbour, weights)
    return result


# -- guided filter ------------------------------------------------------------------------------------------


def _box(maps: Tensor, radius: int) -> Tensor:
    """The mean [..., h, w] over windows of 2 radius + 1 pixels a side, of the pixels that are there."""
    for dim in (-2, -1):
        at = torch.arange(maps.shape[dim], device=maps.device)
        count = (at + radius + 1).clamp_max(len(at)) - (at - radius).clamp_min(0)
        maps = _window_sums(maps, radius, dim) / (count[:, None] if dim == -2 else count)
    return maps


def _window_sums(maps: Tensor, radius: int, dim: int) -> Tensor:
    """Sums over windows of 2 radius + 1 pixels along `dim`: of windows of 1, 2, 4 ... pixels, laid end to end."""
    length, window = maps.shape[dim], 2 * radius + 1
    sums = F.pad(maps, (radius, radius) if dim == -1 else (0, 0, radius, radius))
    total, start, size = torch.zeros_like(maps), 0, 1
    while size <= window:
        if window & size:
            total += sums.narrow(dim, start, length)
            start += size
        if 2 * size <= window:
            room = sums.shape[dim] - size
            sums = sums.narrow(dim, 0, room) + sums.narrow(dim, size, room)
        size *= 2
    return total


def _factor(mean: Tensor, products: Tensor, eps: float) -> list[Tensor]:
    """Sigma + eps U = L D L^T at every pixel: [d1, d2, d3, l21, l31, l32], each [h, w].

    mean: of the colours, [3, h, w]. products: the means of 11, 12, 13, 22, 23, 33, [6, h, w].
    """
    first, second, third = mean[:1] * mean, mean[1:2] * mean[1:], mean[2:].square()
    c11, c12, c13, c22, c23, c33 = products - torch.cat([first, second, third])
    d1 = c11.clamp_min(0) + eps
    l21, l31 = c12 / d1, c13 / d1
    d2 = (c22 - l21.square() * d1).clamp_min_(0) + eps
    l32 = (c23 - l31 * l21 * d1) / d2
    d3 = (c33 - l31.square() * d1 - l32.square() * d2).clamp_min_(0) + eps
    return [d1, d2, d3, l21, l31, l32]


def _linear(guide: Tensor, mean: Tensor, factor: list[Tensor], maps: Tensor, radius: int, whole: Tensor) -> Tensor:
    """The filter of maps [K, h, w]: their a by forward and backward substitution, then their q [K, H, W] of `whole`."""
    d1, d2, d3, l21, l31, l32 = factor
    count = len(maps)
    sums = _box(torch.cat([maps, (guide[:, None] * maps).flatten(0, 1)]), radius)
    level = sums[:count]
    z1, z2, z3 = sums[count:].view(3, count, *level.shape[1:]) - mean[:, None] * level
    z2 = z2 - l21 * z1
    z3 = z3 - l31 * z1 - l32 * z2
    a3 = z3 / d3
    a2 = z2 / d2 - l32 * a3
    a1 = z1 / d1 - l21 * a2 - l31 * a3
    slope = torch.stack([a1, a2, a3])
    offset = level - (slope * mean[:, None]).sum(dim=0)
    line = _box(torch.cat([slope.flatten(0, 1), offset]), radius)
    if line.shape[1:] != whole.shape[1:]:
        line = F.interpolate(line[None], size=whole.shape[1:], mode="bilinear", align_corners=False)[0]
    by_colour = line[: 3 * count].view(3, count, *line.shape[1:])
    return (by_colour * whole[:, None]).sum(dim=0) + line[3 * count :]
