"""`Records`: image records in columns, about 40 bytes an image where an object of each takes 500; and them by id.

What many images share is kept once: their tags, and what stands before and after their id in their paths.
"""

import dataclasses
import itertools
from array import array
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from wilss.data.layouts.records import ImageRecord, Label, LabelReader, PngLabel
from wilss.data.names import NameIndex, Names
from wilss.disk import path_of

Tags = tuple[int, ...]
_T = TypeVar("_T", bound=Hashable)


class Shared(Generic[_T]):
    """A column of values of which few differ: 4 bytes for each, and every value once."""

    def __init__(self) -> None:
        self._codes = array("i")
        self._values: list[_T] = []
        self._code_of: dict[_T, int] = {}

    @property
    def values(self) -> Sequence[_T]:
        """The K different values."""
        return self._values

    @property
    def codes(self) -> NDArray[np.int32]:
        """int32 [N]: the place of each value in `values`."""
        return np.array(self._codes, np.int32)

    def __len__(self) -> int:
        return len(self._codes)

    def __getitem__(self, row: int) -> _T:
        return self._values[self._codes[row]]

    def __setitem__(self, row: int, value: _T) -> None:
        self._codes[row] = self._code(value)

    def append(self, value: _T) -> None:
        """Add a value at the end."""
        self._codes.append(self._code(value))

    def _code(self, value: _T) -> int:
        code = self._code_of.setdefault(value, len(self._values))
        if code == len(self._values):
            self._values.append(value)
        return code


class _Pattern(NamedTuple):
    """A path with its image's id taken out. tail: None where the id is not in the path, which then is all `head`."""

    head: str
    tail: str | None

    @classmethod
    def of(cls, path: Path, image_id: str) -> "_Pattern":
        head, found, tail = str(path).rpartition(image_id) if image_id else ("", "", "")
        return cls(head, tail) if found else cls(str(path), None)

    def path(self, image_id: str) -> Path:
        return path_of(self.head if self.tail is None else f"{self.head}{image_id}{self.tail}")


class _PngPattern(NamedTuple):
    """A `PngLabel`, likewise."""

    path: _Pattern
    table: LabelReader


@dataclass(frozen=True)
class _Columns:
    """The images of a list in its order; row i of every column is image i.

    labels: row -> a label of another kind than a PNG, as it is. problems: row -> sentence. tags_unknown: 0 or 1. bits:
    8 to 16.
    """

    ids: Names = field(default_factory=Names)
    paths: Shared[_Pattern] = field(default_factory=Shared)
    pngs: Shared[_PngPattern | None] = field(default_factory=Shared)
    labels: dict[int, Label] = field(default_factory=dict)
    tags: Shared[Tags] = field(default_factory=Shared)
    problems: dict[int, str] = field(default_factory=dict)
    tags_unknown: bytearray = field(default_factory=bytearray)
    bits: bytearray = field(default_factory=bytearray)

    def append(self, record: ImageRecord) -> None:
        row, image_id, label = len(self.ids), record.image_id, record.label
        self.ids.append(image_id)
        self.paths.append(_Pattern.of(record.path, image_id))
        self.tags.append(tuple(record.tags))
        self.tags_unknown.append(record.tags_unknown)
        self.bits.append(record.bits)
        if record.problem is not None:
            self.problems[row] = record.problem
        if type(label) is PngLabel:
            self.pngs.append(_PngPattern(_Pattern.of(label.path, image_id), label.table))
        else:
            self.pngs.append(None)
            if label is not None:
                self.labels[row] = label

    def record(self, row: int) -> ImageRecord:
        image_id = self.ids[row]
        return ImageRecord(
            image_id=image_id,
            path=self.paths[row].path(image_id),
            tags=self.tags[row],
            label=self._label(row, image_id),
            problem=self.problems.get(row),
            tags_unknown=bool(self.tags_unknown[row]),
            bits=self.bits[row],
        )

    def has_label(self, row: int) -> bool:
        return self.pngs[row] is not None or row in self.labels

    def _label(self, row: int, image_id: str) -> Label | None:
        png = self.pngs[row]
        return self.labels.get(row) if png is None else PngLabel(path=png.path.path(image_id), table=png.table)


class Records(Sequence[ImageRecord]):
    """Image records, each made when it is asked for; a slice is one as well, over the same columns."""

    def __init__(self, records: Iterable[ImageRecord] = ()) -> None:
        self._columns = _Columns()
        for record in records:
            self._columns.append(record)
        self._rows: Sequence[int] = range(len(self._columns.ids))

    @classmethod
    def of(cls, records: Sequence[ImageRecord]) -> "Records":
        """Any records as a table; one that is a table already is taken as it is."""
        return records if isinstance(records, cls) else cls(records)

    @classmethod
    def _over(cls, columns: _Columns, rows: Sequence[int]) -> "Records":
        records = cls()
        records._columns, records._rows = columns, rows
        return records

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, place: int) -> ImageRecord: ...
    @overload
    def __getitem__(self, place: slice) -> "Records": ...
    def __getitem__(self, place: int | slice) -> "ImageRecord | Records":
        if isinstance(place, slice):
            return self._over(self._columns, self._rows[place])
        return self._columns.record(self._rows[place])

    def __iter__(self) -> Iterator[ImageRecord]:
        return map(self._columns.record, self._rows)

    def __eq__(self, other: object) -> bool:
        """As tuples of the same records are."""
        if not isinstance(other, (Records, tuple)):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"<{len(self)} image records>"

    def ids(self) -> Sequence[str]:
        """The image ids alone, for whoever needs no paths."""
        return self._columns.ids.at(self._rows)

    def facts(self) -> Iterator[tuple[str, Tags, str | None]]:
        """Image id, tags and problem of each, likewise."""
        columns = self._columns
        return ((columns.ids[row], columns.tags[row], columns.problems.get(row)) for row in self._rows)

    def have_labels(self) -> Iterator[bool]:
        """Whether there are pixel labels of each, likewise."""
        return map(self._columns.has_label, self._rows)

    def are_unknown(self) -> Iterator[bool]:
        """Whether nobody knows the tags of each, see `ImageRecord`."""
        return (bool(self._columns.tags_unknown[row]) for row in self._rows)

    def kinds_of_tags(self) -> tuple[Sequence[Tags], NDArray[np.int32]]:
        """The K different tags of images, and int32 [N]: which of them each has."""
        tags = self._columns.tags
        return tags.values, tags.codes[np.asarray(self._rows, np.intp)]

    def where(self, wanted: Iterable[bool]) -> "Records":
        """Those of which `wanted`, which has a value for each, is true."""
        return self._over(self._columns, array("i", itertools.compress(self._rows, wanted)))

    def tagged(self, facts: Iterable[tuple[Tags, str | None, bool]]) -> "Records":
        """The same images with other tags, problems and whether tags are unknown, by `facts`. Not for a slice."""
        if self._rows != range(len(self._columns.ids)):
            raise ValueError("tags are given to a whole table, not to a part of one")
        columns = dataclasses.replace(self._columns, tags=Shared(), problems={}, tags_unknown=bytearray())
        for row, (tags, problem, is_unknown) in zip(self._rows, facts, strict=True):
            columns.tags.append(tags)
            columns.tags_unknown.append(is_unknown)
            if problem is not None:
                columns.problems[row] = problem
        return self._over(columns, self._rows)


class RecordsById(Mapping[str, ImageRecord]):
    """Image records by id, in their order, each made when it is asked for."""

    def __init__(self, records: Records) -> None:
        self._records, self._index = records, NameIndex(records.ids())

    @classmethod
    def of(cls, records: Mapping[str, ImageRecord]) -> "RecordsById":
        """The same by id: what is one already as it is, any other mapping copied into columns."""
        return records if isinstance(records, cls) else cls(Records(records.values()))

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[str]:
        return iter(self._records.ids())

    def __getitem__(self, image_id: str) -> ImageRecord:
        row = self._index.find(image_id)
        if row is None:
            raise KeyError(image_id)
        return self._records[row]

    @property
    def records(self) -> Records:
        """The records in their order."""
        return self._records

    def rows(self, image_ids: Sequence[str]) -> NDArray[np.int64]:
        """int64 [N]: the row of each id in the records, -1 where there is none."""
        return self._index.find_all(image_ids)
