"""`MaskStoreWriter`: what the one process that holds `writer_lock` does to a store."""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..disk import Folder, Location, folder_at
from ..errors import StoreError
from .arrays import write_rows
from .creation import create_group
from .parts import discard_parts
from .schema import StoreHeader
from .seal import seal, unseal
from .shards import RECEIPT_VECTORS, ShardReceipt, committed_digest
from .store import MaskStore


class MaskStoreWriter:
    """Commits shards to a store; the shards themselves are written by `write_shard`, by any number of processes.

    Methods raise OSError where the disk does. store: for reading, as it is now.
    """

    def __init__(self, store: MaskStore) -> None:
        self.store = store
        self.path, self.folder, self._layout = store.path, store.folder, store.layout

    @classmethod
    def create(cls, place: Location | Folder, header: StoreHeader) -> "MaskStoreWriter":
        """Make an empty store, in the place of whatever `place` names. Its statuses come from the header.

        The store is built under another name and takes this one at the end, so a half-made one is never seen.
        """
        folder = folder_at(place)
        with folder.built_beside() as building, building.drafted() as draft:
            create_group(draft, header)
            discard_parts(folder.location)  # of the store that was here
        return cls(MaskStore.open(folder.location, allow_partial=True))

    def commit(self, *receipts: ShardReceipt) -> None:
        """Say that these shards are on disk: vectors, then digests, then status, each chunk of them written once."""
        for name in (*RECEIPT_VECTORS, "content") if self._layout.has_content else RECEIPT_VECTORS:
            self._write(name, receipts, operator.attrgetter(name))
        self._write("error", receipts, lambda receipt: np.array(receipt.errors, dtype=object))
        self._write_digests({receipt.shard: committed_digest(receipt) for receipt in receipts})
        self._write("status", receipts, operator.attrgetter("status"))

    def reopen(self, shards: Sequence[int], header: StoreHeader) -> None:
        """Take back the commit of `shards`, so that they are made again with the sizes in `header`."""
        if self.store.is_complete:
            unseal(self.folder)
            self._read_again()
        self._write_digests(dict.fromkeys(shards, ""))
        for name, values in (("height", header.heights), ("width", header.widths), ("status", header.status)):
            changes = [(rows, values[rows]) for rows in map(self._layout.row_slice, shards)]
            write_rows(self.folder, self._layout, name, changes)

    def seal(self) -> None:
        """Close a store all of whose shards are committed; its attributes then hold a digest of everything."""
        pending = self.store.pending_shards()
        if pending:
            raise StoreError(f"{self.path} cannot be sealed: shards {list(pending)[:5]} are not committed.")
        seal(self.folder, self._layout)
        self._read_again()

    def sweep(self) -> int:
        """Remove what a killed writer left unfinished; how many files there were."""
        return self.folder.sweep()

    def _write(
        self, name: str, receipts: Sequence[ShardReceipt], values: Callable[[ShardReceipt], NDArray[Any]]
    ) -> None:
        changes = [(self._layout.row_slice(receipt.shard), values(receipt)) for receipt in receipts]
        write_rows(self.folder, self._layout, name, changes)

    def _write_digests(self, digests: Mapping[int, str]) -> None:
        changes = [(slice(shard, shard + 1), np.array([digest], dtype=object)) for shard, digest in digests.items()]
        write_rows(self.folder, self._layout, "shard_digest", changes)

    def _read_again(self) -> None:
        self.store = MaskStore.open(self.path, allow_partial=True)
