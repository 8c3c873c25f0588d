"""What the images and classes of a store are called outside: by the manifest's data, or by their ids."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wilss.data.layouts import coco_numbers
from wilss.data.layouts.listing import image_folder
from wilss.data.manifest import Manifest
from wilss.disk import seen_from
from wilss.store import MaskStore
from wilss.store.records import records_for


def plain_file_name(image_id: str) -> str:
    """What an image's file is called where no manifest says it."""
    return f"{image_id}.jpg"


@dataclass(frozen=True, kw_only=True)
class CocoNames:
    """What images and categories are called outside.

    file_name: of an image id, below the folder of the images. path: where that file lies, None where nobody knows.
    numbers: of image ids, where the data came from a COCO json; categories: (id, name) of taxonomy ids, likewise.
    last: the highest category id there.
    """

    file_name: Callable[[str], str] = plain_file_name
    path: Callable[[str], Path] | None = None
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

    def path(image_id: str) -> Path:
        return records[image_id].path

    if spec.layout == "coco":
        known = coco_numbers(spec, source.split if split == "train" else split)
        return CocoNames(
            file_name=lambda image_id: known.images[image_id][1],
            path=path,
            numbers={image_id: number for image_id, (number, _) in known.images.items()},
            categories=known.categories,
            last=known.last,
        )
    top = spec.root / image_folder(spec)

    def file_name(image_id: str) -> str:
        place = path(image_id)
        inside = top if place.is_relative_to(top) else spec.root
        return seen_from(place, inside)

    return CocoNames(file_name=file_name, path=path)
