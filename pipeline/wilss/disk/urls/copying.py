"""For libraries that open the files of a folder by themselves."""

import contextlib
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from wilss.disk.files import write_atomically

from .path import UrlPath


@contextlib.contextmanager
def copied(folder: Path, names: Iterable[str]) -> Iterator[Path]:
    """A folder on disk with files of `folder`: itself, or while the body runs a copy of these from a bucket.

    Raises OSError, and StoreError where the server does not answer.
    """
    if not isinstance(folder, UrlPath):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="wilss-") as copy:
        for name in names:
            write_atomically(Path(copy, name), (folder / name).read_bytes(), lasting=False)
        yield Path(copy)
