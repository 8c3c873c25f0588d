"""For libraries that open the files of a folder by themselves."""

import contextlib
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

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
            Path(copy, name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).copy_to(Path(copy, name))
        yield Path(copy)


@contextlib.contextmanager
def on_disk(path: Path) -> Iterator[Path]:
    """A file on disk: `path` itself, or while the body runs a copy of it from a bucket. Raises as `copied` does."""
    with copied(path.parent, [path.name]) as folder:
        yield folder / path.name
