"""Outlines of masks and back: polygons along the edges of pixels, and those through the middles of pixels.

Two rules are about. By COCO's a polygon runs along edges of pixels, and the square from (2, 2) to (6, 6) has 16 pixels:
so read pycocotools, CVAT, datumaro and Label Studio's exports. By labelme's a polygon runs through pixels, which belong
to it, and the same square has 25.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
_Loop = list[_Vertex]

_FARTHEST = 1e6


def drawn_along_edges(corners: Polygon, size: tuple[int, int]) -> Mask:
    """A polygon by COCO's rule, bool [H, W] of `size`. Raises ValueError, and ImageError without pycocotools."""
    flat = [float(place) for corner in corners for place in corner]
    runs = runs_of([flat], *size) if len(flat) >= 6 else None
    return np.zeros(size, np.bool_) if runs is None else mask_of(runs, *size)


def turned(point: tuple[float, float], around: tuple[float, float], degrees: float) -> tuple[float, float]:
    """A point (column, row), turned clockwise as one sees it."""
    angle = math.radians(degrees)
    x, y = point[0] - around[0], point[1] - around[1]
    return around[0] + x * math.cos(angle) - y * math.sin(angle), around[1] + x * math.sin(angle) + y * math.cos(angle)


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


def drawn_ellipse(
    middle: tuple[float, float], radii: tuple[float, float], degrees: float, size: tuple[int, int]
) -> Mask:
    """The pixels whose centres lie in an ellipse that is turned clockwise around its middle; columns come before rows.

    bool [H, W] of `size`. Raises ValueError.
    """
    _require_near([middle, radii])
    if not min(radii) > 0:
        raise ValueError("it has no radius")
    angle = math.radians(degrees)
    rows, columns = np.ogrid[: size[0], : size[1]]
    x, y = columns + 0.5 - middle[0], rows + 0.5 - middle[1]
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    inside: Mask = (along / radii[0]) ** 2 + (across / radii[1]) ** 2 <= 1
    return inside


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
    for ((top, left), part), loops in _parts_with_loops(mask):
        yield [(x + left, y + top) for x, y in _corners(_joined(part, loops))]


def outlines_through_pixels(mask: Mask) -> Iterator[tuple[list[_Vertex] | None, Places]]:
    """A polygon for each part of a mask, which labelme's rule draws as exactly that part, and where the part lies.

    Parts are connected by the sides of pixels. There is None for parts with holes, and for some with thin bays.
    """
    for ((top, left), crop), loops in _parts_with_loops(mask):
        rows, columns = np.nonzero(crop)
        corners = _corners(_pixels_inside(loops[0])) if len(loops) == 1 else []
        padded = [*corners, *corners[-1:] * (3 - len(corners))]
        exact = bool(corners) and np.array_equal(drawn_through_pixels(padded, crop.shape), crop)
        yield [(x + left, y + top) for x, y in padded] if exact else None, (rows + top, columns + left)


def _parts(mask: Mask) -> Iterator[tuple[tuple[int, int], Mask]]:
    """(top, left) and pixels inside the box of each part of a mask."""
    from scipy import ndimage

    numbers, _ = ndimage.label(mask)
    for number, (rows, columns) in enumerate(ndimage.find_objects(numbers), start=1):
        yield (rows.start, columns.start), numbers[rows, columns] == number


def _parts_with_loops(mask: Mask) -> Iterator[tuple[tuple[tuple[int, int], Mask], list[_Loop]]]:
    """Each part, and the closed ways around it and its holes inside its box, the outer one first."""
    for place, part in _parts(mask):
        yield (place, part), sorted(_loops(part), key=min)


def _loops(part: Mask) -> Iterator[_Loop]:
    """The ways along the edges of a part from corner to corner of pixels, with the part on the right of each."""
    following = _edges(part)
    for start in sorted(following):
        while start in following:
            yield _way_from(start, following)


def _way_from(start: _Vertex, following: dict[_Vertex, list[_Vertex]]) -> _Loop:
    """A way back to `start`; its edges are taken out of `following`."""
    loop: _Loop = []
    before, here = None, start
    while not loop or here != start:
        loop.append(here)
        ends = following[here]
        end = ends[0] if len(ends) == 1 or before is None else _to_the_right(before, here, ends)
        ends.remove(end)
        if not ends:
            del following[here]
        before, here = here, end
    return loop


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


def _joined(part: Mask, loops: Sequence[_Loop]) -> _Loop:
    """The outer way, with every hole cut open from its leftmost corner to what lies left of it in the same row."""
    begins = {hole: _first_corner(loop) for hole, loop in enumerate(loops) if hole}
    left_sides = {
        end: (number, place + 1)
        for number, loop in enumerate(loops)
        for place, (start, end) in enumerate(zip(loop, (*loop[1:], loop[0]), strict=True))
        if end[1] < start[1]
    }
    holes_at: dict[tuple[int, int], list[int]] = {}
    for hole, begin in begins.items():
        x, y = loops[hole][begin]
        gaps = np.flatnonzero(~part[y, :x])
        met = int(gaps[-1]) + 1 if gaps.size else 0
        number, place = left_sides[met, y]
        holes_at.setdefault((number, place % len(loops[number])), []).append(hole)
    return _walked(loops, begins, holes_at)


def _first_corner(loop: _Loop) -> int:
    """The place of the leftmost corner, and of these the highest."""
    return loop.index(min(loop))


def _walked(loops: Sequence[_Loop], begins: Mapping[int, int], holes_at: Mapping[tuple[int, int], list[int]]) -> _Loop:
    """Around the outer way, and from where a hole is joined to it around that and back, and so on.

    holes_at: the holes that are joined to a place of a way. Holes may be joined to holes, as many in a row as there
    are, so that those that are under way are kept in a list.
    """

    def around(number: int) -> Iterator[_Vertex | int]:
        """Corners of a way and the holes that are joined to it, after their corner; a hole's first corner twice."""
        loop = loops[number]
        first = begins.get(number, 0)
        for step in range(len(loop)):
            place = (first + step) % len(loop)
            yield loop[place]
            yield from holes_at.get((number, place), ())
        if number:
            yield loop[first]

    walked: _Loop = []
    under_way: list[tuple[Iterator[_Vertex | int], _Vertex]] = [(around(0), loops[0][0])]
    while under_way:
        for met in under_way[-1][0]:
            if isinstance(met, int):
                under_way.append((around(met), walked[-1]))
                break
            walked.append(met)
        else:
            _, joined_at = under_way.pop()
            if under_way:
                walked.append(joined_at)
    return walked
