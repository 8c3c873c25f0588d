"""Images and their masks out of a store: which of them a run trains on, and the reading of one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wilss.data.images import read_image
from wilss.data.layouts import ImageRecord
from wilss.errors import ImageError
from wilss.randomness import seed_for
from wilss.store import ImageMasks, LabelMaps, MaskStore, Status, coverage_of, shows_none

from .trust import Trust


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

    def trained_on(
        self, limit: int, seed: int, trust: Trust | None = None, *, negatives: float = 0.0
    ) -> NDArray[np.intp]:
        """The finished rows that a run trains on, [N], ascending: `limit` of them, all where it is 0; see `limited`.

        trust: leaves out images of which no mask is ever taken. negatives: of the images that are known to show none of
        the step's classes, at most so many for each of the others; drawn as those of `limited` are.
        """
        rows, is_negative = self.finished(), shows_none(self.store)
        shown, others = rows[~is_negative[rows]], rows[is_negative[rows]]
        shown = shown if trust is None else trust.rows(shown, self.store.vector("tags"))
        others = _drawn(others, self.store.image_ids, round(negatives * len(shown)), seed, "negatives")
        return limited(np.union1d(shown, others), self.store.image_ids, limit, seed)

    def whole(self, image: str | int) -> NDArray[np.uint8]:
        """The image alone, uint8 [H, W, 3], of whatever size it is now. Raises ImageError."""
        record = self._record(image)
        return read_image(record.path, record.bits)

    def _record(self, image: str | int) -> ImageRecord:
        """What the manifest says of an image. Raises ImageError where it names none."""
        image_id = image if isinstance(image, str) else self.store.image_ids[image]
        try:
            return self._records[image_id]
        except KeyError:
            raise ImageError(
                f"{image_id} is in {self.store.path} but not on the list of images; recreate the masks."
            ) from None

    def read(self, image: str | int) -> MaskedImage:
        """Image and masks. Raises OneImageError where it cannot be used."""
        return self._with_image(image, self.store.read(image))

    def read_with_label(self, image: str | int) -> tuple[MaskedImage, NDArray[np.uint8]]:
        """Image and masks, and the masks as one map as in `label`. Raises OneImageError where it cannot be used."""
        masks, label = self._labels.with_masks(image)
        return self._with_image(image, masks), label

    def _with_image(self, image: str | int, masks: ImageMasks) -> MaskedImage:
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
        path, pixels = self._record(image).path, self.whole(image)
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
    return _drawn(rows, image_ids, limit, seed, "limit") if limit else rows.astype(np.intp)


def _drawn(
    rows: NDArray[np.integer[Any]], image_ids: Sequence[str], count: int, seed: int, name: str
) -> NDArray[np.intp]:
    """`count` of `rows`, ascending, or all where there are not more. name: of the draw."""
    if len(rows) <= count:
        return rows.astype(np.intp)
    drawn = sorted(rows.tolist(), key=lambda row: (seed_for(seed, name, image_ids[row]), image_ids[row]))
    return np.array(sorted(drawn[:count]), np.intp)
