"""Closing a store that was made in parts: every receipt is compared with the files, brought into the vectors, sealed.

Any number of processes may do this at once, and be killed at any point of it: all write the same bytes, whole files at
a time, and what each of them needs is there until the seal is on disk.
"""

import time
from collections.abc import Mapping
from functools import partial

from ..disk import Location
from ..disk.shared import sweep_shared
from ..errors import StoreError
from ..process import map_in_threads
from .parts import StoreParts, discard_parts
from .schema import SHARDS_PER_VECTOR_CHUNK
from .shards import committed_digest, digest_on_disk
from .store import MaskStore
from .writer import MaskStoreWriter

#: Somebody else who seals may replace a file between two looks at it; each file is replaced once.
_MOST_LOOKS = 3
_LOOK_SECONDS = 0.5
_THREADS = 8
#: Of so few shards that a listing does not know it is asked whether it came late.
_MOST_ASKED = 1000


def seal_parts(path: Location) -> dict[int, int]:
    """Close the store at `path`, all of whose shards are made; nothing where it is closed.

    Returns the shards that are missing, or are not as their receipts say, as `MaskStore.shards_to_make` does; the store
    is then not sealed. Raises StoreError where something else is damaged; OSError.
    """
    try:
        return _sealed(path)
    except (OSError, StoreError):
        if MaskStore.open(path, allow_partial=True).is_complete:  # others were quicker, and swept behind themselves
            return {}
        raise


def _sealed(path: Location) -> dict[int, int]:
    store = MaskStore.open(path, allow_partial=True)
    if not store.is_complete:
        parts = StoreParts.of(path, store.layout)
        receipts, missing = _found(store, parts)
        if missing:
            return missing
        _require_sound(store)
        if damaged := _damaged(store, parts, receipts):
            return damaged
        _commit(store, parts, receipts)
    _finish(path)
    return {}


def _found(store: MaskStore, parts: StoreParts) -> tuple[dict[int, int], dict[int, int]]:
    """The shards that have a receipt, and those that have none and are to be made; each with its generation."""
    state = parts.state()
    generation, listed = state
    missing = store.shards_to_make(state)
    made = [*listed]
    if len(missing) <= _MOST_ASKED:
        made += [shard for shard, again in missing.items() if parts.has_receipt(shard, again)]
    receipts = {shard: generation.get(shard, 0) for shard in sorted(made)}
    return receipts, {shard: again for shard, again in missing.items() if shard not in receipts}


def _finish(path: Location) -> None:
    writer = MaskStoreWriter(MaskStore.open(path, allow_partial=True))
    if not writer.store.is_complete:
        writer.seal()
    writer.sweep()
    discard_parts(path)
    sweep_shared(path)


def _require_sound(store: MaskStore) -> None:
    """StoreError where anything but a shard is damaged, which would be sealed in."""
    for look in range(_MOST_LOOKS):
        damages = [damage.what for damage in store.verify_but_shards()]
        if not damages:
            return
        if look < _MOST_LOOKS - 1:
            time.sleep(_LOOK_SECONDS)
    raise StoreError(f"{store.path} is damaged: {damages[0]}; fix that, or make it again with --overwrite.")


def _damaged(store: MaskStore, parts: StoreParts, receipts: Mapping[int, int]) -> dict[int, int]:
    """Shards whose files are not what was said of them; said to be so, and to be made again."""
    shards = range(store.layout.num_shards)
    wholes = map_in_threads(partial(_is_whole, store, parts, receipts), shards, _THREADS)
    wrong = {shard: receipts.get(shard, 0) for shard, is_whole in zip(shards, wholes, strict=True) if not is_whole}
    for shard, generation in wrong.items():
        parts.void(shard, generation)
    return {shard: generation + 1 for shard, generation in wrong.items()}


def _is_whole(store: MaskStore, parts: StoreParts, receipts: Mapping[int, int], shard: int) -> bool:
    if shard not in receipts:  # of a run before the store was made in parts
        receipt = store.receipt(shard)
        files = receipt.digest.split()[0] if committed_digest(receipt) == receipt.digest else ""
        return digest_on_disk(store.folder, store.layout, shard) == files
    counts = parts.receipt(shard, receipts[shard])
    if digest_on_disk(store.folder, store.layout, shard) == counts.receipt.digest:
        return True
    parts.place(counts)  # what somebody who was killed has left on its way
    return digest_on_disk(store.folder, store.layout, shard) == counts.receipt.digest


def _commit(store: MaskStore, parts: StoreParts, receipts: Mapping[int, int]) -> None:
    """Bring all receipts into the vectors, a chunk of them at a time."""
    writer, count = MaskStoreWriter(store), store.layout.num_shards
    for first in range(0, count, SHARDS_PER_VECTOR_CHUNK):
        made = [shard for shard in range(first, min(first + SHARDS_PER_VECTOR_CHUNK, count)) if shard in receipts]
        read = map_in_threads(lambda shard: parts.receipt(shard, receipts[shard]).receipt, made, _THREADS)
        writer.commit(*read)
