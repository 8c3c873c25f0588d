"""Outlines of masks and back: polygons along the edges of pixels, and those through the middles of pixels.

Two rules are about. By COCO's a polygon runs along edges of pixels, and the square from (2, 2) to (6, 6) has 16 pixels:
so read pycocotools, CVAT, datumaro and Label Studio's exports. By labelme's a polygon runs through pixels, which belong
to it, and the same square has 25.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from wilss.data.annotations.runs import Mask
from wilss.data.layouts.coco_json import mask_of, runs_of

#: Column and row of each corner, from the upper left corner of the image; along edges, or of pixels.
Polygon = Sequence[tuple[float, float]]
#: Rows and columns of pixels.
Places = tuple[NDArray[np.intp], NDArray[np.intp]]
_Vertex = tuple[int, int]

_FARTHEST = 1e6


def drawn_along_edges(corners: Polygon, size: tuple[int, int]) -> Mask:
    """A polygon by COCO's rule, bool [H, W] of `size`. Raises ValueError, and ImageError without pycocotools."""
    flat = [float(place) for corner in corners for place in corner]
    runs = runs_of([flat], *size) if len(flat) >= 6 else None
    return np.zeros(size, np.bool_) if runs is None else mask_of(runs, *size)


def drawn_through_pixels(corners: Polygon, size: tuple[int, int]) -> Mask:
    """A polygon by labelme's rule: what is inside and the line itself, of corners without their fractions.

    bool [H, W] of `size`. Raises ValueError.
    """
    canvas = Image.new("1", (size[1], size[0]))
    whole = _whole(corners)
    if len(whole) > 2:
        ImageDraw.Draw(canvas).polygon(whole, fill=1, outline=1)
    return np.array(canvas, np.bool_)


def drawn_rectangle(corners: Polygon, size: tuple[int, int]) -> Mask:
    """The rectangle between two corners by labelme's rule: both are in it. Raises ValueError."""
    (x0, y0), (x1, y1) = _whole(corners)
    mask = np.zeros(size, np.bool_)
    mask[max(min(y0, y1), 0) : max(max(y0, y1) + 1, 0), max(min(x0, x1), 0) : max(max(x0, x1) + 1, 0)] = True
    return mask


def drawn_box(left: float, top: float, right: float, bottom: float, size: tuple[int, int]) -> Mask:
    """The pixels of a box whose right and bottom are edges, each to the nearest edge; at least one. Raises ValueError.

    bool [H, W] of `size`.
    """
    _require_near([(left, top), (right, bottom)])
    mask = np.zeros(size, np.bool_)
    (y0, y1), (x0, x1) = _side(top, bottom, size[0]), _side(left, right, size[1])
    mask[y0:y1, x0:x1] = True
    return mask


def _side(first: float, last: float, most: int) -> tuple[int, int]:
    start, end = sorted((round(first), round(last)))
    return min(max(start, 0), most), min(max(end, start + 1, 0), most)


def _whole(corners: Polygon) -> list[_Vertex]:
    _require_near(corners)
    return [(int(x), int(y)) for x, y in corners]


def _require_near(corners: Any) -> None:
    if not all(abs(float(place)) <= _FARTHEST for corner in corners for place in corner):
        raise ValueError("it has a corner far outside of any image")


def outlines_along_edges(mask: Mask) -> Iterator[list[_Vertex]]:
    """A polygon for each part of a mask, which COCO's rule draws as exactly that part, its holes left out.

    Parts are connected by the sides of pixels. A hole is joined to the outline by a cut that runs there and back.
    """
    for loops in _loops_of_parts(mask):
        yield _joined([_corners(loop) for loop in loops])


def outlines_through_pixels(mask: Mask) -> Iterator[tuple[list[_Vertex] | None, Places]]:
    """A polygon for each part of a mask, which labelme's rule draws as exactly that part, and where the part lies.

    Parts are connected by the sides of pixels. There is None for parts with holes, and for some with thin bays.
    """
    for ((top, left), crop), loops in zip(_parts(mask), _loops_of_parts(mask), strict=True):
        rows, columns = np.nonzero(crop)
        pixels = _corners(_pixels_inside(loops[0])) if len(loops) == 1 else []
        corners = [(x - left, y - top) for x, y in pixels]
        padded = [*corners, *corners[-1:] * (3 - len(corners))]
        exact = bool(pixels) and np.array_equal(drawn_through_pixels(padded, crop.shape), crop)
        yield [(x + left, y + top) for x, y in padded] if exact else None, (rows + top, columns + left)


def _parts(mask: Mask) -> Iterator[tuple[tuple[int, int], Mask]]:
    """(top, left) and pixels inside the box of each part of a mask."""
    from scipy import ndimage

    numbers, _ = ndimage.label(mask)
    for number, (rows, columns) in enumerate(ndimage.find_objects(numbers), start=1):
        yield (rows.start, columns.start), numbers[rows, columns] == number


def _loops_of_parts(mask: Mask) -> Iterator[list[list[_Vertex]]]:
    """For each part the closed ways around it, the outer one first, from corner to corner of pixels."""
    for (top, left), part in _parts(mask):
        yield [[(x + left, y + top) for x, y in loop] for loop in sorted(_loops(part), key=min)]


def _loops(part: Mask) -> Iterator[list[_Vertex]]:
    """The ways along the edges of a part, with the part on the right of each."""
    following = _edges(part)
    while following:
        start = min(following)
        before, here = None, start
        loop: list[_Vertex] = []
        while True:
            loop.append(here)
            ends = following[here]
            end = ends[0] if len(ends) == 1 or before is None else _to_the_right(before, here, ends)
            ends.remove(end)
            if not ends:
                del following[here]
            before, here = here, end
            if here == start:
                break
        yield loop


def _edges(part: Mask) -> dict[_Vertex, list[_Vertex]]:
    """Where the edges that begin in a corner end: (x, y) -> one or two corners."""
    framed = np.pad(part, 1)
    inside = framed[1:-1, 1:-1]
    sides = (  # where the neighbour is no part of it; from the pixel to the begin and the end of the edge
        (inside & ~framed[:-2, 1:-1], (0, 0), (1, 0)),
        (inside & ~framed[1:-1, 2:], (1, 0), (1, 1)),
        (inside & ~framed[2:, 1:-1], (1, 1), (0, 1)),
        (inside & ~framed[1:-1, :-2], (0, 1), (0, 0)),
    )
    following: dict[_Vertex, list[_Vertex]] = {}
    for there, (x0, y0), (x1, y1) in sides:
        for y, x in np.argwhere(there).tolist():
            following.setdefault((x + x0, y + y0), []).append((x + x1, y + y1))
    return following


def _to_the_right(before: _Vertex, here: _Vertex, ends: Sequence[_Vertex]) -> _Vertex:
    """Which of two edges stays at the same pixel, so that pixels that touch by a corner are not joined there."""
    x, y = here[0] - before[0], here[1] - before[1]
    right = (here[0] - y, here[1] + x)
    return right if right in ends else ends[0]


def _corners(loop: Sequence[_Vertex]) -> list[_Vertex]:
    """A closed way without the points at which it goes straight on, and without stops."""
    moving = [point for point, before in zip(loop, (loop[-1], *loop[:-1]), strict=True) if point != before]
    if len(moving) < 3:
        return moving or list(loop[:1])
    around = zip((moving[-1], *moving[:-1]), moving, (*moving[1:], moving[0]), strict=True)
    return [here for before, here, after in around if _step(before, here) != _step(here, after)]


def _step(start: _Vertex, end: _Vertex) -> tuple[float, float]:
    """The direction of a line."""
    x, y = end[0] - start[0], end[1] - start[1]
    length = max(abs(x), abs(y))
    return x / length, y / length


def _pixels_inside(loop: Sequence[_Vertex]) -> list[_Vertex]:
    """The pixels on the right of each edge of a way."""
    at = {(1, 0): (0, 0), (0, 1): (-1, 0), (-1, 0): (-1, -1), (0, -1): (0, -1)}
    pairs: Iterable[tuple[_Vertex, _Vertex]] = zip(loop, (*loop[1:], loop[0]), strict=True)
    return [
        (start[0] + at[end[0] - start[0], end[1] - start[1]][0], start[1] + at[end[0] - start[0], end[1] - start[1]][1])
        for start, end in pairs
    ]


def _joined(loops: list[list[_Vertex]]) -> list[_Vertex]:
    """The outer way with every hole cut open from its leftmost corner to what lies left of it."""
    outline = loops[0]
    for hole in sorted(loops[1:], key=min):
        first = hole.index(min(hole))
        x, y = hole[first]
        place, meeting = _left_of(outline, x, y)
        outline = [*outline[: place + 1], meeting, *hole[first:], *hole[: first + 1], meeting, *outline[place + 1 :]]
    return outline


def _left_of(outline: Sequence[_Vertex], x: int, y: int) -> tuple[int, _Vertex]:
    """The line of a way that lies next to the left of a point, by the place of its begin, and where it is met."""
    best, at = -1, 0
    for place, (start, end) in enumerate(zip(outline, (*outline[1:], outline[0]), strict=True)):
        if start[0] == end[0] and best < start[0] < x and min(start[1], end[1]) <= y <= max(start[1], end[1]):
            best, at = start[0], place
    return at, (best, y)
