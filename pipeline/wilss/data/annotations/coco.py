"""COCO's jsons as annotations: instances, and panoptic with its PNGs."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from wilss.data.annotations.json_files import read_json
from wilss.data.annotations.outlines import drawn_box
from wilss.data.annotations.records import AnnotatedImage, Annotations, Shape, size_of
from wilss.data.annotations.runs import Mask
from wilss.data.layouts.coco_json import has_outline, mask_of, read_coco_json, runs_of
from wilss.errors import ImageError, ManifestError

_Rows = Mapping[Any, list[Mapping[str, Any]]]


def read_coco_instances(path: Path) -> Annotations:
    """The images of a COCO json; Raises ManifestError.

    iscrowd is not looked at, since many tools set it for every mask.
    """
    content = read_coco_json(path)
    names = _names(content)
    rows: dict[Any, list[Mapping[str, Any]]] = {}
    for row in content["annotations"]:
        rows.setdefault(row.get("image_id"), []).append(row)
    shapes = {key: tuple(_shape(row, names) for row in of_image) for key, of_image in rows.items()}
    images = (_image(row, shapes.get(row["id"], ()), names) for row in content["images"])
    return Annotations(form="coco", images=images)


def read_panoptic(path: Path) -> Annotations:
    """The images of a COCO panoptic json, whose PNGs lie beside it in a folder of its name. Raises ManifestError."""
    content = read_json(path)
    lists = [content.get(name) for name in ("images", "annotations", "categories")] if isinstance(content, dict) else []
    if len(lists) < 3 or not all(
        isinstance(rows, list) and all(isinstance(row, dict) for row in rows) for rows in lists
    ):
        raise ManifestError(f"{path} has no lists images, annotations and categories; name a COCO panoptic json.")
    names, folder = _names(content), _folder_of(path)
    of_image = {row["image_id"]: row for row in content["annotations"] if isinstance(row.get("image_id"), (int, str))}
    images = (
        AnnotatedImage.read(str(row.get("file_name", "")), _of_segments, row, of_image, names, folder)
        for row in content["images"]
    )
    return Annotations(form="panoptic", images=images, is_flat=True)


def _names(content: Mapping[str, Any]) -> dict[Any, str]:
    return {
        row["id"]: str(row.get("name", "")) for row in content["categories"] if isinstance(row.get("id"), (int, str))
    }


def _image(row: Mapping[str, Any], shapes: tuple[Shape, ...], names: Mapping[Any, str], **more: Any) -> AnnotatedImage:
    size = size_of(row.get("height"), row.get("width"))
    known = frozenset(names.values())
    return AnnotatedImage(name=str(row.get("file_name", "")), size=size, shapes=shapes, known=known, **more)


def _shape(row: Mapping[str, Any], names: Mapping[Any, str]) -> Shape:
    name, segmentation = names.get(row.get("category_id"), ""), row.get("segmentation") or []
    if has_outline(segmentation):
        return Shape(name=name, draw=partial(_draw, segmentation))
    return Shape(name=name, kind="box", draw=partial(_draw_box, row.get("bbox")))


def _draw(segmentation: Any, size: tuple[int, int]) -> Mask:
    runs = runs_of(segmentation, *size)
    return np.zeros(size, np.bool_) if runs is None else mask_of(runs, *size)


def _draw_box(box: Any, size: tuple[int, int]) -> Mask:
    if not isinstance(box, Sequence) or len(box) != 4:
        raise ValueError("it has neither a segmentation nor a box")
    left, top, wide, high = map(float, box)
    return drawn_box(left, top, left + wide, top + high, size)


def _folder_of(path: Path) -> Path:
    """Where the PNGs lie: a folder named as the json, else the one with `_masks` after it, else that of the json."""
    names = (path.stem, f"{path.stem}_masks", path.stem.removeprefix("panoptic_"))
    return next((path.parent / name for name in names if (path.parent / name).is_dir()), path.parent)


def _of_segments(
    row: Mapping[str, Any], of_image: Mapping[Any, Mapping[str, Any]], names: Mapping[Any, str], folder: Path
) -> AnnotatedImage:
    """Segment ids stand in a PNG as red + 256 green + 65536 blue."""
    from wilss.data.layouts.files import fault_of_name

    annotation = of_image.get(row.get("id"), {})
    segments = annotation.get("segments_info")
    if not isinstance(segments, list):
        return _image(row, (), names, problem="has no segments")
    name = str(annotation.get("file_name", ""))
    if fault := fault_of_name(name):
        return _image(row, (), names, problem=f"has the PNG {name!r}, which {fault}")
    ids: dict[str, list[int]] = {}
    for segment in segments:
        if isinstance(segment, dict) and isinstance(segment.get("id"), int):
            ids.setdefault(names.get(segment.get("category_id"), ""), []).append(segment["id"])
    picture = _Segments(folder / name)
    return _image(row, tuple(Shape(name=name, draw=partial(picture.draw, of)) for name, of in ids.items()), names)


class _Segments:
    """The segments of one PNG, read once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ids: Any = None

    def draw(self, wanted: Sequence[int], size: tuple[int, int]) -> Mask:
        from wilss.data.images import read_label_pixels

        if self._ids is None:
            colours = read_label_pixels(self._path).colours
            if colours is None:
                raise ImageError(f"{self._path} holds no colours; export the panoptic PNGs again.")
            self._ids = colours.astype(np.int64) @ np.array([1, 256, 65536])
        if self._ids.shape != size:
            raise ValueError("its PNG has another size")
        return np.isin(self._ids, wanted)
