"""Parts of a store: any number of independent processes make it, each its shards first and then what others have left.

Shard i belongs to part i % count + 1, so neighbours, which are alike, are shared out. A process that is through with
its own takes what is left in an order that is drawn for it, looking before each whether somebody has made it. There are
no claims: one would have to expire, so a clock or a heartbeat would decide what is a matter of bytes. Two that make the
same shard lose the time of one shard, at the end, when there is nothing else to do; which of the two counts, the store
decides (`wilss.store.parts`).
"""

import logging
from collections.abc import Callable, Collection, Iterator

import numpy as np

from wilss.disk import Location, folder_at, part_lock
from wilss.errors import StoreError
from wilss.randomness import numpy_generator_for
from wilss.store import MaskStore, PartsGoneError, StoreHeader, StoreParts, seal_parts
from wilss.store.parts import create_in_parts
from wilss.store.seal import identity_of

from .made_with import differences_from, told_by_image
from .options import Options, Part
from .plan import MaskPlan
from .request import Request, kept_store
from .resume import made_otherwise
from .run import disk_errors

log = logging.getLogger(__name__)

#: How often shards that turned out damaged are made again; a disk that damages them each time is not waited for.
_MOST_ROUNDS = 3
_NAMED = 10

#: Makes shards of a store in parts, given the shards and their generations one by one; sentences of those it could not.
MakeShards = Callable[[StoreParts, Iterator[tuple[int, int]]], tuple[str, ...]]


def is_in_parts(path: Location, options: Options) -> bool:
    """Whether the store at `path` is to be made in parts: it is asked for, or others have begun so.

    Raises StoreError where one process alone could do what is asked for.
    """
    if options.part is not None:
        return True
    store = kept_store(path, options)
    if store is None or store.parts() is None:
        return False
    if options.update or options.retry_failed:
        option = "--update" if options.update else "--retry-failed"
        raise StoreError(f"{path} is being made in parts; finish it without {option}, then run the same command again.")
    return True


def begin_parts(request: Request, plan: MaskPlan) -> StoreParts:
    """The parts of the store, which is created unless somebody has. Raises StoreError where another one is there."""
    path, header = request.path, plan.header(request.attributes)
    with disk_errors(path):
        create_in_parts(path, header)
    store = MaskStore.open(path, allow_partial=True)
    if lines := differences_from(store, request.attributes, request.encoders):
        raise made_otherwise(path, told_by_image(lines, store, request.records), False)
    _require_same_images(store, header)
    parts = StoreParts.of(path, store.layout)
    if not store.is_complete:
        with disk_errors(path):
            parts.begin()
    return parts


def make_in_parts(parts: StoreParts, part: Part | None, name: str, make: MakeShards) -> tuple[str, ...]:
    """Make the shards of `part`, then all that is left, and close the store; returns what could not be made.

    part: None for a process without shards of its own. name: under which its order of what is left is drawn.
    Raises StoreError.
    """
    try:
        for _ in range(_MOST_ROUNDS):
            if lost := make(parts, shards_for(parts, part, name)):
                return lost
            with disk_errors(parts.path):
                again = seal_parts(parts.path)
            if not again:
                return ()
            log.warning("%s: %s not on disk as made; made again", parts.path, named(again))
    except PartsGoneError:
        if identity_of(folder_at(parts.path)) == (parts.identity, True):  # others were quicker
            return ()
        raise
    raise StoreError(
        f"{parts.path}: {named(again)} cannot be kept as written; look at the disk, and run the same command again."
    )


def close(path: Location) -> None:
    """Close the store at `path`, all of whose shards were made in parts; nothing where it is closed.

    Raises StoreError, naming the shards, where some are missing or not on disk as they were made.
    """
    store = MaskStore.open(path, allow_partial=True)
    if not store.is_complete and store.parts() is None:
        raise StoreError(f"{path} is not complete and not made in parts; {store.to_go_on}.")
    with part_lock(path), disk_errors(path):
        missing = seal_parts(path)
    if missing:
        damaged = sum(again > 0 for again in missing.values())
        also = f" ({damaged} of them not on disk as made)" if damaged else ""
        raise StoreError(
            f"{path} cannot be sealed: {named(missing)} of {store.layout.num_shards} still to be made{also}; run the "
            "same `wilss-masks generate` with any --part, or without: it makes what is missing and seals."
        )


def shards_for(parts: StoreParts, part: Part | None, name: str) -> Iterator[tuple[int, int]]:
    """The shards that a process is to make, one after the other, each with its generation.

    One that somebody has made by the time that it comes is left out.
    """
    taken: set[int] = set()
    store = MaskStore.open(parts.path, allow_partial=True)
    while missing := {shard: again for shard, again in store.shards_to_make().items() if shard not in taken}:
        for shard in in_order(list(missing), part, name):
            taken.add(shard)
            if not parts.has_receipt(shard, missing[shard]):
                yield shard, missing[shard]


def in_order(shards: list[int], part: Part | None, name: str) -> list[int]:
    """Shards in the order in which a part makes them: its own, ascending, then others' as drawn under `name`."""
    own = [shard for shard in shards if part is not None and shard % part.count == part.index - 1]
    others = sorted(set(shards) - set(own))
    drawn = numpy_generator_for(0, "part", name).permutation(len(others)).tolist()
    return own + [others[place] for place in drawn]


def named(shards: Collection[int]) -> str:
    """As in `shards 3, 17, 40, ...`."""
    few = ", ".join(map(str, list(shards)[:_NAMED]))
    return f"shard{'s' if len(shards) > 1 else ''} {few}{', ...' if len(shards) > _NAMED else ''}"


def _require_same_images(store: MaskStore, header: StoreHeader) -> None:
    """StoreError where an image is not to this process what it was to the one that created the store."""
    for name, values in (("height", header.heights), ("width", header.widths), ("tags", header.tags)):
        there = store.vector(name)
        differs = np.flatnonzero((there != values).reshape(len(there), -1).any(axis=1))
        if differs.size:
            what = "other labels" if name == "tags" else f"another {name} ({int(values[differs[0]])} pixels)"
            raise StoreError(
                f"{store.path} cannot be made in parts here: {store.image_ids[differs[0]]} has {what} than when the "
                "store was begun; give all parts the same data, or make the store again with another --out."
            )
    if store.layout != header.layout:
        raise StoreError(
            f"{store.path} cannot be made in parts here: its arrays have other sizes than asked for; give all parts "
            "the same data, or make the store again with another --out."
        )
