"""`MaskDataset`: the images of a mask store with their masks, as a dataset of torch."""

import operator
import os
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from wilss.data.manifest import Manifest, load_manifest
from wilss.disk import Location, location_of
from wilss.errors import StoreError
from wilss.store import MaskStore, Status
from wilss.store.changes import require_unchanged
from wilss.store.records import records_for

from .augment import planar
from .masked_images import MaskedImage, MaskedImages

Sample = dict[str, Any]

#: Why an image has no masks where the store holds no sentence about it.
_REASONS = {
    Status.PENDING: "its masks are not made yet; run the same `wilss-masks generate` again.",
    Status.FAILED: "no masks could be made of it.",
    Status.UNTAGGED: "it has no tag of the step's classes.",
    Status.UNLABELLED: "it has no pixel labels.",
}


class MaskDataset(Dataset[Sample]):
    """The finished images of a mask store, in the store's order.

    store: a store's folder. manifest: the manifest that it was made with, or its path. transform: called with a sample,
    gives what the dataset gives; image and masks come to it as tv_tensors, so that torchvision.transforms.v2 moves
    them together. allow_partial: take a store that is not complete; images whose masks are missing are left out.

    A sample is a dict: `image` uint8 [3, H, W], RGB; `masks` bool [C, H, W], one for each class of `categories`, which
    may overlap; `void` bool [H, W], where nothing is known; `label` uint8 [H, W], masks and void as one map, see the
    method `label`; `image_id` str; `category_ids` int64 [C], the taxonomy ids in `categories`. Images differ in size,
    so a batch of several needs a transform that makes them equal:

        from torch.utils.data import DataLoader
        from torchvision.transforms import v2
        from wilss_train import MaskDataset

        dataset = MaskDataset(
            "masks/shapes-15-5/step-1.zarr", "data_manifest.yaml",
            transform=v2.Compose([v2.Resize((128, 128)), v2.RandomHorizontalFlip()]),
        )
        print(len(dataset), "images of", ", ".join(dataset.classes.values()), "and", len(dataset.failed), "left out")
        for batch in DataLoader(dataset, batch_size=8, shuffle=True, num_workers=2):
            batch["image"]  # uint8 [8, 3, 128, 128]
            batch["masks"]  # bool [8, C, 128, 128]
            batch["label"]  # uint8 [8, 128, 128]: one taxonomy id a pixel, 0 background, 255 void
        label = dataset.label(0)  # uint8 [H, W], of one image as it is stored

    What a transform puts around an image (padding, rotation) is 0 in all of these, background that counts as known;
    `fill={tv_tensors.Image: 0, tv_tensors.Mask: 255}` makes it void in `label` and `void`, and true in every plane of
    `masks`.

    Raises StoreError for a store that is missing, incomplete or of other data than the manifest describes, and where
    images or labels were changed since the masks were made (a look at every file's size and time). An item raises
    ImageError where its image cannot be read or has another size than its masks.
    """

    def __init__(
        self,
        store: Location | str,
        manifest: Manifest | Path | str,
        *,
        transform: Callable[[Sample], Any] | None = None,
        allow_partial: bool = False,
    ) -> None:
        self.path = location_of(store)
        self.transform = transform
        opened = MaskStore.open(self.path, allow_partial=allow_partial)
        manifest = manifest if isinstance(manifest, Manifest) else load_manifest(Path(manifest))
        self._records = records_for(opened, manifest)
        require_unchanged(opened, self._records)
        self._status = opened.current_status()
        self._rows = np.flatnonzero(self._status == Status.DONE)
        self._identity = _identity_of(opened)
        self._reader: tuple[int, MaskedImages] | None = (os.getpid(), MaskedImages(opened, self._records))
        self.categories: tuple[int, ...] = opened.category_ids
        #: Class names by taxonomy id, in the order of `categories`.
        self.classes: Mapping[int, str] = dict(zip(opened.category_ids, opened.category_names, strict=True))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Any:
        """The sample at `index`, or what the transform makes of it."""
        sample = self._sample(*self._images.read_with_label(self._row(index)))
        return sample if self.transform is None else self.transform(_as_tv_tensors(sample))

    def __iter__(self) -> Iterator[Any]:
        return map(self.__getitem__, range(len(self)))

    def label(self, index: int) -> NDArray[np.uint8]:
        """The masks as one label map, uint8 [H, W] of taxonomy ids: 0 for background, 255 for void.

        Where masks overlap, the more confident one wins, as in `wilss.open_masks(...).label`.
        """
        return self._images.label(self._row(index))

    @cached_property
    def failed(self) -> Mapping[str, str]:
        """The images of the store that are left out because there are no masks of them, and why not."""
        store = self._images.store
        errors = store.vector("error")
        return {
            store.image_ids[row]: str(errors[row]) or _REASONS[Status(self._status[row])]
            for row in np.flatnonzero(self._status != Status.DONE).tolist()
        }

    def __getstate__(self) -> dict[str, Any]:
        """Without the open store: every process opens its own."""
        return {**vars(self), "_reader": None}

    @property
    def _images(self) -> MaskedImages:
        """The reader of this process; a worker, forked or spawned, opens the store when it reads its first image."""
        if self._reader is None or self._reader[0] != os.getpid():
            store = MaskStore.open(self.path, allow_partial=True)
            if _identity_of(store) != self._identity:
                raise StoreError(f"{self.path} was removed or replaced while it was read; open it again.")
            self._reader = os.getpid(), MaskedImages(store, self._records)
        return self._reader[1]

    def _row(self, index: int) -> int:
        """The row of a sample on the store's image axis; negative numbers count from the end, as in a list."""
        position = operator.index(index)
        if not -len(self) <= position < len(self):
            raise IndexError(f"there is no image {position}; {self.path} has {len(self)} with masks.")
        return int(self._rows[position])

    def _sample(self, read: MaskedImage, label: NDArray[np.uint8]) -> Sample:
        height, width = read.image.shape[:2]
        masks = np.zeros((len(self.categories), height, width), np.bool_)
        masks[[self.categories.index(identity) for identity in read.category_ids]] = read.masks
        void = np.zeros((height, width), np.bool_) if read.void is None else read.void
        return {
            "image": planar(read.image),
            "masks": torch.from_numpy(masks),
            "void": torch.from_numpy(void),
            "label": torch.from_numpy(label),
            "image_id": read.image_id,
            "category_ids": torch.tensor(self.categories),
        }


def _identity_of(store: MaskStore) -> tuple[Any, ...]:
    """What tells a store from another that came into its place; rows mean the same as long as it stays."""
    return store.attributes.get("manifest_sha256"), store.attributes.get("step"), store.category_ids, store.layout


def _as_tv_tensors(sample: Sample) -> Sample:
    from torchvision import tv_tensors

    wrapped: dict[str, Tensor] = {
        "image": tv_tensors.Image(sample["image"]),
        "masks": tv_tensors.Mask(sample["masks"]),
        "void": tv_tensors.Mask(sample["void"]),
        "label": tv_tensors.Mask(sample["label"]),
    }
    return {**sample, **wrapped}
