"""For libraries that open the files of a folder by themselves."""

import contextlib
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from wilss.disk.files import writing
from wilss.errors import StoreError

from .path import UrlPath


@contextlib.contextmanager
def copied(folder: Path, names: Iterable[str]) -> Iterator[Path]:
    """A folder on disk with files of `folder`: itself, or while the body runs a copy of these from a bucket.

    Raises OSError where one is not there, and StoreError where the server does not answer, or the folder for temporary
    files is full or may not be written.
    """
    if not isinstance(folder, UrlPath):
        yield folder
        return
    place = _temporary_folder()
    with contextlib.ExitStack() as stack:
        try:
            copy = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wilss-")))
            for name in names:
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).copy_to(copy / name)
        except (FileNotFoundError, IsADirectoryError):  # in the bucket
            raise
        except OSError:
            with writing(place, then="run the same command again, or set TMPDIR to another folder"):
                raise
        yield copy


def _temporary_folder() -> Path:
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError as error:  # it tries to write in each that it knows
        raise StoreError(
            f"there is no folder for temporary files ({error.strerror}); free some space there, or set TMPDIR to "
            "another folder."
        ) from error


@contextlib.contextmanager
def on_disk(path: Path) -> Iterator[Path]:
    """A file on disk: `path` itself, or while the body runs a copy of it from a bucket. Raises as `copied` does."""
    with copied(path.parent, [path.name]) as folder:
        yield folder / path.name
