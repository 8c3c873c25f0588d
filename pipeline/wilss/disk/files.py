"""Writing files so that they are either whole or not there, also after a power cut."""

import os
import re
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

#: zarr's own LocalStore uses the same ending for its unfinished files, so one sweep finds both kinds.
PARTIAL_SUFFIX = ".partial"
#: A name as both of them make it; what a user calls `data.partial` is the user's.
_UNFINISHED = re.compile(rf"\.[0-9a-f]{{32}}\{PARTIAL_SUFFIX}$")


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to `path`: temporary name, fsync, rename, fsync of the folder. Raises OSError."""
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


def require_writable(folder: Path) -> None:
    """Raise OSError unless files can be made in `folder`; none is left there."""
    with tempfile.TemporaryFile(dir=folder):
        pass


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
