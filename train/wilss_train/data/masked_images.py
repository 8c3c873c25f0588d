"""The images that a mask store holds masks of, as training reads them: decoded once, kept while there is room."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wilss.data.images import read_image
from wilss.data.protocol import StepProtocol
from wilss.errors import ImageError
from wilss.store import MaskStore, Status

from .bounded_cache import Kept

if TYPE_CHECKING:
    from wilss.data.layouts import ImageRecord

__all__ = ["MaskedImage", "MaskedImages"]


@dataclass(frozen=True, kw_only=True)
class MaskedImage:
    """image: uint8 [H, W, 3]. masks: bool [T, H, W], of the new classes at `places` (positions in protocol.new).

    void: bool [H, W] or None where the store knows none.
    """

    image_id: str
    image: NDArray[np.uint8]
    places: tuple[int, ...]
    masks: NDArray[np.bool_]
    void: NDArray[np.bool_] | None


class MaskedImages:
    """The finished images of a store, by position; reads may come from several threads at once.

    cache_mib: how much memory decoded images may take.
    """

    def __init__(
        self,
        store: MaskStore,
        records: "Mapping[str, ImageRecord]",
        protocol: StepProtocol,
        step: int,
        *,
        cache_mib: int = 1024,
    ) -> None:
        self._store = store
        self._paths: Mapping[str, Path] = {image: records[image].path for image in store.image_ids}
        self._place = {identity: place for place, identity in enumerate(protocol.new(step))}
        self._kept: Kept[int, MaskedImage] = Kept(cache_mib)

    @cached_property
    def image_ids(self) -> tuple[str, ...]:
        """The images whose masks are there, in the store's order."""
        return tuple(self._store.image_ids[row] for row in self._rows)

    @cached_property
    def _rows(self) -> Sequence[int]:
        rows: list[int] = np.flatnonzero(self._store.vector("status") == Status.DONE).tolist()
        return rows

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, position: int) -> MaskedImage:
        """Image and masks. Raises ImageError or StoreError where the image cannot be used."""
        return self._kept.get(position, lambda: self._read(position), _bytes_of)

    def _read(self, position: int) -> MaskedImage:
        image_id = self.image_ids[position]
        masks = self._store.read(self._rows[position])
        image = read_image(self._paths[image_id])
        if image.shape[:2] != masks.masks.shape[1:]:
            raise ImageError(
                f"{self._paths[image_id]} is {image.shape[1]} x {image.shape[0]} pixels, its masks in "
                f"{self._store.path} are {masks.masks.shape[2]} x {masks.masks.shape[1]}; the image has changed since "
                "they were made."
            )
        ids = self._store.category_ids
        places = tuple(self._place[ids[category]] for category in masks.categories)
        return MaskedImage(image_id=image_id, image=image, places=places, masks=masks.masks, void=masks.void)


def _bytes_of(read: MaskedImage) -> int:
    return read.image.nbytes + read.masks.nbytes + (0 if read.void is None else read.void.nbytes)
