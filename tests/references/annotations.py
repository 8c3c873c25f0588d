"""Codes and pixel rules of annotation tools, slowly: loops and lists, importing nothing of ours."""

from fractions import Fraction

import numpy as np


def rows_of_runs(runs: list[int], height: int, width: int) -> np.ndarray:
    """Run lengths row by row, 0s first: bool [H, W]."""
    pixels, value = [], False
    for run in runs:
        pixels += [value] * run
        value = not value
    return np.array(pixels, bool).reshape(height, width)


def runs_of_rows(mask: np.ndarray) -> list[int]:
    """The same back; the first run is of 0s, and is 0 where the mask begins with a 1."""
    runs, value = [0], False
    for pixel in mask.ravel().tolist():
        if pixel != value:
            runs.append(0)
            value = not value
        runs[-1] += 1
    return runs


def values_of_brush(packed: list[int]) -> list[int]:
    """All values of a packed brush, read bit by bit from text (thi.ng's rle-pack)."""
    text, place = "".join(f"{byte:08b}" for byte in packed), 0

    def take(count: int) -> int:
        nonlocal place
        place += count
        return int(text[place - count : place], 2)

    count, word = take(32), take(5) + 1
    sizes = [take(4) + 1 for _ in range(4)]
    values: list[int] = []
    while len(values) < count:
        repeats = take(1)
        length = take(sizes[take(2)]) + 1
        values += [take(word)] * length if repeats else [take(word) for _ in range(length)]
    return values


def brush_of_values(values: list[int], sizes: tuple[int, ...] = (3, 4, 8, 16)) -> list[int]:
    """A brush without any repetition: each value is written out, in runs of at most 2 ** sizes[0]."""
    text = f"{len(values):032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in sizes)
    most = 1 << sizes[0]
    for first in range(0, len(values), most):
        part = values[first : first + most]
        text += f"000{len(part) - 1:0{sizes[0]}b}" + "".join(f"{value:08b}" for value in part)
    text += "0" * (-len(text) % 8)
    return [int(text[first : first + 8], 2) for first in range(0, len(text), 8)]


def inside(x: Fraction, y: Fraction, corners: list[tuple[int, int]]) -> bool:
    """Whether a point is inside a polygon, by how often a ray to the right crosses its sides."""
    crossings = 0
    for (x0, y0), (x1, y1) in zip(corners, [*corners[1:], corners[0]], strict=True):
        if (y0 > y) != (y1 > y):
            at = x0 + (y - y0) * Fraction(x1 - x0, y1 - y0)
            crossings += at > x
    return crossings % 2 == 1


def along_edges(corners: list[tuple[int, int]], height: int, width: int) -> np.ndarray:
    """The pixels whose middle is inside a polygon along edges of pixels: bool [H, W]."""
    half = Fraction(1, 2)
    return np.array([[inside(x + half, y + half, corners) for x in range(width)] for y in range(height)], bool)


def through_pixels(corners: list[tuple[int, int]], height: int, width: int) -> np.ndarray:
    """The pixels inside a polygon or on it, whose sides run along rows, columns or diagonals: bool [H, W]."""
    drawn = np.array([[inside(Fraction(x), Fraction(y), corners) for x in range(width)] for y in range(height)], bool)
    for (x0, y0), (x1, y1) in zip(corners, [*corners[1:], corners[0]], strict=True):
        steps = max(abs(x1 - x0), abs(y1 - y0))
        for step in range(steps + 1):
            x = x0 + (x1 - x0) * step // max(steps, 1)
            y = y0 + (y1 - y0) * step // max(steps, 1)
            if 0 <= x < width and 0 <= y < height:
                drawn[y, x] = True
    return drawn
