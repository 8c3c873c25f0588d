"""labelme: a json for each image; masks, polygons, rectangles, circles and lines, by its own pixel rule."""

import base64
import binascii
import io
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from wilss.data.annotations.json_files import read_json
from wilss.data.annotations.outlines import drawn_rectangle, drawn_through_pixels
from wilss.data.annotations.records import AnnotatedImage, Annotations, Shape, no_area, size_of, verdict_of
from wilss.data.annotations.runs import Mask, placed
from wilss.errors import ImageError, ManifestError

_FARTHEST = 1e5  # pixels from the corner of an image
_LINES = ("line", "linestrip", "point", "points")


def read_labelme(path: Path) -> Annotations:
    """The json of one image, or those of a folder and of the folders in it, by name."""
    return Annotations(form="labelme", images=_images(path))


def labelme_files(folder: Path) -> Iterator[Path]:
    """The json files below a folder, by name."""
    yield from sorted(file for file in folder.rglob("*.json") if file.is_file())


def _images(path: Path) -> Iterator[AnnotatedImage]:
    files = labelme_files(path) if path.is_dir() else iter([path])
    root = path if path.is_dir() else path.parent
    for file in files:
        inside = file.relative_to(root).as_posix()
        try:
            content = read_json(file)
            if isinstance(content, dict) and isinstance(content.get("shapes"), list):
                yield _image(inside, content)
        except ManifestError as error:
            yield AnnotatedImage(name=inside.removesuffix(".json"), size=None, shapes=(), problem=str(error))


def _image(inside: str, content: Mapping[str, Any]) -> AnnotatedImage:
    """The image beside its json, as labelme saves them; of the ending that `imagePath` has."""
    written = str(content.get("imagePath") or "").replace("\\", "/")
    ending = os.path.splitext(written)[1]
    return AnnotatedImage(
        name=inside.removesuffix(".json") + ending,
        size=size_of(content.get("imageHeight"), content.get("imageWidth")),
        shapes=tuple(_shape(row) for row in content["shapes"] if isinstance(row, dict)),
        verdict=_verdict(content),
    )


def _verdict(content: Mapping[str, Any]) -> str | None:
    flags = content.get("flags")
    return verdict_of([name for name, ticked in flags.items() if ticked is True]) if isinstance(flags, dict) else None


def _shape(row: Mapping[str, Any]) -> Shape:
    kind, points = str(row.get("shape_type") or "polygon"), row.get("points")
    name, verdict = str(row.get("label", "")), _verdict(row)
    if kind in _LINES:
        line = _pixels_of(points)
        return Shape(name=name, kind="scribble", draw=partial(no_area, kind), points=line, verdict=verdict)
    draw = partial(_draw, kind, points, row.get("mask"))
    return Shape(name=name, kind="box" if kind == "rectangle" else "mask", draw=draw, verdict=verdict)


def _draw(kind: str, points: Any, coded: Any, size: tuple[int, int]) -> Mask:
    corners = _corners(points)
    if kind in ("polygon", "oriented_rectangle"):
        return drawn_through_pixels(corners, size)
    if kind == "rectangle":
        return drawn_rectangle(_two(corners), size)
    if kind == "circle":
        return _draw_circle(_two(corners), size)
    if kind == "mask":
        return _draw_mask(coded, _two(corners), size)
    raise ValueError(f"nothing is known of shapes of the kind {kind!r}")


def _draw_mask(coded: Any, corners: Sequence[tuple[float, float]], size: tuple[int, int]) -> Mask:
    """The PNG of a mask inside its box, whose lower right pixel belongs to it."""
    from wilss.data.images import read_label_bytes

    try:
        data = base64.b64decode(coded, validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise ValueError("its mask is no base64") from None
    try:
        values = read_label_bytes(io.BytesIO(data), Path("its mask")).values
    except ImageError as error:
        raise ValueError(str(error).rstrip(".")) from None
    (left, top), (right, bottom) = ((int(x), int(y)) for x, y in corners)
    if values is None or values.shape != (bottom - top + 1, right - left + 1):
        raise ValueError("its mask has another size than its box")
    return placed(values != 0, top, left, size)


def _draw_circle(corners: Sequence[tuple[float, float]], size: tuple[int, int]) -> Mask:
    """Around the first point, through the second, as Pillow draws it."""
    (x, y), (u, v) = corners
    radius = math.hypot(x - u, y - v)
    if not max(abs(x), abs(y), radius) < _FARTHEST:
        raise ValueError("it is far outside of any image")
    canvas = Image.new("1", (size[1], size[0]))
    ImageDraw.Draw(canvas).ellipse((x - radius, y - radius, x + radius, y + radius), fill=1, outline=1)
    return np.array(canvas, np.bool_)


def _corners(points: Any) -> list[tuple[float, float]]:
    if not isinstance(points, list) or not all(isinstance(point, list) and len(point) == 2 for point in points):
        raise ValueError("its points are no pairs of numbers")
    corners = [(float(x), float(y)) for x, y in points]
    if not all(math.isfinite(place) for corner in corners for place in corner):
        raise ValueError("its points are no pairs of numbers")
    return corners


def _two(corners: list[tuple[float, float]]) -> list[tuple[float, float]]:
    if len(corners) != 2:
        raise ValueError(f"it has {len(corners)} points instead of 2")
    return corners


def _pixels_of(points: Any) -> tuple[tuple[int, int], ...]:
    try:
        return tuple((int(x), int(y)) for x, y in _corners(points))
    except (TypeError, ValueError):
        return ()
