"""One writer per store: a lock file beside it, never inside, where zarr would take it for a foreign node."""

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import filelock

from ..errors import StoreError

__all__ = ["writer_lock"]


@contextlib.contextmanager
def writer_lock(store: Path) -> Iterator[None]:
    """Hold the right to write `store`; the kernel gives it back when the process dies, however it dies.

    Raises StoreError, naming the holder's pid and host, when somebody else holds it.
    """
    lock = filelock.FileLock(_beside(store, "lock"), timeout=0)
    owner = _beside(store, "owner.json")
    try:
        lock.acquire()
    except filelock.Timeout:
        raise StoreError(
            f"{store} is being written by {_describe(owner)}; wait until it ends, or give another --out."
        ) from None
    except OSError as error:
        raise _unwritable(store, error) from error
    try:
        try:
            owner.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}), encoding="utf-8")
        except OSError as error:
            raise _unwritable(store, error) from error
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


def _unwritable(store: Path, error: OSError) -> StoreError:
    return StoreError(
        f"{store} cannot be written (its lock file: {error.strerror or error}); free some space or change the folder's "
        "permissions, and run the same command again."
    )


def _beside(store: Path, ending: str) -> Path:
    return store.with_name(f"{store.name}.{ending}")


def _describe(owner: Path) -> str:
    try:
        who = json.loads(owner.read_text(encoding="utf-8"))
        return f"process {who['pid']} on {who['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
