"""Stored soft labels: probabilities on an image's own grid, brought to the pixels of any view of it.

A store holds labels of the image as it is; a view (crop, scale, mirror) is drawn again every time. Probabilities are
warped bilinearly, pixel centres; what is valid and what is not takes the nearest pixel (`augment.is_outside`).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wilss.data.manifest import Manifest
from wilss.data.names import NameIndex
from wilss.data.protocol import StepProtocol
from wilss.data.taxonomy import BACKGROUND
from wilss.errors import StoreError, counted
from wilss.store import ImageMasks, MaskStore
from wilss.store.changes import made_of, require_unchanged
from wilss.store.records import records_for

from ..augment import View


def require_soft_labels(store: MaskStore, manifest: Manifest) -> None:
    """StoreError unless the store holds whole soft labels of PseudoSeg, of this manifest's images."""
    if store.attributes.get("source") != "pseudoseg":
        raise StoreError(
            f"{store.path} holds no soft labels of pseudoseg for the images of {manifest.path}; make them with "
            "`wilss-masks generate --source pseudoseg --keep scores`."
        )
    records = records_for(store, manifest)
    for damage in store.verify():
        raise StoreError(f"{store.path} is damaged: {damage.what}; make it again with `wilss-masks generate`.")
    if made_of(store) is not None:
        require_unchanged(store, records)


class SoftLabels:
    """The soft labels of a store by image; reads may come from several threads at once.

    Raises StoreError for a store that keeps no scores or is of other classes than those of `step`.
    """

    def __init__(self, store: MaskStore, protocol: StepProtocol, step: int) -> None:
        if store.layout.score_grid is None:
            raise StoreError(
                f"{store.path} keeps no soft labels; make it again with `wilss-masks generate --source pseudoseg "
                "--keep scores`."
            )
        classes = protocol.new(step)
        if sorted(store.category_ids) != sorted(classes):
            raise StoreError(
                f"{store.path} holds soft labels of {', '.join(store.category_names)}, which are not the classes of "
                f"step {step}; pass the store that was made for it."
            )
        channels = dict(zip(classes, protocol.new_channels(step), strict=True))
        self._store = store
        self._channels = [channels[identity] for identity in store.category_ids]
        self._count = len(protocol.seen(step))

    def require(self, image_ids: Sequence[str]) -> None:
        """StoreError unless every one of these images is in the store."""
        missing = np.flatnonzero(NameIndex(self._store.image_ids).find_all(image_ids) < 0)
        if len(missing):
            raise StoreError(
                f"{self._store.path} holds no soft labels of {counted(len(missing), 'image')}, {image_ids[missing[0]]} "
                "among them; make them for all images that are to be learnt from."
            )

    def read(self, image_id: str) -> NDArray[np.float16]:
        """Probabilities of all channels [C, h, w], those of the background what the others leave of 1.

        Raises StoreError where the store holds none of this image.
        """
        known: ImageMasks = self._store.read(image_id, ())  # refuses an image that is not done
        planes = [self._store.plane("score", known.image_id, place) for place in range(len(self._channels))]
        rows, columns = _extent(planes[0])
        soft = np.zeros((self._count, rows, columns), np.float32)
        soft[self._channels] = [plane[:rows, :columns] for plane in planes]
        soft[BACKGROUND] = 1 - soft.sum(axis=0)
        return soft.clip(0, 1).astype(np.float16)


def warped(soft: NDArray[np.floating], view: View, height: int, width: int, stride: int = 1) -> NDArray[np.float32]:
    """Soft labels of an image of height x width at every `stride`-th pixel of a view, [C, S / stride, S / stride].

    soft: [C, h, w] in [0, 1], the grid covering the image, as is the result. Beyond the image the edge goes on;
    nothing is learnt there.
    """
    places = np.arange(view.size)[stride // 2 :: stride]
    down = _weights(view.top + (places + 0.5) / view.down, height, soft.shape[1])
    across = _weights(view.left + (places + 0.5) / view.factor, width, soft.shape[2])
    if view.mirrored:  # the window is cut first and mirrored afterwards
        mirror = view.size - 1 - places
        across = _weights(view.left + (mirror + 0.5) / view.factor, width, soft.shape[2])
    labels: NDArray[np.float32] = down @ soft.astype(np.float32) @ across.T
    return labels


def _weights(places: NDArray[np.floating], side: int, cells: int) -> NDArray[np.float32]:
    """How much each of `cells` grid cells says at places along a side, [P, cells]; rows sum to 1."""
    centre = np.clip(places * cells / side - 0.5, 0, cells - 1)
    weights: NDArray[np.float32] = np.maximum(0, 1 - np.abs(centre[:, None] - np.arange(cells))).astype(np.float32)
    return weights


def _extent(plane: NDArray[np.float16]) -> tuple[int, int]:
    """Rows and columns that the image's own grid takes of a plane; the rest was filled up."""
    there = np.isfinite(plane)
    return int(there.any(axis=1).sum()), int(there.any(axis=0).sum())
