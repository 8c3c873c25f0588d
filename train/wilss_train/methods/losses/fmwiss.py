"""FMWISS, learning (Secs. 3.3 to 3.5): the losses of teacher and student, and the targets they are taken on.

C. Yu et al., "Foundation Model Drives Weakly Incremental Learning for Semantic Segmentation", CVPR 2023.
The functions stand in the order of the sections. FMWISS has no public code: what its text leaves open is our
decision and marked [D]. Losses are computed in float32 at least, whatever autocast says.

Shapes: `B` batch, `C` channels seen, `C_old` channels of the old model (background first), `C_new` new ones,
`H W` pixels, `P` sampled points, `E` width of the embedding. Row before column. `pasted` holds channels, VOID
where nothing was pasted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from wilss.data.taxonomy import BACKGROUND, VOID
from wilss.equations.kernels import exact, first_greatest
from wilss.models.devices import Fetched
from wilss_train.methods.losses.kernels import numbers_of, run_of

_LABELS = 256  # what a uint8 label can say


# -- losses -------------------------------------------------------------------------------------------------


def masked_bce(logits: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
    """Pixel-wise BCE of sigmoid outputs: L_new, L_old and L_seg (FMWISS Secs. 3.3 and 3.5).

    Summed over the channels, averaged over the valid pixels of an image, then over all images of the batch.
    An image without a valid pixel counts as 0, and does count: the mean over a batch is thus the mean over
    its equal parts, on one process or several [D].

    logits: [B, C, H, W]; targets: [B, C, H, W] in [0, 1], without gradient; valid: bool [B, H, W].
    Returns a scalar >= 0. C = 0 gives 0, which still has a gradient.
    """
    per_pixel: Tensor = _SummedBce.apply(exact(logits), targets.to(exact(logits).dtype))
    per_image = torch.where(valid, per_pixel, 0.0).sum(dim=(-2, -1))
    return (per_image / valid.sum(dim=(-2, -1)).clamp_min(1)).sum() / max(len(logits), 1)


class _SummedBce(torch.autograd.Function):
    """sum_c softplus(x_c) - t_c x_c, [B, C, H, W] twice to [B, H, W].

    By hand, since torch's own spends four fifths of its time in log1p and keeps nothing smaller: here
    softplus(x) = max(x, 0) + log(1 + exp(-|x|)), which in float32 is off by less than 1e-7.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        ctx.save_for_backward(logits, targets)
        tail = logits.abs().neg_().exp_().add_(1).log_()
        return tail.add_(logits.clamp_min(0)).sub_(logits * targets).sum(dim=1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        logits, targets = ctx.saved_tensors
        return logits.sigmoid().sub_(targets).mul_(gradient[:, None]), None


def sample_points(labels: Tensor, per_class: int, generators: Sequence[torch.Generator]) -> Tensor:
    """The pixels that L_dcl compares: at most `per_class` of every class in every image (FMWISS Sec. 3.4, ten).

    The paper draws ten per class present in the mini-batch. Here they are drawn per image, without replacement
    and all of a class that has fewer: a draw then belongs to its image's generator and channel, and no batch
    mate, process or device changes it [D].

    labels: uint8 [B, H, W], channels; VOID is never drawn. generators: one per image, on the CPU.
    Returns int64 [P, 3]: image, row, column; ordered by image, channel, row, column. P may be 0.
    """
    return drawn_points(labels, per_class, generators).points()


@dataclass(frozen=True, kw_only=True, eq=False)
class DrawnPoints:
    """Points that are drawn on a device, which knows how many there are before anybody else does.

    flat: int64 [N], where a point of a rank lies among all pixels of a batch; is_point: bool [N], whether there is one.
    count: P, on its way to the host. size: (height, width) of an image.
    """

    flat: Tensor
    is_point: Tensor
    count: Fetched
    size: tuple[int, int]

    def points(self) -> Tensor:
        """See `sample_points`. The host waits for P; what it has asked of the device since is not waited for."""
        (count,) = self.count.numbers()
        height, width = self.size
        chosen = self.flat[torch.nonzero_static(self.is_point, size=int(count))[:, 0]]
        places = (chosen // (height * width), chosen // width % height, chosen % width)
        return torch.stack(places, dim=1)


def drawn_points(labels: Tensor, per_class: int, generators: Sequence[torch.Generator]) -> DrawnPoints:
    """What `sample_points` draws, as far as no number of it has to be known. The arguments are the same."""
    if per_class < 1 or len(generators) != len(labels):
        raise ValueError(f"sample_points needs a count >= 1 and {len(labels)} generators, not {per_class} and others.")
    batch, height, width = labels.shape
    image = torch.arange(batch, device=labels.device)[:, None]
    groups = (labels.reshape(batch, -1).long() + _LABELS * image).flatten()
    ordered, order = groups.sort(stable=True)  # pixels by image and channel, in raster order within
    numbers = torch.arange(batch * _LABELS + 1, device=labels.device)
    bounds = torch.searchsorted(ordered, numbers)
    starts, counts = bounds[:-1], bounds.diff().view(batch, _LABELS)
    counts[:, VOID] = 0
    draws = [torch.rand(_LABELS, per_class, generator=generator, dtype=torch.float64) for generator in generators]
    ranks = _distinct_ranks(counts.flatten(), torch.cat(draws).to(labels.device, non_blocking=True))
    is_point = (ranks >= 0).flatten()
    flat = order[(starts[:, None] + ranks.clamp_min(0)).flatten().clamp_max(len(order) - 1)]
    return DrawnPoints(flat=flat, is_point=is_point, count=Fetched(is_point.sum()[None]), size=(height, width))


def _distinct_ranks(counts: Tensor, draws: Tensor) -> Tensor:
    """min(K, n) different ranks below n for each of G counts n, ascending; Floyd's algorithm for all at once.

    counts: int64 [G]; draws: float64 [G, K], uniform in [0, 1). Returns int64 [G, K], places without a rank -1
    and first. Every subset of that size is equally likely (Bentley and Floyd, CACM 30(9), 1987).
    """
    wanted = draws.shape[1]
    ranks = torch.full(draws.shape, -1, dtype=torch.int64, device=counts.device)
    for place in range(wanted):
        last = counts - wanted + place
        rank = (draws[:, place] * (last + 1)).long()
        taken = (ranks == rank[:, None]).any(dim=1)
        ranks[:, place] = torch.where(last < 0, -1, torch.where(taken, last, rank))
    return ranks.sort(dim=1).values


def embedding_at(embedding: Tensor, points: Tensor, height: int, width: int) -> Tensor:
    """The embedding at single pixels, as if it were upsampled bilinearly (pixel centres) to the image's size.

    Upsampling all of it for a few hundred points would cost more than the rest of the loss.

    embedding: [B, E, h, w], the grid covering the image; points: int64 [P, 3], image, row and column of height x
    width pixels. Returns [P, E].
    """
    image, *pixel = points.unbind(dim=1)
    (top, bottom, down), (left, right, across) = (
        _between(place, side, cells)
        for place, side, cells in zip(pixel, (height, width), embedding.shape[-2:], strict=True)
    )
    down, across = down.to(embedding.dtype)[:, None], across.to(embedding.dtype)[:, None]
    above = torch.lerp(embedding[image, :, top, left], embedding[image, :, top, right], across)
    below = torch.lerp(embedding[image, :, bottom, left], embedding[image, :, bottom, right], across)
    return torch.lerp(above, below, down)


def _between(place: Tensor, side: int, cells: int) -> tuple[Tensor, Tensor, Tensor]:
    """The two of `cells` grid cells between whose centres a pixel of `side` lies, and how far it is to the second."""
    centre = ((place.double() + 0.5) * cells / side - 0.5).clamp(0, cells - 1)
    first = centre.long()
    return first, (first + 1).clamp_max(cells - 1), centre - first


def dense_contrastive(embedding: Tensor, classes: Tensor, temperature: float = 0.1) -> Tensor:
    """L_dcl, the dense contrastive loss (FMWISS Sec. 3.4, temperature 0.1), in InfoNCE form:

        mean_i mean_{p in P(i)} -log( exp(s_ip) / (exp(s_ip) + sum_{n in N(i)} exp(s_in)) ),

    s_ij the cosine of points i and j over the temperature (unit length is [D]), P(i) the other points of i's
    class, N(i) those of other classes. A point without a positive is left out of the mean over i.

    embedding: [P, E], any length along E; classes: int [P]. Points gathered from several processes are simply
    concatenated. Returns a scalar >= 0: 0 where there is one class alone, and where no point has a positive or
    there is no point at all; it still has a gradient then.
    """
    with torch.autocast(embedding.device.type, enabled=False):
        points = F.normalize(exact(embedding), dim=-1)
        scores = points @ points.T / temperature
    same = classes[:, None] == classes[None, :]
    positive = same & ~torch.eye(len(classes), dtype=torch.bool, device=same.device)
    # a finite stand-in for "no negative": with -inf the gradient of logsumexp would not be a number
    none = torch.finfo(scores.dtype).min / 4
    against = scores.masked_fill(same, none).logsumexp(dim=1, keepdim=True)
    terms = torch.where(positive, F.softplus(against - scores), 0.0).sum(dim=1)
    positives = positive.sum(dim=1)
    return (terms / positives.clamp_min(1)).sum() / (positives > 0).sum().clamp_min(1)


# -- targets ------------------------------------------------------------------------------------------------


@torch.no_grad()
def old_targets(old: Tensor, pasted: Tensor, new_masks: Tensor) -> Tensor:
    """What the teacher's old channels learn in L_old (FMWISS Sec. 3.3).

    A pasted pixel takes the pasted class alone; every other one g(old model) [S, the unpasted part D]. There
    the background's target is multiplied by (1 - max over the new classes of M_refine), since the old model
    calls background what the new masks hold [D].

    old: [B, C_old, H, W] in [0, 1], g(old model), background first; pasted: uint8 [B, H, W], channels of the
    old model or VOID; new_masks: bool or in [0, 1], [B, C_new, H, W]; C_new = 0 leaves the background alone.
    Returns [B, C_old, H, W], without gradient.
    """
    targets = exact(old).clone()
    if new_masks.shape[1]:
        targets[:, BACKGROUND] *= 1 - new_masks.amax(dim=1).to(targets.dtype)
    channels = torch.arange(targets.shape[1], dtype=torch.uint8, device=targets.device)[:, None, None]
    pasted = pasted[:, None]
    return torch.where(pasted == VOID, targets, (pasted == channels).to(targets.dtype))


@torch.no_grad()
def student_targets(
    teacher: Tensor,
    old: Tensor,
    *,
    new_channels: Sequence[int],
    old_channels: Sequence[int],
    alpha: float = 0.5,
    beta: float = 0.9,
    shows_none: Tensor | None = None,
) -> Tensor:
    """What the student learns in L_seg (FMWISS Sec. 3.5).

    new class: alpha hard + (1 - alpha) soft, soft the teacher's probability, hard 1 where that is the pixel's
        greatest of all channels (the first among equals), else 0. alpha = 0.5.
    old class: beta g(old model) + (1 - beta) soft. beta = 0.9; that the old model has it is [D].
    background: as an old class, times (1 - max over the new classes' targets) [D].
    In an image that is known to show no new class, their targets are 0, whatever the teacher says [D].

    teacher: [B, C, H, W] in [0, 1]; old: [B, C_old, H, W] in [0, 1], its channels those of `old_channels` in
    their order; shows_none: bool [B], the images without a new class, None where there are none.
    Returns [B, C, H, W] in [0, 1], without gradient.
    """
    targets = exact(teacher).clone()
    new, known = run_of(new_channels), run_of(old_channels)
    hard = _is_greatest(teacher, new_channels).to(targets.dtype)
    targets[:, new] = torch.lerp(targets[:, new], hard, alpha)
    if shows_none is not None:
        targets[:, new] = targets[:, new].masked_fill(shows_none[:, None, None, None], 0.0)
    targets[:, known] = torch.lerp(targets[:, known], exact(old).to(targets.dtype), beta)
    if len(new_channels):
        targets[:, BACKGROUND] *= 1 - targets[:, new].amax(dim=1)
    return targets


@torch.no_grad()
def labels_of(new_masks: Tensor, old: Tensor, pasted: Tensor, new_channels: Sequence[int]) -> Tensor:
    """The classes that L_dcl takes pixels to be, for `sample_points` (FMWISS Sec. 3.4; whence they come is [D]).

    A pasted pixel is of the pasted class; else, where exactly one mask holds, of its new class; where several do,
    VOID; and where none does, of the old model's likeliest channel (the first among equals), background included.

    new_masks: bool [B, C_new, H, W]; old: [B, C_old, H, W], g(old model), background first; pasted: uint8
    [B, H, W], channels or VOID. Returns uint8 [B, H, W], channels or VOID.
    """
    labels = first_greatest(old)
    if new_masks.shape[1]:
        channels = numbers_of(new_channels, labels.device)[:, None, None]
        held = new_masks.sum(dim=1)
        labels = torch.where(held == 1, (new_masks * channels).amax(dim=1), labels)
        labels = labels.masked_fill(held > 1, VOID)
    return torch.where(pasted != VOID, pasted, labels)


def _is_greatest(probabilities: Tensor, channels: Sequence[int]) -> Tensor:
    """Bool [B, len(channels), H, W]: whether a channel is the first of the greatest of [B, C, H, W]."""
    wanted = numbers_of(channels, probabilities.device)
    return first_greatest(probabilities)[:, None] == wanted[:, None, None]
