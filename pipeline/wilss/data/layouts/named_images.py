"""Which image a table means by a name: its path, a part of it, or its file's name alone, with or without its ending."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from wilss.data.layouts.files import without_suffix
from wilss.data.names import NameIndex


class NamedImages:
    """Images by what tables call them.

    ids: their ids. path_of: the path below the data folder of the image at a place, without a copy of all of them.
    """

    def __init__(self, ids: Sequence[str], path_of: Callable[[int], str]) -> None:
        self._ids, self._path_of, self._index = ids, path_of, NameIndex(ids)
        self._bases: tuple[NDArray[np.int64], NDArray[np.intp]] | None = None

    def find(self, name: str) -> tuple[int, ...]:
        """The places of the images that `name` may mean: one, none, or several that it cannot tell apart."""
        plain = name.replace("\\", "/").removeprefix("./").strip("/")
        for whole in (plain, without_suffix(plain)):
            if (place := self._index.find(whole)) is not None:
                return (place,)
        return self._similar(plain)

    def __contains__(self, name: str) -> bool:
        return bool(name) and bool(self.find(name))

    def _similar(self, name: str) -> tuple[int, ...]:
        """Those whose path ends as `name` does, and else those with whose whole path `name` ends."""
        parts = without_suffix(name).split("/")
        known = [(place, self._parts(place)) for place in self._called(parts[-1])]
        longer = tuple(place for place, inner in known if inner[-len(parts) :] == parts)
        return longer or tuple(place for place, inner in known if parts[-len(inner) :] == inner)

    def _parts(self, place: int) -> list[str]:
        return without_suffix(self._path_of(place)).split("/")

    def _called(self, base: str) -> list[int]:
        """The places of images whose file may be called `base`: hashes in order, 16 bytes for each image."""
        if self._bases is None:
            hashes = np.fromiter((hash(self._parts(place)[-1]) for place in range(len(self._ids))), np.int64)
            order = np.argsort(hashes, kind="stable")
            self._bases = hashes[order], order
        first, last = (int(np.searchsorted(self._bases[0], hash(base), side)) for side in ("left", "right"))
        return [int(place) for place in self._bases[1][first:last]]
