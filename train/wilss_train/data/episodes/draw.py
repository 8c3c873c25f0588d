"""Which images make up which episode: a query, and a few supports of each of its classes (PANet, Sec. 3.1).

Every draw is a hash of its names, no library's generator: the same seed gives the same episodes on any machine, with
any version of anything, and episode 900 without the 899 before it.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from wilss.errors import ParameterError
from wilss.randomness import seed_for

__all__ = ["Episode", "Index", "draw_episode", "episodes", "require_enough"]

#: Class id -> the images that hold it.
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


def episodes(index: Index, *, ways: int, shots: int, count: int, seed: int, run: int = 0) -> Iterator[Episode]:
    """The `count` episodes of one run of an evaluation. Raises ParameterError where there are too few images."""
    require_enough(index, ways=ways, shots=shots)
    for number in range(count):
        yield draw_episode(index, ways=ways, shots=shots, seed=seed, names=("episode", run, number))


def draw_episode(index: Index, *, ways: int, shots: int, seed: int, names: Sequence[str | int]) -> Episode:
    """The episode that belongs to `names` under `seed`; neither the order of the classes nor of images matters."""
    classes = _chosen(sorted(index), ways, seed, *names, "ways")
    query = _chosen(sorted(index[classes[0]]), 1, seed, *names, "query")[0]
    supports = tuple(
        tuple(_chosen(sorted(set(index[one]) - {query}), shots, seed, *names, "supports", one)) for one in classes
    )
    return Episode(ways=tuple(classes), supports=supports, query=query)


def require_enough(index: Index, *, ways: int, shots: int, names: Mapping[int, str] | None = None) -> None:
    """Raise ParameterError unless `ways` classes are there, with `shots` images and a query each."""
    if len(index) < ways:
        raise ParameterError(f"{ways} ways need {ways} classes, and there are {len(index)}; lower --ways.")
    least = min(index, key=lambda one: (len(index[one]), one))
    if len(index[least]) <= shots:
        called = (names or {}).get(least, f"class {least}")
        raise ParameterError(
            f"{called} is in {len(index[least])} images, and {shots} shots and a query need {shots + 1}; lower "
            "--shots, or give more images."
        )


def _chosen(items: Collection[T], count: int, seed: int, *names: str | int) -> list[T]:
    """`count` different ones of `items`, in the order drawn: the first steps of a Fisher-Yates shuffle."""
    left = list(items)
    for place in range(count):
        other = place + seed_for(seed, *names, place) % (len(left) - place)
        left[place], left[other] = left[other], left[place]
    return left[:count]
