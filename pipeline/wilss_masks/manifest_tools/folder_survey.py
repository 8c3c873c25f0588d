"""What lies in a plain folder: where its images and labels are, how they are split, and where tags come from."""

import dataclasses
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from wilss.data.layouts.files import LABEL_SUFFIXES, without_suffix
from wilss.data.layouts.named_images import NamedImages, of_one_folder
from wilss.data.layouts.spec import TagsSpec
from wilss.data.layouts.tag_table import Row, TagRows, names_in, read_table
from wilss.data.names import some
from wilss.data.taxonomy import same_class
from wilss.disk import file_names, is_folder, seen_from
from wilss.errors import ManifestError

from .folder_tree import FolderTree
from .naming import ValueNames, name_values
from .survey import Survey
from .tag_names import (
    blank_doubts,
    comma_doubts,
    flag_doubts,
    has_blanks_between,
    ignored_tags,
    in_order,
    one_spelling,
    spelling_doubts,
    without_background,
    words_for_nothing,
)
from .unread import lossy_labels, unread_annotations

_OWN_IMAGES = ("images", "JPEGImages")
_OWN_LABELS = ("labels", "masks")
_FEW = 6
#: Of `tags` in a manifest: what says how a table is read.
_TABLE_KEYS = ("separator", "columns", "mask", "between")
_TABLES = ("tags.csv", "tags.tsv", "labels.csv", "annotations.csv", "train.csv")
_OF_MASKS = TagsSpec.model_validate({"from": "masks"})


def survey_folder(root: Path, described: Mapping[str, Any] = MappingProxyType({})) -> Survey:
    """Look through a folder. described: what the content of its table does not tell, as in `tags` of a manifest.

    Raises ManifestError where it holds no images, or nothing that says what they show.
    """
    tree = FolderTree.of(root)
    tags = _tags(tree, described)
    masks = {row.mask: image for row, image in tags.of_images if row.mask}
    of_images = {os.path.dirname(image) for image in masks.values()}
    of_masks = {os.path.dirname(row.mask) for row in tags.rows if row.mask}
    tree = tree.without(of_masks - of_images - set(tree.labels))
    images = tree.images_by_label() | {mask: without_suffix(image) for mask, image in masks.items()}
    images = {label: image for label, image in images.items() if label.lower().endswith(LABEL_SUFFIXES)}
    named = _named(root, tags, images)
    if images and tags.spec.kind == "folders" and _are_no_classes(tags.names, named.class_names):
        tags = _Tags(spec=_OF_MASKS)
        named = _named(root, tags, images)
    if not images and not any(row.mask for row in tags.rows):
        named = dataclasses.replace(named, doubts=(*named.doubts, *_labels_beside(root, tree.ids())))
    has_labels = bool(images) or any(row.mask for row in tags.rows)
    labels_below = None if tree.tops else tree.labels_below(tree.top)
    keys = {key: value for key in _TABLE_KEYS if (value := getattr(tags.spec, key))}
    ignored = ignored_tags(named.class_names, tags.held)
    return Survey(
        class_names=named.class_names,
        splits=tree.splits if has_labels else {"train": tree.splits["train"]},
        tags=tags.spec.kind,
        tag_file=tags.spec.file,
        tag_keys=keys | ({"ignore": ignored} if ignored else {}),
        has_labels=has_labels,
        named=named,
        images=tree.top if tree.top not in ("", *_OWN_IMAGES) else None,
        labels=labels_below if labels_below not in _OWN_LABELS else None,
    )


@dataclass(frozen=True, kw_only=True)
class _Tags:
    """Where tags come from. names: of all classes. held: the tags by the path of an image without its ending.

    rows: of the table, if it is one. of_images: those that mean one image, with its path. doubts: what in all that is
    a guess.
    """

    spec: TagsSpec
    names: Sequence[str] = ()
    held: Mapping[str, set[str]] = field(default_factory=dict)
    rows: Sequence[Row] = ()
    of_images: Sequence[tuple[Row, str]] = ()
    doubts: Sequence[str] = ()


def _named(root: Path, tags: _Tags, images: Mapping[str, str]) -> ValueNames:
    """The classes, and what is doubtful in them. images: by the path of their label file."""
    chosen = one_spelling(tags.names, tags.held)
    names = tuple(dict.fromkeys(chosen.values()))
    held = {image: {chosen.get(tag, tag) for tag in several} for image, several in tags.held.items()}
    paths = {root / label: image for label, image in images.items()}
    named = name_values(root, names, held, list(paths), images=paths) if paths else None
    named = named or ValueNames(class_names=("background", *names))
    nothing = words_for_nothing(named.class_names, held)
    return dataclasses.replace(named, doubts=(*named.doubts, *spelling_doubts(chosen), *nothing, *tags.doubts))


def _tags(tree: FolderTree, described: Mapping[str, Any]) -> _Tags:
    path, ids = _table(tree.root, described.get("file")), tree.ids()
    if path is not None:
        file = seen_from(path, tree.root)
        known = NamedImages(list(ids), list(ids.values()).__getitem__)
        table, spec, doubts = _read(path, {**described, "file": file}, known)
        (known,) = of_one_folder([known], [row.image for row in table.rows], tree.root, path)
        of_images = [(row, ids[known.ids[found[0]]]) for row in table.rows if len(found := known.find(row.image)) == 1]
        held = _held(of_images)
        names = list(table.classes) or in_order(set().union(*held.values()))
        if not names:
            raise ManifestError(f"{path} names no tag of an image here; write rows such as `photo1.jpg,cat;dog`.")
        return _Tags(
            spec=spec, names=without_background(names), held=held, rows=table.rows, of_images=of_images, doubts=doubts
        )
    folders = {without_suffix(path): image_id.partition("/")[0] for image_id, path in ids.items() if "/" in image_id}
    if len(folders) == len(ids) and (len(set(folders.values())) > 1 or not tree.labels):
        names = without_background(in_order(set(folders.values())))
        spec = TagsSpec.model_validate({"from": "folders"})
        return _Tags(spec=spec, names=names, held={image: {name} for image, name in folders.items()})
    if tree.labels:
        return _Tags(spec=_OF_MASKS)
    outside = sorted(path for path in ids.values() if without_suffix(path) not in folders)
    are = "is" if len(outside) == 1 else "are"
    those = f", in which {some(outside[:_FEW], len(outside))} {are} not" if folders else ""
    unread_files = (*unread_annotations(tree.root), *lossy_labels(tree.root, _OWN_LABELS, ids))
    unread = "".join(f" {sentence}" for sentence in unread_files)
    others = [path.name for path in _tables(tree.root.absolute().parent)]
    named = f"name a table that lies beside it with --table ({', '.join(others[:_FEW])}), or " if others else ""
    raise ManifestError(
        f"{tree.root} has no tags.csv; {named}write a row per image: its name, a comma, its tags with `;` between "
        f"(or put the images of each class into a folder of its name{those}). With a few annotated images of each "
        "class and no tags, write a manifest of your own, with `supervision: shots` and `supports:` "
        f"(pipeline/README.md).{unread}"
    )


def _labels_beside(root: Path, ids: Iterable[str]) -> Iterator[str]:
    """A sentence for a folder of label files that lies beside the images' and so is not read."""
    above = root.absolute().parent
    for folder in filter(is_folder, (above / name for name in _OWN_LABELS)):
        labels = {without_suffix(name) for name in file_names(str(folder)) if name.lower().endswith(LABEL_SUFFIXES)}
        if folder != root.absolute() and not labels.isdisjoint(ids):
            yield (
                f"{folder} holds files of the same names as images in {root}, and is not read, since it lies outside; "
                f"if these are labels, move it into {root}, or give `--layout folder {seen_from(above, Path())}`."
            )


def _are_no_classes(folders: Iterable[str], class_names: Iterable[str]) -> bool:
    """Whether folders are called after places or days, as none of the classes that a file of names has."""
    return {*map(same_class, folders)}.isdisjoint(map(same_class, class_names))


def _table(root: Path, name: str | None) -> Path | None:
    """The table called `name`, or that of the folder; without one, what lies beside the folder as tags.csv."""
    beside = root.absolute().parent
    if name is not None:
        return next((path for path in (root / name, beside / name) if path.is_file()), root / name)
    there = _tables(root)
    named = next((root / name for name in _TABLES if (root / name) in there), None)
    if named is None and len(there) > 1:
        raise ManifestError(
            f"{root} has the tables {', '.join(path.name for path in there)}; call the one with the tags tags.csv, or "
            "name it with --table."
        )
    inside = named or next(iter(there), None)
    return inside or next((path for path in sorted(beside.glob("tags.?sv")) if path.is_file()), None)


def _tables(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in (".csv", ".tsv") and path.is_file())


def _read(path: Path, described: Mapping[str, Any], images: NamedImages) -> tuple[TagRows, TagsSpec, list[str]]:
    """The rows, the part of a manifest under which they are read so, and what in that is a guess.

    Blanks between tags must be said in a manifest.
    """
    said = {"from": "csv", **described}
    undivided = TagsSpec.model_validate(said | {"between": "\0"})
    table = read_table(path, undivided, is_image=images.__contains__)
    cells = Counter[str]() if table.classes else Counter(cell for row in table.rows for cell in row.tags)
    said |= {"mask": table.mask} if table.mask else {}
    said |= {"between": " "} if has_blanks_between(cells) else {}
    spec = TagsSpec.model_validate(said)
    doubts = [*blank_doubts(cells, spec.between), *comma_doubts(cells, spec.between), *flag_doubts(table)]
    if not table.classes:
        names = {cell: names_in(cell, spec.between) for cell in cells}
        rows = (row._replace(tags=_once(name for cell in row.tags for name in names[cell])) for row in table.rows)
        table = dataclasses.replace(table, rows=tuple(rows))
    return table, spec, [f"{path}: {doubt}" for doubt in doubts]


def _once(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _held(of_images: Iterable[tuple[Row, str]]) -> dict[str, set[str]]:
    """Class names by the path of an image without its ending."""
    held: dict[str, set[str]] = {}
    for row, image in of_images:
        held.setdefault(without_suffix(image), set()).update(row.tags)
    return held
