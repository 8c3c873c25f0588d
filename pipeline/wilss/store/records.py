"""Back from a mask store to the images and labels that it was made from."""

from collections.abc import Mapping

import numpy as np

from wilss.data.layouts import ImageRecord, Records, RecordsById
from wilss.data.manifest import Manifest
from wilss.errors import StoreError
from wilss.store import MaskStore


def records_for(store: MaskStore, manifest: Manifest) -> Mapping[str, ImageRecord]:
    """The manifest's records of a store's step and split, by image id; at least those that the store holds.

    Each record is made when it is asked for: a million images take 50 MB.

    Raises StoreError when the store was made from other data than the manifest describes now.
    """
    attributes = store.attributes
    made_from = str(attributes.get("manifest_sha256"))
    if made_from != manifest.digest:
        raise StoreError(
            f"{store.path} was made from other data than {manifest.path} describes (manifest digest "
            f"{made_from[:12]} in the store, {manifest.digest[:12]} now); pass the manifest it was made "
            "from with --manifest, or make the masks again."
        )
    images = manifest.images if attributes.get("uses_tags") is False else manifest.records
    selection = images(store.step, str(attributes.get("split", "train")))
    records = RecordsById(Records.of(selection.records))
    missing = np.flatnonzero(records.rows(store.image_ids) < 0)
    if missing.size:
        raise StoreError(
            f"{manifest.path} has no record of {store.image_ids[missing[0]]!r} and {missing.size - 1} more images of "
            f"{store.path}; make the masks again."
        )
    return records
