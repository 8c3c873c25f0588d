"""What lies in a folder of data and is not read as somebody may have meant it: a sentence for each, with what to do."""

import contextlib
import re
from collections import Counter
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from wilss.data.annotations import recognised
from wilss.data.annotations.json_files import read_json
from wilss.data.copies import groups_of_copies
from wilss.data.layouts import DataSpec, ImageRecord
from wilss.data.layouts.coco import coco_numbers, image_folder_of
from wilss.data.layouts.files import Folders, without_suffix
from wilss.data.layouts.listing import image_folder, is_image_name, label_folders
from wilss.data.manifest import Manifest, told_files
from wilss.data.names import some
from wilss.disk import UrlPath, path_of, walk
from wilss.errors import ManifestError, counted

_MAPS = "--layout folder reads label maps, as PNGs of the images' names in `labels/`"
_SUPPORTS = "or make supports of them (`supports:`)"
_EXPORT = f"export them as COCO and read that by --layout coco, {_SUPPORTS}"
#: By form how a sentence calls it, and what to do.
_REMEDIES: Mapping[str, tuple[str, str]] = {
    "labelme": ("labelme", f"{_MAPS}, which labelme's labelme2voc.py draws; {_SUPPORTS}"),
    "coco": ("COCO", "read them by --layout coco"),
    "panoptic": ("COCO panoptic", "read a json of instances by --layout coco"),
    "cvat": ("CVAT", f"{_MAPS}, which CVAT exports as `Segmentation mask`; {_SUPPORTS}"),
    "labelstudio": ("Label Studio", _EXPORT),
    "fiftyone": ("FiftyOne", _EXPORT),
    "voc": ("VOC", "put them into Annotations/ beside JPEGImages/, and read tags of them by --layout voc"),
    "yolo": ("YOLO", "convert them to a COCO json, and read that by --layout coco"),
}
_YOLO = re.compile(rb"\s*\d+(\s+-?[0-9.eE+-]+){4,}\s*(\n|$)")
_ANNOTATIONS = (".json", ".xml", ".txt")
_OTHER_PICTURES = (
    *(".heic", ".heif", ".avif", ".gif", ".jp2", ".jxl", ".jfif", ".tga", ".exr", ".psd"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2", ".pef", ".srw"),
)
#: Endings of files that lose what label files say.
_LOSSY = (".jpg", ".jpeg", ".webp")
_HEAD, _TRIES = 4096, 5


def unread_of(manifest: Manifest) -> Iterator[str]:
    """A sentence for everything in the data of a manifest that may be meant to be read, and is not."""
    for name, spec in manifest.data.items():
        if isinstance(spec.root, UrlPath):
            continue
        if spec.layout == "folder":
            yield from () if manifest.supports else unread_annotations(spec.root)
            yield from _other_pictures(spec.root)
            yield from _linked_folders(spec)
            yield from _lossy_labels_of(manifest, name, spec)
            yield from _in_two_folders(manifest, name, spec)
            with contextlib.suppress(ManifestError):  # a list that cannot be read is told by others
                yield from told_files(manifest, name)
        elif spec.layout == "coco":
            yield from _unlisted(manifest, name, spec)


def unread_annotations(root: Path) -> Iterator[str]:
    """A sentence for the files of each annotation tool below a folder, none of which `--layout folder` reads."""
    found: dict[str, list[str]] = {}
    forms: dict[tuple[str, str], str] = {}
    tries = Counter[tuple[str, str]]()
    for path in _files(root, _ANNOTATIONS):
        key = (str(path.parent), path.suffix.lower())  # the files of one folder are of one tool, nearly always
        if key not in forms and tries[key] < _TRIES and (form := _form_of(path)) is not None:
            forms[key] = form
        tries[key] += 1
        if key in forms:
            found.setdefault(forms[key], []).append(path.relative_to(root).as_posix())
    for form, names in found.items():
        tool, remedy = _REMEDIES[form]
        files = f"{counted(len(names), 'file')} of annotations in {tool}'s form ({_first(names)})"
        yield f"{root} holds {files}, which --layout folder does not read; {remedy}."


def _files(root: Path, endings: Collection[str]) -> Iterator[Path]:
    """The files below a folder with one of these endings, without hidden ones."""
    for folder, below, names in walk(root):
        below[:] = sorted(name for name in below if not name.startswith("."))
        shown = {name for name in names if Path(name).suffix.lower() in endings and not name.startswith(".")}
        yield from (path_of(folder) / name for name in sorted(shown))


def _other_pictures(root: Path) -> Iterator[str]:
    names = [path.relative_to(root).as_posix() for path in _files(root, _OTHER_PICTURES)]
    if names:
        files = f"{counted(len(names), 'picture')} of formats that are not read ({_first(names)})"
        yield f"{root} holds {files}, left out of all steps; save them as JPEG or PNG."


def _linked_folders(spec: DataSpec) -> Iterator[str]:
    """A sentence for links to folders where a split is all that lies in a folder; lists name what is behind them."""
    if all(split.list.endswith((".txt", ".npy")) for split in spec.splits.values()):
        return
    splits = (*spec.splits.values(), None)
    known = {image_folder(spec), *(name for split in splits for name in label_folders(spec, split))}
    known |= {str(name).strip("/") for split in spec.splits.values() for name in (split.images, split.list)}
    links = [
        name
        for folder, below, _ in walk(spec.root)
        for path in (path_of(folder) / name for name in sorted(below))
        if path.is_symlink()
        and (name := path.relative_to(spec.root).as_posix()) not in known
        and not any(folder.startswith(f"{name}/") for folder in known)
    ]
    if links:
        what = "links to folders" if len(links) > 1 else "a link to a folder"
        yield f"{spec.root} holds {what} ({_first(links)}), into which nobody looks; put the images themselves there."


def lossy_labels(
    root: Path, folders: Iterable[str], ids: Iterable[str], images: Container[str] = frozenset()
) -> Iterator[str]:
    """A sentence for files that are called as labels of these images and are none, since JPEG changes their values.

    images: paths of photographs, which may lie in the same folder as labels.
    """
    there = Folders()
    named = [(folder, image_id) for image_id in ids for folder in folders]
    files = (there.find(str(root), f"{folder}/{image_id}", _LOSSY) for folder, image_id in named)
    lossy = [
        path.relative_to(root).as_posix()
        for path in files
        if path is not None and path.suffix.lower() in _LOSSY and str(path) not in images
    ]
    if lossy:
        yield (
            f"{root} holds {counted(len(lossy), 'file')} called as labels of images ({_first(lossy)}), which are not "
            "read: JPEG and WebP change the values of pixels; save the labels as PNG where they came from."
        )


def _lossy_labels_of(manifest: Manifest, name: str, spec: DataSpec) -> Iterator[str]:
    images = {str(record.path) for split in spec.splits for record in _records(manifest, name, split)}
    for split in spec.splits:
        bare = (record.image_id for record in _records(manifest, name, split) if record.label is None)
        yield from lossy_labels(spec.root, label_folders(spec, spec.split(split)), bare, images)


def _in_two_folders(manifest: Manifest, name: str, spec: DataSpec) -> Iterator[str]:
    """A sentence for images that lie in the folders of several classes, where a folder is all that tags an image."""
    if spec.tags.kind != "folders":
        return
    for split in spec.splits:
        several = groups_of_copies(_records(manifest, name, split), _differ)
        if several:
            first = ", ".join(record.image_id for record in several[0])
            yield (
                f"{spec.root} holds {counted(len(several), 'image')} in the folders of several classes ({first}): "
                "each copy is learnt with its own folder's class alone, and the rest as background; "
                "keep one copy, and write all its tags into a tags.csv (`tags: {from: csv, file: tags.csv}`)."
            )


def _differ(records: Sequence[ImageRecord]) -> bool:
    return len({frozenset(record.tags) for record in records}) > 1


def _form_of(path: Path) -> str | None:
    """The form of a file of annotations, a key of `_REMEDIES`; None for any other file."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
        if path.suffix.lower() == ".txt":
            return "yolo" if _is_yolo(head) else None
        if path.suffix.lower() == ".xml":
            return "voc" if b"<annotation>" in head else "cvat" if b"<annotations>" in head else None
        form = recognised(path)
        if form in _ROWS and not _ROWS[form](read_json(path)):
            return None
    except (OSError, ManifestError):
        return None
    return form if form in _REMEDIES else None


def _is_yolo(head: bytes) -> bool:
    """Whether a text begins with a class and shares of the image's width and height."""
    line = _YOLO.match(head)
    try:
        return line is not None and all(0 <= float(share) <= 1 for share in line[0].split()[1:])
    except ValueError:
        return False


def _are_tasks(content: Any) -> bool:
    task = content[0] if content else None
    return isinstance(task, dict) and "data" in task and bool({"annotations", "predictions"} & task.keys())


def _are_samples(content: Any) -> bool:
    samples = content["samples"]
    return isinstance(samples, list) and bool(samples) and all(isinstance(sample, dict) for sample in samples)


#: Whether a json that nobody named is of a form: `recognised`, which is for files that somebody named as annotations,
#: tells these by the outermost brackets or by one key.
_ROWS: Mapping[str, Callable[[Any], bool]] = {"labelstudio": _are_tasks, "fiftyone": _are_samples}


def _unlisted(manifest: Manifest, name: str, spec: DataSpec) -> Iterator[str]:
    """A sentence for the images beside those of a COCO data set that no split of the manifest lists."""
    listed: dict[Path, set[str]] = {}
    for split in spec.splits:
        for record in _records(manifest, name, split):
            listed.setdefault(record.path.parent, set()).add(without_suffix(record.path.name))
    for path in (path for split in spec.splits for path in _left_out(spec, split)):
        listed.get(path.parent, set()).add(without_suffix(path.name))
    for folder, stems in sorted(listed.items()):
        images = [path.name for path in sorted(folder.iterdir()) if is_image_name(path.name)] if folder.is_dir() else []
        if unlisted := [image for image in images if without_suffix(image) not in stems]:
            yield (
                f"{folder} holds {some(unlisted)} that no split of this manifest lists, left out of all steps; leave "
                "those of another json, as of a test, as they are, and add any others to the `images` of a split's "
                "json (without annotations where they show no class)."
            )


def _left_out(spec: DataSpec, split: str) -> Iterator[Path]:
    """Where the images of a split's json may lie if it has a list beside it, which leaves some of them out."""
    try:
        if spec.split(split).list and spec.split(split).annotations:
            folder = image_folder_of(spec, split)
            for _, file in coco_numbers(spec, split).images.values():
                yield from (folder / file, spec.root / file)
    except ManifestError:
        return


def _records(manifest: Manifest, name: str, split: str) -> Sequence[ImageRecord]:
    """The images of a split; none where its list cannot be read, which others tell."""
    try:
        return manifest.listing(name, split, lenient=True).records
    except ManifestError:
        return ()


def _first(names: list[str]) -> str:
    return ", ".join(names[:2]) + (", ..." if len(names) > 2 else "")
