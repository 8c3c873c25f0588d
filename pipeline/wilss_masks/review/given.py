"""Files that somebody names on the command line: what is wrong with one is said of it, and not of the manifest."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from wilss.errors import ManifestError, StoreError

_Content = TypeVar("_Content")


def read_given(path: Path, read: Callable[[Path], _Content]) -> _Content:
    """What `read` reads of a file. Raises StoreError where it is not there, or no text."""
    if not path.exists():
        raise StoreError(f"{path} is not there; correct the path.")
    try:
        return read(path)
    except ManifestError as error:
        raise StoreError(str(error)) from None
