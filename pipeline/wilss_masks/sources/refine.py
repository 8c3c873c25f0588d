"""From kept score and attention maps to masks: the last, cheap part of the method.

`generate` and `fuse` both end here, on the same float16 maps, so that re-fusing with the parameters of the
first run gives the very same masks.
"""

from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from wilss.data.images import to_pixels
from wilss.equations import fmwiss
from wilss.store import ImageContent, Status

from .params import FusionParams

__all__ = ["Refined", "as_content", "refine"]


@dataclass(frozen=True, kw_only=True)
class Refined:
    """Masks of one image, bool [T, H, W]: M_init, M_seeds and what was made of them; score float [T, H, W]."""

    init: Tensor
    seeds: Tensor
    fused: Tensor
    score: Tensor


def refine(score: Tensor, attention: Tensor, height: int, width: int, params: FusionParams) -> Refined:
    """Binarise both maps at the image's own size and fuse them (FMWISS Sec. 3.2, M_refine).

    score: float16 [T, h, w] in [0, 1]. attention: float16 [T, ha, wa], non-negative, scaled so that each
    map's maximum is 1. The K cut is taken on the patch grid and applied after bilinear upsampling [D].
    """
    score32, attention32 = score.float(), attention.float()
    pixels = to_pixels(score32, height, width)
    init = pixels >= params.threshold
    cut = fmwiss.keep_top(attention32, params.keep_amount, by=params.keep)
    seeds = to_pixels(attention32, height, width) >= cut[:, None, None]
    return Refined(init=init, seeds=seeds, fused=fmwiss.fuse(init, seeds, params.fusion), score=pixels)


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
    confidence = fmwiss.confidence(refined.score, refined.fused).tolist()
    agreement = fmwiss.agreement(refined.init, refined.seeds).tolist()
    area = refined.fused.sum(dim=(-2, -1)).tolist()

    def by_category(stack: Tensor) -> dict[int, NDArray[Any]]:
        return dict(zip(categories, stack.cpu().numpy(), strict=True))

    layers = {"mask": refined.fused, "score": score, "attention": attention, "seeds": seeds}
    return ImageContent(
        status=Status.DONE,
        planes={name: by_category(stack) for name, stack in layers.items()},
        confidence=dict(zip(categories, confidence, strict=True)),
        agreement=dict(zip(categories, agreement, strict=True)),
        area=dict(zip(categories, area, strict=True)),
        fallback=dict(zip(categories, fallback, strict=True)),
    )


def scaled(attention: Tensor) -> Tensor:
    """Each map [..., h, w] divided by its maximum, since float16 has few bits for values near 1 / (h w)."""
    top = attention.amax(dim=(-2, -1), keepdim=True)
    return torch.where(top > 0, attention / top.clamp_min(torch.finfo(attention.dtype).tiny), attention)
