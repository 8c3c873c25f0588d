"""Commits, several shards at a time where they come fast: a commit costs the coordinator as much for ten as for one."""

import contextlib
import errno
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from wilss.errors import StoreError
from wilss.store import MaskStore, ShardReceipt

__all__ = ["Committer", "disk_errors"]

#: What is finished waits at most until the next shard comes after so long; a kill then costs so much work.
_SECONDS = 0.5


class Committer:
    """Commits shards to a store, at most twice a second. Use it as a context: at its end all are committed.

    on_shard: told of every shard once it is committed.
    """

    def __init__(self, store: MaskStore, on_shard: Callable[[ShardReceipt], None]) -> None:
        self._store, self._on_shard = store, on_shard
        self._waiting: list[ShardReceipt] = []
        self._last = -_SECONDS

    def add(self, receipt: ShardReceipt) -> None:
        """A shard that is on disk. Raises StoreError where it cannot be committed."""
        self._waiting.append(receipt)
        if time.monotonic() - self._last >= _SECONDS:
            self.flush()

    def flush(self) -> None:
        """Commit what waits. Raises StoreError."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            with disk_errors(self._store.path):
                self._store.commit(*waiting)
            self._last = time.monotonic()
        for receipt in waiting:
            self._on_shard(receipt)

    def __enter__(self) -> Self:
        """The committer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Commit what waits, also where something else went wrong; but a full disk is told once."""
        if not isinstance(error, StoreError):
            self.flush()


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn the errors of a full or forbidden disk into a sentence."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise StoreError(
            f"{path} cannot be written ({error.strerror or error}); {'free some space' if full else 'mend that'} and "
            "run the same command again (without --overwrite), it goes on where it stopped."
        ) from error
