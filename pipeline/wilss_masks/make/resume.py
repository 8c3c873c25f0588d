"""Whether a store can be begun, resumed or kept, and what of it is made again.

A store that is there may be of the very request (`is_of`); of the same but for its images, which an update carries
over; or of something else, which is refused with the difference. `compatible` tells them apart.
"""

import dataclasses
import logging
import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wilss.data.layouts import Records
from wilss.data.names import NameIndex
from wilss.disk import Location, folder_at, is_there
from wilss.errors import StoreError
from wilss.store import MaskStore, MaskStoreWriter, Status, StoreHeader, seal_parts
from wilss.store.changes import Comparison, compare, keep_stamps
from wilss.store.parts import left_of_parts

from ..sources.fmwiss_params import CONFIDENCE_OF
from .features import kept_options
from .made_with import differences_from, told_by_image
from .options import Options
from .plan import MaskPlan
from .request import Request, kept_store
from .run import disk_errors
from .update import UPDATABLE, updated

log = logging.getLogger(__name__)


def compatible(request: Request) -> MaskStore | None:
    """The store that is there, None if there is none, or it is to be overwritten, or nothing was ever made in it.

    Raises StoreError, with the difference, when it was made with something else.
    """
    store = kept_store(request.path, request.options)
    if store is None:
        return None
    lines = differences_from(store, request.attributes, request.encoders)
    if lines and _holds_nothing(store):
        return None
    of_images_alone = all(re.split(r"[.:]", line)[0] in UPDATABLE for line in lines)
    if lines and not (request.options.update and of_images_alone):
        if of_images_alone and (comparison := _compared(store, request)) is not None and comparison.changed.size:
            lines.append(comparison.sentence(request.records))
        raise made_otherwise(store.path, told_by_image(lines, store, request.records), of_images_alone)
    return store


def is_of(store: MaskStore, request: Request) -> bool:
    """Whether a store that is `compatible` is of the very images that are asked for."""
    return not differences_from(store, request.attributes, request.encoders)


@dataclass(frozen=True, kw_only=True)
class StoreCheck:
    """What was found of the store of a request, before its lock is taken.

    is_done: nothing is to be made. digest: of a complete store whose images or labels were compared with what its masks
    were made of, and comparison: what became of them, so that they are read once.
    """

    is_done: bool = False
    digest: str = ""
    comparison: Comparison | None = None


def check_store(request: Request) -> StoreCheck:
    """Whether nothing is to be made; a store of which that holds is finished where a kill came before its last touch.

    Raises StoreError where it was made with something else, something of it has changed, or it is damaged; of masks
    only what is small is looked at.
    """
    store = compatible(request)
    if store is None or not is_of(store, request) or not is_finished(store, request.options):
        return StoreCheck()
    if left_of_parts(request.path):  # whoever sealed it was killed before the last touch
        seal_parts(request.path)
    if request.options.part is not None:  # each of many processes would read all images
        require_whole(store)
        return StoreCheck(is_done=True)
    comparison, has_changed = require_compared(store, request)
    if not has_changed:
        require_whole(store)
        if comparison is not None:
            keep_stamps(store, comparison.stamps)
    return StoreCheck(is_done=not has_changed, digest=store.digest, comparison=comparison)


def require_compared(
    store: MaskStore, request: Request, check: StoreCheck = StoreCheck()
) -> tuple[Comparison | None, bool]:
    """What became of what a store's masks were made of, None if it does not know; and whether some are made again.

    check: of just now. Raises StoreError where an image or label has changed and nobody asked for an update.
    """
    is_known = store.is_complete and store.digest == check.digest
    comparison = check.comparison if is_known else _compared(store, request)
    if comparison is None:
        return None, request.options.update and not store.layout.has_content
    if comparison.changed.size and not request.options.update:
        raise made_otherwise(store.path, [comparison.sentence(request.records)], True)
    return comparison, bool(comparison.changed.size)


def _compared(store: MaskStore, request: Request) -> Comparison | None:
    rows = NameIndex(Records.of(request.records).ids()).find_all(store.image_ids)
    return compare(store, request.records, rows, every_byte=request.options.check_digests)


def made_otherwise(path: Location, lines: Sequence[str], of_images_alone: bool) -> StoreError:
    """That a store was made with something else, line by line. of_images_alone: whether an update would do."""
    also = "; --update keeps what is the same" if of_images_alone else ""
    return StoreError(
        f"{path} was made with something else:\n"
        + "\n".join(f"  {line}" for line in lines)
        + f"\nGive another --out, or make it again with --overwrite{also}."
    )


def keeping_what_is_kept(path: Location, options: Options) -> Options:
    """A store that keeps scores or features is resumed as it was begun, also when nobody asks for them again."""
    store = kept_store(path, options)
    if store is None:
        return options
    kept = store.attributes.get("keep")
    scores = options.keep_scores or (isinstance(kept, list) and "scores" in kept)
    return kept_options(store, dataclasses.replace(options, keep_scores=scores))


def keeping_confidences(request: Request, attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """A complete store of an older version is left alone though its confidences are of another kind (`CONFIDENCE_OF`).

    Not where some of its masks are to be made again, which would have others than the rest.
    """
    options = request.options
    if CONFIDENCE_OF not in attributes or options.update or options.retry_failed:
        return attributes
    store = kept_store(request.path, options)
    if store is None or not store.is_complete or CONFIDENCE_OF in store.attributes:
        return attributes
    return {name: value for name, value in attributes.items() if name != CONFIDENCE_OF}


def _holds_nothing(store: MaskStore) -> bool:
    """Whether no shard was ever committed, so that nothing is lost when it is begun again."""
    return not any(store.vector("shard_digest"))


def create_or_resume(request: Request, plan: MaskPlan, check: StoreCheck = StoreCheck()) -> MaskStoreWriter:
    """The store of a request, ready for the shards that are missing. Raises StoreError when it cannot be resumed.

    check: see `require_compared`.
    """
    path = request.path
    with disk_errors(path):
        folder_at(path).settle()
        if is_there(path):
            store = MaskStore.open(path, allow_partial=True)  # refuses to throw away what is no mask store
            if not request.options.overwrite and not _holds_nothing(store):
                comparison, has_changed = require_compared(store, request, check)
                if comparison is not None and not has_changed:
                    keep_stamps(store, comparison.stamps)
                if has_changed or not is_of(store, request):
                    store = updated(store, plan, request.attributes, comparison)
                return _resume(MaskStoreWriter(store), plan, request)
        return MaskStoreWriter.create(path, plan.header(request.attributes))


def is_finished(store: MaskStore, options: Options) -> bool:
    """Whether there is nothing left to make."""
    return store.is_complete and not (options.retry_failed and Status.FAILED in store.vector("status"))


def require_whole(store: MaskStore) -> None:
    """StoreError where a complete store is damaged in anything but its shards, which are not read."""
    for damage in store.verify_but_shards():
        raise StoreError(f"{store.path} is complete but damaged: {damage.what}; make it again with --overwrite.")


def failed_shards(store: MaskStore, options: Options) -> set[int]:
    """The shards of images that failed, where these are tried again."""
    failed = np.flatnonzero(store.vector("status") == Status.FAILED) if options.retry_failed else np.array([], np.intp)
    return {*(failed // store.layout.shard_size).tolist()}


def require_writable(path: Location) -> None:
    """Find out now, not after an hour, that the folder, or the store in it, cannot be written."""
    try:
        folder_at(path).require_writable()
    except OSError as error:
        raise StoreError(
            f"{error.filename} cannot be written ({error.strerror}); give another --out, or change its permissions."
        ) from error


def _resume(writer: MaskStoreWriter, plan: MaskPlan, request: Request) -> MaskStoreWriter:
    """Resume a store; shards that are to be made again take the images as they are now."""
    writer.sweep()
    store, header = writer.store, plan.header(request.attributes)
    damaged = _damaged_shards(store, header)
    size, pending = plan.layout.shard_size, {*store.pending_shards(), *damaged}
    failed = failed_shards(store, request.options)
    made_again = pending | failed
    changed = _changed_images(store, plan)
    _require_same_images(store, plan, [row for row in changed if row // size not in made_again])
    reopened = failed | {row // size for row in changed} | damaged
    if reopened:
        writer.reopen(sorted(reopened), header)
    return writer


def _damaged_shards(store: MaskStore, header: StoreHeader) -> set[int]:
    """Shards that are not as they were written, to be made again; anything else that is damaged is refused."""
    shards = set()
    for damage in store.verify():
        if damage.shard is None:
            raise StoreError(f"{store.path} is damaged: {damage.what}; fix that, or make it again with --overwrite.")
        log.warning("%s: %s; it is made again", store.path, damage.what)
        shards.add(damage.shard)
    same_images = _are_same(store.image_ids, header.image_ids) and (store.category_ids, store.category_names) == (
        header.category_ids,
        header.category_names,
    )
    if store.layout == header.layout and not (same_images and np.array_equal(store.vector("tags"), header.tags)):
        raise StoreError(
            f"{store.path} is damaged: its images, classes or tags are not those that it was begun with; make it again "
            "with --overwrite."
        )
    return shards


def _are_same(names: Sequence[str], others: Sequence[str]) -> bool:
    return len(names) == len(others) and all(map(operator.eq, names, others))


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
        raise StoreError(f"{store.path} cannot be resumed: {why}; or make the store again with --overwrite.")
    if changed or store.layout != plan.layout:
        which = f"the image {store.image_ids[changed[0]]} has" if changed else "the largest images have"
        raise StoreError(
            f"{store.path} cannot be resumed: {which} another size now; bring the old images back, or make the "
            "store again with --overwrite."
        )
