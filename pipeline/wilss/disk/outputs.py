"""What commands that write files agree on: nothing is replaced unasked, and a full disk is a sentence."""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from wilss.errors import StoreError, WilssError

from .files import sweep_partials_of, write_atomically


def refuse_existing(path: Path, overwrite: bool, *, resumes: bool = False) -> None:
    """Raise StoreError when `path` is there and nobody said that it may be replaced.

    resumes: whether the command has a --resume, which leaves out what is made already.
    """
    if not overwrite and (path.exists() or path.is_symlink()):
        keep = "leave out what is made already with --resume, " if resumes else ""
        raise StoreError(f"{path} exists; {keep}give another path, or replace it with --overwrite.")


def write_output(path: Path, data: bytes) -> None:
    """Write a file that a user named, whole or not at all; what a killed writer left of it goes. Raises StoreError."""
    with writing(path):
        sweep_partials_of(path)
        write_atomically(path, data)


@contextlib.contextmanager
def writing(path: Path, *, raises: type[WilssError] = StoreError, then: str = "") -> Iterator[None]:
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
