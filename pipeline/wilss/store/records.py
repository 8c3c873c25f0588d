"""Back from a mask store to the images and labels that it was made from."""

from collections.abc import Mapping

import numpy as np

from wilss.data.layouts import ImageRecord, Records, RecordsById
from wilss.data.manifest import Manifest, as_known_before
from wilss.data.names import composed
from wilss.data.protocol import StepProtocol
from wilss.data.taxonomy import Taxonomy
from wilss.errors import ManifestError, StoreError, WilssError
from wilss.store import MaskStore
from wilss.store.changes import changed_since, made_of


def records_for(store: MaskStore, manifest: Manifest, *, may_have_grown: bool = True) -> Mapping[str, ImageRecord]:
    """The manifest's records of a store's step and split, by image id; at least those that the store holds.

    Each record is made when it is asked for: a million images take 50 MB. A manifest to which classes and steps came at
    the end is the store's still where the images, or the labels, are those that its masks were made of.

    may_have_grown: False for what makes masks of all images of the manifest again, to which others may have come.

    Raises StoreError when the store was made from other data than the manifest describes now.
    """
    attributes = store.attributes
    is_own = attributes.get("manifest_sha256") == manifest.digest
    if not is_own and not may_have_grown:
        raise _other_data(store, manifest, _digests(store, manifest))
    then = None if is_own else _grown_since(store, manifest)
    images = manifest.images if attributes.get("uses_tags") is False else manifest.records
    selected = Records.of(images(store.step, str(attributes.get("split", "train"))).records)
    if then is not None and made_of(store) == "labels":  # other stores do not know what labels said
        selected = _as_known_then(selected, store, manifest, then)
    records = RecordsById(selected)
    missing = np.flatnonzero(records.rows(store.image_ids) < 0)
    if missing.size:
        raise StoreError(
            f"{manifest.path} has no record of {store.image_ids[missing[0]]!r} and {missing.size - 1} more images of "
            f"{store.path}; make the masks again."
        )
    if then is not None and (changes := changed_since(store, records)) is not None:
        raise _other_data(store, manifest, changes)
    return records


def _grown_since(store: MaskStore, manifest: Manifest) -> Taxonomy:
    """The classes that a store was made with, where those and the steps are what the manifest's begin with.

    Raises StoreError where nothing came to the manifest, so that it is other data that it describes, or where classes
    or steps up to the store's are others.
    """
    then = _protocol_of(store)
    if then is None or not _may_have_grown(then, manifest.protocol):
        raise _other_data(store, manifest, _digests(store, manifest))
    difference = then.difference(manifest.protocol, store.step, here="the store", there="the manifest")
    were, are = then.taxonomy.class_names, manifest.taxonomy.class_names
    if difference is None and [*map(composed, were)] != [*map(composed, are[: len(were)])]:
        difference = "classes of later steps are others, and labels may be read by them"
    if difference is not None:
        raise _other_data(store, manifest, difference)
    return then.taxonomy


def _may_have_grown(then: StepProtocol, now: StepProtocol) -> bool:
    """Whether classes or steps are others, so that these may be why the digests are, and nothing else must be."""
    are_same = (then.taxonomy.class_names, then.steps) == (now.taxonomy.class_names, now.steps)
    return then.setting == now.setting and not are_same


def _as_known_then(records: Records, store: MaskStore, manifest: Manifest, then: Taxonomy) -> Records:
    try:
        return as_known_before(records, manifest.data[manifest.steps[store.step].data], then)
    except ManifestError as error:
        raise _other_data(store, manifest, "labels cannot be read by the store's classes alone") from error


def _protocol_of(store: MaskStore) -> StepProtocol | None:
    """Classes and steps as a store notes them; None where it notes none that make sense."""
    said = store.attributes
    try:
        taxonomy = Taxonomy(name=str(said["manifest"]), class_names=tuple(map(str, said["classes"])))
        steps = tuple(tuple(map(int, classes)) for classes in said["steps"])
        protocol = StepProtocol(name=str(said["protocol"]), taxonomy=taxonomy, steps=steps, setting=said["setting"])
        protocol.new(store.step)
    except (KeyError, TypeError, ValueError, WilssError):
        return None
    return protocol


def _digests(store: MaskStore, manifest: Manifest) -> str:
    made_from = str(store.attributes.get("manifest_sha256"))
    return f"manifest digest {made_from[:12]} in the store, {manifest.digest[:12]} now"


def _other_data(store: MaskStore, manifest: Manifest, why: str) -> StoreError:
    return StoreError(
        f"{store.path} was made from other data than {manifest.path} describes ({why}); pass the manifest it was made "
        "from with --manifest, or make the masks again."
    )
