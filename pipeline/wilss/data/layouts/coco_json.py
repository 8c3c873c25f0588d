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
    """One annotation: class, whether it is a crowd, area in pixels, id, and its segmentation as json text."""

    identity: int
    crowd: bool
    area: float
    annotation: int
    segmentation: str


@dataclass(frozen=True, kw_only=True)
class CocoLabel:
    """The annotations of one image, drawn into a label map when it is read.

    Order of drawing, later over earlier: crowds (as VOID), then instances from large to small, equal areas by
    annotation id. So a small thing in front of a large one is not lost, and the result is always the same.
    """

    path: Path
    image_id: str
    height: int
    width: int
    shapes: tuple[CocoShape, ...]

    def read(self) -> NDArray[np.uint8]:
        """Taxonomy ids, uint8 [H, W]. Raises ImageError for a damaged segmentation or without pycocotools."""
        from wilss.data.images import PIXEL_CAP

        if self.height * self.width > PIXEL_CAP:
            raise ImageError(
                f"{self.path} says that {self.image_id} is {self.width} x {self.height} pixels; correct it."
            )
        labels = np.full((self.height, self.width), BACKGROUND, np.uint8)
        for shape in sorted(self.shapes, key=lambda s: (not s.crowd, -s.area, s.annotation)):
            mask = self._mask(shape)
            if mask is not None:
                labels[mask] = VOID if shape.crowd else shape.identity
        return labels

    def _mask(self, shape: CocoShape) -> NDArray[np.bool_] | None:
        try:
            return _rasterised(json.loads(shape.segmentation), self.height, self.width)
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError) as error:
            raise ImageError(
                f"{self.path}: annotation {shape.annotation} of {self.image_id} has a segmentation that cannot be "
                f"drawn ({error}); fix or remove it."
            ) from None


def _rasterised(segmentation: Any, height: int, width: int) -> NDArray[np.bool_] | None:
    if not isinstance(segmentation, list):
        if list(segmentation["size"]) != [height, width]:
            raise ValueError(f"its size {segmentation['size']} is not the image's {[height, width]}")
        return _decoded(segmentation["counts"], height, width)
    polygons = [polygon for polygon in segmentation if len(polygon) >= 6]
    if not polygons:
        return None
    if not all(abs(float(place)) <= _FARTHEST for polygon in polygons for place in polygon):
        raise ValueError("it has a corner far outside of any image")
    if sum(map(_length, polygons)) > _LONGEST:
        raise ValueError("its outline is longer than that of anything in an image")
    try:
        from pycocotools import mask as rle
    except ImportError:
        raise ImageError("COCO labels need pycocotools; run `pip install 'wilss[coco]'`.") from None
    return _decoded(rle.merge(rle.frPyObjects(polygons, height, width))["counts"], height, width)


def _length(polygon: list[float]) -> float:
    """Pixels along a closed outline, roughly; drawing it takes about 80 bytes for each."""
    corners = list(zip(polygon[::2], polygon[1::2], strict=False))
    ends = [*corners[1:], corners[0]]
    return sum(max(abs(x - u), abs(y - v)) for (x, y), (u, v) in zip(corners, ends, strict=True))


def _decoded(counts: bytes | str | list[int], height: int, width: int) -> NDArray[np.bool_]:
    """Run lengths of 0s and 1s in turn, column by column, as a mask [H, W]; too few or too many are refused."""
    runs = np.asarray(_expanded(counts) if isinstance(counts, (bytes, str)) else counts, np.int64)
    if runs.ndim != 1 or (runs < 0).any() or runs.sum() != height * width:
        raise ValueError("its run lengths do not add up to the image")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T


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
