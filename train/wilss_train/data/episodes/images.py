"""Images with one label per pixel, as episodes are drawn from them: those of a mask store, or of a labelled split."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from wilss.data.images import read_image
from wilss.data.layouts import read_label_of
from wilss.data.protocol import StepProtocol
from wilss.errors import ImageError, ManifestError
from wilss.store import MaskStore, Status
from wilss.store.view import label_map

if TYPE_CHECKING:
    from wilss.data.layouts import ImageRecord

__all__ = ["LabelledImages", "LabelledSplit", "StoreImages", "index_of_store", "labelled_split"]


class LabelledImages(Protocol):
    """Where episodes get their images and labels; asked from several threads at once."""

    def image(self, image_id: str) -> NDArray[np.uint8]:
        """uint8 [H, W, 3]. Raises ImageError."""

    def label(self, image_id: str) -> NDArray[np.uint8]:
        """Taxonomy ids uint8 [H, W], VOID where nothing is known. Raises ImageError or StoreError."""


class StoreImages:
    """The images of a mask store; where masks overlap the more confident class has the pixel."""

    def __init__(self, store: MaskStore, records: "Mapping[str, ImageRecord]") -> None:
        self._store, self._records = store, records

    def image(self, image_id: str) -> NDArray[np.uint8]:
        """The image from its file, of the size that its masks have."""
        image = read_image(self._records[image_id].path)
        row = self._store.position(image_id)
        size = (int(self._sizes[0][row]), int(self._sizes[1][row]))
        if image.shape[:2] != size:
            raise ImageError(
                f"{self._records[image_id].path} is {image.shape[1]} x {image.shape[0]} pixels, its masks in "
                f"{self._store.path} are {size[1]} x {size[0]}; the image has changed since they were made."
            )
        return image

    def label(self, image_id: str) -> NDArray[np.uint8]:
        """The masks as one label map."""
        masks = self._store.read(image_id)
        ids = np.array([self._store.category_ids[one] for one in masks.categories], np.int64)
        confidence = self._confidence[self._store.position(image_id), list(masks.categories)]
        return label_map(masks.masks, ids, confidence, masks.void)

    @cached_property
    def _confidence(self) -> NDArray[np.floating[Any]]:
        return self._store.vector("confidence")

    @cached_property
    def _sizes(self) -> tuple[NDArray[np.integer[Any]], NDArray[np.integer[Any]]]:
        return self._store.vector("height"), self._store.vector("width")


def index_of_store(store: MaskStore, protocol: StepProtocol, step: int) -> dict[int, tuple[str, ...]]:
    """Class id -> the finished images of a store in which it has a pixel, for the classes of the step."""
    done = store.vector("status") == Status.DONE
    has = (np.nan_to_num(store.vector("area")) > 0) & done[:, None]
    column = {identity: place for place, identity in enumerate(store.category_ids)}
    return {
        identity: tuple(store.image_ids[row] for row in np.flatnonzero(has[:, column[identity]]).tolist())
        for identity in protocol.new(step)
    }


@dataclass(frozen=True, kw_only=True)
class LabelledSplit:
    """The images of a split with pixel labels. index: class id -> images that hold it. failed: image -> why not."""

    records: "Mapping[str, ImageRecord]"
    index: Mapping[int, tuple[str, ...]]
    failed: Mapping[str, str]

    def image(self, image_id: str) -> NDArray[np.uint8]:
        """The image from its file."""
        return read_image(self.records[image_id].path)

    def label(self, image_id: str) -> NDArray[np.uint8]:
        """Its pixel labels."""
        return read_label_of(self.records[image_id])


def labelled_split(records: "Sequence[ImageRecord]", classes: Collection[int], split: str) -> LabelledSplit:
    """Reads every label once to see which images hold which of `classes`.

    Raises ManifestError where no image has pixel labels.
    """
    if not any(record.label is not None for record in records):
        raise ManifestError(
            f"none of the {len(records)} images of the split {split!r} has pixel labels, from which episodes are "
            "made; choose another --split."
        )
    index: dict[int, list[str]] = {identity: [] for identity in classes}
    failed = dict[str, str]()
    for record in records:
        try:
            present = np.flatnonzero(np.bincount(read_label_of(record).ravel(), minlength=256))
        except ImageError as error:
            failed[record.image_id] = str(error)
            continue
        for identity in set(present.tolist()) & index.keys():
            index[identity].append(record.image_id)
    return LabelledSplit(
        records={record.image_id: record for record in records},
        index={identity: tuple(images) for identity, images in index.items()},
        failed=failed,
    )
