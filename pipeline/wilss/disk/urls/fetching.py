"""What is asked of buckets by those who read data there.

What was fetched is kept in memory (a little) and on disk (`kept_files`). Whoever must know what is there now asks the
server each time, which sends a file only if it is another one than what is kept (`read`). Whoever reads the images of a
run takes for ten minutes what was there when it was asked for last (`read_kept`): an image is read once for its digest
and once to be decoded, and in every epoch of a training.
"""

import functools
import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from wilss.disk.buckets import Bucket
from wilss.disk.kept import KeptBytes
from wilss.disk.locations import ObjectUrl

from .kept_files import kept_files

#: What is kept in memory, so that an image whose digest is taken and that is then decoded is there for both.
_MEMORY = 64 << 20
#: For how long what was fetched is what is there.
_SECONDS = 600
#: Where the header of an image ends, mostly.
_PIECE = 1 << 16


def head(url: ObjectUrl) -> dict[str, Any] | None:
    """What the server knows of a file: e_tag, last_modified, size; None where there is none."""
    return _bucket(url).head(url.key) if url.key else None


def folder(url: ObjectUrl) -> tuple[list[str], list[str]]:
    """The names of the folders and of the files in a folder, each in order; none where there is no such folder."""
    folders, files = _bucket(url).folder(url.key)
    return sorted(folders), sorted(str(file["path"]).rpartition("/")[2] for file in files)


def files(url: ObjectUrl) -> Iterator[dict[str, Any]]:
    """What the server knows of each file in a folder; the key is its `path`."""
    yield from _bucket(url).folder(url.key)[1]


def below(url: ObjectUrl) -> Iterator[str]:
    """The names of all files below a folder, in order."""
    start = len(url.key) + 1 if url.key else 0
    yield from sorted(key[start:] for key, _ in _bucket(url).list(url.key))


def is_folder(url: ObjectUrl) -> bool:
    """Whether there is anything below."""
    return _bucket(url).has_any(url.key)


def read(url: ObjectUrl) -> bytes:
    """A whole file as it is now. Raises FileNotFoundError."""
    _memory().drop([(_now(), url)])
    if (known := kept_files()) is not None:
        known.doubt(url)
    return read_kept(url)


def read_kept(url: ObjectUrl) -> bytes:
    """A whole file as it was within ten minutes. Raises FileNotFoundError."""
    now = _now()
    try:
        return _memory().get((now, url), lambda: _fetched(url, now))
    except FileNotFoundError:
        _memory().drop([(now, url)])  # it may come
        raise


def copy_to(url: ObjectUrl, target: Path) -> None:
    """Write a whole file as it is now to `target`, piece by piece: it may be larger than memory.

    Raises FileNotFoundError where there is none, OSError where the disk does.
    """
    now, known = _now(), kept_files()
    with target.open("w+b") as file:
        kept = "" if known is None else known.copy(url, file)
        e_tag = _bucket(url).download(url.key, file, kept)
    if known is not None and e_tag is None:
        known.note(url, now)
    elif known is not None and e_tag:
        known.keep_file(url, e_tag, target, now)


def opened(url: ObjectUrl) -> IO[bytes]:
    """A file of which a part is read: its beginning, and what else is asked for. Raises FileNotFoundError."""
    known = kept_files()
    if known is not None and known.is_sure(url, _now()) and (data := known.read(url, _MEMORY)) is not None:
        return io.BytesIO(data[1])
    first, size, e_tag = _bucket(url).beginning(url.key, _PIECE)
    if len(first) == size:
        if known is not None and e_tag:
            known.keep(url, e_tag, first, _now())
        return io.BytesIO(first)
    return io.BufferedReader(_Pieces(url, first, size, e_tag), _PIECE)


def _fetched(url: ObjectUrl, now: int) -> bytes:
    known = kept_files()
    if known is None:
        return _bucket(url).get(url.key)
    e_tag, kept = known.read(url) or ("", b"")
    if e_tag and known.is_sure(url, now):
        return kept
    data, e_tag = _bucket(url).get_unless(url.key, e_tag)
    if data is None:
        known.note(url, now)
        return kept
    if e_tag:
        known.keep(url, e_tag, data, now)
    return data


class _Pieces(io.RawIOBase):
    """One version of a file, fetched piece by piece as it is read."""

    def __init__(self, url: ObjectUrl, first: bytes, size: int, e_tag: str) -> None:
        self._url, self._first, self._size, self._e_tag, self._at = url, first, size, e_tag, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        end = min(self._at + len(buffer), self._size)
        if self._at >= end:
            return 0
        if end <= len(self._first):
            data = self._first[self._at : end]
        else:
            data = _bucket(self._url).piece(self._url.key, self._at, end, self._e_tag)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def _now() -> int:
    return int(time.time() // _SECONDS)


def _bucket(url: ObjectUrl) -> Bucket:
    return Bucket(url)


@functools.cache
def _memory() -> KeptBytes:
    return KeptBytes(_MEMORY)
