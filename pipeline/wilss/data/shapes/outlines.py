"""Silhouettes of the twenty classes, and of things that belong to no class.

An outline is a tuple of pieces `(points, solid)`: float arrays [n, 2] of (x, y) in about [-1, 1]^2, y down,
painted one after the other, `solid` pieces in and hollow ones out. Every class varies: points, petals, teeth,
proportions are drawn again for each object.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Points = NDArray[np.float64]
Outline = tuple[tuple[Points, bool], ...]
Generator = np.random.Generator

_TURN = 2 * np.pi


def _solid(*pieces: ArrayLike) -> Outline:
    return tuple((np.asarray(piece, dtype=float), True) for piece in pieces)


def _polar(radius: ArrayLike, angle: Points) -> Points:
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _circle(x: float, y: float, rx: float, ry: float | None = None, tilt: float = 0.0) -> Points:
    """An ellipse of 40 points about (x, y), turned by `tilt`."""
    angle = np.linspace(0, _TURN, 40, endpoint=False)
    a, b = rx * np.cos(angle), (rx if ry is None else ry) * np.sin(angle)
    return np.stack([x + a * np.cos(tilt) - b * np.sin(tilt), y + a * np.sin(tilt) + b * np.cos(tilt)], axis=1)


def _mirrored(right: Sequence[tuple[float, float]]) -> Points:
    """A symmetric polygon from its right half, top to bottom."""
    half = np.asarray(right, dtype=float)
    return np.concatenate([half, half[::-1] * [-1, 1]])


def _star(rng: Generator) -> Outline:
    angle = np.arange(10) * _TURN / 10 - _TURN / 4
    inner = rng.uniform(0.42, 0.54)
    return _solid(_polar(np.where(np.arange(10) % 2 == 0, 1.0, inner), angle))


def _heart(rng: Generator) -> Outline:
    t = np.linspace(0, _TURN, 60, endpoint=False)
    x = np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) / 15
    return _solid(np.stack([x, y * rng.uniform(0.88, 1.05) - 0.1], axis=1))


def _moon(rng: Generator) -> Outline:
    bite, reach = rng.uniform(0.72, 0.86), rng.uniform(0.42, 0.55)
    return ((_circle(0, 0, 1), True), (_circle(reach, -0.15, bite), False))


def _flower(rng: Generator) -> Outline:
    petals = int(rng.integers(5, 8))
    out = rng.uniform(0.56, 0.62)
    size = 0.9 * np.sin(np.pi / petals) * out + 0.04
    turns = np.arange(petals) * _TURN / petals
    leaves = [_circle(out * np.cos(a), out * np.sin(a), 1 - out, size, a) for a in turns]
    return _solid(_circle(0, 0, out), *leaves)


def _ring(rng: Generator) -> Outline:
    flat = rng.uniform(0.85, 1.0)
    hole = rng.uniform(0.45, 0.6)
    return ((_circle(0, 0, 1, flat), True), (_circle(0, 0, hole, hole * flat), False))


def _leaf(rng: Generator) -> Outline:
    x = np.linspace(-0.8, 1, 24)
    y = rng.uniform(0.46, 0.6) * np.sin(np.pi * (x + 0.8) / 1.8) ** 0.8
    blade = np.concatenate([np.stack([x, -y], 1), np.stack([x, y], 1)[::-1]])
    return _solid(blade, [(-1.1, -0.09), (-0.6, -0.07), (-0.6, 0.07), (-1.1, 0.09)])


def _fish(rng: Generator) -> Outline:
    deep, fan = rng.uniform(0.46, 0.6), rng.uniform(0.45, 0.6)
    tail = [(-0.45, 0), (-1.05, -fan), (-0.9, 0), (-1.05, fan)]
    fin = [(-0.1, -deep * 0.8), (-0.25, -deep - 0.28), (0.4, -deep * 0.8)]
    return _solid(_circle(0.25, 0, 0.75, deep), tail, fin)


def _drop(rng: Generator) -> Outline:
    t = np.linspace(0, _TURN, 48, endpoint=False)
    wide = rng.uniform(0.78, 0.95)
    return _solid(np.stack([wide * np.sin(t) * np.sin(t / 2) ** rng.uniform(1.1, 1.6), -np.cos(t)], axis=1))


def _cloud(rng: Generator) -> Outline:
    left, right = rng.uniform(0.34, 0.42, 2)
    top = rng.uniform(0.46, 0.56)
    base = [(-0.65, 0.1), (0.65, 0.1), (0.65, 0.5), (-0.65, 0.5)]
    return _solid(
        base,
        _circle(-0.64, 0.5 - left, left),
        _circle(0.64, 0.5 - right, right),
        _circle(rng.uniform(-0.3, 0), -0.08, top),
        _circle(0.33, 0.02, 0.4),
    )


def _arrow(rng: Generator) -> Outline:
    neck, shaft, barb = rng.uniform(-0.05, 0.2), rng.uniform(0.24, 0.34), rng.uniform(0.7, 0.85)
    upper = [(1, 0), (neck, -barb), (neck, -shaft), (-1, -shaft)]
    return _solid(upper + [(x, -y) for x, y in reversed(upper)])


def _gear(rng: Generator) -> Outline:
    teeth = int(rng.integers(7, 10))
    root = rng.uniform(0.72, 0.78)
    step = np.arange(teeth * 4)
    angle = (step + np.tile([0.0, 0.15, 0.0, -0.15], teeth)) * _TURN / (teeth * 4)
    radius = np.where(step % 4 < 2, 1.0, root)
    return ((_polar(radius, angle), True), (_circle(0, 0, rng.uniform(0.26, 0.36)), False))


def _bolt(rng: Generator) -> Outline:
    lean = rng.uniform(-0.08, 0.08)
    points = [(0.15, -1), (0.75, -1), (0.35, -0.3), (0.8, -0.3), (-0.4, 1), (-0.05, 0.1), (-0.6, 0.1)]
    return _solid([(x + lean * y, y) for x, y in points])


def _house(rng: Generator) -> Outline:
    eave, wall = rng.uniform(-0.3, -0.1), rng.uniform(0.62, 0.75)
    body = _mirrored([(0, -0.95), (0.98, eave), (wall, eave), (wall, 0.85)])
    chimney = [(0.35, -0.9), (0.6, -0.9), (0.6, -0.2), (0.35, -0.4)]
    return _solid(body, chimney)


def _mushroom(rng: Generator) -> Outline:
    angle = np.linspace(np.pi, _TURN, 24)
    tall = rng.uniform(0.85, 1.05)
    cap = np.stack([np.cos(angle), 0.1 + tall * np.sin(angle)], axis=1)
    foot = rng.uniform(0.3, 0.42)
    stem = _mirrored([(0.24, 0), (0.26, 0.4), (foot, 0.9)])
    return _solid(cap, [(-1, 0.08), (1, 0.08), (0.85, 0.24), (-0.85, 0.24)], stem)


def _kite(rng: Generator) -> Outline:
    wide, high = rng.uniform(0.62, 0.75), rng.uniform(-0.5, -0.35)
    sail = _mirrored([(0, -1), (wide, high), (0, 0.55)])
    bow = [(-0.3, 0.6), (0, 0.75), (0.3, 0.6), (0.3, 0.98), (0, 0.8), (-0.3, 0.98)]
    return _solid(sail, bow, _mirrored([(0.07, 0.4), (0.07, 0.85)]))


def _tree(rng: Generator) -> Outline:
    low, mid, top = rng.uniform(0.76, 0.9), rng.uniform(0.58, 0.68), rng.uniform(0.4, 0.5)
    crown = _mirrored([(0, -1), (top, -0.4), (0.22, -0.42), (mid, 0.12), (0.3, 0.1), (low, 0.66)])
    return _solid(crown, _mirrored([(0.16, 0.6), (0.16, 1)]))


def _butterfly(rng: Generator) -> Outline:
    big, small, tilt = rng.uniform(0.5, 0.58), rng.uniform(0.34, 0.42), rng.uniform(0.5, 0.75)
    wings = [_circle(0.5 * s, -0.36, big, 0.4, -s * tilt) for s in (-1, 1)]
    wings += [_circle(0.4 * s, 0.42, small, 0.32, s * tilt) for s in (-1, 1)]
    return _solid(*wings, _circle(0, 0.02, 0.11, 0.72))


def _crown(rng: Generator) -> Outline:
    dip, peak = rng.uniform(-0.15, 0.05), rng.uniform(-0.85, -0.65)
    band = _mirrored([(0, peak), (0.42, dip), (0.95, peak + 0.2), (0.78, 0.75)])
    tips = [_circle(0, peak, 0.15), _circle(-0.95, peak + 0.2, 0.13), _circle(0.95, peak + 0.2, 0.13)]
    return _solid(band, *tips)


def _boat(rng: Generator) -> Outline:
    mast, jib = rng.uniform(-0.1, 0.1), rng.uniform(0.5, 0.7)
    hull = _mirrored([(0.98, 0.42), (0.55, 0.92)])
    sail = [(mast, -1), (mast + 0.85, 0.28), (mast, 0.28)]
    fore = [(mast - 0.1, -0.75), (mast - 0.1, 0.28), (mast - 0.1 - jib, 0.28)]
    pole = [(mast - 0.12, -0.95), (mast + 0.02, -0.95), (mast + 0.02, 0.5), (mast - 0.12, 0.5)]
    return _solid(hull, sail, fore, pole)


def _cup(rng: Generator) -> Outline:
    rim, foot = rng.uniform(0.62, 0.7), rng.uniform(0.4, 0.52)
    body = _mirrored([(rim, -0.8), (rim - 0.03, 0), (foot, 0.8)]) - [0.25, 0]
    ear = rng.uniform(0.36, 0.44)
    return (
        (_circle(0.42, -0.15, 0.52, ear + 0.1), True),
        (_circle(0.44, -0.15, 0.3, ear - 0.1), False),
        (body, True),
    )


OUTLINES: dict[str, Callable[[Generator], Outline]] = {
    "star": _star,
    "heart": _heart,
    "moon": _moon,
    "flower": _flower,
    "ring": _ring,
    "leaf": _leaf,
    "fish": _fish,
    "drop": _drop,
    "cloud": _cloud,
    "arrow": _arrow,
    "gear": _gear,
    "bolt": _bolt,
    "house": _house,
    "mushroom": _mushroom,
    "kite": _kite,
    "tree": _tree,
    "butterfly": _butterfly,
    "crown": _crown,
    "boat": _boat,
    "cup": _cup,
}

#: Index = id; 0 is the background.
CLASS_NAMES: tuple[str, ...] = ("background", *OUTLINES)


def blob(rng: Generator) -> Outline:
    """A smooth pebble of no class."""
    angle = np.linspace(0, _TURN, 40, endpoint=False)
    radius = 0.75 + sum(rng.uniform(0.02, 0.16) * np.cos(k * angle + rng.uniform(0, _TURN)) for k in range(2, 5))
    return _solid(_polar(radius, angle))


def shard(rng: Generator) -> Outline:
    """An irregular polygon of no class, three to six corners."""
    corners = int(rng.integers(3, 7))
    angle = (np.arange(corners) + rng.uniform(-0.32, 0.32, corners)) * _TURN / corners
    return _solid(_polar(rng.uniform(0.6, 1.0, corners), angle))


def stroke(rng: Generator) -> Outline:
    """A brush stroke of no class: a bent band from end to end of the frame."""
    t = np.linspace(-1, 1, 24)
    bend = rng.uniform(-0.5, 0.5) * (1 - t**2) + rng.uniform(-0.25, 0.25) * np.sin(np.pi * t)
    half = rng.uniform(0.06, 0.13) * (1 - 0.6 * np.abs(t) ** 3)
    return _solid(np.concatenate([np.stack([t, bend - half], 1), np.stack([t, bend + half], 1)[::-1]]))
