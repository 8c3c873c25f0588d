"""What commands that write files agree on: nothing is replaced unasked, and a full disk is a sentence."""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from wilss.disk import sweep_partials_of, write_atomically
from wilss.errors import StoreError

__all__ = ["refuse_existing", "write_output", "writing"]


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raise StoreError when `path` is there and nobody said that it may be replaced."""
    if not overwrite and (path.exists() or path.is_symlink()):
        raise StoreError(f"{path} exists; give another path, or replace it with --overwrite.")


def write_output(path: Path, data: bytes) -> None:
    """Write a file that a user named, whole or not at all; what a killed writer left of it goes. Raises StoreError."""
    with writing(path):
        sweep_partials_of(path)
        write_atomically(path, data)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the errors of a full, missing or forbidden place into a StoreError that names `path`."""
    try:
        yield
    except OSError as error:
        mend = "free some space" if error.errno == errno.ENOSPC else "give a path that can be written"
        raise StoreError(f"{path} cannot be written ({error.strerror or error}); {mend}.") from error
