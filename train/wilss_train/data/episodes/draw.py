"""Which images make up which episode: a query, and a few supports of each of its classes (PANet, Sec. 3.1).

Every draw is a hash of its names, no library's generator: the same seed gives the same episodes on any machine, with
any version of anything, and episode 900 without the 899 before it.
"""

import bisect
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from wilss.errors import ParameterError
from wilss.randomness import seed_for

#: Class id -> the images that hold it, in the order of their names (`sorted_index`).
Index = Mapping[int, Sequence[str]]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Episode:
    """ways: class ids, in the order of their prototypes. supports: per way, image ids. query: an image id.

    The query holds the first way for sure, and others where it happens to; it is no support.
    """

    ways: tuple[int, ...]
    supports: tuple[tuple[str, ...], ...]
    query: str

    @property
    def image_ids(self) -> tuple[str, ...]:
        """All its images, supports first."""
        return (*(image for shots in self.supports for image in shots), self.query)


def sorted_index(index: Index) -> Index:
    """The same with the images of every class in the order of their names, so that a draw looks at few of them."""
    return {
        identity: images if all(a <= b for a, b in itertools.pairwise(images)) else tuple(sorted(images))
        for identity, images in index.items()
    }


def draw_episode(index: Index, *, ways: int, shots: int, seed: int, names: Sequence[str | int]) -> Episode:
    """The episode that belongs to `names` under `seed`. index: sorted; the order of its classes does not matter."""
    classes = _chosen(sorted(index), ways, seed, *names, "ways")
    query = _chosen(index[classes[0]], 1, seed, *names, "query")[0]
    supports = tuple(
        tuple(_chosen(_Without(index[way], query), shots, seed, *names, "supports", way)) for way in classes
    )
    return Episode(ways=tuple(classes), supports=supports, query=query)


def require_enough(index: Index, *, ways: int, shots: int, names: Mapping[int, str] | None = None) -> None:
    """Raise ParameterError unless `ways` classes are there, with `shots` images and a query each."""
    if len(index) < ways:
        raise ParameterError(f"{ways} ways need {ways} classes, and there are {len(index)}; lower --ways.")
    least = min(index, key=lambda identity: (len(index[identity]), identity))
    if len(index[least]) <= shots:
        called = (names or {}).get(least, f"class {least}")
        raise ParameterError(
            f"{called} is in {len(index[least])} images, and {shots} shots and a query need {shots + 1}; lower "
            "--shots, or give more images."
        )


class _Without(Sequence[str]):
    """Sorted names without one of them, if it is there."""

    def __init__(self, names: Sequence[str], name: str) -> None:
        place = bisect.bisect_left(names, name)
        self._names, self._gap = names, place if place < len(names) and names[place] == name else len(names)

    def __len__(self) -> int:
        return len(self._names) - (self._gap < len(self._names))

    def __getitem__(self, place: Any) -> Any:
        return self._names[place + (place >= self._gap)]


def _chosen(items: Sequence[T], count: int, seed: int, *names: str | int) -> list[T]:
    """`count` different ones of `items`, in the order drawn: the first steps of a Fisher-Yates shuffle.

    Only what the steps move is written down, so that the items themselves are neither copied nor read.
    """
    moved: dict[int, int] = {}
    chosen = []
    for place in range(count):
        other = place + seed_for(seed, *names, place) % (len(items) - place)
        chosen.append(items[moved.get(other, other)])
        moved[other] = moved.get(place, place)
    return chosen
