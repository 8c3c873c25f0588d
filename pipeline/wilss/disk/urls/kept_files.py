"""A bounded cache on disk of files that were fetched: one file for each, by its URL, with the version that it is.

Any number of processes use one cache. What is there is whole (`write_atomically`), and damage is noticed by a checksum.
Where it is full, what has not been used since this process began makes room; where all of it has been, as in the epochs
of a training whose images are more than the cache holds, nothing does: a cache that always held what was read last
would have forgotten each image by the time it is asked for again.
"""

import contextlib
import functools
import hashlib
import itertools
import logging
import os
import re
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

from wilss.disk.files import PARTIAL_SUFFIX, cache_folder, write_atomically
from wilss.disk.locations import ObjectUrl
from wilss.errors import ParameterError

log = logging.getLogger("wilss")

#: How much is kept; "0" for nothing.
VARIABLE = "WILSS_DATA_CACHE"
_DEFAULT = "10 GB"
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(|[kMGT])i?B?\s*", re.IGNORECASE)
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
#: So much of a file is in memory at a time where it need not be all of it.
_PIECE = 8 << 20
#: Before the bytes of a file: length of its version, and the checksum of both.
_HEAD = struct.Struct("<II")
#: After so much of the whole was added by this process it looks what others have added.
_SHARE = 64
#: What is left where room is made.
_LEFT = 0.9
#: For so long nothing is tried again where no room could be made.
_FULL_SECONDS = 60.0


class KeptFiles:
    """The cache in a folder. limit: in bytes."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self._limit = folder, limit
        self._began = time.time()
        self._lock = threading.Lock()
        self._size: int | None = None  # of all, as far as it is known
        self._added = 0
        self._full_until = 0.0
        self._sure: set[int] = set()
        self._sure_since = 0

    def read(self, url: ObjectUrl, most: int | None = None) -> tuple[str, bytes] | None:
        """Version and bytes of what is kept; None where nothing is, it is damaged or takes more than `most`."""
        path = self._path(url)
        try:
            if most is not None and path.stat().st_size > most:
                return None
            data = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        if len(data) >= _HEAD.size:
            length, checksum = _HEAD.unpack_from(data)
            if zlib.crc32(memoryview(data)[_HEAD.size :]) == checksum:
                start = _HEAD.size + length
                return data[_HEAD.size : start].decode(), data[start:]
        self._forget(path)
        return None

    def copy(self, url: ObjectUrl, target: IO[bytes]) -> str:
        """Write what is kept to an open file, and say its version; "" where nothing is, or it is damaged."""
        path = self._path(url)
        try:
            with path.open("rb") as file:
                length, checksum = _HEAD.unpack(file.read(_HEAD.size))
                version = file.read(min(length, _PIECE))  # of a damaged head it is any number
                found = zlib.crc32(version)
                for piece in _pieces(file):
                    found = zlib.crc32(piece, found)
                    target.write(piece)
            if found != checksum:
                raise ValueError
            os.utime(path)
        except OSError:
            return ""
        except (ValueError, struct.error):
            self._forget(path)
            return ""
        return version.decode()

    def keep(self, url: ObjectUrl, version: str, data: bytes, now: int) -> None:
        """Keep a version of a file, if there is room, or some can be made."""
        self._keep(url, version.encode(), len(data), lambda: (data,), now)

    def keep_file(self, url: ObjectUrl, version: str, path: Path, now: int) -> None:
        """The same of what lies on disk, which is read piece by piece."""

        def pieces() -> Iterator[bytes]:
            with path.open("rb") as file:
                yield from _pieces(file)

        self._keep(url, version.encode(), path.stat().st_size, pieces, now)

    def _keep(self, url: ObjectUrl, version: bytes, size: int, pieces: Callable[[], Iterable[bytes]], now: int) -> None:
        path = self._path(url)
        if not self._has_room(_HEAD.size + len(version) + size):
            self._forget(path)  # a former version
            return
        try:
            checksum = functools.reduce(lambda sum_, piece: zlib.crc32(piece, sum_), pieces(), zlib.crc32(version))
            _make_private(self.folder)
            head = (_HEAD.pack(len(version), checksum), version)
            write_atomically(path, itertools.chain(head, pieces()), lasting=False)
        except OSError as error:
            _tell_once(str(self.folder), error.strerror or str(error))
            return
        self.note(url, now)

    def is_sure(self, url: ObjectUrl, now: int) -> bool:
        """Whether what is kept was what is there within `now`, a number that changes from time to time."""
        with self._lock:
            return self._sure_since == now and _number(url) in self._sure

    def doubt(self, url: ObjectUrl) -> None:
        """It is to be asked for again."""
        with self._lock:
            self._sure.discard(_number(url))

    def note(self, url: ObjectUrl, now: int) -> None:
        """What is kept is what is there."""
        with self._lock:
            if self._sure_since != now:
                self._sure, self._sure_since = set(), now
            self._sure.add(_number(url))

    # -----------------------------------------------------------------------------------------------------------

    def _path(self, url: ObjectUrl) -> Path:
        name = hashlib.sha256(str(url).encode("utf-8", "surrogatepass")).hexdigest()
        return self.folder / name[:2] / name

    def _has_room(self, size: int) -> bool:
        """Whether so many bytes more may be kept; counts them where they may."""
        with self._lock:
            if time.monotonic() < self._full_until:
                return False
            if self._size is None or self._added > self._limit // _SHARE:
                self._size, self._added = sum(size for _, size, _ in self._files()), 0
            if self._size + size > self._limit:
                self._size = self._make_room(size)
            if self._size + size > self._limit:
                self._full_until = time.monotonic() + (_FULL_SECONDS if size <= self._limit else 0.0)
                return False
            self._size += size
            self._added += size
            return True

    def _make_room(self, wanted: int) -> int:
        """Remove what was not used for the longest time; how many bytes are left."""
        files = sorted(self._files())
        left, most = sum(size for _, size, _ in files), int(self._limit * _LEFT) - wanted
        for used, size, path in files:
            if left <= most or used >= self._began:
                break
            self._forget(path)
            left -= size
        return left

    def _files(self) -> list[tuple[float, int, Path]]:
        """When it was used, size and path of each file; unfinished ones of killed writers go once they are old."""
        found = []
        for folder in self.folder.glob("??"):
            with contextlib.suppress(OSError), os.scandir(folder) as entries:
                for entry in entries:
                    with contextlib.suppress(OSError):
                        state = entry.stat()
                        if entry.name.endswith(PARTIAL_SUFFIX) and state.st_mtime > self._began:
                            continue
                        found.append((state.st_mtime, state.st_size, Path(entry.path)))
        return found

    @staticmethod
    def _forget(path: Path) -> None:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def kept_files() -> KeptFiles | None:
    """The user's cache; None where nothing is to be kept. Raises ParameterError for a wrong variable."""
    folder = cache_folder("data")
    limit = limit_of(os.environ.get(VARIABLE) or _DEFAULT)
    return None if folder is None or not limit else _at(folder, limit)


def limit_of(text: str) -> int:
    """Bytes, of "20 GB", "500 MB" or a number of them. Raises ParameterError."""
    known = _SIZE.fullmatch(text)
    if known is None:
        raise ParameterError(
            f'{VARIABLE} is {text!r}, which is no size; set e.g. {VARIABLE}="20 GB", 0 to keep nothing, or unset it.'
        )
    return int(float(known[1]) * _UNITS[known[2].lower()])


@functools.lru_cache(maxsize=8)
def _at(folder: Path, limit: int) -> KeptFiles:
    return KeptFiles(folder, limit)


def _make_private(folder: Path) -> None:
    """Others may not read what only this user's credentials fetch."""
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)


@functools.cache
def _tell_once(folder: str, why: str) -> None:
    log.warning("fetched files cannot be kept in %s (%s); they are fetched again whenever they are read", folder, why)


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(_PIECE):
        yield piece


def _number(url: ObjectUrl) -> int:
    return hash(url)
