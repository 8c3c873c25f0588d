"""UniMatch V2's views of an unlabelled image: a weak one and two strong ones, each with a box for CutMix.

L. Yang et al., "UniMatch V2", TPAMI 2025 (arXiv:2410.10777); what the text leaves open as in its public code [C].
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from torch import Tensor

from wilss.params import Share
from wilss.randomness import numpy_generator_for

from ..augment import cut_image, is_outside, planar
from ..batch_source import Visit
from .batches import SemiBatch, SemiBatchSource, SemiParts
from .views import StrongParams, jittered


@dataclass(frozen=True, kw_only=True)
class PairParams(StrongParams):
    """Published values [C]; nothing is cut out.

    jitter: how probable another light is. grey, blur: how probable it is that a view loses its colours, or is blurred
    with a Gaussian whose standard deviation, in pixels, is drawn from `sigma`. cutmix: how probable it is that a view
    has a box of another picture, of a share in `area` of the view and a height in `aspect` times its width.
    """

    cutout: Share = 0.0
    jitter: Share = 0.8
    grey: Share = 0.2
    blur: Share = 0.5
    sigma: tuple[float, float] = (0.1, 2.0)
    cutmix: Share = 0.5
    area: tuple[float, float] = (0.02, 0.4)
    aspect: tuple[float, float] = (0.3, 1 / 0.3)


@dataclass(frozen=True, kw_only=True)
class PairParts(SemiParts):
    """strong: how both strong views are made."""

    strong: PairParams


@dataclass(frozen=True, kw_only=True)
class PairBatch(SemiBatch):
    """A `SemiBatch` whose unlabelled images have a second strong view.

    second: uint8 [U, 3, H, W]. boxes: bool [U, 2, H, W], where the first and the second show another picture.
    """

    second: Tensor
    boxes: Tensor


class PairBatchSource(SemiBatchSource):
    """Batches of labelled images, and of others in three views."""

    kind: ClassVar[type[SemiBatch]] = PairBatch

    def unlabelled(self, visit: Visit) -> SemiBatch:
        """An unlabelled image in its weak view and in two strong ones of the same window."""
        read = self._unlabelled.take(visit.position, *visit.names)
        view = self._view(read, "view", *visit.names)
        weak = cut_image(read.image, view)
        height, width = read.image.shape[:2]
        inside = self._map(~is_outside(height, width, view))
        strong = self._wanted.strong
        assert isinstance(strong, PairParams)
        first, second = (
            paired_view(weak, strong, numpy_generator_for(self._seed, "strong", number, *visit.names, read.image_id))
            for number in range(2)
        )
        boxes = torch.from_numpy(np.stack([first[1], second[1]]))
        return self._batch(
            read.image_id, weak=planar(weak), shown=inside, valid=inside, strong=planar(first[0]),
            second=planar(second[0]), boxes=boxes,
        )  # fmt: skip

    def _shapes(self) -> Mapping[str, tuple[tuple[int, ...], torch.dtype]]:
        side = self._params.crop
        more: dict[str, Any] = {"second": ((3, side, side), torch.uint8), "boxes": ((2, side, side), torch.bool)}
        return {**super()._shapes(), **more}


def paired_view(
    image: NDArray[np.uint8], params: PairParams, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A strong view of a weak one uint8 [S, S, 3], and where another picture belongs into it, bool [S, S]."""
    lit = jittered(image, params, rng) if rng.random() < params.jitter else image
    changed = Image.fromarray(lit)
    if rng.random() < params.grey:
        changed = changed.convert("L").convert("RGB")
    if rng.random() < params.blur:
        changed = changed.filter(ImageFilter.GaussianBlur(rng.uniform(*params.sigma)))
    box = np.zeros(image.shape[:2], np.bool_)
    if rng.random() < params.cutmix:
        box[_box(image.shape[0], params, rng)] = True
    return np.array(changed), box


def _box(side: int, params: PairParams, rng: np.random.Generator) -> tuple[slice, slice]:
    """A box wholly inside a view; what does not fit is drawn again, with its place [C]."""
    pixels = rng.uniform(*params.area) * side * side
    while True:
        aspect = rng.uniform(*params.aspect)
        high, wide = int(math.sqrt(pixels * aspect)), int(math.sqrt(pixels / aspect))
        top, left = (int(place) for place in rng.integers(0, side, 2))
        if top + high <= side and left + wide <= side:
            return slice(top, top + high), slice(left, left + wide)
