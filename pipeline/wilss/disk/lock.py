"""One writer per store: a lock file beside it, never inside, where zarr would take it for a foreign node.

    step-1.zarr.lock          held by flock for as long as somebody writes; always empty; gone where no store was made
    step-1.zarr.owner.json    who that is, for those who are refused

Whoever asks for the lock holds the second file, for a moment, too. So what it says is never that of an earlier holder,
who may have been killed: the holder has written it before anybody else comes to read it.
"""

import contextlib
import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from wilss.errors import StoreError

from .locations import Location

#: Others hold the second file for less than a millisecond, unless they are stopped just then.
_PATIENCE_SECONDS = 0.5
_HELD_ELSEWHERE = (errno.EAGAIN, errno.EACCES)
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


@contextlib.contextmanager
def writer_lock(store: Path) -> Iterator[None]:
    """Hold the right to write `store`; the kernel gives it back when the process dies, however it dies.

    Raises StoreError, naming the holder's pid and host, when somebody else holds it.
    """
    try:
        held = _acquire(store)
    except OSError as error:
        raise _unwritable(store, error) from error
    try:
        yield
    finally:
        _release(store, held)


@contextlib.contextmanager
def part_lock(store: Location) -> Iterator[None]:
    """Be one of many that write `store` together, so that no single writer comes between where locks can tell.

    What they write needs no lock; where there are none, as over some networks, this one says nothing.
    Raises StoreError where a single writer is at work.
    """
    if not isinstance(store, Path):  # in a bucket, which knows no locks of this kind
        yield
        return
    try:
        held = _opened(_beside(store, "lock"))
    except OSError:
        yield
        return
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _HELD_ELSEWHERE:
                raise StoreError(
                    f"{store} is being written by {_holder(store)}, which takes no part beside it; wait until it ends, "
                    "or stop it and run the same command again."
                ) from error
        yield
    finally:
        os.close(held)


@contextlib.contextmanager
def waiting_lock(path: Path) -> Iterator[None]:
    """Hold the lock file `path`, once nobody else does; its folder is made. Raises OSError."""
    from filelock import FileLock  # takes longer to import than most commands wait for

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path):
        yield


class SharedLock:
    """A share of the lock file `path`, which any number of processes may have; given back when it is closed or lost.

    is_alone: whether nobody else had one just before; False also where the file system knows no locks. Raises OSError.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab")
        self.is_alone = _locked(self._file.fileno(), unknown=False)
        with contextlib.suppress(OSError):
            fcntl.flock(self._file, fcntl.LOCK_SH)

    def close(self) -> None:
        """Give the share back."""
        self._file.close()


def _acquire(store: Path) -> int:
    """The descriptor that holds the lock. Raises StoreError where it is held, OSError where it cannot be had."""
    with _owner_file(store) as owner:
        held = _opened(_beside(store, "lock"))
        try:
            if not _locked(held):
                raise StoreError(
                    f"{store} is being written by {_named(owner)}; wait until it ends, or give another --out."
                )
            if owner is None:
                raise StoreError(f"{_beside(store, 'owner.json')} is held by a process that stands still; end that.")
            _sign(owner)
        except BaseException:
            os.close(held)
            raise
        return held


def _release(store: Path, held: int) -> None:
    try:
        with contextlib.suppress(OSError), _owner_file(store) as owner:
            if owner is not None:  # without it nobody opens the lock file, and this may be removed
                if not store.exists():
                    _beside(store, "lock").unlink(missing_ok=True)
                _beside(store, "owner.json").unlink(missing_ok=True)
            fcntl.flock(held, fcntl.LOCK_UN)
    finally:
        os.close(held)


@contextlib.contextmanager
def _owner_file(store: Path) -> Iterator[int | None]:
    """The file that says who holds the lock, open and ours alone; None if somebody keeps it from us. Or OSError."""
    path, deadline = _beside(store, "owner.json"), time.monotonic() + _PATIENCE_SECONDS
    while True:
        file = _opened(path)
        try:
            while not (mine := _locked(file)) and time.monotonic() < deadline:
                time.sleep(0.001)
            if not mine or _is_named(file, path):
                yield file if mine else None
                return
        finally:
            os.close(file)


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)


def _locked(file: int, *, unknown: bool | None = None) -> bool:
    """Whether the lock could be had. unknown: the answer where there are no locks, instead of OSError."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD_ELSEWHERE:
            return False
        if unknown is not None and error.errno in _NO_LOCKS:
            return unknown
        raise
    return True


def _is_named(file: int, path: Path) -> bool:
    """Whether the open file still goes by this name; its last owner may have removed it meanwhile."""
    try:
        named, opened = path.stat(), os.fstat(file)
    except FileNotFoundError:
        return False
    return (named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino)


def _sign(owner: int) -> None:
    record = json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode("utf-8")
    os.ftruncate(owner, 0)
    os.pwrite(owner, record, 0)


def _named(owner: int | None) -> str:
    try:
        who = json.loads(os.pread(owner, 4096, 0)) if owner is not None else {}
        return f"process {who['pid']} on {who['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _holder(store: Path) -> str:
    """Who holds the lock, by the file beside it."""
    try:
        owner = os.open(_beside(store, "owner.json"), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return _named(None)
    try:
        return _named(owner)
    finally:
        os.close(owner)


def _unwritable(store: Path, error: OSError) -> StoreError:
    why = error.strerror or str(error)
    if error.errno in _NO_LOCKS:
        why, fix = f"its file system knows no locks: {why}", "give an --out on another file system"
    elif error.errno == errno.ENAMETOOLONG:
        fix = "give an --out with a shorter name"
    elif error.errno in (errno.ENOSPC, errno.EDQUOT):
        fix = "free some space, and run the same command again"
    elif error.errno in (errno.EISDIR, errno.ELOOP, errno.ENOTDIR):
        fix = "move away what is in the lock file's place, and run the same command again"
    else:
        fix = "change the permissions, and run the same command again"
    return StoreError(f"{store} cannot be written (its lock file {error.filename or ''}: {why}); {fix}.")


def _beside(store: Path, ending: str) -> Path:
    return store.with_name(f"{store.name}.{ending}")
