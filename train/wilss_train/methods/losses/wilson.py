"""WILSON, learning from tags: the losses of its localizer, and what the localizer teaches the student.

F. Cermelli et al., "Incremental Learning in Semantic Segmentation from Image Labels", CVPR 2022 (arXiv:2112.01882),
Secs. 3.2 and 3.3; the localizer's lesson from its own maps is that of N. Araslanov and S. Roth, "Single-Stage Semantic
Segmentation from Image Labels", CVPR 2020. Where the papers say less than the public code of the first, the code is
followed and marked [C]; what is ours is marked [D]. Losses are computed in float32 at least, whatever autocast says,
and averaged per image, then over images, one without a valid pixel counting as 0: the mean over a batch is the mean
over its equal parts [D].

Shapes: `B` batch, `C` channels seen, background first, `C_old` those of the old model, `C_new` new ones, `h w` pixels
or cells of a grid, `D` feature width. `valid` is bool [B, h, w].
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from wilss.data.taxonomy import BACKGROUND, VOID
from wilss.equations.kernels import exact
from wilss_train.methods.losses.kernels import mean_inside, run_of

_POWER, _LEAST = 3, 1e-2  # gamma and lambda of the penalty on small masks


# -- the localizer ------------------------------------------------------------------------------------------


def tag_scores(logits: Tensor, valid: Tensor) -> Tensor:
    """How much an image shows of each class: normalised global weighted pooling, and a penalty on small masks.

        m = softmax_c(z),   y_c = sum_i m_ci z_ci / (1 + sum_i m_ci) + (1 - mean_i m_ci)^3 log(0.01 + mean_i m_ci)

    (WILSON Eqs. 1 and 2, gamma = 3 and lambda = 0.01; epsilon is 1 [C].) logits: [B, C, h, w]. Returns [B, C].
    """
    values, inside = exact(logits), valid[:, None].to(exact(logits).dtype)
    maps = values.softmax(dim=1) * inside
    total = maps.sum(dim=(-2, -1))
    pooled = (values * maps).sum(dim=(-2, -1)) / (1 + total)
    mean = total / inside.sum(dim=(-2, -1)).clamp_min(1)
    return pooled + (1 - mean) ** _POWER * (_LEAST + mean).log()


def outside_bce(logits: Tensor, masks: Tensor, tags: Tensor, valid: Tensor) -> Tensor:
    """Binary cross-entropy of the new classes' scores with 0 at the pixels outside their masks [D].

        mean over images and classes of mean_i softplus(z_ci), i outside the mask of c

    Where every image of a step holds its class, tags say nothing of where it is not; masks do. A class that an image is
    tagged with and that no mask shows is not counted. logits: [B, C_new, h, w]; masks: bool [B, C_new, h, w]; tags:
    bool [B, C_new]. Returns a scalar >= 0.
    """
    told = masks.any(dim=-1).any(dim=-1) | ~tags
    outside = valid[:, None] & ~masks & told[:, :, None, None]
    return mean_inside(F.softplus(exact(logits)).flatten(0, 1), outside.flatten(0, 1))


def tag_bce(scores: Tensor, tags: Tensor, known: Tensor) -> Tensor:
    """L_CLS: binary cross-entropy of the new classes' scores, the mean over classes (WILSON Eq. 3).

    scores: [B, C_new]; tags: [B, C_new], bool or 0 and 1; known: bool [B], images that count. Returns a scalar >= 0.
    """
    each = F.binary_cross_entropy_with_logits(exact(scores), tags.to(exact(scores).dtype), reduction="none")
    return torch.where(known, each.mean(dim=1), 0.0).sum() / max(len(scores), 1)


def prior_bce(logits: Tensor, old: Tensor, valid: Tensor) -> Tensor:
    """L_LOC: the localizer's old channels against the old model's probabilities, the mean over channels (Eq. 4).

    logits: [B, C_old, h, w]; old: [B, C_old, h, w] in [0, 1], without gradient. Returns a scalar >= 0.
    """
    values = exact(logits)
    each = F.binary_cross_entropy_with_logits(values, old.detach().to(values.dtype), reduction="none")
    return mean_inside(each.mean(dim=1), valid)


@torch.no_grad()
def with_tags(maps: Tensor, tags: Tensor, new_channels: Sequence[int]) -> Tensor:
    """The localizer's maps with 0 for every class that the image is not tagged with; old classes never are [C].

    maps: [B, C, h, w] in [0, 1], of a softmax; tags: bool [B, C_new], in the order of `new_channels`. Returns
    [B, C, h, w].
    """
    kept = torch.zeros(maps.shape[:2], dtype=maps.dtype, device=maps.device)
    kept[:, BACKGROUND] = 1
    kept[:, run_of(new_channels)] = tags.to(maps.dtype)
    return maps * kept[:, :, None, None]


@torch.no_grad()
def sure_labels(
    maps: Tensor, valid: Tensor, *, foreground: float = 0.6, background: float = 0.7, least: float = 0.2
) -> Tensor:
    """What the localizer's own maps are sure of: pixels above a share of a class's maximum, and of one class's only.

        label c where m_c > max(least, share_c max_i m_ci) for c alone, share_c the background's or a class's

    (Araslanov and Roth; the shares are WILSON's [C].) maps: [B, C, h, w] in [0, 1], see `with_tags`. Returns
    uint8 [B, h, w], channels, VOID for the others and for what is not valid.
    """
    shares = maps.new_full((maps.shape[1], 1, 1), foreground)
    shares[BACKGROUND] = background
    inside = maps.masked_fill(~valid[:, None], 0.0)
    above = inside > (shares * inside.amax(dim=(-2, -1), keepdim=True)).clamp_min(least)
    labels = above.to(torch.uint8).argmax(dim=1).to(torch.uint8)
    return labels.masked_fill(above.sum(dim=1) != 1, VOID)


def balanced_ce(logits: Tensor, labels: Tensor, tags: Tensor, valid: Tensor) -> Tensor:
    """The localizer learns its sure labels: cross-entropy with the weight (N - n_c) / (1 + N) for the class of a pixel.

    N pixels of an image are labelled, n_c of them c; the sum is over them, the mean over all valid pixels. An image
    counts only where background and every one of its tags are labelled somewhere (Araslanov and Roth; [C]).

    logits: [B, C, h, w]; labels: uint8 [B, h, w], channels or VOID; tags: bool [B, C_new]. Returns a scalar >= 0.
    """
    values, known = exact(logits), (labels != VOID) & valid
    shown = F.one_hot(labels.masked_fill(~known, BACKGROUND).long(), logits.shape[1]) * known[..., None]
    counts = shown.sum(dim=(1, 2)).to(values.dtype)  # [B, C]
    total = counts.sum(dim=1, keepdim=True)
    weights = ((total - counts) / (1 + total)).gather(1, _classes(labels, known).flatten(1)).view(labels.shape)
    whole = (counts > 0).sum(dim=1) == tags.sum(dim=1) + 1
    each = F.cross_entropy(values, _classes(labels, known), reduction="none")
    return mean_inside(torch.where(known & whole[:, None, None], weights * each, 0.0), valid)


def _classes(labels: Tensor, known: Tensor) -> Tensor:
    """Labels as int64, the background where they say nothing."""
    return labels.masked_fill(~known, BACKGROUND).long()


# -- the student --------------------------------------------------------------------------------------------


@torch.no_grad()
def localized_targets(maps: Tensor, old: Tensor, *, new_channels: Sequence[int], alpha: float = 0.5) -> Tensor:
    """What the student learns in L_SEG, a BCE of all channels (WILSON Eqs. 5 to 8):

        q_c = alpha [m_c is the greatest] + (1 - alpha) m_c, of equals all are greatest,
        target = q_c for a new class, g(old model)_c for an old one, min(g(old model)_c, q_c) for the background.

    maps: [B, C, h, w] in [0, 1], see `with_tags`; old: [B, C_old, h, w] in [0, 1]. Returns [B, C, h, w] in [0, 1].
    """
    values = exact(maps)
    mixed = torch.lerp(values, (values >= values.amax(dim=1, keepdim=True)).to(values.dtype), alpha)
    known = exact(old).to(values.dtype)
    targets = torch.cat([known, mixed[:, run_of(new_channels)]], dim=1)
    targets[:, BACKGROUND] = torch.minimum(known[:, BACKGROUND], mixed[:, BACKGROUND])
    return targets


def feature_distance(features: Tensor, old: Tensor, valid: Tensor) -> Tensor:
    """Squared distance to the old model's features, the mean over channels (as in ILT; WILSON takes the weight 1 [C]).

    features, old: [B, D, h, w], no gradient for the second. Returns a scalar >= 0.
    """
    return mean_inside((exact(features) - exact(old.detach())).square().mean(dim=1), valid)
