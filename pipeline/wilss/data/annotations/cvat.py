"""CVAT for images 1.1: one xml, alone or as annotations.xml in a zip; masks, polygons, ellipses, boxes and lines."""

import contextlib
import lzma
import math
import zipfile
import zlib
from collections import deque
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import IO
from xml.parsers import expat

from wilss.data.annotations.outlines import drawn_along_edges, drawn_box, drawn_ellipse, turned
from wilss.data.annotations.records import AnnotatedImage, Annotations, Shape, no_area, time_of, verdict_of
from wilss.data.annotations.runs import Mask, mask_of_rows, placed
from wilss.errors import ManifestError, first_line

INSIDE_ZIP = "annotations.xml"
#: The name of the attribute of a shape in which a verdict stands.
VERDICT = "verdict"

_BLOCK, _LONGEST = 1 << 20, 1 << 28
_SHAPES = frozenset({"mask", "polygon", "box", "polyline", "points", "ellipse", "cuboid", "skeleton"})


class _RefusedError(Exception):
    """The file holds what no export of CVAT has."""


#: What a file raises that is damaged, or packed or written in a way that is not known.
_UNREADABLE = (OSError, EOFError, RuntimeError, ValueError, LookupError, expat.ExpatError, zipfile.BadZipFile,
               zlib.error, lzma.LZMAError, _RefusedError)  # fmt: skip


def read_cvat(path: Path) -> Annotations:
    """The images of an xml, or of a zip with annotations.xml in it. Raises ManifestError, also while they are read."""
    return Annotations(form="cvat", images=_images(path))


def _images(path: Path) -> Iterator[AnnotatedImage]:
    reader = _Reader()
    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.buffer_text = True
    try:
        with _opened(path) as file:
            done = 0
            while block := file.read(_BLOCK):
                parser.Parse(block, False)
                done += len(block)
                if done - parser.CurrentByteIndex > _LONGEST:
                    raise _RefusedError("one of its elements is longer than that of any image")
                while reader.images:
                    yield reader.images.popleft()
        parser.Parse(b"", True)
    except _UNREADABLE as error:
        raise ManifestError(
            f"{path} cannot be read ({first_line(error)}); export it again as CVAT for images 1.1."
        ) from None
    yield from reader.images


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            yield file
        return
    with zipfile.ZipFile(path) as archive:
        if INSIDE_ZIP not in archive.namelist():
            raise ManifestError(f"{path} is a zip without {INSIDE_ZIP}; unpack it, and name the file or folder in it.")
        with archive.open(INSIDE_ZIP) as file:
            yield file


def _refuse_doctype(*declaration: object) -> None:
    raise _RefusedError("it declares a document type, which annotations do not need")


class _Reader:
    """Collects images from the elements of the file."""

    def __init__(self) -> None:
        self.images: deque[AnnotatedImage] = deque()
        self._path: list[str] = []
        self._known: set[str] = set()
        self._text = ""
        self._author = ""
        self._at: datetime | None = None
        self._image: Mapping[str, str] = {}
        self._shapes: list[tuple[str, Mapping[str, str], dict[str, str]]] = []
        self._attribute: str | None = None

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        self._path.append(tag)
        self._text = ""
        if tag == "track":
            raise _RefusedError("it is CVAT for video, whose tracks are not read")
        if tag == "image" and len(self._path) == 2:
            self._image, self._shapes = attributes, []
        elif self._path[-2:-1] == ["image"] and tag in _SHAPES:
            self._shapes.append((tag, attributes, {}))
        elif tag == "attribute" and self._path[-3:-2] == ["image"]:
            self._attribute = attributes.get("name")

    def text(self, text: str) -> None:
        self._text += text

    def end(self, tag: str) -> None:
        place = self._path[-2:]
        if place == ["label", "name"]:
            self._known.add(self._text)
        elif place == ["meta", "dumped"]:
            self._at = time_of(self._text)
        elif place == ["assignee", "username"] or (place == ["owner", "username"] and not self._author):
            self._author = self._text.strip()
        elif tag == "attribute" and self._attribute and self._shapes:
            self._shapes[-1][2][self._attribute] = self._text
            self._attribute = None
        elif tag == "image" and len(self._path) == 2:
            self.images.append(self._finished())
        self._path.pop()

    def _finished(self) -> AnnotatedImage:
        return AnnotatedImage(
            name=self._image.get("name", ""),
            size=_size(self._image),
            shapes=tuple(_shape(*one) for one in self._shapes),
            known=frozenset(self._known) or None,
            author=self._author,
            at=self._at,
        )


def _shape(tag: str, where: Mapping[str, str], said: Mapping[str, str]) -> Shape:
    name, verdict = where.get("label", ""), verdict_of([said.get(VERDICT, "")])
    draw = {"mask": _draw_mask, "polygon": _draw_polygon, "ellipse": _draw_ellipse, "box": _draw_box}.get(tag)
    if draw is not None:
        return Shape(
            name=name, kind="box" if tag == "box" else "mask", draw=partial(draw, dict(where)), verdict=verdict
        )
    points = _line(where) if tag in ("polyline", "points") else ()
    return Shape(
        name=name, kind="scribble" if points else "mask", draw=partial(no_area, tag), points=points, verdict=verdict
    )


def _draw_mask(where: Mapping[str, str], size: tuple[int, int]) -> Mask:
    left, top, wide, high = (int(float(_field(where, side))) for side in ("left", "top", "width", "height"))
    if not (0 < wide <= size[1] and 0 < high <= size[0]):
        raise ValueError("it reaches beyond the image")
    runs = [int(run) for run in _field(where, "rle").split(",") if run.strip()]
    return placed(mask_of_rows(runs, (high, wide)), top, left, size)


def _draw_polygon(where: Mapping[str, str], size: tuple[int, int]) -> Mask:
    return drawn_along_edges(_points(where), size)


def _draw_ellipse(where: Mapping[str, str], size: tuple[int, int]) -> Mask:
    x, y, wide, high = (float(_field(where, name)) for name in ("cx", "cy", "rx", "ry"))
    return drawn_ellipse((x, y), (wide, high), float(where.get("rotation", 0)), size)


def _draw_box(where: Mapping[str, str], size: tuple[int, int]) -> Mask:
    left, top, right, bottom = (float(_field(where, side)) for side in ("xtl", "ytl", "xbr", "ybr"))
    angle = float(where.get("rotation", 0))
    if not angle:
        return drawn_box(left, top, right, bottom, size)
    middle = ((left + right) / 2, (top + bottom) / 2)
    corners = ((left, top), (right, top), (right, bottom), (left, bottom))
    return drawn_along_edges([turned(corner, middle, angle) for corner in corners], size)


def _points(where: Mapping[str, str]) -> list[tuple[float, float]]:
    pairs = [pair.split(",") for pair in _field(where, "points").split(";")]
    if not all(len(pair) == 2 for pair in pairs):
        raise ValueError("its points are no pairs of numbers")
    return [(float(x), float(y)) for x, y in pairs]


def _line(where: Mapping[str, str]) -> tuple[tuple[int, int], ...]:
    try:
        return tuple((math.floor(x), math.floor(y)) for x, y in _points(where))
    except (ValueError, OverflowError):
        return ()


def _field(where: Mapping[str, str], name: str) -> str:
    if name not in where:
        raise ValueError(f"it has no {name}")
    return where[name]


def _size(image: Mapping[str, str]) -> tuple[int, int] | None:
    try:
        return int(image["height"]), int(image["width"])
    except (KeyError, ValueError):
        return None
