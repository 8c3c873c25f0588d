"""`UrlPath`: a place in a bucket that is read as a path on disk is.

Whatever reads data has paths, takes their names apart and opens them; all of that works here. What would need a file
on disk (writing, libraries that open files by themselves) asks for `__fspath__`, and is refused with a sentence, so
that a URL is never taken for a file that happens to be called `s3:`.
"""

import contextlib
import errno
import fnmatch
import io
import os
import posixpath
import stat
from collections.abc import Callable, Generator, Iterator
from pathlib import Path, PosixPath
from typing import IO, Any

from wilss.disk.locations import SCHEMES, ObjectUrl, is_url, location_of
from wilss.errors import ParameterError, StoreError

from . import fetching

_STARTS = tuple(f"{scheme}://" for scheme in SCHEMES)


class UrlPath(PosixPath):
    """A file or folder in a bucket. pathlib holds it as `s3:/bucket/key`; it is told and compared as a URL.

    Methods raise OSError as those of a path do, and StoreError where the server does not answer or refuses.
    """

    # ruff: noqa: D102 (what the methods do is said by `pathlib.Path`)

    def __str__(self) -> str:
        text = super().__str__()
        scheme, found, rest = text.partition(":/")
        return f"{scheme}://{rest.removeprefix('/')}" if found and scheme in SCHEMES else text

    def __repr__(self) -> str:
        return f"UrlPath({str(self)!r})"

    def __fspath__(self) -> str:
        raise StoreError(
            f"{self} lies in a bucket, and this needs a file or folder on disk; copy it to disk, or name another place."
        )

    def __rtruediv__(self, other: Any) -> "UrlPath":
        return self

    @property
    def url(self) -> ObjectUrl:
        """Where it is."""
        scheme, bucket, *names = self.parts
        return ObjectUrl(scheme.removesuffix(":"), bucket, "/".join(names))

    # -- as paths that need no links and no working folder --------------------------------------------------------

    def absolute(self) -> "UrlPath":
        return self

    def resolve(self, strict: bool = False) -> "UrlPath":
        return self

    def expanduser(self) -> "UrlPath":
        return self

    def is_absolute(self) -> bool:
        return True

    def is_symlink(self) -> bool:
        return False

    # -- what is there ------------------------------------------------------------------------------------------

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Kind, size and time of a file; of a folder its kind alone."""
        known = fetching.head(self.url)
        if known is not None:
            seconds = known["last_modified"].timestamp()
            exact = {"st_mtime": seconds, "st_mtime_ns": int(seconds * 1_000_000_000)}
            return os.stat_result((stat.S_IFREG | 0o444, 0, 0, 1, 0, 0, known["size"], *[int(seconds)] * 3), exact)
        if fetching.is_folder(self.url):
            return os.stat_result((stat.S_IFDIR | 0o555, 0, 0, 1, 0, 0, 0, 0, 0, 0))
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self))

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        return self.is_file() or self.is_dir()

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        return fetching.head(self.url) is not None

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return fetching.is_folder(self.url)

    def iterdir(self) -> Generator["UrlPath", None, None]:
        folders, files = fetching.folder(self.url)
        yield from (self / name for name in (*folders, *files))

    def glob(self, pattern: str) -> Generator["UrlPath", None, None]:  # type: ignore[override,unused-ignore]
        """Of one level alone: `*.json`."""
        yield from (path for path in self.iterdir() if fnmatch.fnmatchcase(path.name, pattern))

    def rglob(self, pattern: str) -> Generator["UrlPath", None, None]:  # type: ignore[override,unused-ignore]
        """The files below whose name fits; no folders."""
        for name in fetching.below(self.url):
            if fnmatch.fnmatchcase(posixpath.basename(name), pattern):
                yield self / name

    # -- what it holds ------------------------------------------------------------------------------------------

    def open(self, mode: str = "r", *arguments: Any, **options: Any) -> IO[Any]:  # type: ignore[override]
        """For reading: the whole file, in memory."""
        if set(mode) - set("rbt"):
            self.__fspath__()
        data = io.BytesIO(self.read_bytes())
        return data if "b" in mode else io.TextIOWrapper(data, *arguments[1:], **options)

    def open_kept(self) -> IO[bytes]:
        """As `open`, of a file that is read again and again, and was there when it was asked for minutes ago."""
        return io.BytesIO(self._bytes(fetching.read_kept))

    def open_in_pieces(self) -> IO[bytes]:
        """For reading the beginning of a file that may be large."""
        with self._looked_for():
            return fetching.opened(self.url)

    def read_bytes(self) -> bytes:
        return self._bytes(fetching.read)

    def copy_to(self, target: Path) -> None:
        """Write the whole file to `target` on disk, without all of it in memory."""
        with self._looked_for():
            fetching.copy_to(self.url, target)

    def _bytes(self, read: Callable[[ObjectUrl], bytes]) -> bytes:
        with self._looked_for():
            return read(self.url)

    @contextlib.contextmanager
    def _looked_for(self) -> Iterator[None]:
        """Say of what is not there whether it is a folder."""
        try:
            yield
        except FileNotFoundError:
            if fetching.is_folder(self.url):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(self)) from None
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self)) from None


def data_path(place: str | Path) -> Path:
    """Where data lie that a user names: a path, or the URL of a place in a bucket, or of the whole of one.

    Raises ParameterError for a URL of another kind, or with credentials.
    """
    if isinstance(place, UrlPath):
        return place
    location = location_of(place, whole_bucket=True)
    return location if isinstance(location, Path) else path_of(str(location))


def path_of(text: str) -> Path:
    """A path from what `str` made of one."""
    return UrlPath(text) if text.startswith(_STARTS) else Path(text)


def joined(base: Path, name: str) -> Path:
    """`name` from the folder `base`, unless it is absolute or a URL. Raises ParameterError."""
    if is_url(name):
        return data_path(name)
    return Path(name) if name.startswith("/") else base / name


def seen_from(place: Path, folder: Path) -> str:
    """How a place is called in a file that lies in `folder`: relative to it on one disk or bucket, else as it is."""
    if isinstance(place, UrlPath) and isinstance(folder, UrlPath) and place.parts[:2] == folder.parts[:2]:
        return posixpath.relpath("/".join(place.parts), "/".join(folder.parts))
    if isinstance(place, UrlPath) or isinstance(folder, UrlPath):
        return str(place.absolute())
    return os.path.relpath(place.absolute(), folder.absolute())


def absolute(base: Path, name: str) -> Path:
    """The same without `.` and `..`; links are left as they are. Raises ParameterError."""
    place = joined(base, name)
    if not isinstance(place, UrlPath):
        return Path(os.path.normpath(place))
    scheme, bucket, *names = place.parts
    inside = posixpath.normpath("/".join(names)) if names else "."
    if inside.startswith(".."):
        raise ParameterError(f"{place} leads out of its bucket; write the whole URL.")
    return UrlPath(scheme, bucket, inside)
