"""From a classifier's kept maps to masks, the part that `fuse` can make again."""

from typing import TYPE_CHECKING

from wilss.data.images import to_pixels

from ...stages.chain import run_stages, stage_size
from ..fusion import Refined
from .params import CutParams

if TYPE_CHECKING:
    from torch import Tensor


def refine_cam(
    score: "Tensor",
    attention: "Tensor",
    height: int,
    width: int,
    params: CutParams,
    picture: "Tensor | None" = None,
    *,
    regions: "Tensor | None" = None,
    trace: bool = False,
) -> Refined:
    """Masks where the spread maps are at least `cut`, or what the stages make of maps over `cut`.

    score: float16 [T, h, w], the activation maps; attention: the same spread along the affinity; both over their
    maximum. picture, regions: of the image at the size of the stages. trace: whether the stages' steps are wanted.
    """
    plain, spread = (to_pixels(maps.float(), height, width) for maps in (score, attention))
    init, seeds = plain >= params.cut, spread >= params.cut
    if not params.has_stages:
        return Refined(init=init, seeds=seeds, fused=seeds, score=spread)
    strength = evidence_of_cam(attention, stage_size(height, width, params), params)
    staged = run_stages(strength, picture, height, width, params, regions=regions, trace=trace)
    return Refined(init=init, seeds=seeds, fused=staged.masks, score=spread, steps=staged.steps, void=staged.void)


def evidence_of_cam(attention: "Tensor", size: tuple[int, int], params: CutParams) -> "Tensor":
    """How strongly pixels belong to each tag, float32 [T, *size], 1 where a mask is cut. attention: as `refine_cam`."""
    return to_pixels(attention.float(), *size) / params.cut
