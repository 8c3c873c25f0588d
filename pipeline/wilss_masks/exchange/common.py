"""What all exports share: which images go out, what was written, and that nothing lands outside the named place.

Image ids come from a store that somebody else may have made, so none is joined to a path before it was looked at. An
image whose id is refused is left out and named; the others are written.
"""

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from wilss.disk import refuse_existing
from wilss.errors import OneImageError, StoreError
from wilss.process import map_in_threads
from wilss.store import ImageMasks, MaskStore, Status

#: Room for an ending and for the name of an unfinished file below the 255 bytes that file systems allow.
_LONGEST_NAME = 200
_R = TypeVar("_R")


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written. refused: image id -> why it was left out. without_masks: images that had none.

    overlapping: images with pixels in the masks of two classes, which the more confident class got. notes: sentences
    about what the form could not keep, or what to do next.
    """

    images: int
    annotations: int
    overlapping: int
    refused: Mapping[str, str]
    without_masks: int
    notes: tuple[str, ...] = ()


def holds_void(store: MaskStore) -> bool:
    """Whether any pixel of the store is void: planes without one are not on disk."""
    return any(True for _ in store.folder.files("void/c"))


def problem_with_id(image_id: str) -> str | None:
    """Why an image id cannot be part of a path below a folder; None when it can.

    Ids may name folders, as in "cats/001"; they may not leave the folder that they are joined to.
    """
    parts = image_id.split("/")
    if image_id.startswith("/") or "\\" in image_id or (len(image_id) > 1 and image_id[1] == ":"):
        return "is not a plain relative name"
    if any(part in ("", ".", "..") for part in parts):
        return "has an empty part or a dot as a part, which leads elsewhere"
    if not image_id.isprintable():
        return "has characters that cannot be printed"
    if any(len(part.encode("utf-8", "replace")) > _LONGEST_NAME for part in parts):
        return f"is longer than {_LONGEST_NAME} bytes"
    return None


def exportable(store: MaskStore) -> tuple[Sequence[int], dict[str, str]]:
    """Rows with masks and an id that can be trusted; and the ids with masks that cannot, with the reason."""
    rows, refused = array("q"), {}
    for row in map(int, np.flatnonzero(store.vector("status") == Status.DONE)):
        problem = problem_with_id(store.image_ids[row])
        if problem is None:
            rows.append(row)
        else:
            refused[store.image_ids[row]] = f"the id {problem}; rename the image and make its masks again."
    return rows, refused


@dataclass(frozen=True, kw_only=True)
class Made(Generic[_R]):
    """What became of some images: the rows of those that went out, what was made of each, and why others did not."""

    rows: Sequence[int]
    results: Sequence[_R]
    refused: Mapping[str, str]


def make_each(
    store: MaskStore, make: Callable[[int], _R], rows: Sequence[int], refused: Mapping[str, str], threads: int | None
) -> Made[_R]:
    """`make` of the image at each row, in threads. One whose masks are damaged is left out and added to `refused`."""

    def made(row: int) -> _R | OneImageError:
        try:
            return make(row)
        except OneImageError as error:
            return error

    done, results, all_refused = array("q"), list[_R](), dict(refused)
    for row, result in zip(rows, map_in_threads(made, rows, threads), strict=True):
        if isinstance(result, OneImageError):
            all_refused[store.image_ids[row]] = str(result)
        else:
            done.append(row)
            results.append(result)
    return Made(rows=done, results=results, refused=all_refused)


def exported(
    store: MaskStore, made: Made[Any], *, annotations: int, overlapping: int, notes: Sequence[str] = ()
) -> Exported:
    """What was written of a store's images."""
    return Exported(
        images=len(made.rows),
        annotations=annotations,
        overlapping=overlapping,
        refused=made.refused,
        without_masks=store.layout.num_images - len(made.rows) - len(made.refused),
        notes=tuple(notes),
    )


def overlap(masks: ImageMasks) -> bool:
    """Whether any pixel is in the masks of two classes."""
    return bool((masks.masks.sum(axis=0) > 1).any())


def refuse_places(paths: Iterable[Path], out: Path, overwrite: bool) -> None:
    """Refuse to write `paths` below the folder `out`: where a link leads out of it, or where a file is already.

    Raises StoreError.
    """
    for path in paths:
        if not path.parent.resolve().is_relative_to(out.resolve()):
            raise StoreError(f"{path} leads out of {out} through a link; export into an empty folder.")
        refuse_existing(path, overwrite)


def split_of(store: MaskStore) -> str:
    """The store's split as part of a file's name. Raises StoreError where it cannot be one."""
    split = str(store.attributes.get("split", "train"))
    problem = "names a folder" if "/" in split else problem_with_id(split)
    if problem:
        raise StoreError(f"the split {split!r} of {store.path} {problem}; give it a plain name in the manifest.")
    return split


def class_names(store: MaskStore) -> list[str]:
    """The name of every taxonomy id from 0 on, as the store has them; of its own classes by its categories."""
    names = [str(name) for name in store.attributes.get("classes", ())]
    for identity, name in zip(store.category_ids, store.category_names, strict=True):
        names += [f"class {number}" for number in range(len(names), identity + 1)]
        names[identity] = name
    return names or ["background"]
