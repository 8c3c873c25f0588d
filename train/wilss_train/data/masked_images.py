"""Images and their masks out of a store: read once while there is room, and replaced where they cannot be read."""

import itertools
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from wilss.data.images import read_image
from wilss.data.layouts import ImageRecord
from wilss.errors import ImageError, OneImageError, StoreError, WilssError
from wilss.randomness import numpy_generator_for, seed_for
from wilss.store import LabelMaps, MaskStore, Status, coverage_of

from .trust import Trust

_MOST_ATTEMPTS = 1000

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True)
class MaskedImage:
    """image: uint8 [H, W, 3]. masks: bool [T, H, W], of the classes with the taxonomy ids `category_ids`.

    void: bool [H, W], None where the store knows no void.
    """

    image_id: str
    image: NDArray[np.uint8]
    category_ids: tuple[int, ...]
    masks: NDArray[np.bool_]
    void: NDArray[np.bool_] | None

    @property
    def nbytes(self) -> int:
        """What it takes in memory."""
        return self.image.nbytes + self.masks.nbytes + (0 if self.void is None else self.void.nbytes)


class MaskedImages:
    """The images of a store with their masks, by id or by row on the store's image axis.

    records: what the manifest says of an image, by id. Several threads may read at once.
    """

    def __init__(self, store: MaskStore, records: Mapping[str, ImageRecord]) -> None:
        self.store = store
        self._records = records

    def finished(self) -> NDArray[np.intp]:
        """The rows whose masks are there, [N], ascending.

        But for images that are tagged with a class of which the whole store has no mask: their pixels of it would be
        learnt as background.
        """
        return np.flatnonzero((self.store.current_status() == Status.DONE) & ~coverage_of(self.store).empty)

    def trained_on(self, limit: int, seed: int, trust: Trust | None = None) -> NDArray[np.intp]:
        """The finished rows that a run trains on, [N], ascending: `limit` of them, all where it is 0; see `limited`.

        trust: leaves out images of which no mask is ever taken.
        """
        rows = self.finished()
        rows = rows if trust is None else trust.rows(rows, self.store.vector("tags"))
        return limited(rows, self.store.image_ids, limit, seed)

    def path(self, image: str | int) -> Path:
        """The image's file. Raises ImageError where the manifest names none."""
        image_id = image if isinstance(image, str) else self.store.image_ids[image]
        try:
            return self._records[image_id].path
        except KeyError:
            raise ImageError(
                f"{image_id} is in {self.store.path} but not on the list of images; recreate the masks."
            ) from None

    def read(self, image: str | int) -> MaskedImage:
        """Image and masks. Raises OneImageError where it cannot be used."""
        masks = self.store.read(image)
        ids = self.store.category_ids
        return MaskedImage(
            image_id=masks.image_id,
            image=self._of_size(image, masks.masks.shape[1:]),
            category_ids=tuple(ids[category] for category in masks.categories),
            masks=masks.masks,
            void=masks.void,
        )

    def image(self, image: str | int) -> NDArray[np.uint8]:
        """The image alone, uint8 [H, W, 3], of the size that its masks have. Raises ImageError."""
        row = self.store.position(image)
        return self._of_size(image, tuple(int(sides[row]) for sides in self._sizes))

    def label(self, image: str | int) -> NDArray[np.uint8]:
        """The masks as one map of taxonomy ids, uint8 [H, W], VOID where nothing is known; see `label_map`.

        Raises StoreError where there are none.
        """
        return self._labels(image)

    def _of_size(self, image: str | int, size: tuple[int, ...]) -> NDArray[np.uint8]:
        path = self.path(image)
        pixels = read_image(path)
        if pixels.shape[:2] != size:
            raise ImageError(
                f"{path} is {pixels.shape[1]} x {pixels.shape[0]} pixels, its masks in {self.store.path} are {size[1]} "
                f"x {size[0]}; the image has changed since they were made."
            )
        return pixels

    @cached_property
    def _sizes(self) -> tuple[NDArray[np.integer[Any]], NDArray[np.integer[Any]]]:
        return self.store.vector("height"), self.store.vector("width")

    @cached_property
    def _labels(self) -> LabelMaps:
        return LabelMaps(self.store)


def limited(rows: NDArray[np.integer[Any]], image_ids: Sequence[str], limit: int, seed: int) -> NDArray[np.intp]:
    """`limit` of `rows`, ascending; all where it is 0. Which ones, seed and names decide: twice as many hold them all.

    image_ids: of all rows of the store.
    """
    if not limit or len(rows) <= limit:
        return rows.astype(np.intp)
    drawn = sorted(rows.tolist(), key=lambda row: (seed_for(seed, "limit", image_ids[row]), image_ids[row]))
    return np.array(sorted(drawn[:limit]), np.intp)


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
