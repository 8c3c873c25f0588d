"""The places at which wilss writes to disk, each with a name.

Every write lies inside `at`, which says what is being written and where. Nothing is done with it in a run; the tests
of faults ask `point_of` at every operation on a file, break the disk at a point of their choice, and fail where a
write belongs to none. zarr writes from threads of its own, so a write belongs to a point by its path.
"""

import contextlib
import os
import threading
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

__all__ = ["WritePoint", "at", "point_of"]


class WritePoint(StrEnum):
    """What is written. A new kind of write begins with a line here."""

    STORE_LOCK = "store.lock"
    STORE_PROBE = "store.probe"
    STORE_CREATE = "store.create"
    STORE_SHARD = "store.shard"
    STORE_COMMIT = "store.commit"
    STORE_REOPEN = "store.reopen"
    STORE_SEAL = "store.seal"
    STORE_SWEEP = "store.sweep"
    STORE_DISCARD = "store.discard"
    STORE_FUSE = "store.fuse"
    STORE_UPDATE = "store.update"
    RUN_FOLDER = "run.folder"
    RUN_CLEAR = "run.clear"
    RUN_IDENTITY = "run.identity"
    RUN_LOG = "run.log"
    RUN_CURVES = "run.curves"
    RUN_DONE = "run.done"
    STATE = "state"
    STATE_PRUNE = "state.prune"
    CHECKPOINT = "checkpoint"
    LABELLER = "labeller"
    MEMORY_BANK = "memory.bank"
    REPORT = "report"
    RESULT = "result"
    EXPORT = "export"
    MANIFEST = "manifest"
    MANIFEST_LOCK = "manifest.lock"
    SUPPORTS = "supports"
    BUILT_IN_DATA = "built-in data"
    TEXT_CACHE = "text cache"


_GUARD = threading.Lock()
_AT_WORK: list[tuple[WritePoint, Path]] = []


@contextlib.contextmanager
def at(point: WritePoint, path: Path) -> Iterator[None]:
    """Say that `path`, with what is below it or below its name with an ending, is being written."""
    entry = (point, _absolute(path))
    with _GUARD:
        _AT_WORK.append(entry)
    try:
        yield
    finally:
        with _GUARD:
            _AT_WORK.remove(entry)


def point_of(path: Path | str) -> WritePoint | None:
    """At which point `path` is being written now, the last entered where there are several; None for none."""
    asked = _absolute(Path(path))
    with _GUARD:
        return next((point for point, named in reversed(_AT_WORK) if _belongs(asked, named)), None)


def _belongs(path: Path, named: Path) -> bool:
    """Also folders above, which are made, and fsynced, for what lies in them."""
    if named == path or path in named.parents:
        return True
    if named.parent not in path.parents:
        return False
    name = path.relative_to(named.parent).parts[0]
    return name == named.name or name.startswith(f"{named.name}.")


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))
