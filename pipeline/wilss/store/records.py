"""Back from a mask store to the images and labels that it was made from."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from wilss.errors import StoreError
from wilss.store import MaskStore

if TYPE_CHECKING:
    from wilss.data.manifest import ImageRecord, Manifest

__all__ = ["records_of"]


def records_of(store: MaskStore, manifest: "Manifest") -> "Mapping[str, ImageRecord]":
    """The manifest's records of a store's step and split, by image id; at least those that the store holds.

    Raises StoreError when the store was made from other data than the manifest describes now.
    """
    attributes = store.attributes
    made_from = str(attributes.get("manifest_sha256"))
    if made_from != manifest.digest:
        raise StoreError(
            f"{store.path} was made from other data than {manifest.path} describes (manifest digest "
            f"{made_from[:12]} in the store, {manifest.digest[:12]} now); pass the manifest it was made "
            "from with --manifest, or make the masks anew."
        )
    images = manifest.images if attributes.get("uses_tags") is False else manifest.records
    selection = images(store.step, str(attributes.get("split", "train")))
    records = {record.image_id: record for record in selection.records}
    missing = [name for name in store.image_ids if name not in records]
    if missing:
        raise StoreError(
            f"{manifest.path} has no record of {missing[0]!r} and {len(missing) - 1} more images of "
            f"{store.path}; make the masks anew."
        )
    return records
