"""What pictures of several rooms share: words in any script, borders, a class's colour, a picture as a file's bytes."""

import io
import itertools
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFont


def font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings along; it has most of Europe's letters. size: in pixels."""
    return _opened(_own_font(bold=bold), size)


def words(text: str, size: int, *, bold: bool = False) -> tuple[str, ImageFont.FreeTypeFont]:
    """What to draw for `text`, and a font that has its letters: see `font_path`. size: in pixels.

    Letters that no font of this machine has are written as their numbers, `\\u732b`, so that two names stay two.
    """
    path = font_path(text, bold=bold)
    known = _letters(path)
    shown = (c if ord(c) in known else c.encode("ascii", "backslashreplace").decode() for c in text)
    return "".join(shown), _opened(path, size)


@lru_cache(maxsize=32)
def _opened(path: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)


@lru_cache(maxsize=1024)
def font_path(text: str, *, bold: bool = False) -> str:
    """DejaVu Sans where it has all letters of `text`, else the first font of this machine that has them, if any."""
    from matplotlib.font_manager import findSystemFonts

    own, wanted = _own_font(bold=bold), {ord(letter) for letter in text}
    if wanted <= _letters(own):
        return own
    others = sorted(findSystemFonts(), key=lambda path: ("Regular" not in path, path))
    return next((path for path in others if wanted <= _letters(path)), own)


def _own_font(*, bold: bool) -> str:
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name)


@lru_cache(maxsize=1024)
def _letters(path: str) -> frozenset[int]:
    """The letters of a font file, as numbers; none of one that cannot be read."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError, ValueError):
        return frozenset()


def encoded(picture: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    """The picture as the bytes of a file; options: Pillow's for that form."""
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def borders(labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Pixels with a neighbour of another label, on both sides of a border; the frame is none. labels: [H, W]."""
    border = np.zeros(labels.shape, np.bool_)
    down, right = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    border[1:] |= down
    border[:-1] |= down
    border[:, 1:] |= right
    border[:, :-1] |= right
    return border


# -- the colour of a class --------------------------------------------------------------------------------------

#: The candidates: lightness and chroma of OKLCH, and a hue every so many degrees.
_LIGHTNESS, _CHROMA, _HUE_STEP = (0.55, 0.66, 0.77, 0.88), (0.11, 0.15, 0.19, 0.24), 5
#: How much a difference of lightness counts beside one of hue: masks lie over light and dark photographs.
_LIGHTNESS_WEIGHT = 0.6
_FIRST = (0.77, 0.08, 0.15)  # orange, in OKLab
_NEIGHBOURS, _NEIGHBOURS_APART = 3, 0.18  # ids before a class, and how far its colour is from theirs at least
_VOID_COLOUR = (224, 224, 192)


@lru_cache(maxsize=1)
def class_colours() -> NDArray[np.uint8]:
    """The colour of every taxonomy id in all pictures, uint8 [256, 3]: black for background, pale for void.

    Each next class is as far as can be from all before it, by hue first, and never near those right before it: few
    classes are far apart, and neighbours always are.
    """
    candidates = _candidates()
    scaled = candidates * (_LIGHTNESS_WEIGHT, 1, 1)
    chosen = [int(np.argmin(np.linalg.norm(candidates - _FIRST, axis=1)))]
    nearest = np.full(len(scaled), np.inf)
    while len(chosen) < 254:
        nearest = np.minimum(nearest, np.linalg.norm(scaled - scaled[chosen[-1]], axis=1))
        to_latest = np.linalg.norm(scaled[:, None] - scaled[chosen[-_NEIGHBOURS:]], axis=2).min(axis=1)
        chosen.append(int(np.argmax(np.where(to_latest > _NEIGHBOURS_APART, nearest, nearest - 1))))
    colours = (_srgb(candidates[chosen]).clip(0, 1) * 255).round().astype(np.uint8)
    return np.concatenate([np.zeros((1, 3), np.uint8), colours, np.array([_VOID_COLOUR], np.uint8)])


def _candidates() -> NDArray[np.float64]:
    """Colours in OKLab [N, 3] that a screen can show."""
    grid = np.array(list(itertools.product(_LIGHTNESS, _CHROMA, np.radians(np.arange(0, 360, _HUE_STEP)))))
    lab = np.stack([grid[:, 0], grid[:, 1] * np.cos(grid[:, 2]), grid[:, 1] * np.sin(grid[:, 2])], axis=1)
    shown = _srgb(lab)
    return lab[((shown >= 0) & (shown <= 1)).all(axis=1)]


def _srgb(lab: NDArray[np.float64]) -> NDArray[np.float64]:
    """OKLab [N, 3] to sRGB, in [0, 1] where a screen can show it (Ottosson, "A perceptual color space", 2020)."""
    to_cones = np.array([[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728],
                         [1, -0.0894841775, -1.2914855480]])  # fmt: skip
    to_linear = np.array([[4.0767416621, -3.3077115913, 0.2309699292], [-1.2684380046, 2.6097574011, -0.3413193965],
                          [-0.0041960863, -0.7034186147, 1.7076147010]])  # fmt: skip
    linear = ((lab @ to_cones.T) ** 3) @ to_linear.T
    curved = 1.055 * np.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055
    return np.asarray(np.where(linear <= 0.0031308, 12.92 * linear, curved))
