"""What lies in a plain folder: where its images and labels are, how they are split, and where tags come from."""

import dataclasses
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from wilss.data.layouts.named_images import NamedImages
from wilss.data.layouts.spec import TagsSpec
from wilss.data.layouts.tag_table import Row, TagRows, read_table
from wilss.data.taxonomy import may_be_class, meaning_of, same_class
from wilss.errors import ManifestError

from .folder_tree import FolderTree
from .naming import ValueNames, name_values
from .survey import Survey
from .text import scalar

_OWN_IMAGES = ("images", "JPEGImages")
_OWN_LABELS = ("labels", "masks")
#: Of `tags` in a manifest: what says how a table is read.
_TABLE_KEYS = ("separator", "columns", "mask", "between")
_TABLES = ("tags.csv", "tags.tsv", "labels.csv", "annotations.csv", "train.csv")


def survey_folder(root: Path, described: Mapping[str, Any] = MappingProxyType({})) -> Survey:
    """Look through a folder. described: what the content of its table does not tell, as in `tags` of a manifest.

    Raises ManifestError where it holds no images, or nothing that says what they show.
    """
    tree = FolderTree.of(root)
    table, spec, names, held = _tags(tree, described)
    masks = {} if table is None else _masks(table.rows, tree.ids())
    if table is not None:
        of_images = {os.path.dirname(image) for image in masks.values()}
        of_masks = {os.path.dirname(row.mask) for row in table.rows if row.mask}
        tree = tree.without(of_masks - of_images - set(tree.labels))
    labels = {root / f"{folder}/{name}": name for folder in tree.labels.values() for name in tree.files[folder]}
    labels |= {root / mask: image for mask, image in masks.items()}
    images = {path: Path(image).stem for path, image in labels.items() if path.suffix.lower() == ".png"}
    named = name_values(root, names, held, list(images), images=images) if images else None
    has_labels = bool(images) or (table is not None and any(row.mask for row in table.rows))
    labels_below = None if tree.tops else tree.labels_below(tree.top)
    named = named or ValueNames(class_names=("background", *names))
    ignored = _ignored(named.class_names, held)
    named = dataclasses.replace(named, doubts=(*named.doubts, *_perhaps_classes(named.class_names, held)))
    return Survey(
        class_names=named.class_names,
        splits=tree.splits if has_labels else {"train": tree.splits["train"]},
        tags=spec.kind,
        tag_file=spec.file,
        tag_keys={key: value for key in _TABLE_KEYS if (value := getattr(spec, key))}
        | ({"ignore": ignored} if ignored else {}),
        has_labels=has_labels,
        named=named,
        images=tree.top if tree.top not in ("", *_OWN_IMAGES) else None,
        labels=labels_below if labels_below not in _OWN_LABELS else None,
    )


def _tags(
    tree: FolderTree, described: Mapping[str, Any]
) -> tuple[TagRows | None, TagsSpec, list[str], dict[str, set[str]]]:
    """The table, where tags come from, all names of classes, and those of each image by its file's stem."""
    path, ids = _table(tree.root, described.get("file")), tree.ids()
    if path is not None:
        file = Path(os.path.relpath(path, tree.root)).as_posix()
        said = {**described, "file": file}
        table, spec = _read(path, said, NamedImages(list(ids), list(ids.values()).__getitem__))
        held = _held(table.rows, ids)
        names = list(table.classes) or sorted(set().union(*held.values()))
        if not names:
            raise ManifestError(f"{path} names no tag of an image here; write rows such as `photo1.jpg,cat;dog`.")
        return table, spec, _without_background(names), held
    folders = {image_id: image_id.partition("/")[0] for image_id in ids if "/" in image_id}
    if len(folders) == len(ids) and (len(set(folders.values())) > 1 or not tree.labels):
        held = {os.path.basename(image_id): {name} for image_id, name in folders.items()}
        spec = TagsSpec.model_validate({"from": "folders"})
        return None, spec, _without_background(sorted(set(folders.values()))), held
    if tree.labels:
        return None, TagsSpec.model_validate({"from": "masks"}), [], {}
    raise ManifestError(
        f"{tree.root} has no tags.csv; write a row per image: its name, a comma, its tags with `;` between (or put the "
        "images of each class into a folder of its name)."
    )


def _table(root: Path, name: str | None) -> Path | None:
    """The table called `name`, or that of the folder; without one, what lies beside the folder as tags.csv."""
    beside = root.absolute().parent
    if name is not None:
        return next((path for path in (root / name, beside / name) if path.is_file()), root / name)
    there = sorted(path for path in root.iterdir() if path.suffix.lower() in (".csv", ".tsv") and path.is_file())
    named = next((root / name for name in _TABLES if (root / name) in there), None)
    if named is None and len(there) > 1:
        raise ManifestError(
            f"{root} has the tables {', '.join(path.name for path in there)}; call the one with the tags tags.csv, or "
            "name it with --table."
        )
    inside = named or next(iter(there), None)
    return inside or next((path for path in sorted(beside.glob("tags.?sv")) if path.is_file()), None)


def _read(path: Path, described: Mapping[str, Any], images: NamedImages) -> tuple[TagRows, TagsSpec]:
    """The rows, and the part of a manifest under which they are read so: blanks between tags must be said there."""
    said = {"from": "csv", **described}
    table = read_table(path, TagsSpec.model_validate(said), is_image=images.__contains__)
    said |= {"mask": table.mask} if table.mask else {}
    if not table.classes and _has_blanks_between({name for row in table.rows for name in row.tags}):
        said["between"] = " "
    spec = TagsSpec.model_validate(said)
    return read_table(path, spec, is_image=images.__contains__), spec


def _has_blanks_between(cells: set[str]) -> bool:
    """Whether cells are several tags with blanks between: there are fewer words than different cells."""
    words = Counter(word for cell in cells for word in set(cell.split()))
    several = [cell for cell in cells if " " in cell]
    return len(several) > 1 and len(words) < len(cells)


def _held(rows: Iterable[Row], ids: Mapping[str, str]) -> dict[str, set[str]]:
    """Class names by the stem of an image's file."""
    held: dict[str, set[str]] = {}
    for row, image in _of_images(rows, ids):
        held.setdefault(Path(image).stem, set()).update(row.tags)
    return held


def _masks(rows: Iterable[Row], ids: Mapping[str, str]) -> dict[str, str]:
    """The path of each image by that of the label file that its row names."""
    return {row.mask: image for row, image in _of_images(rows, ids) if row.mask}


def _of_images(rows: Iterable[Row], ids: Mapping[str, str]) -> Iterator[tuple[Row, str]]:
    """Rows that mean one image, and its path."""
    paths = list(ids.values())
    known = NamedImages(list(ids), paths.__getitem__)
    for row in rows:
        places = known.find(row.image)
        if len(places) == 1:
            yield row, paths[places[0]]


def _without_background(names: Iterable[str]) -> list[str]:
    return [name for name in names if meaning_of(name) is None or may_be_class(name)]


def _ignored(class_names: Sequence[str], held: Mapping[str, set[str]]) -> list[str]:
    """Tags that say that there is nothing, in words that are no classes."""
    known = {same_class(name) for name in class_names}
    tags = sorted(set[str]().union(*held.values()))
    return [tag for tag in tags if meaning_of(tag) is not None and same_class(tag) not in known]


def _perhaps_classes(class_names: Sequence[str], held: Mapping[str, set[str]]) -> list[str]:
    tags = set[str]().union(*held.values())
    return [
        f"the tag {name!r} is taken for a class; if it means that an image shows none, leave it out of `names`, write "
        f"`ignore: [{scalar(name)}]` into `tags`."
        for name in class_names
        if name in tags and may_be_class(name)
    ]
