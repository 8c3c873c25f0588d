"""PseudoSeg's strong view: another light and a square cut out, on top of a weak view (PseudoSeg, Sec. 3.1).

Y. Zou et al., "PseudoSeg: Designing Pseudo Labels for Semantic Segmentation", ICLR 2021. Pixels keep their places, so
labels of the weak view are labels of the strong one, but for the square.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from wilss.data.images import IMAGENET_MEAN
from wilss.params import Params, Rule, Share

from ..augment import mean_colour

_HUES = 256  # values of a hue in eight bits


@dataclass(frozen=True, kw_only=True)
class StrongParams(Params):
    """Published values [C].

    brightness, contrast, saturation: factors are drawn from 1 - s to 1 + s. hue: it is turned by up to this part of
    the whole circle. cutout: side of the square cut out, as a part of the view's side; 0 for none.
    """

    brightness: Share = 0.5
    contrast: Share = 0.5
    saturation: Share = 0.5
    hue: Annotated[float, Rule("between 0 and 0.5", lambda value: 0 <= value <= 0.5)] = 0.25
    cutout: Share = 0.2


def strong_view(
    image: NDArray[np.uint8],
    params: StrongParams,
    rng: np.random.Generator,
    mean: Sequence[float] = IMAGENET_MEAN,
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The strong view of a weak one uint8 [S, S, 3], and where it shows nothing, bool [S, S].

    mean: of the input, which stands in the square.
    """
    lit = jittered(image, params, rng)
    hole = _square(image.shape[0], params.cutout, rng)
    lit[hole] = mean_colour(mean)
    return lit, hole


def jittered(image: NDArray[np.uint8], params: StrongParams, rng: np.random.Generator) -> NDArray[np.uint8]:
    """An image uint8 [S, S, 3] in another light: brightness, contrast, saturation and hue, in random order."""
    strengths = (params.brightness, params.contrast, params.saturation)
    factors = [1 + strength * rng.uniform(-1, 1) for strength in strengths]
    turn = params.hue * rng.uniform(-1, 1)
    changed = Image.fromarray(image)
    for which in rng.permutation(4).tolist():
        changed = _turned(changed, turn) if which == 3 else _CHANGES[which](changed).enhance(factors[which])
    return np.array(changed)


_CHANGES = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)


def _turned(image: Image.Image, turn: float) -> Image.Image:
    """The image with every hue turned by `turn` of the whole circle."""
    hue, saturation, value = image.convert("HSV").split()
    by = round(turn * _HUES) % _HUES
    table = [*range(by, _HUES), *range(by)]
    return Image.merge("HSV", (hue.point(table), saturation, value)).convert("RGB")


def _square(side: int, part: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """A square of `part` of the side, wholly inside, bool [side, side]."""
    cut = round(part * side)
    top, left = (int(place) for place in rng.integers(0, side - cut + 1, 2))
    hole = np.zeros((side, side), np.bool_)
    hole[top : top + cut, left : left + cut] = True
    return hole
