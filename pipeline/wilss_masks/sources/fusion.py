"""The last, cheap part of FMWISS: from score and attention maps to masks.

`generate` and `fuse` both end here, on the same float16 maps, so that fusing again with the parameters of the first run
gives the very same masks.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from wilss.data.images import to_pixels
from wilss.equations import fmwiss
from wilss.equations.competition import evidence
from wilss.equations.fmwiss import Keep
from wilss.models.devices import Fetched
from wilss.store import ImageContent, Status

from ..stages.chain import run_stages, stage_size
from ..stages.unsure import sureness_inside
from .fmwiss_params import FusionParams


@dataclass(frozen=True, kw_only=True)
class Refined:
    """Masks of one image, bool [T, H, W]: M_init, M_seeds and what was made of them; score float [T, H, W].

    steps: labels after each stage, void: pixels of no label, see `stages.chain.Staged`. evidence: what the stages began
    with, float [T, h, w], where they decided; else None. apart: whether masks are known not to overlap.
    """

    init: Tensor
    seeds: Tensor
    fused: Tensor
    score: Tensor
    steps: dict[str, Tensor] = field(default_factory=dict)
    void: Tensor | None = None
    evidence: Tensor | None = None
    apart: bool = False

    @property
    def confidence(self) -> Tensor:
        """How far each mask is to be believed, float32 [T] in [0, 1]; 0 for an empty one.

        The mean score inside it, or where stages of fmwiss have made it the mean sureness: of drawn pictures the half
        that was surer was better by three points of IoU than the half that scored higher, and without stages worse.
        """
        if self.evidence is None:
            return fmwiss.confidence(self.score, self.fused)
        return sureness_inside(self.evidence, self.fused, apart=self.apart)


def refine(
    score: Tensor,
    attention: Tensor,
    height: int,
    width: int,
    params: FusionParams,
    picture: Tensor | None = None,
    *,
    regions: Tensor | None = None,
    trace: bool = False,
) -> Refined:
    """Binarise both maps at the image's own size and fuse them (FMWISS Sec. 3.2, M_refine), or let the stages do it.

    score: float16 [T, h, w] in [0, 1]. attention: float16 [T, ha, wa], non-negative, scaled so that each
    map's maximum is 1. The K cut is taken on the patch grid and applied after bilinear upsampling [D].
    picture, regions: of the image at the size of the stages, see `stage_picture`, `stage_regions`. trace: whether the
    stages' steps are wanted.
    """
    pixels, spread = (to_pixels(maps.float(), height, width) for maps in (score, attention))
    cut = fmwiss.keep_top(attention.float(), params.keep_amount, by=params.keep)
    init, seeds = pixels >= params.threshold, spread >= cut[:, None, None]
    if not params.has_stages:
        return Refined(init=init, seeds=seeds, fused=fmwiss.fuse(init, seeds, params.fusion), score=pixels)
    if stage_size(height, width, params) == (height, width):
        strength = evidence(pixels, spread, params.threshold, cut, params.fusion)
    else:
        strength = evidence_of(score, attention, stage_size(height, width, params), params)
    staged = run_stages(strength, picture, height, width, params, regions=regions, trace=trace)
    return Refined(
        init=init,
        seeds=seeds,
        fused=staged.masks,
        score=pixels,
        steps=staged.steps,
        void=staged.void,
        evidence=strength if params.remakes_masks else None,
        apart=params.classes == "compete",
    )


def evidence_of(score: Tensor, attention: Tensor, size: tuple[int, int], params: FusionParams) -> Tensor:
    """How strongly pixels belong to each tag, float32 [T, *size], 1 where a mask is cut. Maps: as for `refine`."""
    cut = fmwiss.keep_top(attention.float(), params.keep_amount, by=params.keep)
    pixels, spread = (to_pixels(maps.float(), *size) for maps in (score, attention))
    return evidence(pixels, spread, params.threshold, cut, params.fusion)


def kept(attention: Tensor, pixels: Tensor, keep: Keep, amount: float) -> Tensor:
    """M_seeds: what of `attention` is kept, cut on its patch grid and seen at pixels.

    attention: float16 [T, ha, wa]; pixels: the same maps, float32 [T, H, W]. Returns bool [T, H, W].
    """
    return pixels >= fmwiss.keep_top(attention.float(), amount, by=keep)[:, None, None]


def as_content(
    refined: Refined,
    categories: tuple[int, ...],
    *,
    score: Tensor,
    attention: Tensor,
    seeds: Tensor,
    fallback: list[bool],
) -> ImageContent:
    """Masks, soft layers and diagnostics in the form in which the store takes them.

    categories: positions on the store's axis, one per map. seeds: int16 [T, S, 2].
    """
    told = Fetched(torch.tensor(fallback, dtype=torch.bool))
    return on_its_way(refined, categories, score=score, attention=attention, seeds=seeds, fallback=told)()


def on_its_way(
    refined: Refined,
    categories: tuple[int, ...],
    *,
    score: Tensor,
    attention: Tensor,
    seeds: Tensor,
    fallback: Fetched,
) -> Callable[[], ImageContent]:
    """What `as_content` gives, on its way to the host: the device goes on with the next image meanwhile."""
    numbers = {
        "confidence": Fetched(refined.confidence),
        "agreement": Fetched(fmwiss.agreement(refined.init, refined.seeds)),
        "area": Fetched(refined.fused.sum(dim=(-2, -1))),
        "fallback": fallback,
    }
    layers = {"mask": refined.fused, "score": score, "attention": attention, "seeds": seeds}
    planes = {name: Fetched(stack) for name, stack in layers.items()}
    void = None if refined.void is None else Fetched(refined.void)

    def there() -> ImageContent:
        by_category: dict[str, dict[int, NDArray[Any]]] = {
            name: dict(zip(categories, stack.tensor().numpy(), strict=True)) for name, stack in planes.items()
        }
        if void is not None:
            by_category["void"] = {0: void.tensor().numpy()}
        told: dict[str, Any] = {
            name: dict(zip(categories, values.numbers(), strict=True)) for name, values in numbers.items()
        }
        return ImageContent(status=Status.DONE, planes=by_category, **told)

    return there


def scaled(attention: Tensor) -> Tensor:
    """Each map [..., h, w] divided by its maximum, since float16 has few bits for values near 1 / (h w)."""
    top = attention.amax(dim=(-2, -1), keepdim=True)
    return torch.where(top > 0, attention / top.clamp_min(torch.finfo(attention.dtype).tiny), attention)
