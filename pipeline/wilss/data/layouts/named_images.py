"""Which image a table or list means by a name: its path, a part of it, or its file's name, with an ending or not."""

import copy
import math
from array import array
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from wilss.data.layouts.files import without_suffix
from wilss.data.layouts.lists import image_in
from wilss.data.names import NameIndex, Register, composed, some
from wilss.errors import ManifestError

Beginnings = Set[tuple[str, ...]]


class NamedImages:
    """Images by what tables call them.

    ids: their ids, which end as their paths do. path_of: the path below the data folder of the image at a place.
    beginnings: the folders above the data folder with which longer names may begin; None for any.
    """

    def __init__(self, ids: Sequence[str], path_of: Callable[[int], str]) -> None:
        self.ids, self._path_of = ids, path_of
        self.beginnings: Beginnings | None = None
        self._known, self._places = Register(), array("q")
        for place, image_id in enumerate(ids):
            if self._known.add(image_id, len(self._places)) == len(self._places):
                self._places.append(place)
        self._ends: dict[int, tuple[NDArray[np.int64], NDArray[np.intp]]] = {}

    def find(self, name: str) -> tuple[int, ...]:
        """The places of the images that `name` may mean: one, none, or several that it cannot tell apart.

        The image itself goes before those that are spelt otherwise (see `composed`).
        """
        plain = _plain(name)
        for whole in (plain, without_suffix(plain)):
            if (known := self._known.find(whole)) is not None:
                return (self._places[known],)
        return self._similar(plain)

    def __contains__(self, name: str) -> bool:
        return bool(name) and bool(self.find(name))

    def path(self, place: int) -> str:
        """The path below the data folder of the image at a place."""
        return self._path_of(place)

    def limited(self, beginnings: Beginnings | None) -> Self:
        """The same images, for names that begin so."""
        limited = copy.copy(self)
        limited.beginnings = beginnings
        return limited

    def beginning(self, name: str) -> tuple[str, ...] | None:
        """The folders above the data folder that a name of one image begins with, none for its path and id.

        None for the end of a path, which does not say where it begins, and for a name of no image or of several.
        """
        plain = _plain(name)
        if any(self._known.find(whole) is not None for whole in (plain, without_suffix(plain))):
            return ()
        places = self._similar(plain)
        if len(places) != 1:
            return None
        parts, inner = composed(without_suffix(plain)).split("/"), self._parts(places[0])
        return tuple(parts[: -len(inner)]) if parts[-len(inner) :] == inner else None

    def _similar(self, name: str) -> tuple[int, ...]:
        """Those whose path ends as `name` does, and else those with whose whole path `name` ends."""
        parts = composed(without_suffix(name)).split("/")
        known = [(place, self._parts(place)) for place in self._called(parts)]
        longer = tuple(place for place, inner in known if inner[-len(parts) :] == parts)
        return longer or tuple(
            place
            for place, inner in known
            if parts[-len(inner) :] == inner
            and (self.beginnings is None or tuple(parts[: -len(inner)]) in self.beginnings)
        )

    def _parts(self, place: int) -> list[str]:
        return composed(without_suffix(self._path_of(place))).split("/")

    def _called(self, parts: Sequence[str]) -> list[int]:
        """The places of images that may be called so, by the last two parts where a name has two.

        Where files are called the same in every folder, the last part alone would leave as many as there are folders.
        """
        if len(parts) == 1:
            return self._with_hash(1, parts[0])
        return [*self._with_hash(2, "/".join(parts[-2:])), *self._with_hash(2, parts[-1])]

    def _with_hash(self, length: int, end: str) -> list[int]:
        """The places of ids whose last `length` parts, composed, may be `end`: hashes in order, 16 bytes for each."""
        if length not in self._ends:
            ends = ("/".join(composed(without_suffix(image_id)).split("/")[-length:]) for image_id in self.ids)
            hashes = np.fromiter(map(hash, ends), np.int64, len(self.ids))
            order = np.argsort(hashes, kind="stable")
            self._ends[length] = hashes[order], order
        hashes, order = self._ends[length]
        first, last = (int(np.searchsorted(hashes, hash(end), side)) for side in ("left", "right"))
        return [int(place) for place in order[first:last]]


def of_one_folder(images: Sequence[NamedImages], names: Sequence[str], root: Path, table: Path) -> list[NamedImages]:
    """Images for the names in a table, where some begin above the data folder, in folders that may not be this one.

    The same names often repeat in every folder, so that an image would get the tags of its namesakes: where names
    begin in several ways, those count that the data folder's own path ends with, and a name that begins in it goes
    before all others. images: those of each split. Raises ManifestError where that leaves an image two names.
    """
    begun = {one for of_split in images for name in names if (one := of_split.beginning(name)) is not None}
    if len(begun) < 2:
        return list(images)
    alike = {beginning: _alike(beginning, root) for beginning in begun}
    best = max(alike.values())
    limited = [of_split.limited({one for one in begun if alike[one] == best}) for of_split in images]
    for of_split in limited:
        _require_one_name(of_split, names, root, table)
    return limited


def _alike(beginning: tuple[str, ...], root: Path) -> float:
    """How many folders at the end of `beginning` the data folder's path ends with; inf for none at all."""
    paths = [list(map(composed, path.parts)) for path in {root, root.resolve()}] if isinstance(root, Path) else []
    paths = paths or [list(map(composed, str(root).split("/")))]
    lengths = range(len(beginning), 0, -1)
    ends = (length for length in lengths if any(path[-length:] == [*beginning[-length:]] for path in paths))
    return next(ends, 0) if beginning else math.inf


def _require_one_name(images: NamedImages, names: Sequence[str], root: Path, table: Path) -> None:
    named: dict[int, str] = {}
    for name in names:
        beginning = images.beginning(name)
        if beginning is None:
            continue
        (place,) = images.find(name)
        other = named.setdefault(place, name)
        if images.beginning(other) != beginning:
            raise ManifestError(
                f"{table} has rows of {other!r} and {name!r}, and {images.ids[place]} below {root} may be either; name "
                "as data folder the one above both, or one that is called as in the table, or keep the rows of one."
            )


def _plain(name: str) -> str:
    return name.replace("\\", "/").removeprefix("./").strip("/")


class NamedRows(NamedTuple):
    """rows: int64 [N], the place of the image that each name means, -1 for none or several. several: these, by name."""

    rows: NDArray[np.int64]
    several: Mapping[str, tuple[str, ...]]

    def told_several(self, path: Path) -> str | None:
        """A sentence for the first name in the list at `path` that may mean several images; None where none may."""
        if not self.several:
            return None
        name, ids = next(iter(self.several.items()))
        return f"{path} names {name!r}, which may be {some(ids)}; write its id or its path."


def rows_named(names: Sequence[str], ids: Sequence[str], path_of: Callable[[int], str]) -> NamedRows:
    """The images that people mean in a list of theirs: by id, by a path or its end, or by the file's name alone.

    names: lines of the list, also those of two columns (`image_in`). path_of: the whole path of the image at a place;
    asked for where an id does not tell.
    """
    rows, several = NameIndex(ids).find_spelt(names), dict[str, tuple[str, ...]]()
    missing = np.flatnonzero(rows < 0).tolist()
    if not missing:
        return NamedRows(rows, several)
    images = NamedImages(ids, path_of)
    for place in missing:
        found = images.find(image_in(names[place]))
        if len(found) == 1:
            rows[place] = found[0]
        elif found:
            several[names[place]] = tuple(ids[one] for one in found)
    return NamedRows(rows, several)
