"""Which image a table or list means by a name: its path, a part of it, or its file's name, with an ending or not."""

from array import array
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wilss.data.layouts.files import without_suffix
from wilss.data.layouts.lists import image_in
from wilss.data.names import NameIndex, Register, composed, some


class NamedImages:
    """Images by what tables call them.

    ids: their ids, which end as their paths do. path_of: the path below the data folder of the image at a place.
    """

    def __init__(self, ids: Sequence[str], path_of: Callable[[int], str]) -> None:
        self.ids, self._path_of = ids, path_of
        self._known, self._places = Register(), array("q")
        for place, image_id in enumerate(ids):
            if self._known.add(image_id, len(self._places)) == len(self._places):
                self._places.append(place)
        self._bases: tuple[NDArray[np.int64], NDArray[np.intp]] | None = None

    def find(self, name: str) -> tuple[int, ...]:
        """The places of the images that `name` may mean: one, none, or several that it cannot tell apart.

        The image itself goes before those that are spelt otherwise (see `composed`).
        """
        plain = name.replace("\\", "/").removeprefix("./").strip("/")
        for whole in (plain, without_suffix(plain)):
            if (known := self._known.find(whole)) is not None:
                return (self._places[known],)
        return self._similar(plain)

    def __contains__(self, name: str) -> bool:
        return bool(name) and bool(self.find(name))

    def _similar(self, name: str) -> tuple[int, ...]:
        """Those whose path ends as `name` does, and else those with whose whole path `name` ends."""
        parts = composed(without_suffix(name)).split("/")
        known = [(place, self._parts(place)) for place in self._called(parts[-1])]
        longer = tuple(place for place, inner in known if inner[-len(parts) :] == parts)
        return longer or tuple(place for place, inner in known if parts[-len(inner) :] == inner)

    def _parts(self, place: int) -> list[str]:
        return composed(without_suffix(self._path_of(place))).split("/")

    def _called(self, base: str) -> list[int]:
        """The places of images whose file may be called `base`, composed: hashes in order, 16 bytes for each image."""
        if self._bases is None:
            bases = (composed(without_suffix(image_id).rpartition("/")[2]) for image_id in self.ids)
            hashes = np.fromiter(map(hash, bases), np.int64, len(self.ids))
            order = np.argsort(hashes, kind="stable")
            self._bases = hashes[order], order
        first, last = (int(np.searchsorted(self._bases[0], hash(base), side)) for side in ("left", "right"))
        return [int(place) for place in self._bases[1][first:last]]


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
