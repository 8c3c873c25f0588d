"""Begin a store, or go on with one that an earlier run left: what may be kept, and what must be made anew."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wilss import disk
from wilss.errors import StoreError
from wilss.store import MaskStore, Status, StoreHeader

from .commit import disk_errors
from .options import Options
from .plan import MaskPlan
from .provenance import holds_nothing, is_of
from .update import updated

__all__ = ["create_or_resume", "is_finished", "require_writable"]

log = logging.getLogger(__name__)


def create_or_resume(path: Path, plan: MaskPlan, attributes: Mapping[str, Any], options: Options) -> MaskStore:
    """The store at `path`, ready for the shards that are missing. Raises StoreError when it cannot be gone on with."""
    with disk_errors(path):
        disk.settle(path)
        if path.exists():
            store = MaskStore.open(path, allow_partial=True)  # refuses to throw away what is no mask store
            if not options.overwrite and not holds_nothing(store):
                if not is_of(store, attributes):
                    store = updated(store, plan, attributes)
                return _resume(store, plan, attributes, options)
        return MaskStore.create(path, plan.header(attributes))


def is_finished(store: MaskStore | None, options: Options) -> bool:
    """Whether there is nothing left to make."""
    if store is None or not store.is_complete:
        return False
    return not (options.retry_failed and Status.FAILED in store.vector("status"))


def require_writable(path: Path) -> None:
    """Find out now, not after an hour, that the folder, or the store in it, cannot be written."""
    for folder in (path.parent, path):
        try:
            if folder is not path:
                disk.make_folder(folder)
            if folder.is_dir():
                disk.require_writable(folder)
        except OSError as error:
            raise StoreError(
                f"{folder} cannot be written ({error.strerror}); give another --out, or change its permissions."
            ) from error


def _resume(store: MaskStore, plan: MaskPlan, attributes: Mapping[str, Any], options: Options) -> MaskStore:
    """Go on with a store; shards that are to be made whole anew take the images as they are now."""
    store.sweep()
    header = plan.header(attributes)
    damaged = _damaged_shards(store, header)
    size, pending = plan.layout.shard_size, {*store.pending_shards(), *damaged}
    failed = np.flatnonzero(store.vector("status") == Status.FAILED) if options.retry_failed else np.array([], np.intp)
    anew = pending | {int(row) // size for row in failed}
    changed = _changed_images(store, plan)
    _require_same_images(store, plan, [row for row in changed if row // size not in anew])
    reopened = {int(row) // size for row in failed} | {row // size for row in changed} | damaged
    if reopened:
        store.reopen(sorted(reopened), header)
    return store


def _damaged_shards(store: MaskStore, header: StoreHeader) -> set[int]:
    """Shards that are not as they were written, to be made anew; anything else that is damaged is refused."""
    shards = set()
    for damage in store.verify():
        if damage.shard is None:
            raise StoreError(f"{store.path} is damaged: {damage.what}; mend that, or make it anew with --overwrite.")
        log.warning("%s: %s; it is made anew", store.path, damage.what)
        shards.add(damage.shard)
    same_images = (store.image_ids, store.category_ids, store.category_names) == (
        tuple(header.image_ids),
        header.category_ids,
        header.category_names,
    )
    if store.layout == header.layout and not (same_images and np.array_equal(store.vector("tags"), header.tags)):
        raise StoreError(
            f"{store.path} is damaged: its images, classes or tags are not those that it was begun with; make it anew "
            "with --overwrite."
        )
    return shards


def _changed_images(store: MaskStore, plan: MaskPlan) -> list[int]:
    """Rows of the images that have another size than when the store was begun, or can be opened only now."""
    if store.layout.num_images != plan.layout.num_images:
        return []
    sizes = plan.images.sizes
    differ = (sizes[:, 0] != store.vector("height")) | (sizes[:, 1] != store.vector("width"))
    return [int(row) for row in np.flatnonzero(differ)]


def _require_same_images(store: MaskStore, plan: MaskPlan, changed: Sequence[int]) -> None:
    """Batches follow from the images' sizes: refuse to go on where an image that is made already has changed."""
    if changed and (problem := plan.images[changed[0]].problem):
        why = f"the image {store.image_ids[changed[0]]} could be used when it was begun, but now {problem.rstrip('.')}"
        raise StoreError(f"{store.path} cannot be gone on with: {why}; or make the store anew with --overwrite.")
    if changed or store.layout != plan.layout:
        which = f"the image {store.image_ids[changed[0]]} has" if changed else "the largest images have"
        raise StoreError(
            f"{store.path} cannot be gone on with: {which} another size now; bring the old images back, or make the "
            "store anew with --overwrite."
        )
