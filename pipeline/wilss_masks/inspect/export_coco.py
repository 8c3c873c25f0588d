"""Stores as COCO json with RLE masks: one annotation for each class of an image, or for each connected part of it."""

import itertools
import json
import os
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from wilss.data.layouts import coco_numbers
from wilss.data.layouts.listing import image_folder
from wilss.data.manifest import Manifest
from wilss.data.supports.regions import numbered
from wilss.data.taxonomy import VOID
from wilss.disk import refuse_existing, write_output
from wilss.errors import StoreError
from wilss.store import LabelMaps, MaskStore
from wilss.store.records import records_for
from wilss.threads import map_in_threads

from .export import Exported, exportable, exported, overlap

Instances = Literal["class", "connected"]


def plain_file_name(image_id: str) -> str:
    """What an image's file is called where no manifest says it."""
    return f"{image_id}.jpg"


@dataclass(frozen=True, kw_only=True)
class CocoNames:
    """What images and categories are called in the json.

    file_name: of an image id. numbers: of image ids, where the data came from a COCO json; categories: (id, name) of
    taxonomy ids, likewise. last: the highest category id there.
    """

    file_name: Callable[[str], str] = plain_file_name
    numbers: Mapping[str, int | str] | None = None
    categories: Mapping[int, tuple[Any, str]] = field(default_factory=dict)
    last: int = 0


def names_of(store: MaskStore, manifest: Manifest) -> CocoNames:
    """What the manifest's data call a store's images and classes: a COCO json's own numbers, else paths.

    Raises StoreError where the manifest is not the store's.
    """
    records = records_for(store, manifest)
    source = manifest.steps[store.step]
    spec, split = manifest.data[source.data], str(store.attributes.get("split", "train"))
    if spec.layout == "coco":
        known = coco_numbers(spec, source.split if split == "train" else split)
        return CocoNames(
            file_name=lambda image_id: known.images[image_id][1],
            numbers={image_id: number for image_id, (number, _) in known.images.items()},
            categories=known.categories,
            last=known.last,
        )
    top = spec.root / image_folder(spec)

    def file_name(image_id: str) -> str:
        path = records[image_id].path
        inside = top if path.is_relative_to(top) else spec.root
        return Path(os.path.relpath(path, inside)).as_posix()

    return CocoNames(file_name=file_name)


def export_coco(
    store: MaskStore,
    out: Path,
    *,
    names: CocoNames = CocoNames(),
    instances: Instances = "class",
    overlaps: bool = False,
    void: bool = True,
    min_area: int = 0,
    overwrite: bool = False,
    threads: int | None = None,
) -> Exported:
    """Write the file `out`: COCO json with RLE annotations of all masks that are not empty.

    Image ids are those of `names`, else the store's own when all of them are numbers, else positions from 1.
    instances: one annotation for each class of an image, or for each of its connected parts. overlaps: masks as they
    are stored; else each pixel is in one of them at most, as in `export_voc`. void: whether void is an annotation of a
    category `void` with iscrowd 1. min_area: pixels that a mask or a part has at least.
    `score` is the mean score inside the class's mask.
    Raises StoreError when pycocotools is missing, or `out` is there and `overwrite` is False.
    """
    _require_pycocotools()
    refuse_existing(out, overwrite)
    rows, refused = exportable(store)
    encode = _CocoImage(store, names, instances=instances, overlaps=overlaps, void=void, min_area=min_area)
    done = list(map_in_threads(encode, rows, threads))
    annotations = [annotation for image, _ in done for annotation in image]
    document = {
        "info": {"description": f"masks of step {store.attributes.get('step')}, made by wilss-masks"},
        "images": [encode.image(row) for row in rows],
        "annotations": [{"id": number, **annotation} for number, annotation in enumerate(annotations, start=1)],
        "categories": encode.categories({annotation["category_id"] for annotation in annotations}),
    }
    write_output(out, json.dumps(document, ensure_ascii=False).encode("utf-8"))
    return exported(store, rows, refused, annotations=len(annotations), overlapping=sum(both for _, both in done))


class _CocoImage:
    """The annotations of one image, without their ids, and whether masks of it overlap."""

    def __init__(
        self, store: MaskStore, names: CocoNames, *, instances: Instances, overlaps: bool, void: bool, min_area: int
    ) -> None:
        self._store, self._names, self._labels = store, names, LabelMaps(store)
        self._instances, self._overlaps, self._with_void = instances, overlaps, void
        self._min_area = max(min_area, 1)
        self._height, self._width = store.vector("height"), store.vector("width")
        self._confidence = store.vector("confidence")
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

    def __call__(self, row: int) -> tuple[list[dict[str, Any]], bool]:
        masks, labels = self._labels.with_masks(row)
        annotations = []
        for category, stored in zip(masks.categories, masks.masks, strict=True):
            identity = self._store.category_ids[category]
            facts = {"category_id": self._categories[identity][0], **_score(self._confidence[row, category])}
            annotations += [
                self._annotation(row, part, {**facts, "iscrowd": 0})
                for part in self._parts(stored if self._overlaps else labels == identity)
            ]
        if self._with_void and (labels == VOID).any():
            annotations.append(self._annotation(row, labels == VOID, {"category_id": self._void, "iscrowd": 1}))
        return annotations, overlap(masks)

    def image(self, row: int) -> dict[str, Any]:
        return {
            "id": self._numbers[row],
            "file_name": self._names.file_name(self._store.image_ids[row]),
            "height": int(self._height[row]),
            "width": int(self._width[row]),
        }

    def categories(self, used: set[Any]) -> list[dict[str, Any]]:
        """The step's classes, and void where it is used."""
        rows = [{"id": number, "name": name} for number, name in self._categories.values()]
        return [*rows, {"id": self._void, "name": "void"}] if self._void in used else rows

    def _parts(self, mask: NDArray[np.bool_]) -> Iterator[NDArray[np.bool_]]:
        if self._instances == "class":
            yield from [mask] if mask.sum() >= self._min_area else []
            return
        regions = numbered(mask)
        areas = np.bincount(regions.ravel())
        yield from (regions == number for number in range(1, len(areas)) if areas[number] >= self._min_area)

    def _annotation(self, row: int, mask: NDArray[np.bool_], facts: Mapping[str, Any]) -> dict[str, Any]:
        from pycocotools import mask as rle

        encoded = rle.encode(np.asfortranarray(mask, np.uint8))
        return {
            "image_id": self._numbers[row],
            "segmentation": {"size": list(mask.shape), "counts": encoded["counts"].decode("ascii")},
            "area": int(mask.sum()),
            "bbox": [float(side) for side in rle.toBbox(encoded)],
            **facts,
        }


def _score(confidence: float) -> dict[str, float]:
    return {} if np.isnan(confidence) else {"score": round(float(confidence), 6)}


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
