"""The store that a second pass goes over: whether it can, and what it is known by."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wilss.data.manifest import Manifest
from wilss.data.names import composed
from wilss.disk import Location
from wilss.errors import StoreError
from wilss.store import MaskStore, Status

_FEW = 6


@dataclass(frozen=True, kw_only=True)
class FirstPass:
    """The store that a second pass goes over: where it lies, its digest and seal, by which source it was made.

    images: how many it has masks of. has_void: whether pixels of it may be void.
    """

    path: Location
    digest: str
    seal: Mapping[str, Any]
    source: str
    uses_tags: bool
    images: int
    has_void: bool = False

    def open(self) -> MaskStore:
        """The store, as it was. Raises StoreError where it is gone, or another one."""
        store = MaskStore.open(self.path)
        if store.digest != self.digest:
            raise StoreError(f"{self.path} has changed since this run began; run the same command again.")
        return store


def first_pass(store: MaskStore) -> FirstPass:
    """What a store is known by."""
    attributes = store.attributes
    before = attributes.get("made_from")  # of a second pass: its own first
    source = before.get("source") if isinstance(before, dict) else attributes.get("source")
    return FirstPass(
        path=store.path.absolute(),
        digest=store.digest,
        seal=attributes["seal"],
        source=str(source),
        uses_tags=attributes.get("uses_tags") is not False,
        images=int((store.vector("status") == Status.DONE).sum()),
        has_void=store.layout.has_void,
    )


def require_first_pass(store: MaskStore, manifest: Manifest, step: int, classes: Mapping[int, str]) -> None:
    """StoreError for a store that no second pass can go over, before its images are looked for."""
    if store.attributes.get("made_of") == "labels" or store.attributes.get("source") == "annotation":
        raise StoreError(
            f"{store.path} holds pixel labels (annotation), which a second pass can only make worse; give a store of "
            "masks that were guessed."
        )
    if store.step != step:
        raise StoreError(
            f"{store.path} holds masks of step {store.step}, not of step {step}; give the store of that step."
        )
    known = dict(zip(store.category_ids, map(composed, store.category_names), strict=True))
    if known != {identity: composed(name) for identity, name in classes.items()}:
        raise StoreError(
            f"{store.path} holds masks of {listed(store.category_names)}, which are not the classes of step {step} in "
            f"{manifest.path}; pass the manifest that it was made with."
        )
    if not store.is_complete:
        raise StoreError(
            f"{store.path} is not complete: {len(store.pending_shards())} of {store.layout.num_shards} shards are "
            f"missing; {store.to_go_on}, and then the second pass."
        )
    if not (store.vector("status") == Status.DONE).any():
        raise StoreError(f"{store.path} has masks of no image; `wilss-masks info` says why.")


def listed(names: Sequence[str]) -> str:
    """Some names, as they stand in a sentence."""
    return ", ".join(names[:_FEW]) + (", ..." if len(names) > _FEW else "")
