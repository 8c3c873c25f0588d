"""A support map: what one annotation says of every pixel of its image, whatever it was drawn with.

A map is uint8 [H, W]: FOREGROUND where the class is, BACKGROUND where it is not, UNKNOWN where the annotation says
nothing. A mask, boxes and a scribble all become such a map, and the same three values stand in the PNG of a support.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

BACKGROUND, FOREGROUND, UNKNOWN = 0, 1, 255

SupportMap = NDArray[np.uint8]
#: Left, top, right, bottom in pixels; right and bottom are not part of the box.
Box = tuple[int, int, int, int]
#: Column and row of a pixel.
Point = tuple[int, int]

#: A scribble's line is one pixel wide for so many pixels of the image's shorter side.
_SIDE_PER_LINE_PIXEL = 125


def map_of_mask(mask: NDArray[np.bool_], void: NDArray[np.bool_]) -> SupportMap:
    """The map of a whole mask: everything is known but for `void`. mask, void: bool [H, W]."""
    labels = np.where(mask, FOREGROUND, BACKGROUND).astype(np.uint8)
    labels[void] = UNKNOWN
    return labels


def map_of_boxes(boxes: Sequence[Box], size: tuple[int, int]) -> SupportMap:
    """The map of the boxes around all instances of a class (PANet Sec. 3.4, weak annotations).

    Inside the largest box is foreground and outside of every box is background. The other boxes are unknown: of
    several boxes the largest is the least likely to hold mostly background [D].
    """
    labels = np.full(size, BACKGROUND, np.uint8)
    largest = max(boxes, key=lambda box: (box[2] - box[0]) * (box[3] - box[1]))
    for box, value in (*((box, UNKNOWN) for box in boxes), (largest, FOREGROUND)):
        labels[box[1] : box[3], box[0] : box[2]] = value
    return labels


def map_of_lines(
    foreground: Sequence[Sequence[Point]], background: Sequence[Sequence[Point]], size: tuple[int, int]
) -> SupportMap:
    """The map of lines through these points: the object's and those of what is around it.

    Where no line says what is background, it is what lies outside the box around the object's lines, grown on each
    side by its own width and height [D]; see `background_beside`.
    """
    labels = np.full(size, UNKNOWN, np.uint8)
    labels[_drawn(background, size)] = BACKGROUND
    labels[_drawn(foreground, size)] = FOREGROUND
    return labels if background else background_beside(labels)


def background_beside(found: SupportMap) -> SupportMap:
    """`found`, whose annotation names no background, with the guess that it lies well away from the object.

    A line covers a part of its object only, so the box around it is grown on each side by its own size. Where that
    fills the image nothing is known of the background, and the other supports must say what it looks like.
    """
    rows, columns = np.nonzero(found == FOREGROUND)
    if not rows.size or (found == BACKGROUND).any():
        return found
    high, wide = int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1
    near = np.zeros(found.shape, np.bool_)
    near[max(rows.min() - high, 0) : rows.max() + high + 1, max(columns.min() - wide, 0) : columns.max() + wide + 1] = 1
    return np.where(near, found, np.uint8(BACKGROUND))


def line_width(size: tuple[int, int]) -> int:
    """How thick a scribble is on an image of this (height, width): three pixels where VOC's images have it."""
    return max(1, round(min(size) / _SIDE_PER_LINE_PIXEL))


def _drawn(lines: Sequence[Sequence[Point]], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Where the lines run, bool [H, W]; a line of one point is a dot."""
    canvas = Image.new("1", (size[1], size[0]))
    draw, width = ImageDraw.Draw(canvas), line_width(size)
    for points in lines:
        draw.line(list(points), fill=1, width=width, joint="curve")
        draw.point(list(points), fill=1)
    return np.asarray(canvas, np.bool_)
