"""Which classes an image is known to hold, by the class names of the data set.

Every reader answers for all images that it knows; an image that it does not know has no tags at all, which is
not the same as an image that is known to hold nothing.
"""

import logging
import os
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from wilss.data.layouts.coco_json import tags_by_stem
from wilss.data.layouts.files import lines_of
from wilss.data.layouts.label_classes import LabelClasses, classes_in
from wilss.data.layouts.lists import find_list, load_array, read_list
from wilss.data.layouts.named_images import NamedImages, of_one_folder
from wilss.data.layouts.records import ImageRecord, PngLabel
from wilss.data.layouts.spec import DataSpec, SplitSpec
from wilss.data.layouts.table import Records, Shared
from wilss.data.layouts.tag_table import TagRows, read_table
from wilss.data.layouts.xml import read_annotations
from wilss.data.names import Names, Register, some
from wilss.disk import file_names, is_file, is_folder, joined, threads_for
from wilss.errors import ImageError, ManifestError

log = logging.getLogger("wilss")

_LABEL_THREADS = 4
#: Labels that a thread reads at a time: a future for each of a million would take a gigabyte.
_LABELS_AT_ONCE = 32
#: Of so many labels the classes are kept for the next command.
_WORTH_KEEPING = 200


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
        """Say that there is this image, and that it holds `names` too; quick where the order of ids repeats."""
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
    for place in (joined(spec.base, spec.tags.file), joined(spec.root, spec.tags.file)):
        if is_file(place):
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
    there = set(file_names(str(folder))) if is_folder(folder) else set()
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
    """The classes with at least one pixel; every label file is read once, and where there are many, remembered."""
    usable = (place for place, image in enumerate(images) if image.label is not None and image.problem is None)
    present = array("q", usable)
    if len(present) > _WORTH_KEEPING:
        log.info("reading the labels of %d images of %s for their tags", len(present), split)
    found, problems = _Tagged(), {}
    kept = LabelClasses(spec) if len(present) > _WORTH_KEEPING else None
    with ThreadPoolExecutor(threads_for(spec.root, _LABEL_THREADS)) as pool:
        some = (present[first : first + _LABELS_AT_ONCE] for first in range(0, len(present), _LABELS_AT_ONCE))
        for part in pool.map(lambda places: [_classes_in(spec, images[place], kept) for place in places], some):
            for image_id, names in part:
                if isinstance(names, str):
                    problems[image_id] = names
                else:
                    found.add(image_id, names)
    if kept is not None:
        kept.save()
    return TagTable(found, problems)


def _classes_in(spec: DataSpec, image: ImageRecord, kept: LabelClasses | None) -> tuple[str, tuple[str, ...] | str]:
    """Image id, and the names of the classes in its label, or a sentence why it cannot be read."""
    assert image.label is not None
    try:
        if kept is not None and isinstance(image.label, PngLabel):
            ids = kept.of(image.label)
        else:
            ids = classes_in(image.label.read())
    except ImageError as error:
        return image.image_id, str(error)
    return image.image_id, tuple(spec.taxonomy.name_of(identity) for identity in ids)


# -- csv, and folders of classes ----------------------------------------------------------------------------


def read_rows(spec: DataSpec, *splits: Sequence[ImageRecord]) -> tuple[TagRows, list[NamedImages]]:
    """The rows of a data set's csv, and by what they call the images of each of `splits`: all that a row may mean."""
    images = [_named_images(spec, records) for records in splits]

    def is_class(word: str) -> bool:
        return spec.taxonomy.find(word) is not None or word in spec.tags.ignore

    def is_image(word: str) -> bool:
        return any(word in some for some in images)

    path = _file(spec)
    table = read_table(path, spec.tags, is_image=is_image, is_class=is_class)
    return table, of_one_folder(images, [row.image for row in table.rows], spec.root, path)


def _named_images(spec: DataSpec, images: Sequence[ImageRecord]) -> NamedImages:
    """Image records by what a table may call them."""
    ids = images.ids() if isinstance(images, Records) else [image.image_id for image in images]
    cut = len(str(spec.root)) + 1
    return NamedImages(ids, lambda place: str(images[place].path)[cut:].replace(os.sep, "/"))


def label_names(spec: DataSpec, images: Sequence[ImageRecord]) -> Mapping[str, str]:
    """The label file that the csv names for an image, by image id; "" where its row names none."""
    if spec.tags.kind != "csv" or spec.tags.mask is None:
        return {}
    table, (known,) = read_rows(spec, images)
    named = ((known.find(row.image), row.mask) for row in table.rows)
    return {known.ids[places[0]]: mask for places, mask in named if len(places) == 1}


def _from_csv(spec: DataSpec, split: str, images: Sequence[ImageRecord]) -> TagTable:
    """The rows that name an image of the split; see `tag_table`."""
    found, problems = _Tagged(), dict[str, str]()
    table, (known,) = read_rows(spec, images)
    for row in table.rows:
        ids = [known.ids[place] for place in known.find(row.image)]
        if len(ids) == 1:
            found.add(ids[0], row.tags)
        else:
            said = f"{_file(spec)} has a row of {row.image!r}, which may mean {some(ids)}; write its path there."
            problems |= dict.fromkeys(ids, said)
    return TagTable(found, {image_id: said for image_id, said in problems.items() if image_id not in found})


def _from_folders(spec: DataSpec, split: str, images: Sequence[ImageRecord]) -> TagTable:
    """An image is of the class that the first folder of its path is called after."""
    found, problems = _Tagged(), {}
    for image in images:
        folder, inside, _ = image.image_id.partition("/")
        if inside:
            found.add(image.image_id, (folder,))
        else:
            problems[image.image_id] = f"{image.path} lies in no folder of a class; move it into one, or remove it."
    return TagTable(found, problems)


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
    "folders": _from_folders,
    "npy": _from_npy,
    "coco": _from_coco,
}
