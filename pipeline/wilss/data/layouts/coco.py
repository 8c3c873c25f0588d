"""COCO instances: a json with images, categories and annotations, beside a folder of images."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wilss.data.layouts.coco_json import CocoLabel, CocoShape, read_coco_json
from wilss.data.layouts.files import Folders, fault_of_name, without_suffix
from wilss.data.layouts.listing import Listing, make_listing
from wilss.data.layouts.lists import Entry, read_list, unique
from wilss.data.layouts.records import ImageRecord
from wilss.data.layouts.spec import DataSpec, SplitSpec
from wilss.data.layouts.table import Records
from wilss.data.layouts.tags import TagTable
from wilss.errors import ManifestError


@dataclass(frozen=True, kw_only=True)
class _Json:
    """What a COCO json says.

    images: its entries by image id (file name without ending). foreign: unknown categories.
    """

    path: Path
    images: Mapping[str, Mapping[str, Any]]
    shapes: Mapping[Any, tuple[CocoShape, ...]]
    foreign: tuple[str, ...]
    warnings: tuple[str, ...]


def read_coco(spec: DataSpec, split: str, *, lenient: bool = False) -> Listing:
    """A split of COCO: the images of its json or of a list, tags and labels from the annotations."""
    chosen = spec.split(split)
    source = _read_json(spec, annotation_file(spec, chosen))
    listed, exact, warnings = _entries(spec, chosen, source)
    folders, folder = Folders(), _image_folder(spec, chosen, source.path)
    images = Records(_found(spec, folders, folder, entry, source) for entry in listed)
    own_tags = spec.tags.kind == "coco" and spec.tags.file is None
    return make_listing(
        spec,
        split,
        images,
        warnings=(*warnings, *source.warnings),
        exact=exact,
        lenient=lenient,
        tags=_tags(spec, listed, source) if own_tags else None,
    )


def annotation_file(spec: DataSpec, split: SplitSpec) -> Path:
    """The json of a split: as it is said, or annotations/instances_<list>.json."""
    names = [split.annotations] if split.annotations else [f"annotations/instances_{split.list}.json"]
    for place in (base / name for name in names for base in (spec.base, spec.root)):
        if os.path.isfile(place):
            return place
    raise ManifestError(
        f"{spec.at('splits')}: {spec.root / names[0]} is not there; copy it there, or write "
        "`splits: {train: {images: ..., annotations: ...}}`."
    )


def _read_json(spec: DataSpec, path: Path) -> _Json:
    content = read_coco_json(path)
    ids, foreign = _categories(spec, content, path)
    named = ", ".join(foreign[:5]) + (", ..." if len(foreign) > 5 else "")
    sentence = (
        f"{path}: {len(foreign)} of its categories ({named}) are no classes of {spec.taxonomy.name} and count as "
        "background."
    )
    images = {without_suffix(str(image["file_name"])): image for image in reversed(content["images"])}
    return _Json(
        path=path,
        images=images,
        shapes=_shapes(content, ids, path),
        foreign=tuple(foreign),
        warnings=((sentence,) if foreign else ()) + _twice(content, path),
    )


def _twice(content: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    return unique((without_suffix(str(image["file_name"])) for image in content["images"]), path)[1]


def _categories(spec: DataSpec, content: Mapping[str, Any], path: Path) -> tuple[dict[Any, int], list[str]]:
    """Category id -> taxonomy id, by name; and the names that are no classes here."""
    ids = {category["id"]: spec.taxonomy.find(str(category["name"])) for category in content["categories"]}
    foreign = [str(c["name"]) for c in content["categories"] if ids[c["id"]] is None]
    known = {category: identity for category, identity in ids.items() if identity is not None}
    if not known:
        raise ManifestError(f"{path}: none of its categories is a class of {spec.taxonomy.name}; correct `names`.")
    return known, foreign


def _entries(spec: DataSpec, split: SplitSpec, source: _Json) -> tuple[Sequence[Entry], bool, tuple[str, ...]]:
    """The images of the list, if the split names one beside its annotations; else those of the json, by name."""
    if split.list.endswith((".txt", ".npy")):
        listed = read_list(spec, split, "")
        return listed.entries, listed.exact, listed.warnings
    names = sorted(source.images)
    entries = tuple(Entry(image_id=name, image=name, fault=fault_of_name(name)) for name in names)
    return entries, False, ()


def _shapes(content: Mapping[str, Any], ids: Mapping[Any, int], path: Path) -> dict[Any, tuple[CocoShape, ...]]:
    """Annotations of known categories by COCO image id."""
    shapes: dict[Any, list[CocoShape]] = {}
    for number, annotation in enumerate(content["annotations"]):
        try:
            identity = ids.get(annotation.get("category_id"))
            if identity is not None:
                shapes.setdefault(annotation.get("image_id"), []).append(_shape(annotation, identity, number))
        except (TypeError, ValueError, OverflowError) as error:
            raise ManifestError(
                f"{path}: its annotation {number} (counted from 0) is not as COCO writes them ({error}); fix it."
            ) from None
    return {image: tuple(drawn) for image, drawn in shapes.items()}


def _shape(annotation: Mapping[str, Any], identity: int, number: int) -> CocoShape:
    return CocoShape(
        identity=identity,
        crowd=bool(annotation.get("iscrowd")),
        area=float(annotation.get("area") or 0.0),
        annotation=int(annotation.get("id", number)),
        segmentation=json.dumps(annotation.get("segmentation") or []),
    )


def _image_folder(spec: DataSpec, split: SplitSpec, path: Path) -> str:
    """The folder of a split's images: as it is said, or one with the list's name, or with the json's ending."""
    if split.images or spec.images:
        return str(split.images or spec.images).strip("/")
    stem = path.stem.removeprefix("instances_")
    names = [stem, f"images/{stem}", "images"]
    return next((name for name in names if os.path.isdir(spec.root / name)), "")


def _found(spec: DataSpec, folders: Folders, folder: str, entry: Entry, source: _Json) -> ImageRecord:
    if entry.fault is not None:
        problem = f"{source.path} names {entry.image_id!r}, which {entry.fault}; name files inside {spec.root} only."
        return ImageRecord(image_id=entry.image_id, path=spec.root, problem=problem)
    known = source.images.get(entry.image_id)
    name = str(known["file_name"]) if known else entry.image
    path = folders.find(str(spec.root), f"{folder}/{name}" if folder else name)
    if path is None:
        path = spec.root / folder / name
        problem = f"{path} is named in {source.path}, but is not there; copy it there, or take it off the list."
        return ImageRecord(image_id=entry.image_id, path=path, problem=problem)
    return ImageRecord(image_id=entry.image_id, path=path, label=_label(entry.image_id, known, source))


def _label(image_id: str, known: Mapping[str, Any] | None, source: _Json) -> CocoLabel | None:
    size = [known.get(side) for side in ("height", "width")] if known else []
    if known is None or not all(isinstance(side, int) and side > 0 for side in size):
        return None
    return CocoLabel(
        path=source.path,
        image_id=image_id,
        height=known["height"],
        width=known["width"],
        shapes=source.shapes.get(known["id"], ()),
    )


def _tags(spec: DataSpec, listed: Iterable[Entry], source: _Json) -> TagTable:
    """The classes with an annotation, crowds too; an image of the json without any holds none."""
    names = {}
    for entry in listed:
        known = source.images.get(entry.image_id)
        if known is not None:
            ids = {shape.identity for shape in source.shapes.get(known["id"], ())}
            names[entry.image_id] = tuple(spec.taxonomy.name_of(identity) for identity in sorted(ids))
    return TagTable(names)
