"""Images with one label per pixel, as episodes are drawn from them: of a mask store, or of a labelled split."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wilss.data.images import read_image
from wilss.data.layouts import ImageRecord, Records, RecordsById, read_label_of
from wilss.data.names import Names
from wilss.data.protocol import StepProtocol
from wilss.errors import ImageError, ManifestError
from wilss.store import MaskStore

from ..masked_images import MaskedImages
from .draw import Index, sorted_index


class LabelledImages(Protocol):
    """Where episodes get images and labels from, several threads at once: `MaskedImages`, or a `LabelledSplit`."""

    def image(self, image: str, /) -> NDArray[np.uint8]:
        """uint8 [H, W, 3]. Raises ImageError."""

    def label(self, image: str, /) -> NDArray[np.uint8]:
        """Taxonomy ids uint8 [H, W], VOID where nothing is known. Raises OneImageError."""


def index_of_store(store: MaskStore, protocol: StepProtocol, step: int, *, limit: int = 0, seed: int = 0) -> Index:
    """Class id -> the finished images of a store in which it has a pixel, sorted, for the classes of the step.

    limit, seed: of how many images at most; see `MaskedImages.trained_on`.
    """
    done = np.zeros(len(store.image_ids), np.bool_)
    done[MaskedImages(store, {}).trained_on(limit, seed)] = True
    has_pixel = (np.nan_to_num(store.vector("area")) > 0) & done[:, None]
    column = {identity: place for place, identity in enumerate(store.category_ids)}
    return {
        identity: Names(sorted(store.image_ids[row] for row in np.flatnonzero(has_pixel[:, column[identity]]).tolist()))
        for identity in protocol.new(step)
    }


@dataclass(frozen=True, kw_only=True)
class LabelledSplit:
    """The images of a split with pixel labels. index: class id -> images that hold it. failed: image -> why not."""

    records: Mapping[str, ImageRecord]
    index: Index
    failed: Mapping[str, str]

    def image(self, image_id: str) -> NDArray[np.uint8]:
        """The image from its file."""
        record = self.records[image_id]
        return read_image(record.path, record.bits)

    def label(self, image_id: str) -> NDArray[np.uint8]:
        """Its pixel labels."""
        return read_label_of(self.records[image_id])


def labelled_split(records: Sequence[ImageRecord], classes: Collection[int], split: str) -> LabelledSplit:
    """Reads every label once to see which images hold which of `classes`.

    Raises ManifestError where no image has pixel labels.
    """
    if not any(record.label is not None for record in records):
        raise ManifestError(
            f"none of the {len(records)} images of the split {split!r} has pixel labels, from which episodes are "
            "made; choose another --split."
        )
    index = {identity: Names() for identity in classes}
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
        records=RecordsById(Records.of(records)),
        index=sorted_index(index),
        failed=failed,
    )
