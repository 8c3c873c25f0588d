"""The two kinds of images that PseudoSeg learns from: labelled ones with their labels, others without."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from wilss.data.images import read_image
from wilss.data.protocol import StepProtocol
from wilss.errors import ImageError, StoreError
from wilss.randomness import numpy_generator_for
from wilss.store import MaskStore

from ..batches import Broken
from ..bounded_cache import Kept
from .soft import SoftLabels

if TYPE_CHECKING:
    from wilss.data.layouts import ImageRecord

__all__ = ["Intact", "LabelledImages", "Picture", "Pool", "UnlabelledImages"]

_MOST_SUBSTITUTES = 1000


@dataclass(frozen=True, kw_only=True)
class Picture:
    """image: uint8 [H, W, 3]. soft: float16 [C, h, w], None where there are no soft labels.

    masks: bool [T + 1, H, W], of the classes in `channels` and last of what is unknown; None where nothing is known.
    """

    image_id: str
    image: NDArray[np.uint8]
    channels: tuple[int, ...] = ()
    masks: NDArray[np.bool_] | None = None
    soft: NDArray[np.float16] | None = None

    @property
    def nbytes(self) -> int:
        """What it takes in memory."""
        return sum(one.nbytes for one in (self.image, self.masks, self.soft) if one is not None)


class Pool(Protocol):
    """Images by position."""

    @property
    def image_ids(self) -> Sequence[str]:
        """Their ids, by position."""

    def read(self, position: int) -> Picture:
        """One image. Raises ImageError or StoreError where it cannot be used."""


class LabelledImages:
    """The images of a store at some rows, with its masks of them."""

    def __init__(
        self,
        store: MaskStore,
        rows: Sequence[int],
        records: "Mapping[str, ImageRecord]",
        protocol: StepProtocol,
        step: int,
    ) -> None:
        self._store, self._rows, self._records = store, rows, records
        channels = dict(zip(protocol.new(step), protocol.new_channels(step), strict=True))
        self._channels = [channels[identity] for identity in store.category_ids]
        self.image_ids = tuple(store.image_ids[row] for row in rows)

    def read(self, position: int) -> Picture:
        """Image and masks."""
        image_id = self.image_ids[position]
        found = self._store.read(self._rows[position])
        record = self._records[image_id]
        image = read_image(record.path)
        _require_size(record, image, found.masks.shape[1:], self._store)
        void = np.zeros(image.shape[:2], np.bool_) if found.void is None else found.void
        return Picture(
            image_id=image_id,
            image=image,
            channels=tuple(self._channels[category] for category in found.categories),
            masks=np.concatenate([found.masks, void[None]]),
        )


class UnlabelledImages:
    """The images of a store at some rows, without a look at its masks; with stored soft labels where there are any."""

    def __init__(
        self,
        store: MaskStore,
        rows: Sequence[int],
        records: "Mapping[str, ImageRecord]",
        soft: SoftLabels | None = None,
    ) -> None:
        self._records, self._soft = records, soft
        self.image_ids = tuple(store.image_ids[row] for row in rows)

    def read(self, position: int) -> Picture:
        """The image alone, or with its soft labels."""
        image_id = self.image_ids[position]
        image = read_image(self._records[image_id].path)
        soft = None if self._soft is None else self._soft.read(image_id)
        return Picture(image_id=image_id, image=image, soft=soft)


class Intact:
    """A pool whose images are kept once read, and in which another image stands in for one that cannot be.

    cache_mib: what kept images may take. on_broken: told once of each broken image.
    """

    def __init__(self, pool: Pool, *, cache_mib: float, seed: int, on_broken: Callable[[Broken], None]) -> None:
        self._pool, self._seed, self._on_broken = pool, seed, on_broken
        self._kept: Kept[int, Picture] = Kept(cache_mib)
        self._broken: dict[int, Broken] = {}

    def take(self, position: int, *names: str | int) -> Picture:
        """The image at `position`, or the one that `names` draw in its place."""
        for attempt in range(_MOST_SUBSTITUTES):
            read = self._whole(position)
            if read is not None:
                return read
            name = self._pool.image_ids[position]
            rng = numpy_generator_for(self._seed, "substitute", *names, name, attempt)
            position = int(rng.integers(len(self._pool.image_ids)))
        one = next(iter(self._broken.values()))
        raise StoreError(f"{len(self._broken)} images cannot be read, so there is nothing to train on: {one.error}")

    def _whole(self, position: int) -> Picture | None:
        """The image, None if it is broken."""
        if position in self._broken:
            return None
        try:
            return self._kept.get(position, lambda: self._pool.read(position), lambda read: read.nbytes)
        except (ImageError, StoreError) as error:
            broken = Broken(self._pool.image_ids[position], str(error))
            if self._broken.setdefault(position, broken) is broken:  # one of two threads that met it
                self._on_broken(broken)
            return None


def _require_size(record: "ImageRecord", image: NDArray[np.uint8], size: tuple[int, ...], store: MaskStore) -> None:
    if image.shape[:2] != size:
        raise ImageError(
            f"{record.path} is {image.shape[1]} x {image.shape[0]} pixels, its masks in {store.path} are {size[1]} x "
            f"{size[0]}; the image has changed since they were made."
        )
