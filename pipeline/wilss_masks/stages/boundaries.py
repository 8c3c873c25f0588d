"""Boundaries: probabilities moved to the edges of the picture, by PAMR or by the guided filter."""

from typing import TYPE_CHECKING

from .params import StageParams

if TYPE_CHECKING:
    from torch import Tensor


def at_edges(probabilities: "Tensor", picture: "Tensor", params: StageParams) -> "Tensor":
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
