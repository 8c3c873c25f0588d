"""Stores in the forms that other tools read: VOC palette PNGs with their lists, and COCO json with RLE masks.

Image ids come from a store that somebody else may have made, so none is joined to a path before it was looked
at. An image whose id is refused is left out and named; the others are written.
"""

import itertools
import json
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wilss.data.taxonomy import voc_palette
from wilss.disk import refuse_existing, sweep_partials, write_atomically, write_output, writing
from wilss.drawing import encoded
from wilss.errors import StoreError
from wilss.store import LabelMaps, MaskStore, Status
from wilss.threads import map_in_threads

#: Room for an ending and for the name of an unfinished file below the 255 bytes that file systems allow.
_LONGEST_NAME = 200


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written. refused: image id -> why it was left out. without_masks: images that had none."""

    images: int
    annotations: int
    refused: Mapping[str, str]
    without_masks: int


def holds_void(store: MaskStore) -> bool:
    """Whether any pixel of the store is void: planes without one are not on disk."""
    return any(path.is_file() for path in (store.path / "void/c").rglob("*"))


def export_voc(store: MaskStore, out: Path, *, overwrite: bool = False, threads: int | None = None) -> Exported:
    """Write label maps in the VOC layout into the folder `out`, the list last.

    SegmentationClass/<id>.png: palette PNG in the image's true size, taxonomy ids, 255 void, overlaps
    resolved by confidence. ImageSets/Segmentation/<split>.txt: the ids. classes.txt: all class names, one
    per line, from id 0.
    Raises StoreError when a file is there already and `overwrite` is False; nothing is then written.
    """
    rows, refused = _exportable(store)
    split = _safe_split(store)
    lists = (out / "classes.txt", out / "ImageSets" / "Segmentation" / f"{split}.txt")
    draw = _LabelPng(store, out / "SegmentationClass")
    for path in itertools.chain(lists, map(draw.target, rows)):
        _refuse_outside(path, out)
        refuse_existing(path, overwrite)
    with writing(out):
        sweep_partials(out)
        for _ in map_in_threads(draw, rows, threads):
            pass
        write_atomically(lists[0], _lines(store.attributes.get("classes", store.category_names)))
        write_atomically(lists[1], _lines(store.image_ids[row] for row in rows))
    return _exported(store, rows, refused, annotations=len(rows))


def plain_file_name(image_id: str) -> str:
    """What an image's file is called where no manifest says it."""
    return f"{image_id}.jpg"


def export_coco(
    store: MaskStore,
    out: Path,
    *,
    file_name: Callable[[str], str] = plain_file_name,
    overwrite: bool = False,
    threads: int | None = None,
) -> Exported:
    """Write the file `out`: COCO json, one RLE annotation per image and category whose mask is not empty.

    file_name: image id -> the name of its file. Image ids are the store's own when all of them are numbers, as COCO's
    are, else positions from 1. Masks may overlap, as in the store.
    Raises StoreError when pycocotools is missing, or `out` is there and `overwrite` is False.
    """
    _require_pycocotools()
    refuse_existing(out, overwrite)
    rows, refused = _exportable(store)
    numbers = _image_numbers(store.image_ids)
    encode = _CocoImage(store, numbers)
    annotations = [annotation for image in map_in_threads(encode, rows, threads) for annotation in image]
    document = {
        "info": {"description": f"masks of step {store.attributes.get('step')}, made by wilss-masks"},
        "images": [encode.image(row, file_name) for row in rows],
        "annotations": [{"id": number, **annotation} for number, annotation in enumerate(annotations, start=1)],
        "categories": [
            {"id": identity, "name": name}
            for identity, name in zip(store.category_ids, store.category_names, strict=True)
        ],
    }
    write_output(out, json.dumps(document, ensure_ascii=False).encode("utf-8"))
    return _exported(store, rows, refused, annotations=len(annotations))


def problem_with_id(image_id: str) -> str | None:
    """Why an image id cannot be part of a path below a folder; None when it can.

    Ids may name folders, as in "cats/001"; they may not leave the folder that they are joined to.
    """
    parts = image_id.split("/")
    if image_id.startswith("/") or "\\" in image_id or (len(image_id) > 1 and image_id[1] == ":"):
        return "is not a plain relative name"
    if any(part in ("", ".", "..") for part in parts):
        return "has an empty part or a dot as a part, which leads elsewhere"
    if not image_id.isprintable():
        return "has characters that cannot be printed"
    if any(len(part.encode("utf-8", "replace")) > _LONGEST_NAME for part in parts):
        return f"is longer than {_LONGEST_NAME} bytes"
    return None


class _LabelPng:
    """Writes the label map of one image as a palette PNG."""

    def __init__(self, store: MaskStore, folder: Path) -> None:
        self._store, self._folder, self._palette = store, folder, voc_palette()
        self._labels = LabelMaps(store)

    def target(self, row: int) -> Path:
        return self._folder / f"{self._store.image_ids[row]}.png"

    def __call__(self, row: int) -> None:
        image = Image.fromarray(self._labels(row), mode="P")
        image.putpalette(self._palette)
        write_atomically(self.target(row), encoded(image))


class _CocoImage:
    """The annotations of one image, without their ids."""

    def __init__(self, store: MaskStore, numbers: Sequence[int]) -> None:
        self._store, self._numbers = store, numbers
        self._height, self._width = store.vector("height"), store.vector("width")

    def __call__(self, row: int) -> list[dict[str, Any]]:
        masks = self._store.read(row)
        return [
            self._annotation(row, category, mask)
            for category, mask in zip(masks.categories, masks.masks, strict=True)
            if mask.any()
        ]

    def image(self, row: int, file_name: Callable[[str], str]) -> dict[str, Any]:
        return {
            "id": self._numbers[row],
            "file_name": file_name(self._store.image_ids[row]),
            "height": int(self._height[row]),
            "width": int(self._width[row]),
        }

    def _annotation(self, row: int, category: int, mask: NDArray[np.bool_]) -> dict[str, Any]:
        from pycocotools import mask as rle

        encoded = rle.encode(np.asfortranarray(mask, np.uint8))
        return {
            "image_id": self._numbers[row],
            "category_id": self._store.category_ids[category],
            "segmentation": {"size": list(mask.shape), "counts": encoded["counts"].decode("ascii")},
            "area": int(mask.sum()),
            "bbox": [float(side) for side in rle.toBbox(encoded)],
            "iscrowd": 0,
        }


def _exportable(store: MaskStore) -> tuple[Sequence[int], dict[str, str]]:
    """Rows with masks and an id that can be trusted; and the ids with masks that cannot, with the reason."""
    rows, refused = array("q"), {}
    for row in map(int, np.flatnonzero(store.vector("status") == Status.DONE)):
        problem = problem_with_id(store.image_ids[row])
        if problem is None:
            rows.append(row)
        else:
            refused[store.image_ids[row]] = f"the id {problem}; rename the image and make its masks again."
    return rows, refused


def _exported(store: MaskStore, rows: Sequence[int], refused: Mapping[str, str], *, annotations: int) -> Exported:
    return Exported(
        images=len(rows),
        annotations=annotations,
        refused=refused,
        without_masks=store.layout.num_images - len(rows) - len(refused),
    )


def _refuse_outside(path: Path, folder: Path) -> None:
    """A link inside the folder could still lead out of it."""
    if not path.parent.resolve().is_relative_to(folder.resolve()):
        raise StoreError(f"{path} leads out of {folder} through a link; export into an empty folder.")


def _safe_split(store: MaskStore) -> str:
    split = str(store.attributes.get("split", "train"))
    problem = "names a folder" if "/" in split else problem_with_id(split)
    if problem:
        raise StoreError(f"the split {split!r} of {store.path} {problem}; give it a plain name in the manifest.")
    return split


def _lines(words: Iterable[str]) -> bytes:
    return "".join(f"{word}\n" for word in words).encode("utf-8")


def _image_numbers(ids: Sequence[str]) -> Sequence[int]:
    if all(name.isascii() and name.isdecimal() for name in ids):
        numbers = _compact(ids)
        if len(set(numbers)) == len(numbers):
            return numbers
    return range(1, len(ids) + 1)


def _compact(ids: Sequence[str]) -> Sequence[int]:
    try:
        return array("q", map(int, ids))
    except OverflowError:
        return list(map(int, ids))


def _require_pycocotools() -> None:
    try:
        import pycocotools.mask  # noqa: F401
    except ImportError:
        raise StoreError(
            "export coco needs pycocotools, which is not there; install it: pip install 'wilss[coco]'."
        ) from None
