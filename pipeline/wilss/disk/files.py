"""Writing files so that they are either whole or not there, also after the power went."""

import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from .write_points import WritePoint, at

__all__ = [
    "PARTIAL_SUFFIX",
    "append_file",
    "sweep_partials",
    "sweep_partials_of",
    "sync_file",
    "sync_folder",
    "unlink",
    "write_atomically",
]

#: zarr's own LocalStore uses the same ending for its unfinished files, so one sweep finds both kinds.
PARTIAL_SUFFIX = ".partial"
#: A name as both of them make it; what a user calls `data.partial` is the user's.
_UNFINISHED = re.compile(rf"\.[0-9a-f]{{32}}\{PARTIAL_SUFFIX}$")


def write_atomically(path: Path, data: bytes, point: WritePoint) -> None:
    """Write `data` to `path`: temporary name, fsync, rename, fsync of the folder. Raises OSError."""
    with at(point, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}{PARTIAL_SUFFIX}")
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            _forget(temporary)
            raise
        sync_folder(path.parent)


def append_file(file: BinaryIO, path: Path, data: bytes, point: WritePoint) -> None:
    """Append `data` to the unbuffered `file` that is open at `path`, all of it. Raises OSError."""
    with at(point, path):
        while data:  # an unbuffered write may take a part only
            data = data[file.write(data) :]


def unlink(path: Path, point: WritePoint) -> None:
    """Remove a file, if it is there, and let that outlive a power cut. Raises OSError."""
    with at(point, path):
        if path.exists():
            path.unlink(missing_ok=True)
            sync_folder(path.parent)


def sync_file(path: Path) -> None:
    """fsync a file that somebody else wrote, and the folder that names it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """fsync a folder, so that a rename inside it outlives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep_partials(root: Path, point: WritePoint) -> int:
    """Remove the unfinished files that a killed writer left below `root`; say how many there were."""
    return _remove_all(root, (path for path in root.rglob(f"*{PARTIAL_SUFFIX}")), point)


def sweep_partials_of(path: Path, point: WritePoint) -> int:
    """The same for one file, which nobody else may be writing. Raises OSError."""
    beside = path.parent.iterdir() if path.parent.is_dir() else iter(())
    return _remove_all(path, (one for one in beside if one.name.startswith(f"{path.name}.")), point)


def _remove_all(named: Path, candidates: Iterator[Path], point: WritePoint) -> int:
    left_over = [path for path in candidates if _UNFINISHED.search(path.name)]
    with at(point, named):
        for path in left_over:
            path.unlink(missing_ok=True)
    return len(left_over)


def _forget(temporary: Path) -> None:
    """The error that led here is the one to be told, not that of a disk that lets nothing be removed either."""
    try:
        temporary.unlink(missing_ok=True)
    except OSError:
        return
