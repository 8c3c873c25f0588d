"""Stores as COCO json with RLE masks: one annotation for each class of an image, or for each connected part of it."""

import itertools
import json
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wilss.data.taxonomy import VOID
from wilss.disk import refuse_existing, write_output
from wilss.errors import StoreError
from wilss.store import MaskStore

from .common import Exported, exportable, exported, make_each
from .naming import CocoNames
from .pieces import VOID_NAME, Piece, PieceOptions, Pieces


def export_coco(
    store: MaskStore,
    out: Path,
    *,
    names: CocoNames = CocoNames(),  # noqa: B008  frozen
    options: PieceOptions = PieceOptions(),  # noqa: B008  frozen
    overwrite: bool = False,
    threads: int | None = None,
) -> Exported:
    """Write the file `out`: COCO json with RLE annotations of all masks that are not empty.

    Image ids are those of `names`, else the store's own when all of them are numbers, else positions from 1.
    An annotation is a class of an image, or a connected part of it; `score` is the mean score inside the class's mask.
    Void is an annotation of a category `void` with iscrowd 1.
    Raises StoreError when pycocotools is missing, or `out` is there and `overwrite` is False.
    """
    require_pycocotools("coco")
    refuse_existing(out, overwrite)
    rows, refused = exportable(store)
    encode = _CocoImage(store, names, options)
    made = make_each(store, encode, rows, refused, threads)
    annotations = [annotation for image, _ in made.results for annotation in image]
    document = {
        "info": {"description": f"masks of step {store.attributes.get('step')}, made by wilss-masks"},
        "images": [encode.image(row) for row in made.rows],
        "annotations": [{"id": number, **annotation} for number, annotation in enumerate(annotations, start=1)],
        "categories": encode.categories({annotation["category_id"] for annotation in annotations}),
    }
    write_output(out, json.dumps(document, ensure_ascii=False).encode("utf-8"))
    return exported(store, made, annotations=len(annotations), overlapping=sum(both for _, both in made.results))


class CocoNumbering:
    """Which numbers a store's images and classes have in a COCO json."""

    def __init__(self, store: MaskStore, names: CocoNames) -> None:
        self._store, self._names = store, names
        self._numbers: Sequence[Any] = _image_numbers(store.image_ids)
        if (known := names.numbers) is not None:
            self._numbers = [known[image_id] for image_id in store.image_ids]
        # a class that the data's json lacks must not take the id of another one there
        beyond = itertools.count(names.last + 1)
        self._categories = {
            identity: names.categories.get(identity) or (next(beyond) if names.categories else identity, name)
            for identity, name in zip(store.category_ids, store.category_names, strict=True)
        }
        self._void = 1 + max([names.last, *(i for i, _ in self._categories.values() if isinstance(i, int))])
        self._height, self._width = store.vector("height"), store.vector("width")

    def image(self, row: int) -> dict[str, Any]:
        """The entry of an image."""
        return {
            "id": self._numbers[row],
            "file_name": self._names.file_name(self._store.image_ids[row]),
            "height": int(self._height[row]),
            "width": int(self._width[row]),
        }

    def of_image(self, row: int) -> Any:
        """The number of an image."""
        return self._numbers[row]

    def of_class(self, identity: int) -> Any:
        """The number of a class, or of void."""
        return self._void if identity == VOID else self._categories[identity][0]

    def categories(self, used: set[Any]) -> list[dict[str, Any]]:
        """The step's classes, and void where it is used."""
        rows = [{"id": number, "name": name} for number, name in self._categories.values()]
        return [*rows, {"id": self._void, "name": VOID_NAME}] if self._void in used else rows


class _CocoImage:
    """The annotations of one image, without their ids, and whether masks of it overlap."""

    def __init__(self, store: MaskStore, names: CocoNames, options: PieceOptions) -> None:
        self._numbers, self._pieces = CocoNumbering(store, names), Pieces(store, options)
        self.image, self.categories = self._numbers.image, self._numbers.categories

    def __call__(self, row: int) -> tuple[list[dict[str, Any]], bool]:
        picture = self._pieces(row)
        return [self._annotation(row, piece) for piece in picture.pieces], picture.is_overlapping

    def _annotation(self, row: int, piece: Piece) -> dict[str, Any]:
        is_void = piece.identity == VOID
        score = {} if piece.score is None else {"score": piece.score}
        facts = {"category_id": self._numbers.of_class(piece.identity), **score, "iscrowd": int(is_void)}
        return {"image_id": self._numbers.of_image(row), **coco_rle(piece.mask), **facts}


def coco_rle(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """`segmentation`, `area` and `bbox` of a mask bool [H, W], as COCO has them."""
    from pycocotools import mask as rle

    encoded = rle.encode(np.asfortranarray(mask, np.uint8))
    return {
        "segmentation": {"size": list(mask.shape), "counts": encoded["counts"].decode("ascii")},
        "area": int(mask.sum()),
        "bbox": [float(side) for side in rle.toBbox(encoded)],
    }


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


def require_pycocotools(what: str) -> None:
    """Raise StoreError where pycocotools is missing. what: the export that needs it."""
    try:
        import pycocotools.mask  # noqa: F401
    except ImportError:
        raise StoreError(
            f"export {what} needs pycocotools, which is not there; install it: pip install 'wilss[coco]'."
        ) from None
