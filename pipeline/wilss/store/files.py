"""Writing files so that they are either whole or not there, also after the power went."""

import os
import uuid
from pathlib import Path

__all__ = ["PARTIAL_SUFFIX", "sweep_partials", "sync_file", "sync_folder", "write_atomically"]

#: zarr's own LocalStore uses the same ending for its unfinished files, so one sweep finds both kinds.
PARTIAL_SUFFIX = ".partial"


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to `path`: temporary name, fsync, rename, fsync of the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}{PARTIAL_SUFFIX}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
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


def sweep_partials(root: Path) -> int:
    """Remove the unfinished files that a killed writer left below `root`; say how many there were."""
    left_over = list(root.rglob(f"*{PARTIAL_SUFFIX}"))
    for path in left_over:
        path.unlink(missing_ok=True)
    return len(left_over)
