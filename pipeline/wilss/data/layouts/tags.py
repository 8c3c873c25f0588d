"""Which classes an image is known to hold, by the class names of the data set.

Every reader answers for all images that it knows; an image that it does not know has no tags at all, which is
not the same as an image that is known to hold nothing.
"""

import csv
import io
import logging
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from wilss.data.layouts.coco_json import tags_by_stem
from wilss.data.layouts.files import lines_of, read_lines, without_suffix
from wilss.data.layouts.lists import find_list, load_array, read_list
from wilss.data.layouts.records import ImageRecord
from wilss.data.layouts.spec import DataSpec, SplitSpec
from wilss.data.layouts.table import Shared
from wilss.data.layouts.xml import read_annotations
from wilss.data.names import Names, Register
from wilss.data.taxonomy import BACKGROUND, VOID
from wilss.errors import ImageError, ManifestError

log = logging.getLogger("wilss")

_LABEL_THREADS = 4
#: Labels that a thread reads at a time: a future for each of a million would take a gigabyte.
_LABELS_AT_ONCE = 32
_HEADS = frozenset({"image", "image_id", "id", "file", "filename", "file_name", "name", "path"})
_TAG_HEADS = frozenset({"tags", "tag", "labels", "label", "classes", "class"})


@dataclass(frozen=True)
class TagTable:
    """names: class names by image id. problems: a sentence for images whose tags could not be read."""

    names: Mapping[str, tuple[str, ...]]
    problems: Mapping[str, str] = field(default_factory=dict)


class _Tagged(Mapping[str, tuple[str, ...]]):
    """Class names by image id, in about 50 bytes for an image: the names of an image are shared with its like."""

    def __init__(self) -> None:
        self._ids = Register()
        self._names: Shared[tuple[str, ...]] = Shared()
        self._last = -1

    def add(self, image_id: str, names: tuple[str, ...] = ()) -> None:
        """Say that there is this image, and that it holds `names` too; quick where ids come in the order of before."""
        place = self._last = self._ids.add(image_id, self._last + 1)
        if place == len(self._names):
            self._names.append(names)
        elif names:
            self._names[place] += names

    def __getitem__(self, image_id: str) -> tuple[str, ...]:
        place = self._ids.find(image_id)
        if place is None:
            raise KeyError(image_id)
        return self._names[place]

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)


def read_tags(spec: DataSpec, split: str, images: Sequence[ImageRecord]) -> TagTable:
    """The tags of the images of a split. images: those in question, with their labels for tags that come from masks."""
    return _READERS[spec.tags.kind](spec, split, images)


def tag_files(spec: DataSpec, split: str) -> tuple[Path, ...]:
    """The files that decide the tags of a split, but for those with a file per image (voc-xml, masks)."""
    if spec.tags.kind == "voc-main":
        return tuple(path for paths in _main_files(spec, split).values() for path in paths)
    return (_file(spec),) if spec.tags.kind in ("csv", "npy", "coco") and spec.tags.file else ()


def _file(spec: DataSpec) -> Path:
    if spec.tags.file is None:
        raise ManifestError(f"{spec.at('tags')}: tags from {spec.tags.kind} need a file; add `file: ...` to `tags`.")
    for place in (spec.base / spec.tags.file, spec.root / spec.tags.file):
        if os.path.isfile(place):
            return place
    raise ManifestError(
        f"{spec.at('tags.file')}: {spec.tags.file} lies neither in {spec.base} nor in {spec.root}; copy it there, or "
        "correct the path."
    )


# -- VOC's ImageSets/Main -----------------------------------------------------------------------------------


def _from_main(spec: DataSpec, split: str, images: Sequence[ImageRecord]) -> TagTable:
    """VOC's flags: 1 holds the class, -1 does not, 0 holds it but is difficult.

    A difficult one counts as a tag unless the manifest says `difficult: false`.
    """
    meant = {"1", "+1", "0"} if spec.tags.difficult else {"1", "+1"}
    tagged = _Tagged()
    for name, paths in _main_files(spec, split).items():
        for path in paths:
            for line in lines_of(path):
                image_id, _, flag = line.rpartition(" ")
                tagged.add(image_id.rstrip(), (name,) if flag in meant else ())
                if flag not in meant and (flag not in ("-1", "0", "1", "+1") or not image_id):
                    raise ManifestError(
                        f"{path} has the line {line!r}; write an image id and 1, 0 or -1, with a space between."
                    )
    return TagTable(tagged)


def _main_files(spec: DataSpec, split: str) -> dict[str, tuple[Path, ...]]:
    """Per class the file of this split, or trainval's, or train's and val's: VOC has no train_aug here."""
    folder = spec.root / "ImageSets/Main"
    stem = Path(spec.split(split).list).stem
    there = set(os.listdir(folder)) if os.path.isdir(folder) else set()
    chosen = {}
    for name in spec.tag_names:
        options = [
            [f"{name}_{part}.txt" for part in parts] for parts in ((stem,), ("trainval",), ("train", "val"), ("train",))
        ]
        files = next((option for option in options if there.issuperset(option)), None)
        if files is None:
            raise ManifestError(
                f"{spec.at('tags')}: {folder / options[0][0]} is not there, nor {options[1][0]}; copy VOC's "
                "ImageSets/Main there, or take tags from voc-xml, masks or csv."
            )
        chosen[name] = tuple(folder / file for file in files)
    return chosen


# -- pixel labels -------------------------------------------------------------------------------------------


def _from_masks(spec: DataSpec, split: str, images: Sequence[ImageRecord]) -> TagTable:
    """The classes with at least one pixel; every label file is read once."""
    usable = (place for place, image in enumerate(images) if image.label is not None and image.problem is None)
    present = array("q", usable)
    if len(present) > 200:
        log.info("reading the labels of %d images of %s for their tags", len(present), split)
    found, problems = _Tagged(), {}
    with ThreadPoolExecutor(_LABEL_THREADS) as pool:
        some = (present[first : first + _LABELS_AT_ONCE] for first in range(0, len(present), _LABELS_AT_ONCE))
        for part in pool.map(lambda places: [_classes_in(spec, images[place]) for place in places], some):
            for image_id, names in part:
                if isinstance(names, str):
                    problems[image_id] = names
                else:
                    found.add(image_id, names)
    return TagTable(found, problems)


def _classes_in(spec: DataSpec, image: ImageRecord) -> tuple[str, tuple[str, ...] | str]:
    """Image id, and the names of the classes in its label, or a sentence why it cannot be read."""
    assert image.label is not None
    try:
        counts = np.bincount(image.label.read().ravel(), minlength=256)
    except ImageError as error:
        return image.image_id, str(error)
    ids = [int(identity) for identity in np.flatnonzero(counts) if identity not in (BACKGROUND, VOID)]
    return image.image_id, tuple(spec.taxonomy.name_of(identity) for identity in ids)


# -- csv ----------------------------------------------------------------------------------------------------


def _from_csv(spec: DataSpec, split: str, images: Sequence[ImageRecord]) -> TagTable:
    """Rows of "image, tag;tag", or a header of class names above 1, 0 and -1 (or nothing)."""
    path = _file(spec)
    rows = _rows(path)
    if not rows:
        raise ManifestError(f"{path} is empty; write a row per image: its id, a comma, its tags with `;` between.")
    wide = len(rows[0]) > 2 or (len(rows[0]) == 2 and _is_flag_column(rows[1:]))
    if wide:
        return _from_columns(path, rows)
    head = rows[0][0].lower() in _HEADS and (len(rows[0]) < 2 or rows[0][1].lower() in _TAG_HEADS)
    tagged: dict[str, list[str]] = {}
    for row in rows[1:] if head else rows:
        cell = row[1] if len(row) > 1 else ""
        names = [name for part in cell.split(";") if (name := part.strip())]
        tagged.setdefault(without_suffix(row[0]), []).extend(names)
    return TagTable({image_id: tuple(dict.fromkeys(names)) for image_id, names in tagged.items()})


def _rows(path: Path) -> list[list[str]]:
    text = io.StringIO("\n".join(read_lines(path)))
    try:
        return [[cell.strip() for cell in row] for row in csv.reader(text) if row]
    except csv.Error as error:
        raise ManifestError(f"{path} is not a table of comma-separated values ({error}); fix that line.") from None


def _is_flag_column(rows: Iterable[Sequence[str]]) -> bool:
    cells = {row[1] for row in rows if len(row) > 1}
    return bool(cells) and cells <= {"1", "0", "-1", "1.0", "0.0"}


def _from_columns(path: Path, rows: Sequence[Sequence[str]]) -> TagTable:
    classes, tagged = rows[0][1:], {}
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(rows[0]):
            raise ManifestError(
                f"{path}, row {number} has {len(row)} cells, the header {len(rows[0])}; with one column per class "
                "every row needs all of them (or write two columns: the id, and its tags with `;` between)."
            )
        strange = [cell for cell in row[1:] if cell not in ("", "0", "1", "-1", "0.0", "1.0")]
        if strange:
            raise ManifestError(
                f"{path}, row {number} has the flag {strange[0]!r}; write 1 or 0 under a header of class names, or "
                "two columns: the id, and its tags with `;` between."
            )
        tagged[without_suffix(row[0])] = tuple(
            name for name, cell in zip(classes, row[1:], strict=True) if cell in ("1", "1.0")
        )
    return TagTable(tagged)


# -- npy ----------------------------------------------------------------------------------------------------


def _from_npy(spec: DataSpec, split: str, images: Sequence[ImageRecord]) -> TagTable:
    """One row per line of a list, one column per class, with or without background (WILSON's 1h labels)."""
    path = _file(spec)
    array = load_array(path)
    classes = len(spec.tag_names)
    if array.ndim != 2 or array.shape[1] not in (classes, classes + 1) or array.dtype.kind not in "biuf":
        raise ManifestError(
            f"{path} is {array.dtype} of shape {array.shape}; it needs a row per image and {classes} columns, one "
            f"per class, or {classes + 1} with background first."
        )
    ids = _row_ids(spec, split)
    if len(ids) != len(array):
        raise ManifestError(
            f"{path} has {len(array)} rows, but the list has {len(ids)} lines; name the list that it was made for as "
            "`tags.list`."
        )
    flags = array[:, array.shape[1] - classes :] > 0
    names = np.array(spec.tag_names, dtype=object)
    tagged = _Tagged()
    for image_id, row in zip(ids, flags, strict=True):
        tagged.add(image_id, tuple(names[row]))
    return TagTable(tagged)


def _row_ids(spec: DataSpec, split: str) -> Names:
    chosen = spec.split(split)
    name = spec.tags.list or (chosen.into if chosen.list.endswith(".npy") else chosen.list)
    lines = sum(1 for _ in lines_of(find_list(spec, name)))
    listed = read_list(spec, SplitSpec(list=name), spec.images or "JPEGImages")
    if len(listed.entries) != lines:
        raise ManifestError(
            f"{listed.path} names images twice, so that rows cannot be told apart; make its lines unique."
        )
    return Names(entry.image_id for entry in listed.entries)


# -- others -------------------------------------------------------------------------------------------------


def _from_xml(spec: DataSpec, split: str, images: Sequence[ImageRecord]) -> TagTable:
    usable = (image.image_id for image in images if image.problem is None)
    return TagTable(*read_annotations(spec.root / "Annotations", usable, difficult=spec.tags.difficult))


def _from_coco(spec: DataSpec, split: str, images: Sequence[ImageRecord]) -> TagTable:
    return TagTable(tags_by_stem(_file(spec)))


_READERS: dict[str, Callable[[DataSpec, str, Sequence[ImageRecord]], TagTable]] = {
    "voc-main": _from_main,
    "voc-xml": _from_xml,
    "masks": _from_masks,
    "csv": _from_csv,
    "npy": _from_npy,
    "coco": _from_coco,
}
