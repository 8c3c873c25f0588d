"""`MaskStore`: open a store, read masks from it, and (the coordinator alone) commit shards to it."""

import operator
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..disk import built_beside, sweep_partials
from ..errors import StoreError
from .opened import open_group
from .reading import ImageMasks, StoreReader, rows_of
from .schema import SHARDS_PER_VECTOR_CHUNK, Status, StoreHeader, create_group
from .seal import Damage, committed_digest, seal, unseal, verify, verify_but_shards
from .shards import ShardReceipt
from .vectors import write_rows

__all__ = ["ImageMasks", "MaskStore"]

_VECTORS = ("confidence", "agreement", "area", "fallback")


class MaskStore(StoreReader):
    """One step's masks on disk; the only home of how they are committed.

    Readers see an image's masks only when its status says done. Shards are written by
    `wilss.store.write_shard`, by any number of processes; `commit` and `seal` belong to the one process
    that holds `writer_lock`.
    """

    @classmethod
    def create(cls, path: Path, header: StoreHeader) -> "MaskStore":
        """Make an empty store, in the place of whatever `path` names. Its statuses come from the header.

        The store is built under a temporary name and renamed, so a half-made one is never seen.
        """
        with built_beside(path) as building:
            create_group(building, header)
        return cls.open(path, allow_partial=True)

    @classmethod
    def open(cls, path: Path | str, *, allow_partial: bool = False) -> "MaskStore":
        """Open a store for reading.

        Raises StoreError when there is none, when a newer wilss wrote it, or when masks are still missing
        and `allow_partial` is False.
        """
        path = Path(path)
        store = cls(path, open_group(path))
        store._check_format()
        if not allow_partial and not store.is_complete:
            raise StoreError(
                f"{path} is not complete: {len(store.pending_shards())} of {store.layout.num_shards} shards are "
                "missing; run the same `wilss-masks generate` again to go on, or pass --allow-partial."
            )
        return store

    def commit(self, *receipts: ShardReceipt) -> None:
        """Say that these shards are on disk: vectors, then digests, then status, each chunk of them written once."""
        for name in _VECTORS:
            self._write(name, receipts, operator.attrgetter(name))
        rows = [rows_of(self.layout, receipt.shard) for receipt in receipts]
        if any(any(receipt.errors) for receipt in receipts) or any(any(self._errors[one]) for one in rows):
            self._write("error", receipts, lambda receipt: np.array(receipt.errors, dtype=object))
            for receipt, one in zip(receipts, rows, strict=True):  # reading it anew would take all
                self._errors[one] = receipt.errors
        digests = [
            (slice(receipt.shard, receipt.shard + 1), np.array([committed_digest(receipt)], dtype=object))
            for receipt in receipts
        ]
        write_rows(self.path, self.layout, "shard_digest", digests)
        self._write("status", receipts, lambda receipt: receipt.status)

    def _write(
        self, name: str, receipts: Sequence[ShardReceipt], values: Callable[[ShardReceipt], NDArray[Any]]
    ) -> None:
        changes = [(rows_of(self.layout, receipt.shard), values(receipt)) for receipt in receipts]
        write_rows(self.path, self.layout, name, changes)

    def receipt(self, shard: int) -> ShardReceipt:
        """What was committed of a shard."""
        rows = rows_of(self.layout, shard)
        return ShardReceipt(
            shard=shard,
            digest=str(self._rows_of("shard_digest", slice(shard, shard + 1))[0]),
            status=self._rows_of("status", rows),
            errors=tuple(str(error) for error in self._rows_of("error", rows)),
            **{name: self._rows_of(name, rows) for name in _VECTORS},
        )

    def reopen(self, shards: Sequence[int], header: StoreHeader) -> None:
        """Take back the commit of `shards`, so that they are made anew with the sizes in `header`."""
        uncommitted = np.array([""], dtype=object)
        rows = [rows_of(self.layout, shard) for shard in shards]
        self._drop_seal()
        digests = [(slice(shard, shard + 1), uncommitted) for shard in shards]
        write_rows(self.path, self.layout, "shard_digest", digests)
        for name, values in (("height", header.heights), ("width", header.widths), ("status", header.status)):
            changes = [(one, values[one]) for one in rows]
            write_rows(self.path, self.layout, name, changes)

    def seal(self) -> None:
        """Close a store all of whose shards are committed; its attributes then hold a digest of everything."""
        pending = self.pending_shards()
        if pending:
            raise StoreError(f"{self.path} cannot be sealed: shards {list(pending)[:5]} are not committed.")
        seal(self.path, self.layout)
        self._forget()

    def verify(self) -> Iterator[Damage]:
        """Compare every byte with the store's digests; yields what is damaged, nothing when all is whole."""
        yield from verify(self.path, self.layout, self._committed())

    def verify_but_shards(self) -> Iterator[Damage]:
        """The same for metadata and vectors alone, which takes no time to speak of."""
        yield from verify_but_shards(self.path, self.layout)

    def _committed(self) -> Iterator[ShardReceipt]:
        """The receipts of all committed shards; the vectors are read a chunk at a time."""
        layout, step = self.layout, SHARDS_PER_VECTOR_CHUNK
        for first in range(0, layout.num_shards, step):
            digests = self._rows_of("shard_digest", slice(first, first + step))
            rows = slice(first * layout.shard_size, (first + step) * layout.shard_size)
            vectors = (
                {name: self._rows_of(name, rows) for name in ("status", "error", *_VECTORS)} if any(digests) else {}
            )
            for place, digest in enumerate(digests):
                own = slice(place * layout.shard_size, (place + 1) * layout.shard_size)
                if digest and Status.PENDING not in vectors["status"][own]:  # else a kill came before its status
                    errors = tuple(str(error) for error in vectors["error"][own])
                    said = {name: values[own] for name, values in vectors.items() if name != "error"}
                    yield ShardReceipt(shard=first + place, digest=str(digest), errors=errors, **said)

    def sweep(self) -> int:
        """Remove what a killed writer left unfinished; only while holding `writer_lock`."""
        return sweep_partials(self.path)

    @cached_property
    def _errors(self) -> NDArray[Any]:
        return self.vector("error").astype(object)

    def _drop_seal(self) -> None:
        if self.is_complete:
            unseal(self.path)
            self._forget()

    def _forget(self) -> None:
        """Drop what was read from disk, since the files have changed."""
        for name in ("attributes", "_arrays", "_standing", "_errors"):
            self.__dict__.pop(name, None)
        self._group = open_group(self.path)
