"""Which images are meant by files, folders and lists, and what their label maps will be called.

Nothing here opens an image: a file that is missing or damaged is named later, as one that failed.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from wilss.data.layouts import ImageRecord
from wilss.data.layouts.files import IMAGE_SUFFIXES
from wilss.errors import ParameterError

#: What an image in a folder is recognised by; a file that is named itself may be called anything.
ENDINGS = IMAGE_SUFFIXES


@dataclass(frozen=True, kw_only=True)
class Found:
    """Images by their name below the folder that holds all of them, in the order in which they were named.

    others: files in the folders that are no images by their endings, or lie where the label maps go.
    """

    images: tuple[ImageRecord, ...]
    others: int = 0


@dataclass(frozen=True, kw_only=True)
class Target:
    """An image and the files that are made of it."""

    record: ImageRecord
    labels: Path
    overlay: Path


def find_images(inputs: Sequence[Path], out: Path) -> Found:
    """The images that files and folders stand for; folders are searched to their depth, in the order of names.

    An image's name is its path below the deepest folder that holds everything given, so that sub-folders are kept
    and images of one name in two folders stay apart.
    Raises ParameterError for a folder without images, and where `out` is itself one of the folders.
    """
    places = list(dict.fromkeys(_absolute(place) for place in inputs))
    base = Path(os.path.commonpath([place if place.is_dir() else place.parent for place in places]))
    images: dict[Path, ImageRecord] = {}
    others = 0
    for place in places:
        files, left_out = _images_below(place, _absolute(out)) if place.is_dir() else ([place], 0)
        others += left_out
        for path in files:
            images.setdefault(path, ImageRecord(image_id=path.relative_to(base).as_posix(), path=path))
    return Found(images=tuple(images.values()), others=others)


def targets_of(images: Iterable[ImageRecord], out: Path) -> tuple[Target, ...]:
    """Where the label map and the overlay of every image go: its name below `out`, with another ending.

    Raises ParameterError when two images have one target, or a target is one of the images.
    """
    records = tuple(images)
    sources = {record.path for record in records}
    taken: dict[Path, ImageRecord] = {}
    for record in records:
        relative = Path(record.image_id)
        labels = _absolute(out) / relative.with_name(f"{relative.stem}.png")
        if labels in taken:
            raise ParameterError(
                f"{taken[labels].path} and {record.path} would both become {labels}; rename one, or predict them into "
                "different folders."
            )
        taken[labels] = record
    targets = tuple(
        Target(record=record, labels=labels, overlay=labels.with_name(f"{labels.stem}.overlay.jpg"))
        for labels, record in taken.items()
    )
    for target in targets:
        for path in (target.labels, target.overlay):
            if path in sources:
                raise ParameterError(f"{path} is one of the images and would be written over; give another --out.")
    return targets


def read_list(path: Path) -> list[Path]:
    """The paths in a text file, one per line, relative to the current folder; blank lines are left out."""
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
    named = [Path(line.strip()) for line in lines if line.strip()]
    if not named:
        raise ParameterError(f"the list {path} names no image; write one path per line.")
    return named


def _images_below(folder: Path, out: Path) -> tuple[list[Path], int]:
    """The images in a folder and below it, sorted; and how many other files there are."""
    if folder == out:
        raise ParameterError(
            f"--out is the folder of the images, {folder}, where label maps would be taken for images the next time; "
            "give another folder."
        )
    files = [(path, path.suffix.lower() in ENDINGS and out not in path.parents) for path in _files_below(folder)]
    images = sorted(path for path, wanted in files if wanted)
    if not images:
        raise ParameterError(f"{folder} holds no images ({' '.join(ENDINGS)}); name another folder, or files.")
    return images, len(files) - len(images)


def _files_below(folder: Path) -> Iterator[Path]:
    """All files, also through links to folders, each folder once."""
    visited: set[str] = set()
    for root, folders, files in os.walk(folder, followlinks=True, onerror=_raise):
        if os.path.realpath(root) in visited:
            folders.clear()
            continue
        visited.add(os.path.realpath(root))
        folders.sort()
        yield from (Path(root, name) for name in files)


def _raise(error: OSError) -> None:
    raise error


def _absolute(path: Path) -> Path:
    """As it would be typed in full; links stay what they are called."""
    return Path(os.path.abspath(path))
