"""Pixels that nobody can be sure of: void, which no training learns from, in the place of a label that may be wrong."""

from typing import TYPE_CHECKING

from wilss.data.images import to_pixels
from wilss.equations import calibration

from .params import StageParams

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor


def unsure_pixels(evidence: "Tensor", masks: "Tensor", params: StageParams) -> "Tensor":
    """Where the calibrated sureness of an image's masks is below `params.unsure`, bool [H, W].

    evidence: float [T, h, w] at the size of the stages; masks: bool [T, H, W].
    """
    least = calibration.least_confidence(params.calibration, params.unsure)
    return sureness_of(evidence, labels_of(evidence, masks)) < least


def sureness_of(evidence: "Tensor", labels: "Tensor") -> "Tensor":
    """How sure labels are, not calibrated, float [H, W] in [0, 1]; see `wilss.equations.calibration.sureness`.

    evidence: float [T, h, w], of any size; labels: uint8 [H, W], 0 for the background, t + 1 for tag t.
    """
    return calibration.sureness(_at_pixels(evidence, *labels.shape), labels)


def sureness_inside(evidence: "Tensor", masks: "Tensor", *, apart: bool = False) -> "Tensor":
    """How sure each mask is of its tag in the mean, float32 [T] in [0, 1], not calibrated; 0 for an empty one.

    evidence: float [T, h, w], of any size; masks: bool [T, H, W], which may overlap unless they are known to lie
    `apart`.
    """
    import torch

    from wilss.equations.fmwiss import confidence

    if not _may_overlap(masks, apart):
        return confidence(sureness_of(evidence, labels_of(evidence, masks, apart=True)), masks)
    numbers = torch.arange(1, len(masks) + 1, dtype=torch.uint8, device=masks.device)
    each = [confidence(sureness_of(evidence, mask * number), mask) for mask, number in zip(masks, numbers, strict=True)]
    return torch.stack(each)


def labels_of(evidence: "Tensor", masks: "Tensor", *, apart: bool = False) -> "Tensor":
    """Masks bool [T, H, W] as labels uint8 [H, W], t + 1 for tag t; where some overlap, the one of most evidence.

    apart: whether they are known not to.
    """
    import torch

    labels = torch.zeros(masks.shape[-2:], dtype=torch.uint8, device=masks.device)
    if not _may_overlap(masks, apart):
        for number, mask in enumerate(masks, start=1):
            labels.masked_fill_(mask, number)
        return labels
    most = torch.zeros(masks.shape[-2:], device=masks.device)
    for number, (one, mask) in enumerate(zip(_at_pixels(evidence, *masks.shape[-2:]), masks, strict=True), start=1):
        wins = mask & ((one > most) | (labels == 0))
        labels, most = labels.masked_fill(wins, number), torch.where(wins, one, most)
    return labels


def _may_overlap(masks: "Tensor", apart: bool) -> bool:
    """Whether some of the masks may overlap; a device is not asked, since that would wait for it."""
    return not apart and (not masks.is_cpu or bool((masks.sum(dim=0) > 1).any()))


def _at_pixels(evidence: "Tensor", height: int, width: int) -> "Iterator[Tensor]":
    """One map [height, width] after the other, so that a large image never has all of them."""
    return (to_pixels(one[None], height, width)[0] for one in evidence)
