"""The folders of a data set: which hold images, which the labels of these, and which are named after splits."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from wilss.data.images import is_in_colour
from wilss.data.layouts.files import LABEL_SUFFIXES, without_suffix
from wilss.data.layouts.listing import is_image_name
from wilss.disk import path_of, walk
from wilss.errors import ImageError, ManifestError

_SPLITS = {
    "train": ("train", "training"), "val": ("val", "valid", "validation", "dev"), "test": ("test", "testing"),
}  # fmt: skip
#: What labelme2voc.py draws for people to look at, beside the label files.
_DRAWN_OVER = re.compile(r"Segmentation(Class|Object)Visualization$")
_LABEL_WORDS = ("label", "mask", "annot", "ann_", "seg", "truth", "gt")


@dataclass(frozen=True)
class FolderTree:
    """files: the images in every folder below the root that has some, as paths from the root to their names.

    labels: folders of label files by the folder whose images they are of.
    """

    root: Path
    files: Mapping[str, Sequence[str]]
    labels: Mapping[str, str]

    @classmethod
    def of(cls, root: Path) -> "FolderTree":
        """Look through the folder `root`. Raises ManifestError where it holds no image."""
        files: dict[str, list[str]] = {}
        for folder, below, names in walk(root):
            below[:] = sorted(name for name in below if not name.startswith(".") and not _DRAWN_OVER.match(name))
            inside = path_of(folder).relative_to(root).as_posix().removeprefix(".")
            here = [name for name in sorted(names) if is_image_name(name)]
            if here:
                files[inside] = here
        if not files:
            raise ManifestError(f"{root} holds no image; name the folder that holds the data.")
        return cls(root, files, _label_folders(root, files))

    def without(self, folders: Iterable[str]) -> "FolderTree":
        """The tree without what lies in these folders."""
        left_out = set(folders)
        files = {folder: names for folder, names in self.files.items() if folder not in left_out}
        return FolderTree(self.root, files, {of: labels for of, labels in self.labels.items() if labels in files})

    @cached_property
    def photos(self) -> Mapping[str, Sequence[str]]:
        """The folders that hold images, and no labels."""
        return {folder: names for folder, names in self.files.items() if folder not in self.labels.values()}

    @cached_property
    def tops(self) -> Mapping[str, str]:
        """By the name of a split the folder that holds its images, where folders are named after splits."""
        sizes: dict[str, Counter[str]] = {split: Counter() for split in _SPLITS}
        for folder, names in self.photos.items():
            parts = folder.split("/")
            for split, words in _SPLITS.items():
                place = next((i for i, part in enumerate(parts) if part.casefold() in words), None)
                if place is not None and self._are_splits(parts[:place]):
                    sizes[split]["/".join(parts[: place + 1])] += len(names)
        found = {split: counts.most_common(1)[0][0] for split, counts in sizes.items() if counts}
        return found if "train" in found else {}

    def _are_splits(self, above: Sequence[str]) -> bool:
        """Whether the folders of images at this depth are called after splits; a class `train` is one among others."""
        below = {inside.split("/")[0] for folder in self.photos if (inside := _inside(folder, "/".join(above)))}
        named = [name for name in below if any(name.casefold() in words for words in _SPLITS.values())]
        return len(named) > 1 or len(named) == len(below)

    @property
    def splits(self) -> Mapping[str, str | Mapping[str, str]]:
        """The splits of the manifest."""
        if not self.tops:
            lists = {split: split for split in ("train", "val") if (self.root / f"{split}.txt").is_file()}
            return lists if "train" in lists else {"train": "all"}
        below = {split: self.labels_below(top) for split, top in self.tops.items()}
        return {s: {"images": top, "labels": str(below[s])} if below[s] else top for s, top in self.tops.items()}

    @property
    def top(self) -> str:
        """The folder that holds all images, where folders are not named after splits. Raises ManifestError for none."""
        if not self.photos:
            raise ManifestError(
                f"every folder of {self.root} with images is taken for label files ({', '.join(sorted(self.files))}); "
                "call those with photographs by other words, such as images."
            )
        return os.path.commonpath([folder or "." for folder in self.photos]).removeprefix(".") if not self.tops else ""

    def labels_below(self, top: str) -> str | None:
        """The folder whose label files lie as the images below `top` do."""
        for folder, labels in self.labels.items():
            inner = _inside(folder, top)
            if inner == "":
                return labels
            if inner and labels.endswith(f"/{inner}"):
                return labels.removesuffix(f"/{inner}")
        return None

    def ids(self) -> dict[str, str]:
        """Image id -> path from the root, of all images of all splits, as the layout calls them."""
        tops = list(self.tops.values()) or [self.top]
        paths = [f"{folder}/{name}".lstrip("/") for folder, names in self.photos.items() for name in names]
        return {without_suffix(inner): path for path in paths for top in tops if (inner := _inside(path, top))}

    def images_by_label(self) -> dict[str, str]:
        """By the path of a label file that of its image without the ending; "" for one that no image has."""
        found: dict[str, str] = {}
        for of, labels in self.labels.items():
            stems = set(map(without_suffix, self.files[of]))
            for name in self.files[labels]:
                stem, label = without_suffix(name), f"{labels}/{name}".lstrip("/")
                found[label] = f"{of}/{stem}".lstrip("/") if stem in stems else found.get(label, "")
        return found


def _inside(path: str, top: str) -> str | None:
    """`path` from the folder `top`; None where it lies elsewhere."""
    if path == top or not top:
        return path if not top else ""
    return path.removeprefix(f"{top}/") if path.startswith(f"{top}/") else None


def _label_folders(root: Path, files: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Folders of label files by the folder of their images: PNGs of the same names, grey or called labels.

    Folders of several splits may share their labels, where these hold the names of all of them.
    """
    stems = {folder: set(map(without_suffix, names)) for folder, names in files.items()}
    found: dict[str, str] = {}
    for folder in (one for one in files if _may_hold_labels(root, one, files[one])):
        others = set(files) - {folder, *found, *found.values()}
        like = [one for one in sorted(others) if _half(stems[folder], stems[one])]
        like = [one for one in like if _may_be_labels_of(root, folder, one, files)]
        if like:
            found[max(like, key=lambda one: (_common_end(folder, one), _common_start(folder, one), one))] = folder
    for folder in sorted(set(files) - set(found) - set(found.values())):
        shared = (labels for of, labels in found.items() if _half(stems[folder], stems[labels] - stems[of]))
        if (labels := next(shared, None)) is not None:
            found[folder] = labels
    return found


def _half(some: set[str], others: set[str]) -> bool:
    """Whether half of `some` are among the others."""
    return 2 * len(some & others) >= len(some)


def _may_be_labels_of(root: Path, folder: str, images: str, files: Mapping[str, Sequence[str]]) -> bool:
    """Whether a folder alone is called labels, in what tells the two apart, or is grey while the other is in colour.

    Folders of classes may be called so as well: `with_mask` and `without_mask` are both in colour.
    """
    above = os.path.commonpath([folder or ".", images or "."])
    called, other = (_is_called_labels(one.removeprefix(above)) for one in (folder, images))
    return called > other or (_in_colour(root, images, files) and not _in_colour(root, folder, files))


def _may_hold_labels(root: Path, folder: str, names: Sequence[str]) -> bool:
    """PNGs may be labels by what they are; TIFF and BMP, which grey photographs are too, by what they are called."""
    if not all(name.lower().endswith(".png") for name in names):
        return _is_called_labels(folder) and all(name.lower().endswith(LABEL_SUFFIXES) for name in names)
    return _is_called_labels(folder) or not _in_colour(root, folder, {folder: names})


def _in_colour(root: Path, folder: str, files: Mapping[str, Sequence[str]]) -> bool:
    """Whether the first image of a folder is; one that cannot be read is no label."""
    try:
        return is_in_colour(root / folder / files[folder][0])
    except ImageError:
        return True


def _is_called_labels(folder: str) -> bool:
    return any(word in folder.casefold() for word in _LABEL_WORDS)


def _common_end(one: str, other: str) -> int:
    """How many of the last parts of two folders are equal."""
    pairs = zip(reversed(one.split("/")), reversed(other.split("/")), strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), 1)


def _common_start(one: str, other: str) -> int:
    """How many of their first letters are equal."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
