"""Texture families and harmonious colours.

A family maps local coordinates to a field in [0, 1] that mixes two colours. Families are shared between
classes, so that a texture hints at a class and never settles it.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Field = NDArray[np.float32]
Generator = np.random.Generator

_TAU = np.float32(2 * np.pi)


def _crisp(wave: Field, sharpness: float = 3.0) -> Field:
    """A wave in [-1, 1] as a field in [0, 1] with soft edges."""
    return np.asarray(np.clip(0.5 + 0.5 * sharpness * wave, 0, 1), dtype=np.float32)


def _wave(phase: Field) -> Field:
    return np.asarray(np.sin(_TAU * phase), dtype=np.float32)


def _stripes(u: Field, v: Field, rng: Generator) -> Field:
    phase, bias = rng.random(2)
    return _crisp(_wave(u + np.float32(phase)) + np.float32(0.5 * bias - 0.25))


def _checks(u: Field, v: Field, rng: Generator) -> Field:
    a, b = rng.random(2)
    return _crisp(_wave(0.7 * u + np.float32(a)) * _wave(0.7 * v + np.float32(b)), 5.0)


def _dots(u: Field, v: Field, rng: Generator) -> Field:
    a, b = rng.random(2)
    return _crisp(_wave(u + np.float32(a)) + _wave(v + np.float32(b)) - np.float32(rng.uniform(0.5, 0.9)), 2.0)


def _hoops(u: Field, v: Field, rng: Generator) -> Field:
    x, y = rng.normal(0, 0.7, 2)
    return _crisp(_wave(np.hypot(u - np.float32(x), v - np.float32(y))))


def _waves(u: Field, v: Field, rng: Generator) -> Field:
    phase, bend = rng.random(2)
    return _crisp(_wave(u + np.float32(0.35) * _wave(0.5 * v + np.float32(phase)) + np.float32(bend)))


def _zigzag(u: Field, v: Field, rng: Generator) -> Field:
    tooth = np.abs((0.8 * v + np.float32(rng.random())) % 1 - np.float32(0.5)) * 2
    return _crisp(_wave(u + tooth * np.float32(0.8)))


def _scales(u: Field, v: Field, rng: Generator) -> Field:
    row = np.floor(v * np.float32(1.3))
    x = (u + np.float32(0.5) * (row % 2)) % 1 - np.float32(0.5)
    y = v * np.float32(1.3) - row
    return _crisp((np.hypot(x, y * np.float32(0.55)) - np.float32(0.383)) * 2, 6.0)


def _patches(u: Field, v: Field, rng: Generator) -> Field:
    """Cow-hide patches: smooth noise, cut at its middle. The noise lies on the pixels, not on (u, v)."""
    height, width = u.shape
    period = 1.0 / max(float(np.abs(np.diff(u[0, :2]))[0] + np.abs(np.diff(v[0, :2]))[0]), 1e-3)
    cells = (max(2, round(1.6 * width / period)), max(2, round(1.6 * height / period)))
    grain = rng.random((cells[1], cells[0]), dtype=np.float32)
    noise = np.asarray(Image.fromarray(grain).resize((width, height), Image.Resampling.BICUBIC))
    return _crisp(noise - np.float32(0.5), 9.0)


FAMILIES: dict[str, Callable[[Field, Field, Generator], Field]] = {
    "stripes": _stripes,
    "checks": _checks,
    "dots": _dots,
    "hoops": _hoops,
    "waves": _waves,
    "zigzag": _zigzag,
    "scales": _scales,
    "patches": _patches,
}

#: Each class wears two or three families; each family is worn by five or six classes.
CLASS_FAMILIES: dict[str, tuple[str, ...]] = {
    "star": ("stripes", "dots"),
    "heart": ("dots", "checks", "hoops"),
    "moon": ("patches", "waves"),
    "flower": ("hoops", "stripes"),
    "ring": ("zigzag", "stripes", "patches"),
    "leaf": ("waves", "stripes"),
    "fish": ("scales", "stripes"),
    "drop": ("waves", "hoops"),
    "cloud": ("scales", "waves", "patches"),
    "arrow": ("zigzag", "checks"),
    "gear": ("checks", "patches"),
    "bolt": ("zigzag", "stripes"),
    "house": ("checks", "scales"),
    "mushroom": ("dots", "patches"),
    "kite": ("checks", "zigzag", "dots"),
    "tree": ("scales", "zigzag"),
    "butterfly": ("dots", "hoops", "patches"),
    "crown": ("dots", "zigzag"),
    "boat": ("waves", "scales", "checks"),
    "cup": ("hoops", "scales"),
}

#: Degrees in LCh: a class leans towards a hue (hearts are often red) and takes any other one now and then.
FAVOURITE_HUES: dict[str, float] = {
    "star": 90,
    "heart": 20,
    "moon": 100,
    "flower": 350,
    "ring": 70,
    "leaf": 140,
    "fish": 50,
    "drop": 240,
    "cloud": 230,
    "arrow": 145,
    "gear": 260,
    "bolt": 95,
    "house": 35,
    "mushroom": 25,
    "kite": 310,
    "tree": 150,
    "butterfly": 300,
    "crown": 85,
    "boat": 250,
    "cup": 190,
}


def lch(lightness: float, chroma: float, hue: float) -> NDArray[np.float32]:
    """The sRGB colour [3] in [0, 1] of an OKLCh lightness, chroma and hue in degrees, clipped."""
    a, b = chroma * np.cos(np.radians(hue)), chroma * np.sin(np.radians(hue))
    cone = np.array(
        [
            lightness + 0.3963377774 * a + 0.2158037573 * b,
            lightness - 0.1055613458 * a - 0.0638541728 * b,
            lightness - 0.0894841775 * a - 1.2914855480 * b,
        ]
    )
    linear = np.clip(_CONE_TO_RGB @ cone**3, 0, 1)
    coded = np.where(linear < 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(coded, dtype=np.float32)


_CONE_TO_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)
