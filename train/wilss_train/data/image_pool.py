"""Images for training: kept in memory while there is room, and replaced by another one where they cannot be read."""

import itertools
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from wilss.errors import OneImageError, StoreError, WilssError
from wilss.randomness import numpy_generator_for

_MOST_ATTEMPTS = 1000

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class BoundedCache(Generic[Key, Value]):
    """Values by key, up to so many MiB; several threads may ask at once. size: bytes of a value.

    Those that come first stay and nothing is thrown out: an epoch visits everything once, and a queue would forget each
    just before it is wanted again.
    """

    def __init__(self, mib: float, size: Callable[[Value], int]) -> None:
        self._room, self._size = int(mib * 2**20), size
        self._values: dict[Key, Value] = {}
        self._lock = threading.Lock()

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """The value of `key`, made where it is not kept."""
        value = self._values.get(key)
        return self._keep(key, make()) if value is None else value

    def _keep(self, key: Key, value: Value) -> Value:
        size = self._size(value)
        with self._lock:
            if size <= self._room and key not in self._values:
                self._room -= size
                self._values[key] = value
        return value


class Broken(NamedTuple):
    """An image that could not be read, and why."""

    image_id: str
    error: str


class BrokenImages:
    """The images that turned out not to be readable. on_broken: called once for each; several threads may meet it."""

    def __init__(self, on_broken: Callable[[Broken], None] = lambda broken: None) -> None:
        self._broken: dict[str, Broken] = {}
        self._on_broken = on_broken

    @property
    def errors(self) -> dict[str, str]:
        """Image id -> why it cannot be read."""
        return dict(self._broken.values())

    def read(self, image_id: str, read: Callable[[], Value]) -> Value | None:
        """What `read` gives; None where the image cannot be read or is known to be broken."""
        if image_id in self._broken:
            return None
        try:
            return read()
        except OneImageError as error:
            broken = Broken(image_id, str(error))
            if self._broken.setdefault(image_id, broken) is broken:  # the first of two threads that met it
                self._on_broken(broken)
            return None

    def any_of(self, image_ids: Iterable[str]) -> bool:
        """Whether one of these images is known to be broken."""
        return any(image in self._broken for image in image_ids)

    def first(
        self, attempts: Iterable[Value | None], purpose: str = "train on", error: type[WilssError] = StoreError
    ) -> Value:
        """The first of `attempts` that gave something. Raises `error` where too many of them did not."""
        for value in itertools.islice(attempts, _MOST_ATTEMPTS):
            if value is not None:
                return value
        example = next(iter(self._broken.values())).error
        raise error(f"{len(self._broken)} images cannot be read, so there is nothing to {purpose}: {example}")


class _Sized(Protocol):
    @property
    def nbytes(self) -> int: ...


Image = TypeVar("Image", bound=_Sized)


class ImagePool(Generic[Image]):
    """Images of some rows of a store, by position: kept once read, and another one in place of a broken one.

    image_ids: of all rows of the store. rows: int [N]. read: gives the image of a row. cache_mib: what kept images may
    take. seed: names the draws of substitutes.
    """

    def __init__(
        self,
        image_ids: Sequence[str],
        rows: NDArray[np.integer[Any]],
        read: Callable[[int], Image],
        *,
        cache_mib: float,
        seed: int,
        broken: BrokenImages,
    ) -> None:
        self._image_ids, self._rows, self._read = image_ids, rows, read
        self._seed, self._broken = seed, broken
        self._cache = BoundedCache[int, Image](cache_mib, lambda image: image.nbytes)

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, position: int, *names: str | int) -> Image:
        """The image at `position`, or the first readable one that `names` draw in its place."""
        return self._broken.first(self._attempts(position, names))

    def _attempts(self, position: int, names: tuple[str | int, ...]) -> Iterator[Image | None]:
        for attempt in itertools.count():
            row = int(self._rows[position])
            image_id = self._image_ids[row]
            yield self._broken.read(image_id, partial(self._cache.get, row, partial(self._read, row)))
            rng = numpy_generator_for(self._seed, "substitute", *names, image_id, attempt)
            position = int(rng.integers(len(self._rows)))
