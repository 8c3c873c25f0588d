"""Many names in little memory: a str of twelve letters takes 61 bytes and 8 for its place in a list; here it takes 20.

A data set has a million names three times over (its list, its folder, its tags), and a run keeps them to its end.
"""

import unicodedata
from array import array
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import overload

import numpy as np
from numpy.typing import NDArray

from wilss.errors import counted

_NOBODY = -1
_FIRST_SLOTS = 8
#: Names that a sentence lists.
_SHOWN = 5


def composed(name: str) -> str:
    """One spelling (Unicode's NFC) of names that look the same.

    macOS writes "\u00e4" into an archive or a file system as "a" and a mark, tables and keyboards have one letter.
    """
    return name if name.isascii() else unicodedata.normalize("NFC", name)


class Names(Sequence[str]):
    """Strings in the order in which they came, each made again when it is asked for.

    Memory: the bytes of the names as UTF-8, and 8 for each. Lone surrogates (file names that are not UTF-8) are kept.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._text = bytearray()
        self._ends = array("q")
        for name in names:
            self.append(name)

    def append(self, name: str) -> None:
        """Add a name at the end."""
        self._text += name.encode("utf-8", "surrogatepass")
        self._ends.append(len(self._text))

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        count = len(self._ends)
        if not -count <= place < count:
            raise IndexError(f"there are {count} names, and none at {place}")
        return self._bytes(place % count).decode("utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str]:
        start = 0
        for end in self._ends:
            yield self._text[start:end].decode("utf-8", "surrogatepass")
            start = end

    def at(self, places: Sequence[int]) -> Sequence[str]:
        """The names at these places, without a copy of them."""
        return self if places == range(len(self)) else _Chosen(self, places)

    def __eq__(self, other: object) -> bool:
        """As tuples of the same strings are."""
        if not isinstance(other, (Names, tuple)):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def _bytes(self, place: int) -> bytearray:
        return self._text[self._ends[place - 1] if place else 0 : self._ends[place]]


class _Chosen(Sequence[str]):
    """Some of the names, in any order."""

    def __init__(self, names: Names, places: Sequence[int]) -> None:
        self._names, self._places = names, places

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return [self._names[chosen] for chosen in self._places[place]]
        return self._names[self._places[place]]


class Register(Names):
    """Names that come once each, and the place of a name.

    A table of hashes with open addressing and linear probing; `_slots` holds places, at most half of it is used.
    Memory: 8 to 16 bytes for each name beside those of `Names`, where a dict takes about 100.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._slots = array("i", [_NOBODY]) * _FIRST_SLOTS
        super().__init__(names)

    def append(self, name: str) -> None:
        """Add a name that is new. Raises ValueError for one that is there."""
        if self.add(name) != len(self) - 1:
            raise ValueError(f"{name!r} is there already")

    def add(self, name: str, guess: int = 0) -> int:
        """The place of a name, which comes to the end if it is new. guess: where it may be; a right one saves time."""
        key = name.encode("utf-8", "surrogatepass")
        if guess < len(self._ends) and self._bytes(guess) == key:
            return guess
        slot = self._slot(key)
        if self._slots[slot] == _NOBODY:
            self._slots[slot] = len(self)
            super().append(name)
            if 2 * len(self._ends) > len(self._slots):
                self._grow()
            return len(self._ends) - 1
        return self._slots[slot]

    def find(self, name: str) -> int | None:
        """The place of a name, None if it is not there."""
        place = self._slots[self._slot(name.encode("utf-8", "surrogatepass"))]
        return None if place == _NOBODY else place

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.find(name) is not None

    def _slot(self, key: bytes) -> int:
        """Where the place of `key` stands, or would stand."""
        slots, last = self._slots, len(self._slots) - 1  # their number is a power of two
        slot = hash(key) & last
        while (place := slots[slot]) != _NOBODY and self._bytes(place) != key:
            slot = (slot + 1) & last
        return slot

    def _grow(self) -> None:
        self._slots = array("i", [_NOBODY]) * (2 * len(self._slots))
        for place in range(len(self)):
            self._slots[self._slot(bytes(self._bytes(place)))] = place


class NameIndex:
    """Where each of many names stands, in 12 bytes for each beside the names: hashes in order, and their places.

    Of equal names the first one counts.
    """

    def __init__(self, names: Sequence[str]) -> None:
        hashes = _hashes(names)
        order = np.argsort(hashes, kind="stable")
        self._names, self._hashes, self._places = names, hashes[order], order.astype(np.int32)

    def __reduce__(self) -> tuple[type["NameIndex"], tuple[Sequence[str]]]:
        """Hashes of strings differ from process to process, so another one sorts again."""
        return type(self), (self._names,)

    def find(self, name: str) -> int | None:
        """The place of a name, None if it is not there."""
        place = int(self.find_all([name])[0])
        return None if place < 0 else place

    def find_all(self, names: Sequence[str]) -> NDArray[np.int64]:
        """int64 [N]: the place of each name, -1 for one that is not there."""
        hashes = _hashes(names)
        starts = np.searchsorted(self._hashes, hashes)
        return np.fromiter(map(self._place, names, hashes, starts), np.int64, len(names))

    def find_spelt(self, names: Sequence[str]) -> NDArray[np.int64]:
        """int64 [N]: the same for names that people write: what is not there is looked for once all are composed."""
        places = self.find_all(names)
        missing = np.flatnonzero(places < 0)
        if missing.size:
            places[missing] = self._composed.find_all([composed(names[place]) for place in missing.tolist()])
        return places

    @cached_property
    def _composed(self) -> "NameIndex":
        return NameIndex(Names(map(composed, self._names)))

    def _place(self, name: str, hashed: np.int64, start: int) -> int:
        """The place of `name` among those of its hash, which different names may share and which begin at `start`."""
        while start < len(self._hashes) and self._hashes[start] == hashed:
            place = int(self._places[start])
            if self._names[place] == name:
                return place
            start += 1
        return -1


def _hashes(names: Sequence[str]) -> NDArray[np.int64]:
    return np.fromiter(map(hash, names), np.int64, len(names))


def some(names: Sequence[str], count: int | None = None) -> str:
    """A few of many names: "3 images (a, b, c)", "1 image (a)", "9 images (a, b, c, d, e, ...)".

    count: how many there are, where `names` are the first of them.
    """
    count = len(names) if count is None else count
    listed = ", ".join(names[:_SHOWN]) + (", ..." if count > _SHOWN else "")
    return f"{counted(count, 'image')} ({listed})"
