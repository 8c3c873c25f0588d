"""Boxes and scribbles as a person might draw them, made from pixel labels: for research and for tests.

Each function takes one class's mask on one image and gives the support map of one kind. What is drawn depends on the
mask and the generator alone, so named generators make the same annotation on any machine.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wilss.data.supports.maps import (
    BACKGROUND,
    FOREGROUND,
    UNKNOWN,
    Box,
    SupportMap,
    line_width,
    map_of_boxes,
    map_of_mask,
)
from wilss.data.supports.regions import middle_line, numbered

Kind = Literal["mask", "box", "scribble"]

#: A scribble runs through the part of the object that is at least this share of its greatest depth from the edge.
_DEEP_IN_OBJECT = (0.3, 0.6)
#: The background's middle is far from everything; its line comes nearer to the object's edge.
_DEEP_IN_BACKGROUND = (0.15, 0.4)
#: A hand does not go to the very ends.
_LENGTH = (0.6, 1.0)


def map_for(kind: Kind, mask: NDArray[np.bool_], void: NDArray[np.bool_], rng: np.random.Generator) -> SupportMap:
    """The support map of any kind: `mask_map`, `box_map` or `scribble_map`. mask, void: bool [H, W]."""
    if kind == "scribble":
        return scribble_map(mask, void, rng)
    return mask_map(mask, void) if kind == "mask" else box_map(mask, void)


def mask_map(mask: NDArray[np.bool_], void: NDArray[np.bool_]) -> SupportMap:
    """The label itself as a map. mask, void: bool [H, W]."""
    return map_of_mask(mask & ~void, void)


def box_map(mask: NDArray[np.bool_], void: NDArray[np.bool_]) -> SupportMap:
    """Boxes around every connected part of `mask` as a map; nothing is known where the mask is empty.

    mask, void: bool [H, W]. A box is drawn without a look at `void`, and says nothing of it.
    """
    boxes = boxes_of(mask & ~void)
    return map_of_boxes(boxes, (mask.shape[0], mask.shape[1])) if boxes else np.full(mask.shape, UNKNOWN, np.uint8)


def scribble_map(mask: NDArray[np.bool_], void: NDArray[np.bool_], rng: np.random.Generator) -> SupportMap:
    """A thin line inside `mask` and one in the background as a map; all else is unknown.

    mask, void: bool [H, W]. Neither line touches `void` or the other's side; an empty side has no line.
    """
    labels = np.full(mask.shape, UNKNOWN, np.uint8)
    labels[scribble_of(mask & ~void, rng, _DEEP_IN_OBJECT)] = FOREGROUND
    labels[scribble_of(~mask & ~void, rng, _DEEP_IN_BACKGROUND)] = BACKGROUND
    return labels


def boxes_of(mask: NDArray[np.bool_]) -> tuple[Box, ...]:
    """The box around each connected part of `mask` [H, W]: labels of classes do not tell instances apart [D]."""
    from scipy import ndimage

    return tuple(
        (columns.start, rows.start, columns.stop, rows.stop) for rows, columns in ndimage.find_objects(numbered(mask))
    )


def scribble_of(
    mask: NDArray[np.bool_], rng: np.random.Generator, deep: tuple[float, float] = _DEEP_IN_OBJECT
) -> NDArray[np.bool_]:
    """A thin line through the middle of a part of `mask`, bool [H, W], nowhere outside of it.

    How deep it stays inside and how much of the way it goes are drawn; where it starts falls on larger parts more
    often.
    """
    drawn = np.zeros(mask.shape, np.bool_)
    if not mask.any():
        return drawn
    way = middle_line(mask, rng.uniform(*deep), rng)
    length = max(1, round(len(way) * rng.uniform(*_LENGTH)))
    start = int(rng.integers(0, len(way) - length + 1))
    drawn[tuple(way[start : start + length].T)] = True
    return _thickened(drawn, line_width((mask.shape[0], mask.shape[1]))) & mask


def _thickened(line: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """`line` under a square brush of `width` pixels."""
    before, after = (width - 1) // 2, width // 2
    framed = np.pad(line, ((before, after), (before, after)))
    windows = np.lib.stride_tricks.sliding_window_view(framed, (width, width))
    return np.asarray(windows.any(axis=(2, 3)))
