"""`SupportSpec`: one annotated image of one class, as it was written down, and the map that it stands for."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wilss.data.annotations import Shape
from wilss.data.annotations.runs import Mask, box_of
from wilss.data.images import read_label_pixels, read_size
from wilss.data.layouts import ImageRecord, read_label_of
from wilss.data.manifest import SupportRow
from wilss.data.manifest.text import Key, Where
from wilss.data.supports.maps import (
    BACKGROUND,
    FOREGROUND,
    UNKNOWN,
    Box,
    Point,
    SupportMap,
    background_beside,
    map_of_boxes,
    map_of_lines,
    map_of_mask,
)
from wilss.data.supports.simulate import Kind
from wilss.data.taxonomy import VOID
from wilss.errors import SupportError

_VALUES = (BACKGROUND, FOREGROUND, UNKNOWN)
#: What a row may say beside image, class and kind; at most one of them says where the class is.
_PLACES = {"mask": ("file",), "box": ("box", "boxes"), "scribble": ("file", "points")}


@dataclass(frozen=True, kw_only=True)
class SupportSpec:
    """One support.

    file: a map as a PNG; a mask without one takes the data set's own pixel label. boxes: around every instance of the
    class. points: of a line on the object; background: of a line beside it. where: words that name it in an error.
    shapes: as an annotation tool has them, in the place of all these; void, beside: those that are called void and
    background on the same image; told_size: the size that the tool gives the image.
    """

    image_id: str
    class_id: int
    kind: Kind
    file: Path | None = None
    boxes: tuple[Box, ...] = ()
    points: tuple[Point, ...] = ()
    background: tuple[Point, ...] = ()
    where: str = ""
    shapes: tuple[Shape, ...] = ()
    void: tuple[Shape, ...] = ()
    beside: tuple[Shape, ...] = ()
    told_size: tuple[int, int] | None = None

    def read(self, record: ImageRecord) -> SupportMap:
        """The map, uint8 [H, W], of the size of its upright image, with foreground in it.

        Raises SupportError, or ImageError where the image or a PNG is of no use.
        """
        size = read_size(record.path)
        if self.shapes:
            support_map = self._from_shapes(size)
        else:
            support_map = self._from_file(self.file, size) if self.file else self._from_numbers(record, size)
        if not (support_map == FOREGROUND).any():
            raise self._error(
                f"has no pixel of the class on it{f' in {self.file}' if self.file else ''}; a map is {FOREGROUND} "
                f"where the class is, {BACKGROUND} where it is not and {UNKNOWN} where nobody knows."
            )
        return support_map

    def _from_shapes(self, size: tuple[int, int]) -> SupportMap:
        if self.told_size not in (None, size):
            assert self.told_size is not None
            raise self._error(
                f"is {self.told_size[1]} x {self.told_size[0]} pixels there, the image {size[1]} x {size[0]}; annotate "
                "it in its own size."
            )
        lines, beside = self._lines(self.shapes, size), self._lines(self.beside, size)
        labels = map_of_lines(lines, beside, size) if self.kind == "scribble" else self._from_areas(lines, size)
        labels[self._drawn(self.void, size)] = UNKNOWN
        return labels

    def _lines(self, shapes: Iterable[Shape], size: tuple[int, int]) -> list[list[Point]]:
        lines = [list(shape.points) for shape in shapes if shape.kind == "scribble"]
        self._require_inside([point for line in lines for point in line], size)
        return lines

    def _from_areas(self, lines: Sequence[Sequence[Point]], size: tuple[int, int]) -> SupportMap:
        """The map of masks and boxes, with `lines` on them. What a box holds beside masks is unknown [D]."""
        boxes = [shape for shape in self.shapes if shape.kind == "box"]
        if self.kind == "box":
            drawn = [mask for box in boxes if (mask := self._drawn([box], size)).any()]
            labels = map_of_boxes(list(map(_edges, drawn)), size) if drawn else np.full(size, BACKGROUND, np.uint8)
        else:
            mask = self._drawn([shape for shape in self.shapes if shape.kind == "mask"], size)
            labels = map_of_mask(mask, self._drawn(boxes, size) & ~mask)
        if (labels[map_of_lines(lines, [], size) == FOREGROUND] == BACKGROUND).any():
            raise self._error(
                f"has a line where no {self.kind} of the class is; draw that object as a {self.kind}, too."
            )
        return labels

    def _drawn(self, shapes: Iterable[Shape], size: tuple[int, int]) -> Mask:
        mask = np.zeros(size, np.bool_)
        for shape in shapes:
            try:
                mask |= shape.drawn(size)
            except ValueError as error:
                raise self._error(f"a shape of {shape.name!r} cannot be drawn ({error}); correct it.") from None
        return mask

    def _from_numbers(self, record: ImageRecord, size: tuple[int, int]) -> SupportMap:
        if self.kind == "box":
            self._require_inside(
                [(x, y) for x0, y0, x1, y1 in self.boxes for x, y in ((x0, y0), (x1 - 1, y1 - 1))], size
            )
            return map_of_boxes(self.boxes, size)
        if self.kind == "scribble":
            self._require_inside([*self.points, *self.background], size)
            return map_of_lines([self.points], [self.background] if self.background else [], size)
        labels = read_label_of(record)
        return map_of_mask(labels == self.class_id, labels == VOID)

    def _from_file(self, path: Path, size: tuple[int, int]) -> SupportMap:
        values = read_label_pixels(path).values
        if values is None:
            raise self._error(
                f"{path} holds colours; a map is grey or has a palette, and is {FOREGROUND} where the class is, "
                f"{BACKGROUND} where it is not and {UNKNOWN} where nobody knows."
            )
        if values.shape != size:
            raise self._error(
                f"{path} is {values.shape[1]} x {values.shape[0]} pixels, its image {size[1]} x {size[0]}; export "
                "one of them again."
            )
        strange = np.setdiff1d(values, _VALUES)
        if strange.size:
            raise self._error(
                f"{path} holds the value {strange[0]}; a map is {FOREGROUND} where the class is, {BACKGROUND} where "
                f"it is not and {UNKNOWN} where nobody knows."
            )
        return background_beside(values) if self.kind == "scribble" else values

    def _require_inside(self, points: list[Point], size: tuple[int, int]) -> None:
        for x, y in points:
            if not (0 <= x < size[1] and 0 <= y < size[0]):
                raise self._error(
                    f"reaches the pixel ({x}, {y}), but the image is {size[1]} pixels wide and {size[0]} high; columns "
                    "come before rows, both from 0."
                )

    def _error(self, sentence: str) -> SupportError:
        return SupportError(f"{self.where}: {sentence}")


def _edges(mask: Mask) -> Box:
    """The box around a mask that is not empty, as supports have boxes."""
    top, left, high, wide = box_of(mask)
    return left, top, left + wide, top + high


def spec_of(row: SupportRow, class_id: int, where: Where, key: Key) -> SupportSpec:
    """The support that stands in a row at `key`. Raises ManifestError where the row says too much or too little."""
    _require_one_place(row, where, key)
    boxes = [*([row.box] if row.box else []), *(row.boxes or [])]
    for x0, y0, x1, y1 in boxes:
        if x0 >= x1 or y0 >= y1:
            raise where.error(
                key, f"has the box [{x0}, {y0}, {x1}, {y1}], which holds no pixel; write left, top, right, bottom."
            )
    return SupportSpec(
        image_id=row.image,
        class_id=class_id,
        kind=row.kind,
        file=where.path.parent / where.expanded(row.file, key) if row.file else None,
        boxes=tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in boxes),
        points=tuple((x, y) for x, y in row.points or ()),
        background=tuple((x, y) for x, y in row.background or ()),
        where=where.at(key),
    )


def _require_one_place(row: SupportRow, where: Where, key: Key) -> None:
    forms = [name for name in ("file", "box", "boxes", "points") if getattr(row, name) is not None]
    wanted = _PLACES[row.kind]
    if row.background and not row.points:
        raise where.error((*key, "background"), "goes with `points`; add them, or draw both lines into a `file`.")
    if any(name not in wanted for name in forms) or len(forms) > 1:
        raise where.error(key, f"a {row.kind} is given by {' or '.join(wanted)}, not by {' and '.join(forms)}.")
    if not forms and row.kind != "mask":
        raise where.error(key, f"a {row.kind} needs {' or '.join(wanted)}; add it.")
