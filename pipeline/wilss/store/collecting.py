"""Closing a store that was made in parts: every receipt is compared with the files, brought into the vectors, sealed.

Any number of processes may do this at once, and be killed at any point of it: all write the same bytes, whole files at
a time, and what each of them needs is there until the seal is on disk.
"""

import time

from ..disk import Location
from ..disk.shared import sweep_shared
from ..errors import StoreError
from .parts import StoreParts, discard_parts
from .schema import SHARDS_PER_VECTOR_CHUNK
from .shards import committed_digest, digest_on_disk
from .store import MaskStore
from .writer import MaskStoreWriter

#: Somebody else who seals may replace a file between two looks at it; each file is replaced once.
_MOST_LOOKS = 3
_LOOK_SECONDS = 0.5


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
    parts = StoreParts.of(path, store.layout)
    if not store.is_complete:
        if missing := store.shards_to_make():
            return missing
        _require_sound(store)
        if damaged := _damaged(store, parts):
            return damaged
        _commit(store, parts)
    _finish(path)
    return {}


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


def _damaged(store: MaskStore, parts: StoreParts) -> dict[int, int]:
    """Shards whose files are not what was said of them; said to be so, and to be made again."""
    state, wrong = parts.state(), dict[int, int]()
    for shard in range(store.layout.num_shards):
        generation = state.generation.get(shard, 0)
        if shard in state.receipts:
            counts = parts.receipt(shard, generation)
            parts.place(counts)  # what somebody who was killed has left on its way
            files = counts.receipt.digest
        else:  # of a run before the store was made in parts
            receipt = store.receipt(shard)
            files = receipt.digest.split()[0] if committed_digest(receipt) == receipt.digest else ""
        if digest_on_disk(store.folder, store.layout, shard) != files:
            parts.void(shard, generation)
            wrong[shard] = generation + 1
    return wrong


def _commit(store: MaskStore, parts: StoreParts) -> None:
    """Bring all receipts into the vectors, a chunk of them at a time."""
    state, writer = parts.state(), MaskStoreWriter(store)
    for first in range(0, store.layout.num_shards, SHARDS_PER_VECTOR_CHUNK):
        shards = range(first, min(first + SHARDS_PER_VECTOR_CHUNK, store.layout.num_shards))
        made = [shard for shard in shards if shard in state.receipts]
        writer.commit(*(parts.receipt(shard, state.generation.get(shard, 0)).receipt for shard in made))
