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


def sureness_inside(evidence: "Tensor", masks: "Tensor") -> "Tensor":
    """How sure each mask is of its tag in the mean, float32 [T] in [0, 1], not calibrated; 0 for an empty one.

    evidence: float [T, h, w], of any size; masks: bool [T, H, W], which may overlap.
    """
    import torch

    from wilss.equations.fmwiss import confidence

    if not (masks.sum(dim=0) > 1).any():
        return confidence(sureness_of(evidence, labels_of(evidence, masks)), masks)
    numbers = torch.arange(1, len(masks) + 1, dtype=torch.uint8, device=masks.device)
    each = [confidence(sureness_of(evidence, mask * number), mask) for mask, number in zip(masks, numbers, strict=True)]
    return torch.stack(each)


def labels_of(evidence: "Tensor", masks: "Tensor") -> "Tensor":
    """Masks bool [T, H, W] as labels uint8 [H, W], t + 1 for tag t; where some overlap, the one of most evidence."""
    import torch

    labels = torch.zeros(masks.shape[-2:], dtype=torch.uint8, device=masks.device)
    if not (masks.sum(dim=0) > 1).any():
        for number, mask in enumerate(masks, start=1):
            labels[mask] = number
        return labels
    most = torch.zeros(masks.shape[-2:], device=masks.device)
    for number, (one, mask) in enumerate(zip(_at_pixels(evidence, *masks.shape[-2:]), masks, strict=True), start=1):
        wins = mask & ((one > most) | (labels == 0))
        labels[wins], most[wins] = number, one[wins]
    return labels


def _at_pixels(evidence: "Tensor", height: int, width: int) -> "Iterator[Tensor]":
    """One map [height, width] after the other, so that a large image never has all of them."""
    return (to_pixels(one[None], height, width)[0] for one in evidence)
