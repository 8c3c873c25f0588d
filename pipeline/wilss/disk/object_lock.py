"""One writer per store in a bucket, which has no locks: an object beside it, created only if there is none.

    step-1.zarr.lock          who writes: process, host, and a name that no other writer has

Its holder writes it again every few seconds, as a sign of life. Whoever finds it may take it over

* at once, where it says that a process of this very machine holds it that is gone;
* else once the server's clock says that there was no sign of life for `STALE_SECONDS`.

Taking over is a conditional write as well, so of several who want to one does. A holder that was stopped for so long,
or could not reach the server, learns it from its next sign of life, and writes nothing more (`require_right`).
"""

import contextlib
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

from wilss.errors import StoreError

from .buckets import Bucket
from .locations import ObjectUrl

log = logging.getLogger(__name__)

#: Without a sign of life for so long, a holder on another machine is taken to be gone.
STALE_SECONDS = 120.0
_BEAT_SECONDS = 15.0

#: Stores of which this process held the lock and has it no more.
_LOST: set[ObjectUrl] = set()


@contextlib.contextmanager
def object_lock(bucket: Bucket, store: ObjectUrl) -> Iterator[None]:
    """Hold the right to write `store`. Raises StoreError, naming the holder, where somebody else has it."""
    holder = _Holder(bucket, store)
    holder.take()
    _LOST.discard(store)
    beating = threading.Thread(target=holder.beat, name="wilss-lock", daemon=True)
    beating.start()
    try:
        yield
    finally:
        holder.stopped.set()
        beating.join()
        holder.release()


def require_right(store: ObjectUrl) -> None:
    """Raise StoreError where this process held the lock of a store and has lost it."""
    for lost in _LOST:
        if store == lost or store.key.startswith(f"{lost.key}."):
            raise StoreError(
                f"{lost} may be written by another process now: this one gave no sign of life for "
                f"{STALE_SECONDS:.0f} s (it was stopped, or the server could not be reached). What is done is kept; "
                "run the same command again."
            )


class _Holder:
    def __init__(self, bucket: Bucket, store: ObjectUrl) -> None:
        self._bucket, self._store, self._key = bucket, store, f"{store.key}.lock"
        self._who = {"id": uuid.uuid4().hex, "pid": os.getpid(), "host": socket.gethostname(), "process": _process()}
        self._data, self._e_tag, self._seen = b"", "", time.monotonic()
        self.stopped = threading.Event()

    def take(self) -> None:
        now = self._bucket.now(self._store.key)
        self._data = self._signed()
        while not self._bucket.create(self._key, self._data):
            known = self._bucket.head(self._key)
            if known is None:  # it has just been given back
                continue
            with contextlib.suppress(FileNotFoundError):
                holder, quiet = _read(self._bucket.get(self._key)), (now - known["last_modified"]).total_seconds()
                if quiet < STALE_SECONDS and not _is_gone(holder):
                    raise StoreError(self._held(holder, quiet))
                log.warning("%s: %s is gone; its lock is taken over", self._store, _named(holder))
                if self._bucket.replace(self._key, self._data, str(known["e_tag"])):
                    break
            now = self._bucket.now(self._store.key)
        self._note()

    def beat(self) -> None:
        """Give signs of life until `stopped` is set, or the lock is lost."""
        while not self.stopped.wait(_BEAT_SECONDS):
            data = self._signed()
            try:
                kept = self._bucket.replace(self._key, data, self._e_tag)
                if kept:
                    self._data = data
                    self._note()
            except StoreError:
                kept = time.monotonic() - self._seen < STALE_SECONDS
            if not kept:
                _LOST.add(self._store)
                return

    def release(self) -> None:
        """Give the lock back, unless it is another's. What cannot be removed now is taken over by the next writer."""
        with contextlib.suppress(StoreError, FileNotFoundError):
            if _read(self._bucket.get(self._key)).get("id") == self._who["id"]:
                self._bucket.delete([self._key])

    def _note(self) -> None:
        known = self._bucket.head(self._key)
        self._e_tag, self._seen = str(known["e_tag"]) if known else "", time.monotonic()

    def _signed(self) -> bytes:
        return json.dumps({**self._who, "beat": uuid.uuid4().hex}).encode()

    def _held(self, holder: dict[str, Any], quiet: float) -> str:
        return (
            f"{self._store} is being written by {_named(holder)} (last sign of life {max(quiet, 0):.0f} s ago); wait "
            f"until it ends, or give another --out. If it is gone, the same command goes on {STALE_SECONDS:.0f} s "
            f"after its last sign of life, or at once when {self._store}.lock is removed."
        )


def _read(data: bytes) -> dict[str, Any]:
    try:
        holder = json.loads(data)
    except ValueError:
        return {}
    return holder if isinstance(holder, dict) else {}


def _named(holder: dict[str, Any]) -> str:
    return f"process {holder.get('pid', '?')} on {holder.get('host', 'another machine')}"


def _is_gone(holder: dict[str, Any]) -> bool:
    """Whether a process of this machine is meant that runs no more."""
    mine, its = _process(), holder.get("process")
    if not mine or not isinstance(its, list) or len(its) != len(mine) or its[:2] != mine[:2]:
        return False
    return _process(int(holder["pid"])) != its


def _process(pid: int | None = None) -> list[str]:
    """What no other process has: machine since it was started, its space of process numbers, when it began; or []."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
        with open(f"/proc/{pid or os.getpid()}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
        return [boot, os.readlink("/proc/self/ns/pid"), fields[19]]
    except (OSError, IndexError):
        return []
