"""Which images are meant by files, folders and lists, and what their label maps will be called.

Nothing here opens an image: a file that is missing or damaged is named later, as one that failed.
"""

import itertools
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from wilss.data.images import ALL_BITS
from wilss.data.layouts import ImageRecord
from wilss.data.layouts.files import IMAGE_SUFFIXES, LABEL_SUFFIXES
from wilss.data.layouts.listing import FOLDER_LABELS
from wilss.disk import UrlPath, data_path
from wilss.errors import ParameterError

#: What an image in a folder is recognised by; a file that is named itself may be called anything.
ENDINGS = IMAGE_SUFFIXES


@dataclass(frozen=True, kw_only=True)
class Found:
    """Images by their name below the folder that holds all of them, in the order in which they were named.

    others: files in the folders that are no images by their endings, or lie where the label maps go. label_maps: files
    in folders of labels that lie beside images, all of them named as these. links: folders in them that are links out
    of them, and were not entered.
    """

    images: tuple[ImageRecord, ...]
    others: int = 0
    label_maps: int = 0
    links: int = 0


@dataclass(frozen=True, kw_only=True)
class Target:
    """An image and the files that are made of it: in `folder`, of `name` with other endings."""

    record: ImageRecord
    folder: Path
    name: str

    @property
    def labels(self) -> Path:
        """The label map."""
        return self.folder / f"{self.name}.png"

    @property
    def other_labels(self) -> Path:
        """What the label map is called where the folder has other images of the name but for their endings, or none."""
        image = Path(self.record.image_id)
        return self.folder / f"{image.stem if self.name == image.name else image.name}.png"

    @property
    def overlay(self) -> Path:
        """The classes over the image."""
        return self.folder / f"{self.name}.overlay.jpg"

    @property
    def probabilities(self) -> Path:
        """How probable every class is."""
        return self.folder / f"{self.name}.probabilities.npz"


def find_images(inputs: Sequence[Path], out: Path, bits: int = ALL_BITS) -> Found:
    """The images that files and folders stand for; folders are searched to their depth, in the order of names.

    An image's name is its path below the deepest folder that holds everything given, so that sub-folders are kept
    and images of one name in two folders stay apart. bits: of images of 16 those that hold values.
    Raises ParameterError for a folder without images, and where `out` is itself one of the folders.
    """
    places = list(dict.fromkeys(_absolute(place) for place in inputs))
    base = _common([place if place.is_dir() else place.parent for place in places])
    images: dict[Path, ImageRecord] = {}
    others = label_maps = links = 0
    for place in places:
        below = _Below([place]) if not place.is_dir() else _images_below(place, _absolute(out))
        others, links = others + below.others, links + below.links
        label_maps += below.label_maps
        for path in below.images:
            record = ImageRecord(image_id=path.relative_to(base).as_posix(), path=path, bits=bits)
            images.setdefault(path, record)
    return Found(images=tuple(images.values()), others=others, label_maps=label_maps, links=links)


def targets_of(images: Iterable[ImageRecord], out: Path) -> tuple[Target, ...]:
    """Where what is made of every image goes: its name below `out`, with other endings.

    The image's own ending stays where another image in the folder has the same name but for it.
    Raises ParameterError when two images have one target all the same, or a target is one of the images.
    """
    records = tuple(images)
    sources = {record.path for record in records}
    paths = [Path(record.image_id) for record in records]
    named = Counter((path.parent, path.stem) for path in paths)
    taken: dict[Path, Target] = {}
    for record, path in zip(records, paths, strict=True):
        name = path.name if named[path.parent, path.stem] > 1 else path.stem
        target = Target(record=record, folder=_absolute(out) / path.parent, name=name)
        if (other := taken.setdefault(target.labels, target)) is not target:
            raise ParameterError(
                f"{other.record.path} and {record.path} would both become {target.labels}; rename one, or predict them "
                "into different folders."
            )
        for file in (target.labels, target.overlay):
            if file in sources:
                raise ParameterError(f"{file} is one of the images and would be written over; give another --out.")
    return tuple(taken.values())


def read_list(path: Path) -> list[Path]:
    """The paths in a text file, one per line; blank lines are left out.

    They are relative to the current folder or, where there is no such file, to that of the list.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ParameterError(
            f"the list {path} cannot be read ({error.strerror or error}); give the path of a text file."
        ) from error
    except UnicodeDecodeError as error:
        raise ParameterError(f"the list {path} is not UTF-8 text; write one path per line.") from error
    if "\0" in text:
        raise ParameterError(f"the list {path} is a binary file; write one path per line.")
    lines = text.splitlines()
    named = [_beside(data_path(line.strip()), path) for line in lines if line.strip()]
    if not named:
        raise ParameterError(f"the list {path} names no image; write one path per line.")
    return named


def _beside(named: Path, listing: Path) -> Path:
    if isinstance(named, UrlPath):
        return named
    beside = listing.parent / named
    return beside if not named.exists() and beside.exists() else named


class _Below(NamedTuple):
    """What is in a folder and below it: images, sorted; how many other files, label maps, and links that lead out."""

    images: list[Path]
    others: int = 0
    label_maps: int = 0
    links: int = 0


def _images_below(folder: Path, out: Path) -> _Below:
    if folder == out:
        raise ParameterError(
            f"--out is the folder of the images, {folder}, where label maps would be taken for images the next time; "
            "give another folder."
        )
    outside: list[Path] = []
    files = [
        (path, path.suffix.lower() in ENDINGS and out not in path.parents) for path in _files_below(folder, outside)
    ]
    images = sorted(path for path, wanted in files if wanted)
    if not images:
        also = f", and {outside[0]} leads out of it" if outside else ""
        raise ParameterError(f"{folder} holds no images ({' '.join(ENDINGS)}){also}; name another folder, or files.")
    photos = _without_label_maps(images)
    return _Below(photos, len(files) - len(images), len(images) - len(photos), len(outside))


def _without_label_maps(images: Sequence[Path]) -> list[Path]:
    """Images but for the files in folders of labels that lie in, or beside, the folder of the images of these names."""
    stems: dict[Path, set[str]] = {}
    for path in images:
        stems.setdefault(path.parent, set()).add(path.stem)

    def is_of_labels(folder: Path) -> bool:
        photos = (stems.get(place, set()) for place in (folder.parent, folder.parent / "images"))
        return folder.name in FOLDER_LABELS and any(stems[folder] <= names for names in photos)

    labels = {folder for folder in stems if is_of_labels(folder)}
    return [path for path in images if path.parent not in labels or path.suffix.lower() not in LABEL_SUFFIXES]


def _files_below(folder: Path, outside: list[Path]) -> Iterator[Path]:
    """All files, also through links to folders below `folder`, each folder once; links out of it go to `outside`."""
    if isinstance(folder, UrlPath):
        yield from folder.rglob("*")
        return
    visited, home = set[Path](), Path(os.path.realpath(folder))
    for root, folders, files in os.walk(folder, followlinks=True, onerror=_raise):
        real = Path(os.path.realpath(root))
        if not real.is_relative_to(home):
            outside.append(Path(root))
        if real in visited or not real.is_relative_to(home):
            folders.clear()
            continue
        visited.add(real)
        folders.sort()
        yield from (Path(root, name) for name in files)


def _raise(error: OSError) -> None:
    raise error


def _absolute(path: Path) -> Path:
    """As it would be typed in full; links stay what they are called."""
    return path if isinstance(path, UrlPath) else Path(os.path.abspath(path))


def _common(folders: Sequence[Path]) -> Path:
    """The deepest folder that holds all of these. Raises ParameterError where there is none."""
    if not any(isinstance(folder, UrlPath) for folder in folders):
        return Path(os.path.commonpath(folders))
    first, last = min(folder.parts for folder in folders), max(folder.parts for folder in folders)
    shared = [one for one, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))]
    if len(shared) < 2:  # not even a bucket
        raise ParameterError("images of several disks or buckets are given at once; predict them one after the other.")
    return UrlPath(*shared)
