"""All images of a split of VOC 2012's folders, or of a plain folder: what its list names, what lies on disk, its tags.

Every fault of a single image becomes a sentence in its record.
"""

import functools
import os
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from wilss.data.layouts.files import IMAGE_SUFFIXES, LABEL_SUFFIXES, Folders, fault_of_name, printable, without_suffix
from wilss.data.layouts.lists import Entry, ImageList, read_list, require_root
from wilss.data.layouts.records import ImageRecord, PngLabel
from wilss.data.layouts.spec import DataSpec, SplitSpec
from wilss.data.layouts.table import Records, Tags
from wilss.data.layouts.tags import TagTable, label_names, read_tags
from wilss.data.names import some
from wilss.data.taxonomy import closest
from wilss.disk import is_folder, path_of, walk
from wilss.errors import ManifestError

VOC_IMAGES = "JPEGImages"
_VOC_LABELS = ("SegmentationClassAug", "SegmentationClass")
#: Where a folder of images has its labels.
FOLDER_LABELS = ("labels", "masks")
#: Lists that stand for every image there is.
_WHOLE = ("", "*", "all")


@dataclass(frozen=True, kw_only=True)
class Listing:
    """All images of a split. exact: the list already is a step's selection; it is not to be filtered again."""

    records: Records
    warnings: tuple[str, ...] = ()
    exact: bool = False


def make_listing(
    spec: DataSpec,
    split: str,
    images: Records,
    *,
    warnings: Iterable[str] = (),
    exact: bool = False,
    lenient: bool = False,
    tags: TagTable | None = None,
) -> Listing:
    """Join images, as far as the disk goes, with their tags.

    lenient: for evaluation, where labels count and tags do not: an image without tags, or tags that cannot
    be read, are no fault. tags: where the caller knows them already. Raises ManifestError where no image can be used
    since the data folder is not there.
    """
    if all(problem is not None for _, _, problem in images.facts()):
        require_root(spec)
    if tags is None:
        tags = _tags(spec, split, images, lenient)
    records = images.tagged(_facts(spec, images, tags, lenient))
    sentences = tuple(warnings)
    if not (lenient or spec.tags.complete) and (empty := list(_without_class(records))):
        who = f"no class and so no step for {some(empty)} of {split!r}"
        what = "; tag them, take them off the list, or, if they show none of the classes"
        if spec.tags_are_labels:
            what = ": their labels show background alone, and such images are not trained on; if they should be"
        sentences += (f"{spec.at('splits')}: {who}{what}, write `complete: true` under `tags`.",)
    return Listing(records=records, warnings=sentences, exact=exact)


def _tags(spec: DataSpec, split: str, found: Records, lenient: bool) -> TagTable:
    if lenient and spec.tags.kind == "masks":
        return TagTable({})
    try:
        return read_tags(spec, split, found)
    except ManifestError:
        if lenient:
            return TagTable({})
        raise


def _facts(spec: DataSpec, found: Records, tags: TagTable, lenient: bool) -> Iterator[tuple[Tags, str | None, bool]]:
    """Tags and problem of each image, and whether nobody knows its tags."""
    ids_of = functools.cache(spec.ids_of)  # images share their tags
    by_labels = spec.tags.kind == "masks"
    for place, ((image_id, _, problem), has_label) in enumerate(zip(found.facts(), found.have_labels(), strict=True)):
        names = tags.names.get(image_id)
        ids, strange = ids_of(names or ())
        if problem is None and not lenient:
            problem = tags.problems.get(image_id)
            if problem is None and (strange or (names is None and not by_labels)):
                problem = _tag_problem(spec, found[place].path, names, strange)
        yield ids, problem, by_labels and problem is None and not has_label


def _without_class(records: Records) -> Iterator[str]:
    """Ids of the images that are known to show no class."""
    for (image_id, ids, problem), is_unknown in zip(records.facts(), records.are_unknown(), strict=True):
        if not ids and problem is None and not is_unknown:
            yield image_id


def with_unknown_tags_refused(spec: DataSpec, records: Records) -> Records:
    """The same images, where those whose tags nobody knows have that as their problem."""
    if not any(records.are_unknown()):
        return records
    return Records(
        replace(record, problem=_tag_problem(spec, record.path, None, ()), tags_unknown=False)
        if record.tags_unknown
        else record
        for record in records
    )


def _tag_problem(spec: DataSpec, path: Path, names: tuple[str, ...] | None, strange: tuple[str, ...]) -> str:
    if names is None:
        return (
            f"{path} has no tags (from {spec.tags.kind}{f', {spec.tags.file}' if spec.tags.file else ''}); add "
            "them, or leave the image out of the list."
        )
    return (
        f"{path} is tagged {strange[0]!r}, which is no class of "
        f"{spec.taxonomy.name}{closest(strange[0], spec.taxonomy.class_names)}; correct the tag, or list it in "
        "`tags.ignore`."
    )


# -- what lies on disk --------------------------------------------------------------------------------------


def read_voc(spec: DataSpec, split: str, *, lenient: bool = False) -> Listing:
    """A split of a folder laid out like VOC 2012: JPEGImages, SegmentationClass(Aug), ImageSets, Annotations."""
    listed = read_list(spec, spec.split(split), image_folder(spec))
    return _read(spec, split, listed, lenient)


def read_folder(spec: DataSpec, split: str, *, lenient: bool = False) -> Listing:
    """A split of a plain folder: a list, a folder with the split's name, or (for `all`) every image there is."""
    chosen = spec.split(split)
    if is_folder(spec.root / chosen.list) or chosen.list in _WHOLE:
        listed = _whole_folder(spec, chosen.images or (chosen.list if chosen.list not in _WHOLE else ""))
    else:
        listed = read_list(spec, chosen, (chosen.images or image_folder(spec)).strip("/"))
    return _read(spec, split, listed, lenient)


def read_others(spec: DataSpec, split: str, listed: Container[str]) -> Records:
    """The images where those of a split of a plain folder may lie, but for the paths `listed`, which are not opened.

    Missing tags are no fault.
    """
    whole = _whole_folder(spec, spec.split(split).images or "")
    others = tuple(entry for entry in whole.entries if f"{spec.root}/{entry.image}" not in listed)
    return _read(spec, split, replace(whole, entries=others), lenient=True).records if others else Records()


def image_folder(spec: DataSpec) -> str:
    """The folder under the root that plain ids lie in; "" for the root itself."""
    if spec.images is not None:
        return spec.images.strip("/").removeprefix("./").removesuffix("/.")
    if spec.layout == "voc":
        return VOC_IMAGES
    return next((name for name in ("images", VOC_IMAGES) if is_folder(spec.root / name)), "")


def label_folders(spec: DataSpec, split: SplitSpec | None = None) -> tuple[str, ...]:
    """The folders that the labels of a split, or of all others, are looked for in, the preferred one first."""
    if split is not None and split.labels is not None:
        return (split.labels.strip("/"),)
    if spec.labels is not None:
        return (spec.labels.strip("/"),)
    return _VOC_LABELS if spec.layout == "voc" else FOLDER_LABELS


def _all_label_folders(spec: DataSpec) -> tuple[str, ...]:
    return (*label_folders(spec), *(name for split in spec.splits.values() for name in label_folders(spec, split)))


def _read(spec: DataSpec, split: str, listed: ImageList, lenient: bool) -> Listing:
    images = _all_found(spec, listed, label_folders(spec, spec.split(split)))
    return make_listing(spec, split, images, warnings=listed.warnings, exact=listed.exact, lenient=lenient)


def _all_found(spec: DataSpec, listed: ImageList, labels: Sequence[str]) -> Records:
    """What lies on disk of a list; the folders are forgotten again, since they hold every name once more."""
    folders = Folders()
    found = Records(_found(spec, folders, labels, entry, listed.path) for entry in listed.entries)
    named = label_names(spec, found)
    return Records(_with_label(spec, folders, labels, record, named) for record in found) if named else found


def _found(spec: DataSpec, folders: Folders, labels: Sequence[str], entry: Entry, source: Path) -> ImageRecord:
    if entry.fault is not None:
        problem = f"{source} names {entry.image_id!r}, which {entry.fault}; name files inside {spec.root} only."
        return ImageRecord(image_id=entry.image_id, path=spec.root, problem=problem)
    path = folders.find(str(spec.root), entry.image)
    if path is None:
        path = spec.root / entry.image
        problem = f"{path} is named in {source}, but is not there; copy it there, or take it off the list."
        return ImageRecord(image_id=entry.image_id, path=path, problem=problem)
    label = _label(spec, folders, labels, entry, path)
    return ImageRecord(image_id=entry.image_id, path=path, label=label, bits=spec.bits)


def _label(spec: DataSpec, folders: Folders, labels: Sequence[str], entry: Entry, image: Path) -> PngLabel | None:
    names = [f"{folder}/{entry.image_id}" for folder in labels]
    if entry.label is not None and spec.labels is None:
        names = [entry.label, *names]
    return _label_file(spec, folders, names, image)


def _with_label(
    spec: DataSpec, folders: Folders, labels: Sequence[str], record: ImageRecord, named: Mapping[str, str]
) -> ImageRecord:
    """The record with the label file that its row of the table names; one that is missing is found when it is read."""
    name = named.get(record.image_id, "")
    if not name or record.problem is not None:
        return replace(record, label=None)
    if (fault := fault_of_name(name)) is not None:
        said = f"the label file {name!r} of {record.path} {fault}; name files inside {spec.root} only."
        return replace(record, label=None, problem=said)
    base = os.path.basename(name)
    label = _label_file(spec, folders, [name, *(f"{folder}/{base}" for folder in labels)], record.path)
    return replace(record, label=label or PngLabel(path=spec.root / name, table=spec.label_table))


def _label_file(spec: DataSpec, folders: Folders, names: Iterable[str], image: Path) -> PngLabel | None:
    """The first of these that is there; an image is no label of itself."""
    for name in names:
        path = folders.find(str(spec.root), name, LABEL_SUFFIXES)
        if path is not None and path.suffix.lower() in LABEL_SUFFIXES and path != image:
            return PngLabel(path=path, table=spec.label_table)
    return None


def _whole_folder(spec: DataSpec, inside: str) -> ImageList:
    """Every image below a folder; links to files count, links to folders are not followed."""
    images = image_folder(spec)
    top = spec.root / (inside or images)
    skipped = set() if inside else {spec.root / name for name in _all_label_folders(spec)}
    names: list[str] = []
    for folder, below, files in walk(top, _raise(spec)):
        below[:] = sorted(name for name in below if path_of(folder) / name not in skipped)
        inner = path_of(folder).relative_to(spec.root).as_posix()
        names += [f"{inner}/{name}".removeprefix("./") for name in sorted(files) if is_image_name(name)]
    if not names:
        raise ManifestError(f"{spec.at('path')}: {top} holds no image; correct `path`, `images` or `splits`.")
    return ImageList(path=top, entries=_entries(names, f"{inside or images}/"))


def _entries(names: Sequence[str], prefix: str) -> tuple[Entry, ...]:
    ids = [without_suffix(name.removeprefix(prefix)) for name in names]
    counts = Counter(ids)
    return tuple(
        Entry(
            image_id=printable(name.removeprefix(prefix) if counts[image_id] > 1 else image_id),
            image=name,
            fault=fault_of_name(name),
        )
        for image_id, name in zip(ids, names, strict=True)
    )


def is_image_name(name: str) -> bool:
    """Whether a file may be an image by its name; hidden ones are none."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def _raise(spec: DataSpec) -> Callable[[OSError], None]:
    def handler(error: OSError) -> None:
        raise ManifestError(
            f"{spec.at('path')}: {error.filename} cannot be listed ({error.strerror}); check the path, its links and "
            "its permissions."
        )

    return handler
