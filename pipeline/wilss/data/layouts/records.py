"""What a reader of a data set hands out: image records, their labels, and the selection of a step.

All of it is plain data that pickles, so that a worker can be sent a record and read its label by itself.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wilss.data.images import ALL_BITS
from wilss.data.taxonomy import VOID
from wilss.errors import ImageError


class Label(Protocol):
    """Pixel labels that are read when they are wanted."""

    def read(self) -> NDArray[np.uint8]:
        """Taxonomy ids, uint8 [H, W], VOID where nobody labelled. Raises ImageError."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageRecord:
    """One image of a data set.

    image_id: its name in lists and stores, unique in a selection. path: where it lies. tags: all taxonomy
    ids that the image is known to hold, ascending, whatever the step. label: None where there are no pixel
    labels. problem: a sentence why the image cannot be used, else None. tags_unknown: whether nobody knows what it
    shows, since its tags would be those of a label that it does not have; else an image without tags shows no class.
    bits: how many of the 16 bits of its values are in use, where it has so many; see `read_image`.
    """

    image_id: str
    path: Path
    tags: tuple[int, ...] = ()
    label: Label | None = None
    problem: str | None = None
    tags_unknown: bool = False
    bits: int = ALL_BITS


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The images of a step or an evaluation, and whole sentences about what was left out or corrected."""

    records: Sequence[ImageRecord]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class LabelTable:
    """How the values of label files become taxonomy ids: `values[v]` is the id of value v, -1 if it has none."""

    values: tuple[int, ...] = field(repr=False)

    @classmethod
    def of(cls, pairs: Iterable[tuple[int, int]]) -> "LabelTable":
        """The table with these (value, id) pairs, of which the last counts; VOID stays VOID unless it is among them."""
        values = [-1] * 256
        for value, identity in ((VOID, VOID), *pairs):
            values[value] = identity
        return cls(tuple(values))

    def read(self, path: Path) -> NDArray[np.uint8]:
        """The ids of a label file, uint8 [H, W], VOID where nobody labelled. Raises ImageError."""
        from wilss.data.images import read_palette_label

        return self.apply(read_palette_label(path), path)

    def value_of(self, identity: int) -> int | None:
        """The first value that stands for a class, None where none does."""
        return self.values.index(identity) if identity in self.values else None

    def apply(self, labels: NDArray[np.uint8], path: Path) -> NDArray[np.uint8]:
        """Ids in the place of values; values without an id raise ImageError naming them.

        labels: uint8 [H, W]. Returns uint8 [H, W]: taxonomy ids, and VOID.
        """
        stray = [int(v) for v in np.flatnonzero(np.bincount(labels.ravel(), minlength=256)) if self.values[v] < 0]
        if stray:
            raise ImageError(f"{path} holds {_strays(stray)}")
        return np.asarray(self.values, np.int16).astype(np.uint8)[labels]


def _strays(values: Sequence[int]) -> str:
    """What values are that stand for no class, and what can be done about it, as the end of a sentence."""
    if len(values) == 1:
        return (
            f"the label {values[0]}, which is no class of the manifest; name it in `names`, or say what it is beside "
            f"`layout`: `void: [{values[0]}]`, or `values: {{{values[0]}: NAME}}`."
        )
    more = ["..."] if len(values) > 5 else []
    listed, named = (", ".join([*(f"{value}{end}" for value in values[:5]), *more]) for end in ("", ": NAME"))
    return (
        f"the labels {listed}, which are no classes of the manifest; name them in `names`, or say what they are beside "
        f"`layout`: `void: [{listed}]`, or `values: {{{named}}}`."
    )


class LabelReader(Protocol):
    """How label files become taxonomy ids; hashable, since the labels of a data set share one."""

    def __hash__(self) -> int:
        """Of what the table says."""

    def read(self, path: Path) -> NDArray[np.uint8]:
        """The ids of a label file, uint8 [H, W], VOID where nobody labelled. Raises ImageError."""

    def value_of(self, identity: int) -> int | None:
        """A value that stands for a class in label files; None where only colours do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PngLabel:
    """A label map in a PNG, and how it is read."""

    path: Path
    table: LabelReader

    def read(self) -> NDArray[np.uint8]:
        """Taxonomy ids, uint8 [H, W]. Raises ImageError for damaged files and values outside the taxonomy."""
        return self.table.read(self.path)


def read_label_of(record: ImageRecord) -> NDArray[np.uint8]:
    """The label of `record`, uint8 [H, W]; raises ImageError if there is none or it does not fit its image."""
    from wilss.data.images import read_size

    if record.label is None:
        raise ImageError(f"{record.path} has no pixel labels; add its label file, or leave it out of the list.")
    labels = record.label.read()
    require_size(record, labels.shape, read_size(record.path))
    return labels


#: Why width and height may be exchanged. Half a turn exchanges nothing, so that its labels cannot be told.
_UNTURNED = (
    ", or, where the label was drawn on the photograph as it is stored, turn it by the photograph's EXIF orientation "
    "(so too where that is half a turn, which sizes do not show)"
)


def require_size(record: ImageRecord, found: tuple[int, ...], size: tuple[int, int]) -> None:
    """Raise ImageError unless a label's shape is its image's upright (height, width)."""
    if found != size:
        raise ImageError(
            f"the labels of {record.image_id} are {found[1]} x {found[0]} pixels, the image {record.path} is "
            f"{size[1]} x {size[0]}; they must be equal, so export one of them again"
            f"{_UNTURNED if found == size[::-1] else ''}."
        )
