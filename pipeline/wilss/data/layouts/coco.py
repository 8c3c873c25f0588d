"""COCO instances: a json with images, categories and annotations, beside a folder of images."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wilss.data.layouts.coco_json import CocoLabel, CocoShape, has_outline, read_coco_json
from wilss.data.layouts.files import Folders, fault_of_name, without_suffix
from wilss.data.layouts.listing import Listing, make_listing
from wilss.data.layouts.lists import Entry, read_list
from wilss.data.layouts.records import ImageRecord
from wilss.data.layouts.spec import DataSpec, SplitSpec
from wilss.data.layouts.table import Records
from wilss.data.layouts.tags import TagTable
from wilss.data.names import some
from wilss.data.taxonomy import VOID, meaning_of
from wilss.disk import is_file, is_folder, joined
from wilss.errors import ManifestError


@dataclass(frozen=True, kw_only=True)
class _Image:
    """What a COCO json says of an image file: its size as it is written, and its annotations, of every entry."""

    number: int | str
    file_name: str
    height: Any
    width: Any
    shapes: tuple[CocoShape, ...]


@dataclass(frozen=True, kw_only=True)
class _Json:
    """What a COCO json says.

    images: by image id. categories: (id, name) by taxonomy id, and numbers: all ids of categories. foreign: unknown
    categories. has_outlines: whether any annotation is more than a box.
    """

    path: Path
    categories: Mapping[int, tuple[Any, str]]
    numbers: tuple[Any, ...]
    images: Mapping[str, _Image]
    foreign: tuple[str, ...]
    has_outlines: bool
    warnings: tuple[str, ...]


def read_coco(spec: DataSpec, split: str, *, lenient: bool = False) -> Listing:
    """A split of COCO: the images of its json or of a list, tags and labels from the annotations."""
    chosen = spec.split(split)
    path = annotation_file(spec, chosen)
    folders, folder = Folders(), _image_folder(spec, chosen, path)
    source = _read_json(spec, path, folder)
    listed, exact, warnings = _entries(spec, chosen, source)
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


@dataclass(frozen=True, kw_only=True)
class CocoNumbers:
    """What a COCO json calls images and categories.

    images: (id, file_name) by our image id. categories: (id, name) by taxonomy id. last: the highest category id.
    """

    images: Mapping[str, tuple[int | str, str]]
    categories: Mapping[int, tuple[Any, str]]
    last: int


def coco_numbers(spec: DataSpec, split: str) -> CocoNumbers:
    """The numbers of the json of a split. Raises ManifestError."""
    path = annotation_file(spec, spec.split(split))
    source = _read_json(spec, path, _image_folder(spec, spec.split(split), path))
    return CocoNumbers(
        images={image_id: (image.number, image.file_name) for image_id, image in source.images.items()},
        categories=source.categories,
        last=max((number for number in source.numbers if isinstance(number, int)), default=0),
    )


def image_folder_of(spec: DataSpec, split: str) -> Path:
    """The folder in which the images of a split are looked for first. Raises ManifestError."""
    chosen = spec.split(split)
    return spec.root / _image_folder(spec, chosen, annotation_file(spec, chosen))


def annotation_file(spec: DataSpec, split: SplitSpec) -> Path:
    """The json of a split: as it is said, or annotations/instances_<list>.json."""
    names = [split.annotations] if split.annotations else [f"annotations/instances_{split.list}.json"]
    for place in (joined(base, name) for name in names for base in (spec.base, spec.root)):
        if is_file(place):
            return place
    raise ManifestError(
        f"{spec.at('splits')}: {spec.root / names[0]} is not there; copy it there, or write "
        "`splits: {train: {images: ..., annotations: ...}}`."
    )


def _read_json(spec: DataSpec, path: Path, folder: str) -> _Json:
    content = read_coco_json(path)
    ids, foreign = _categories(spec, content, path)
    named = ", ".join(foreign[:5]) + (", ..." if len(foreign) > 5 else "")
    are = "is no class" if len(foreign) == 1 else "are no classes"
    count = "counts" if len(foreign) == 1 else "count"
    sentence = (
        f"{path}: {len(foreign)} of its categories ({named}) {are} of {spec.taxonomy.name} and {count} as background."
    )
    images, twice = _images(content, _shapes(content, ids, path), folder, path)
    decided, about_crowds = _crowds_decided(spec, images, path)
    return _Json(
        path=path,
        categories={ids[c["id"]]: (c["id"], str(c["name"])) for c in reversed(content["categories"]) if c["id"] in ids},
        numbers=tuple(category["id"] for category in content["categories"]),
        images=decided,
        foreign=tuple(foreign),
        has_outlines=any(has_outline(annotation.get("segmentation") or []) for annotation in content["annotations"]),
        warnings=((sentence,) if foreign else ()) + twice + about_crowds,
    )


def _images(
    content: Mapping[str, Any], shapes: Mapping[Any, tuple[CocoShape, ...]], folder: str, path: Path
) -> tuple[dict[str, _Image], tuple[str, ...]]:
    """The images by id, each with the annotations of all its entries; and a sentence about those with several."""
    entries: dict[str, list[Mapping[str, Any]]] = {}
    for image in content["images"]:
        name = str(image["file_name"])
        entries.setdefault(name.removeprefix(f"{folder}/") if folder else name, []).append(image)
    stems = Counter(map(without_suffix, entries))
    images = {}
    for name, rows in entries.items():
        stem = without_suffix(name)
        images[stem if stems[stem] == 1 else name] = _Image(
            number=rows[0]["id"],
            file_name=name,
            height=rows[0].get("height"),
            width=rows[0].get("width"),
            shapes=tuple(shape for row in {row["id"]: row for row in rows} for shape in shapes.get(row, ())),
        )
    twice = [without_suffix(name) for name, rows in entries.items() if len(rows) > 1]
    sentence = f"{path} names {some(twice)} more than once; the annotations of all entries are put together."
    return images, (sentence,) if twice else ()


def _crowds_decided(
    spec: DataSpec, images: Mapping[str, _Image], path: Path
) -> tuple[dict[str, _Image], tuple[str, ...]]:
    """Which annotations with iscrowd 1 are void and which are masks, as the manifest says; and what was decided.

    Where it says nothing, a crowd is void only in an image that has single objects of its class as well: some
    libraries write iscrowd 1 for every mask that is no polygon.
    """
    if not any(shape.crowd for image in images.values() for shape in image.shapes):
        return dict(images), ()
    decided = {name: _with_crowds(image, spec.crowd) for name, image in images.items()}
    lone = [name for name, image in images.items() if image.shapes != decided[name].shapes]
    if spec.crowd is not None or not lone:
        return decided, ()
    return decided, (
        f"{path}: annotations with iscrowd 1 in {some(lone)} are read as masks, since these images have no other "
        "annotation of the class; write `crowd: void` beside `layout` if they are crowds, `crowd: mask` if none is.",
    )


def _with_crowds(image: _Image, crowd: str | None) -> _Image:
    single = {shape.identity for shape in image.shapes if not shape.crowd}
    is_void = {"void": True, "mask": False}
    shapes = (
        replace(shape, crowd=is_void.get(crowd or "", shape.identity in single)) if shape.crowd else shape
        for shape in image.shapes
    )
    return replace(image, shapes=tuple(shapes))


def _categories(spec: DataSpec, content: Mapping[str, Any], path: Path) -> tuple[dict[Any, int], list[str]]:
    """Category id -> taxonomy id, by name, or VOID; and the names that are no classes here."""
    ids = {category["id"]: _identity(spec, str(category["name"])) for category in content["categories"]}
    foreign = [str(c["name"]) for c in content["categories"] if ids[c["id"]] is None]
    known = {category: identity for category, identity in ids.items() if identity is not None}
    if not set(known.values()) - {VOID}:
        raise ManifestError(f"{path}: none of its categories is a class of {spec.taxonomy.name}; correct `names`.")
    return known, foreign


def _identity(spec: DataSpec, name: str) -> int | None:
    identity = spec.taxonomy.find(name)
    return VOID if identity is None and meaning_of(name) == VOID else identity


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
    segmentation = annotation.get("segmentation") or []
    outlined = has_outline(segmentation)
    return CocoShape(
        identity=identity,
        crowd=bool(int(annotation.get("iscrowd") or 0)) and outlined and identity != VOID,
        annotation=int(annotation.get("id", number)),
        segmentation=json.dumps(segmentation),
        box=None if outlined else _box(annotation.get("bbox")),
    )


def _box(bbox: Any) -> tuple[float, float, float, float]:
    """Left, top, width and height; of no pixel where the annotation gives none."""
    left, top, width, height = map(float, bbox or (0, 0, 0, 0))
    if not all(map(math.isfinite, (left, top, width, height))):
        raise ValueError(f"its bbox is {bbox}")
    return left, top, width, height


def _image_folder(spec: DataSpec, split: SplitSpec, path: Path) -> str:
    """The folder of a split's images: as it is said, or one with the list's name, or with the json's ending."""
    if split.images or spec.images:
        return str(split.images or spec.images).strip("/")
    stem = path.stem.removeprefix("instances_")
    names = [stem, f"images/{stem}", "images"]
    return next((name for name in names if is_folder(spec.root / name)), "")


def _found(spec: DataSpec, folders: Folders, folder: str, entry: Entry, source: _Json) -> ImageRecord:
    if entry.fault is not None:
        problem = f"{source.path} names {entry.image_id!r}, which {entry.fault}; name files inside {spec.root} only."
        return ImageRecord(image_id=entry.image_id, path=spec.root, problem=problem)
    known = source.images.get(entry.image_id)
    name = known.file_name if known else entry.image
    inside = f"{folder}/{name}" if folder else name
    path = folders.find(str(spec.root), inside) or folders.find(str(spec.root), name)
    if path is None:
        path = spec.root / inside
        problem = f"{path} is named in {source.path}, but is not there; copy it there, or take it off the list."
        return ImageRecord(image_id=entry.image_id, path=path, problem=problem)
    label = _label(entry.image_id, known, source)
    return ImageRecord(image_id=entry.image_id, path=path, label=label, bits=spec.bits)


def _label(image_id: str, known: _Image | None, source: _Json) -> CocoLabel | None:
    """The annotations; None where they are boxes without an outline, which say nothing of pixels."""
    if known is None or not source.has_outlines or (known.shapes and all(shape.box for shape in known.shapes)):
        return None
    height, width = _side(known.height), _side(known.width)
    fault = None
    if not (height and width):
        fault = (
            f"{source.path} gives {image_id} the height {known.height!r} and the width {known.width!r}; write both as "
            "numbers of pixels."
        )
    return CocoLabel(path=source.path, image_id=image_id, height=height, width=width, shapes=known.shapes, fault=fault)


def _side(written: Any) -> int:
    """A side in pixels, also where it is written as 480.0 or "480"; 0 where it is no whole number above 0."""
    try:
        side = float(written)
        return int(side) if side >= 1 and side.is_integer() else 0
    except (TypeError, ValueError):
        return 0


def _tags(spec: DataSpec, listed: Iterable[Entry], source: _Json) -> TagTable:
    """The classes with an annotation, crowds too; an image of the json without any holds none."""
    names = {}
    for entry in listed:
        known = source.images.get(entry.image_id)
        if known is not None:
            ids = {shape.identity for shape in known.shapes} - {VOID}
            names[entry.image_id] = tuple(spec.taxonomy.name_of(identity) for identity in sorted(ids))
    return TagTable(names)
