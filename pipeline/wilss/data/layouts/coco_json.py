"""COCO instances, one json for a whole split: its content, its categories as tags, its annotations as label maps."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wilss.data.layouts.files import without_suffix
from wilss.data.taxonomy import BACKGROUND, VOID
from wilss.errors import ImageError, ManifestError

_FARTHEST = 1e6
_LONGEST = 4 * _FARTHEST
_MOST_BITS = 60


def read_coco_json(path: Path) -> dict[str, Any]:
    """The content of a COCO json whose lists have the fields that are read of them. Raises ManifestError."""
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise ManifestError(f"{path} cannot be read ({error.strerror}); check its permissions.") from None
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{path} is no whole json file ({error}); copy it again.") from None
    required = {"images": ("id", "file_name"), "annotations": (), "categories": ("id", "name")}
    for key, fields in required.items():
        rows = content.get(key) if isinstance(content, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ManifestError(f"{path} has no list {key!r}; name a COCO instances json.")
        if not all(isinstance(row.get(field), (int, str)) for row in rows for field in fields):
            raise ManifestError(f"{path} has an entry of {key!r} without {' or '.join(fields)}; fix it.")
    for number, row in enumerate(content["annotations"]):
        if any(isinstance(row.get(name), (list, dict)) for name in ("image_id", "category_id")):
            raise ManifestError(
                f"{path}: its annotation {number} (counted from 0) has an id that is no number; fix it."
            )
    return dict(content)


def tags_by_stem(path: Path) -> Mapping[str, tuple[str, ...]]:
    """Category names by file name without its ending: COCO annotations as a source of tags for other layouts."""
    content = read_coco_json(path)
    names = {category["id"]: str(category["name"]) for category in content["categories"]}
    stems = {image["id"]: without_suffix(str(image["file_name"])) for image in content["images"]}
    tags: dict[str, dict[str, None]] = {stem: {} for stem in stems.values()}
    for annotation in content["annotations"]:
        if annotation.get("image_id") in stems and annotation.get("category_id") in names:
            tags[stems[annotation["image_id"]]][names[annotation["category_id"]]] = None
    return {stem: tuple(found) for stem, found in tags.items()}


@dataclass(frozen=True)
class CocoShape:
    """One annotation: class, whether it is a crowd, id, and its segmentation as json text.

    box: left, top, width, height in pixels, of an annotation without an outline; None for all others.
    """

    identity: int
    crowd: bool
    annotation: int
    segmentation: str
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class CocoLabel:
    """The annotations of one image, drawn into a label map when it is read.

    Order of drawing, later over earlier: boxes without an outline and crowds (both as VOID), then instances from large
    to small by the pixels that they cover, equal ones by annotation id, and over them what is of a category for void.
    So a small thing in front of a large one is not lost, and the result is always the same.
    fault: why its size cannot be used, as a sentence; None where it can.
    """

    path: Path
    image_id: str
    height: int
    width: int
    shapes: tuple[CocoShape, ...]
    fault: str | None = None

    def read(self) -> NDArray[np.uint8]:
        """Taxonomy ids, uint8 [H, W]. Raises ImageError for a damaged segmentation or without pycocotools."""
        from wilss.data.images import PIXEL_CAP

        if self.fault is not None:
            raise ImageError(self.fault)
        if self.height * self.width > PIXEL_CAP:
            raise ImageError(
                f"{self.path} says that {self.image_id} is {self.width} x {self.height} pixels; correct it."
            )
        labels = np.full((self.height, self.width), BACKGROUND, np.uint8)
        for box in (shape.box for shape in self.shapes if shape.box is not None):
            labels[_inside(box, self.height, self.width)] = VOID
        drawn = [(shape, runs) for shape in self.shapes for runs in self._runs(shape)]
        for shape, runs in sorted(drawn, key=_order):
            labels[mask_of(runs, self.height, self.width)] = VOID if shape.crowd else shape.identity
        return labels

    def _runs(self, shape: CocoShape) -> list[NDArray[np.int64]]:
        """Run lengths of the shape; none where it has no outline."""
        try:
            runs = runs_of(json.loads(shape.segmentation), self.height, self.width)
            return [] if runs is None else [runs]
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError) as error:
            raise ImageError(
                f"{self.path}: annotation {shape.annotation} of {self.image_id} has a segmentation that cannot be "
                f"drawn ({error}); fix or remove it."
            ) from None


def _order(drawn: tuple[CocoShape, NDArray[np.int64]]) -> tuple[bool, bool, int, int]:
    shape, runs = drawn
    return shape.identity == VOID, not shape.crowd, -int(runs[1::2].sum()), shape.annotation


def has_outline(segmentation: Any) -> bool:
    """Whether a segmentation is more than an empty list: run lengths, or a polygon of three corners."""
    if not isinstance(segmentation, list):
        return segmentation is not None
    return any(isinstance(part, dict) or not isinstance(part, list) or len(part) >= 6 for part in _parts(segmentation))


def _parts(segmentation: list[Any]) -> list[Any]:
    """Polygons as flat lists of numbers, also where they are written as pairs; run lengths as they are."""
    pairs = [part for part in segmentation if isinstance(part, list) and len(part) == 2]
    if len(pairs) == len(segmentation) >= 3 and not any(isinstance(place, list) for pair in pairs for place in pair):
        return [[place for pair in pairs for place in pair]]  # one polygon as a list of its corners
    return [_flat(part) if isinstance(part, list) else part for part in segmentation]


def _flat(polygon: list[Any]) -> list[Any]:
    if polygon and all(isinstance(corner, list) and len(corner) == 2 for corner in polygon):
        return [place for corner in polygon for place in corner]
    return polygon


def runs_of(segmentation: Any, height: int, width: int) -> NDArray[np.int64] | None:
    """Run lengths of a segmentation, column by column, 0s first; None where it has no outline.

    Raises ImageError for polygons without pycocotools; ValueError and its like for what cannot be drawn.
    """
    if not isinstance(segmentation, list):
        return _decoded(segmentation, height, width)
    parts = _parts(segmentation)
    coded = [_decoded(part, height, width) for part in parts if isinstance(part, dict)]
    polygons = [polygon for polygon in parts if not isinstance(polygon, dict) and len(polygon) >= 6]
    if polygons:
        coded.append(_of_polygons(polygons, height, width))
    if len(coded) > 1:
        return _runs_of(np.logical_or.reduce([mask_of(runs, height, width) for runs in coded]))
    return coded[0] if coded else None


def _of_polygons(polygons: list[list[float]], height: int, width: int) -> NDArray[np.int64]:
    if not all(abs(float(place)) <= _FARTHEST for polygon in polygons for place in polygon):
        raise ValueError("it has a corner far outside of any image")
    if sum(map(_length, polygons)) > _LONGEST:
        raise ValueError("its outline is longer than that of anything in an image")
    try:
        from pycocotools import mask as rle
    except ImportError:
        raise ImageError("COCO labels need pycocotools; run `pip install 'wilss[coco]'`.") from None
    return _decoded(rle.merge(rle.frPyObjects(polygons, height, width)), height, width)


def _length(polygon: list[float]) -> float:
    """Pixels along a closed outline, roughly; drawing it takes about 80 bytes for each."""
    corners = list(zip(polygon[::2], polygon[1::2], strict=False))
    ends = [*corners[1:], corners[0]]
    return sum(max(abs(x - u), abs(y - v)) for (x, y), (u, v) in zip(corners, ends, strict=True))


def _decoded(coded: Any, height: int, width: int) -> NDArray[np.int64]:
    """Run lengths of 0s and 1s in turn, column by column; too few or too many are refused."""
    if list(coded["size"]) != [height, width]:
        raise ValueError(f"its size {coded['size']} is not the image's {[height, width]}")
    counts = coded["counts"]
    runs = np.asarray(_expanded(counts) if isinstance(counts, (bytes, str)) else counts, np.int64)
    if runs.ndim != 1 or (runs < 0).any() or runs.sum() != height * width:
        raise ValueError("its run lengths do not add up to the image")
    return runs


def mask_of(runs: NDArray[np.int64], height: int, width: int) -> NDArray[np.bool_]:
    """Run lengths, column by column, as a mask, bool [H, W]."""
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T


def _runs_of(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The run lengths of a mask, bool [H, W]."""
    pixels = np.concatenate([[False], mask.T.ravel()])
    ends = np.flatnonzero(pixels[1:] != pixels[:-1])
    return np.diff(np.concatenate([[0], ends, [mask.size]]))


def _inside(box: tuple[float, float, float, float], height: int, width: int) -> tuple[slice, slice]:
    """The pixels that a box touches."""
    left, top, wide, high = box
    sides = ((top, top + high, height), (left, left + wide, width))
    rows, columns = (
        slice(int(min(max(first, 0), most)), int(min(max(np.ceil(last), 0), most))) for first, last, most in sides
    )
    return rows, columns


def _expanded(text: bytes | str) -> list[int]:
    """COCO's compressed run lengths: 5 bits a character, from 48 on.

    From the third on, they are differences to the last but one.
    """
    codes = text.encode("ascii") if isinstance(text, str) else text
    runs: list[int] = []
    value = shift = 0
    for code in codes:
        bits = code - 48
        value |= (bits & 0x1F) << shift
        shift += 5
        if shift > _MOST_BITS:
            raise ValueError("one of its run lengths has no end")
        if not bits & 0x20:
            signed = value - (1 << shift) if bits & 0x10 else value
            runs.append(signed + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs
