"""The stages, one after the other: evidence of an image's tags becomes labels, labels become masks.

A stage takes probabilities float32 [K, h, w], the background first, at the size of the stages, and gives others.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wilss.data.images import resize_uint8, size_within, to_pixels

from .params import StageParams
from .regions import voting
from .unsure import unsure_pixels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    Stage = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Staged:
    """What the stages made of an image of T tags.

    masks: bool [T, H, W]. steps: labels uint8 [h, w] after each stage by its name, 0 for the background and t + 1 for
    tag t, at the size of the stages; empty unless they were asked for. Where tags overlap, the last one is seen.
    void: bool [H, W], in no mask; None where nothing may be void.
    """

    masks: "Tensor"
    void: "Tensor | None" = None
    steps: "dict[str, Tensor]" = field(default_factory=dict)


def stage_size(height: int, width: int, params: StageParams) -> tuple[int, int]:
    """The size (h, w) at which the stages of an image of this size work."""
    return size_within(height, width, params.stage_size) if params.needs_picture else (height, width)


def stage_picture(image: "Tensor", params: StageParams) -> "Tensor | None":
    """The image uint8 [3, H, W] at the size of the stages; None where none of them looks at it."""
    if not params.needs_picture:
        return None
    return resize_uint8(image, stage_size(image.shape[-2], image.shape[-1], params))


def run_stages(
    evidence: "Tensor",
    picture: "Tensor | None",
    height: int,
    width: int,
    params: StageParams,
    *,
    regions: "Tensor | None" = None,
    trace: bool = False,
) -> Staged:
    """The masks of an image of this size.

    evidence: float [T, h, w] at `stage_size`, 1 where a mask is cut. picture: see `stage_picture`. regions: see
    `stage_regions`; superpixels are found here where they are not handed over. trace: whether the labels after each
    stage are wanted.
    """
    masks, steps = _masks(evidence, list(_stages(picture, regions, params)), height, width, params, trace)
    if not params.has_void:
        return Staged(masks=masks, steps=steps)
    void = unsure_pixels(evidence, masks, params)
    return Staged(masks=masks & ~void, void=void, steps=steps)


def _masks(
    evidence: "Tensor", stages: "list[tuple[str, Stage]]", height: int, width: int, params: StageParams, trace: bool
) -> "tuple[Tensor, dict[str, Tensor]]":
    """Masks bool [T, H, W] before pixels become void, and the steps."""
    import torch

    if params.classes == "compete":
        labels, steps = _labels(evidence, stages, height, width, params, trace)
        numbers = torch.arange(1, len(evidence) + 1, dtype=labels.dtype, device=labels.device)
        return labels == numbers[:, None, None], steps
    alone = [_labels(one[None], stages, height, width, params, trace) for one in evidence]
    return torch.stack([labels == 1 for labels, _ in alone]), _overlaid([steps for _, steps in alone])


def _labels(
    evidence: "Tensor", stages: "list[tuple[str, Stage]]", height: int, width: int, params: StageParams, trace: bool
) -> "tuple[Tensor, dict[str, Tensor]]":
    """Labels uint8 [H, W] of tags that compete, and those after each stage [h, w]."""
    from wilss.equations.competition import compete
    from wilss.equations.kernels import first_greatest

    probabilities = compete(evidence)
    steps: dict[str, Tensor] = {params.classes: first_greatest(probabilities)} if trace else {}
    for name, stage in stages:
        probabilities = stage(probabilities)
        if trace:
            steps[name] = first_greatest(probabilities)
    if (height, width) != tuple(probabilities.shape[-2:]):
        probabilities = to_pixels(probabilities, height, width)
    return first_greatest(probabilities), steps


def _stages(picture: "Tensor | None", regions: "Tensor | None", params: StageParams) -> "Iterator[tuple[str, Stage]]":
    """The stages that are asked for, in their order: regions, then boundaries."""
    if params.needs_picture and picture is None:
        raise ValueError("these stages look at the image; hand its picture over (`stage_picture`).")
    if params.regions != "none" and picture is not None:
        yield params.regions, voting(picture, regions, params)
    if params.boundaries != "none" and picture is not None:
        yield params.boundaries, lambda probabilities: _at_edges(probabilities, picture, params)


def _at_edges(probabilities: "Tensor", picture: "Tensor", params: StageParams) -> "Tensor":
    """Probabilities after the stage `boundaries`, which is not `none`.

    probabilities: float [K, h, w], summing to 1 over K; picture: uint8 [3, h, w]. Returns the same shape and sum.
    """
    from wilss.equations.boundaries import guided, pamr

    image = picture.to(probabilities.dtype) / 255
    if params.boundaries == "pamr":
        return pamr(image, probabilities, rounds=params.pamr_rounds, dilations=params.pamr_dilations)
    how = {"radius": params.guided_radius, "step": params.guided_step}
    smooth = guided(image, probabilities, eps=params.guided_eps, **how).clamp_min(0)
    return smooth / smooth.sum(dim=0)  # the filter runs a little past 0 and 1


def _overlaid(alone: "list[dict[str, Tensor]]") -> "dict[str, Tensor]":
    """Steps of tags that were taken each for itself, as labels of all."""
    import torch

    together: dict[str, Tensor] = {}
    for number, steps in enumerate(alone, start=1):
        for name, labels in steps.items():
            here = together.setdefault(name, torch.zeros_like(labels))
            here[labels == 1] = number
    return together
