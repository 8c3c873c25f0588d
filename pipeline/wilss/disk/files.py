"""Writing files and folders so that they are whole or not there, also after a power cut.

Most functions raise OSError; those about a path that a user named (`write_output`, `writing`) raise a sentence.
"""

import contextlib
import errno
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

from wilss.errors import StoreError, WilssError

from .locations import Location

#: zarr's own LocalStore uses the same ending for its unfinished files, so one sweep finds both kinds.
PARTIAL_SUFFIX = ".partial"
#: A name as both of them make it; what a user calls `data.partial` is the user's.
_UNFINISHED = re.compile(rf"\.[0-9a-f]{{32}}\{PARTIAL_SUFFIX}$")
BUILDING_SUFFIX = ".building"
_BLOCK = 1 << 20
FORMER_SUFFIX = ".former"


def write_atomically(path: Path, data: bytes | Iterable[bytes], *, lasting: bool = True) -> None:
    """Write `data` to `path`: temporary name, fsync, rename, fsync of the folder, which is made. Raises OSError.

    data: all of it, or its pieces in order.
    lasting: False for what may be lost or damaged by a power cut, which is not waited for.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _require_replaceable(path)
    write_into(path, data, lasting=lasting)


def write_into(path: Path, data: bytes | Iterable[bytes], *, lasting: bool = True) -> None:
    """Write `data` to `path` whole or not at all. FileNotFoundError where its folder is gone, which is not made."""
    temporary = _finished(path, data, lasting=lasting)
    try:
        temporary.replace(path)
    except BaseException:
        _forget(temporary)
        raise
    if lasting:
        sync_folder(path.parent)


def create_if_absent(path: Path, data: bytes) -> bool:
    """Write `data` to `path` unless somebody has; whether it was this call. FileNotFoundError where its folder is gone.

    The file gets its name when it is finished, so whoever sees it sees all of it.
    """
    temporary = _finished(path, data)
    try:
        try:
            os.link(temporary, path)
            is_mine = True
        except FileExistsError:
            is_mine = temporary.stat().st_nlink > 1  # an NFS server did it, its answer was lost, and it was asked again
    finally:
        _forget(temporary)
    sync_folder(path.parent)
    return is_mine


def _finished(path: Path, data: bytes | Iterable[bytes], *, lasting: bool = True) -> Path:
    """A temporary file beside `path` that holds `data`, fsynced if it is to be lasting."""
    temporary = own_name(path, PARTIAL_SUFFIX)
    try:
        with temporary.open("wb") as file:
            for piece in (data,) if isinstance(data, bytes) else data:
                file.write(piece)
            file.flush()
            if lasting:
                os.fsync(file.fileno())
    except BaseException:
        _forget(temporary)
        raise
    return temporary


def own_name(path: Path, suffix: str) -> Path:
    """A name beside `path` that nobody else takes."""
    return path.with_name(f"{path.name}.{uuid.uuid4().hex}{suffix}")


class AppendedFile:
    """A file that is only ever appended to; made if it is not there. All methods raise OSError."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def append(self, data: bytes) -> None:
        """Append all of `data`, at once."""
        while data:  # an unbuffered write may take a part only
            data = data[self._file.write(data) :]

    def sync(self) -> None:
        """Put on disk what was appended."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; nothing can be appended after."""
        self._file.close()


def require_writable(folder: Path, room: int = 0) -> None:
    """Raise OSError unless files can be made in `folder`, and one of `room` bytes; none is left there.

    It is written, since free space says nothing of a quota.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        for first in range(0, room, _BLOCK):
            file.write(bytes(min(_BLOCK, room - first)))
        file.flush()


def unlink(path: Path) -> None:
    """Remove a file, if it is there, and let that outlive a power cut. Raises OSError."""
    if path.exists():
        path.unlink(missing_ok=True)
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """fsync a folder, so that a rename inside it outlives a power cut."""
    sync(folder, os.O_DIRECTORY)


def sync(path: Path, flags: int = 0) -> None:
    """fsync one file or folder. flags: with which it is opened."""
    descriptor = os.open(path, os.O_RDONLY | flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep_partials(root: Path) -> int:
    """Remove the unfinished files that a killed writer left below `root`; say how many there were."""
    return _remove_all(root.rglob(f"*{PARTIAL_SUFFIX}"))


def sweep_partials_of(path: Path) -> int:
    """The same for one file, which nobody else may be writing. Raises OSError."""
    beside = path.parent.iterdir() if path.parent.is_dir() else iter(())
    return _remove_all(sibling for sibling in beside if sibling.name.startswith(f"{path.name}."))


@contextlib.contextmanager
def built_beside(path: Path) -> Iterator[Path]:
    """A name beside `path` to build a folder under; it becomes `path` at the end, by a rename, once it is on disk.

    What had the name before goes then, or stays where the body raises. A kill between the two renames leaves the
    former folder under another name; the next call brings it back first.
    """
    building, former = (path.with_name(f"{path.name}{ending}") for ending in (BUILDING_SUFFIX, FORMER_SUFFIX))
    path.parent.mkdir(parents=True, exist_ok=True)
    _require_replaceable(path)
    settle(path)
    try:
        yield building
        sync_tree(building)
        if path.exists():
            path.rename(former)
        building.rename(path)
        sync_folder(path.parent)
    finally:
        settle(path)


def _require_replaceable(path: Path) -> None:
    """OSError for a device, a pipe or a socket: renaming onto it would take it from everybody else on the machine."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, "it is neither a file nor a folder", str(path))


def settle(path: Path) -> None:
    """Undo what a killed `built_beside` left: bring the former folder back where none has the name, remove the rest."""
    building, former = (path.with_name(f"{path.name}{ending}") for ending in (BUILDING_SUFFIX, FORMER_SUFFIX))
    if former.exists() and not path.exists():
        former.rename(path)
    for left_over in (building, former):
        remove_tree(left_over)


def make_folder(path: Path) -> None:
    """Make `path` and the folders above it, if they are not there. Raises OSError."""
    path.mkdir(parents=True, exist_ok=True)


def remove_tree(path: Path) -> None:
    """Remove a folder; what cannot be removed stays, and is no error."""
    shutil.rmtree(path, ignore_errors=True)


def sync_tree(path: Path) -> None:
    """fsync every file and folder of a tree, for what zarr wrote without doing so."""
    for folder, _, files in os.walk(path):
        for name in files:
            sync(Path(folder, name))
        sync_folder(Path(folder))


def write_output(path: Path, data: bytes) -> None:
    """Write a file that a user named, whole or not at all; what a killed writer left of it goes. Raises StoreError."""
    with writing(path):
        sweep_partials_of(path)
        write_atomically(path, data)


@contextlib.contextmanager
def writing(path: Location, *, raises: type[WilssError] = StoreError, then: str = "") -> Iterator[None]:
    """Turn the errors of a full, missing or forbidden place into a sentence that names `path` and says how to fix it.

    then: how to resume, for work that is kept; without it, the user is asked for another path.
    """
    try:
        yield
    except OSError as error:
        fix = f"fix that and {then}" if then else "give a path that can be written"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            fix = f"free some space and {then}" if then else "free some space"
        raise raises(f"{path} cannot be written ({error.strerror or error}); {fix}.") from error


def cache_folder(kind: str) -> Path | None:
    """The folder of one kind of things: in `WILSS_CACHE`, else the user's cache folder; None without a home."""
    if named := os.environ.get("WILSS_CACHE"):
        return Path(named).expanduser() / kind
    with contextlib.suppress(RuntimeError):
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Path(base) / "wilss" / kind
    return None


def _remove_all(candidates: Iterator[Path]) -> int:
    left_over = [path for path in candidates if _UNFINISHED.search(path.name)]
    for path in left_over:
        path.unlink(missing_ok=True)
    return len(left_over)


def _forget(temporary: Path) -> None:
    """The error that led here is the one to be told, not that of a disk that lets nothing be removed either."""
    try:
        temporary.unlink(missing_ok=True)
    except OSError:
        return
