"""Label files in which colours say what is what: by CVAT's labelmap.txt, or by `colors` of the manifest."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wilss.data.layouts.files import read_lines
from wilss.data.layouts.records import LabelTable
from wilss.data.taxonomy import VOID, voc_palette
from wilss.disk import is_file
from wilss.errors import ImageError, ManifestError

#: Red, green and blue, 0 to 255 each.
Rgb = tuple[int, int, int]

LABELMAP = "labelmap.txt"

_ROW = re.compile(r"(?P<name>[^:]+):(?P<rgb>[^:]*)(:[^:]*){0,2}")
_HEX = re.compile(r"#?([0-9a-fA-F]{6})")
_BLACK, _NO_COLOUR = 0, -1


class LabelmapRow(NamedTuple):
    """A class of a labelmap.txt; its value in label files without colours is its row, from 0."""

    name: str
    rgb: Rgb


def read_labelmap(path: Path) -> tuple[LabelmapRow, ...]:
    """The rows `name:r,g,b:parts:actions` of CVAT's and datumaro's labelmap.txt, in their order. Raises ManifestError.

    Where no row has a colour, they are VOC's, in its order.
    """
    lines = [line for line in read_lines(path) if not line.startswith("#")]
    rows = [_ROW.fullmatch(line) for line in lines]
    for line, row in zip(lines, rows, strict=True):
        if row is None:
            raise ManifestError(
                f"{path} has the line {line!r}, which is not `name:r,g,b:parts:actions`; correct it, or give the file "
                "another name if it says nothing of label files."
            )
    found = [row for row in rows if row is not None]
    if not found or len(found) > VOID:
        raise ManifestError(f"{path} has {len(found)} rows; it needs one for each class, at most {VOID}.")
    if not any(row["rgb"].strip() for row in found):
        return tuple(LabelmapRow(row["name"].strip(), voc_colour(i)) for i, row in enumerate(found))
    try:
        return tuple(LabelmapRow(row["name"].strip(), rgb_of_text(row["rgb"])) for row in found)
    except ValueError as error:
        raise ManifestError(f"{path}: {error}; write every colour as r,g,b.") from None


def find_labelmap(root: Path, folders: Iterable[str]) -> Path | None:
    """The labelmap.txt of a data set: at its root, or in a folder of its labels."""
    places = [root / LABELMAP, *(root / folder / LABELMAP for folder in folders)]
    return next((place for place in places if is_file(place)), None)


def voc_colour(value: int) -> Rgb:
    """The colour of an id in VOC's colour map."""
    red, green, blue = voc_palette()[3 * value : 3 * value + 3]
    return red, green, blue


def rgb_of_text(text: str) -> Rgb:
    """A colour written as "128, 0, 0" or "#800000". Raises ValueError."""
    if (digits := _HEX.fullmatch(text.strip())) is not None:
        return rgb_of_code(int(digits[1], 16))
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 3 or not all(part.isdecimal() and int(part) <= 255 for part in parts):
        raise ValueError(f"{text!r} is not a colour such as 128,0,0 or #800000")
    return int(parts[0]), int(parts[1]), int(parts[2])


def code_of(rgb: Sequence[int]) -> int:
    """A colour as one number, 0xRRGGBB."""
    return int(rgb[0]) << 16 | int(rgb[1]) << 8 | int(rgb[2])


def rgb_of_code(code: int) -> Rgb:
    """The colour of a number 0xRRGGBB."""
    return code >> 16, code >> 8 & 255, code & 255


@dataclass(frozen=True, kw_only=True)
class ColourTable:
    """How label files become taxonomy ids where colours say what is what.

    colours: (0xRRGGBB, id) of each colour, id -1 for a class that the manifest does not have.
    by_value: for files without colours, and for palette files whose colours are not the map's.
    written: (value, id) of the values that the manifest itself says, which goes over a palette's colours.
    strangers: (0xRRGGBB, name) of the classes with id -1.
    """

    colours: tuple[tuple[int, int], ...]
    by_value: LabelTable
    written: tuple[tuple[int, int], ...] = ()
    strangers: tuple[tuple[int, str], ...] = ()

    def read(self, path: Path) -> NDArray[np.uint8]:
        """The ids of a label file, uint8 [H, W], VOID where nobody labelled. Raises ImageError."""
        from wilss.data.images import read_label_pixels

        pixels = read_label_pixels(path)
        if pixels.colours is not None:
            return self._by_colour(_codes(pixels.colours), path)
        assert pixels.values is not None
        if pixels.palette is None:
            return self.by_value.apply(pixels.values, path)
        return self._table_of(_codes(pixels.palette), pixels.values, path).apply(pixels.values, path)

    def value_of(self, identity: int) -> int | None:
        """The value that stands for a class in files without colours."""
        return self.by_value.value_of(identity)

    def _by_colour(self, codes: NDArray[np.int64], path: Path) -> NDArray[np.uint8]:
        found, places = np.unique(codes, return_inverse=True)
        known = dict(self.colours)
        ids = [known.get(code, -1) for code in found.tolist()]
        if -1 in ids:
            self._refuse(found[ids.index(-1)], ids.count(-1), path)
        return np.array(ids, np.int16).astype(np.uint8)[places].reshape(codes.shape)

    def _table_of(self, palette: NDArray[np.int64], values: NDArray[np.uint8], path: Path) -> LabelTable:
        """What the values of a palette file are: by their colours where the map has them, else by their rows."""
        known, written = dict(self.colours), {value for value, _ in self.written}
        used = [value for value in np.unique(values).tolist() if value not in written]
        codes = {value: int(palette[value]) if value < len(palette) else _NO_COLOUR for value in used}
        ids = {value: known.get(code) for value, code in codes.items()}
        telling = [value for value, code in codes.items() if code != _BLACK and value != VOID]
        if all(ids[value] is None for value in telling or used):
            return self.by_value
        unknown = [value for value in used if ids[value] in (None, -1) and not (value == VOID and ids[value] is None)]
        if any(ids[value] is None for value in unknown):
            raise ImageError(
                f"{path}: some colours of its palette are those of {LABELMAP} or `colors` and some, such as that of "
                f"value {unknown[0]}, are not, so whether colours or values count cannot be known; say beside `layout` "
                f"what its values are, as in `values: {{{unknown[0]}: NAME}}`."
            )
        if unknown:
            self._refuse(codes[unknown[0]], len(unknown), path)
        return LabelTable.of([*((value, i) for value, i in ids.items() if i is not None), *self.written])

    def _refuse(self, code: int, count: int, path: Path) -> None:
        name, rgb = dict(self.strangers).get(int(code)), list(rgb_of_code(int(code)))
        if name is not None:
            raise ImageError(
                f"{path} holds the colour {rgb}, which is {name!r}, no class of the manifest; name it in `names`, or "
                f"say what it is beside `layout`: `colors: {{background: {rgb}}}`."
            )
        others = f" (and {count - 1} colours more)" if count > 1 else ""
        raise ImageError(
            f"{path} holds the colour {rgb}{others}, which no map of colours has; say beside `layout` what it is, as "
            f"in `colors: {{void: {rgb}}}`, or add it to {LABELMAP}."
        )


def _codes(colours: NDArray[np.uint8]) -> NDArray[np.int64]:
    """uint8 [..., 3] -> int64 [...] of 0xRRGGBB."""
    return np.asarray(colours.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1]))
