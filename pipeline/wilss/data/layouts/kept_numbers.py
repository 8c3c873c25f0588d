"""A few numbers of each of many files, kept between commands: to read ten thousand of them takes half a minute.

What is kept of a file counts while its path, size and times are the same, as a store's stamps do.
"""

import contextlib
import hashlib
import io
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from wilss.data.layouts.lists import load_array
from wilss.disk import FileStates, UrlPath, cache_folder, state_now, write_atomically
from wilss.errors import ImageError, ManifestError, StoreError

_MOST_ROWS = 2_000_000
#: A file that was written so lately may be written again within one tick of a file system's clock.
_TICK_NS = 2_000_000_000

Numbers = tuple[int, ...]


class KeptNumbers:
    """Numbers of files, as far as they are known, and those that are made now; may be asked by several threads.

    On disk: uint64 [N, 1 + width], a key of path, size and times, and the numbers.
    """

    def __init__(self, folder: str, meaning: str, width: int) -> None:
        """folder: of the cache. meaning: all on which the numbers depend beside the file. width: how many there are."""
        cache = cache_folder(folder)
        name = hashlib.sha256(meaning.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        self._path = None if cache is None else cache / f"{name}.npy"
        self._known = {} if self._path is None else _read(self._path, width)
        self._added: dict[int, Numbers] = {}
        self._states = FileStates()

    def of(self, path: Path, make: Callable[[], Numbers]) -> Numbers:
        """What is kept of a file; else what `make` makes of it, whose errors are passed on."""
        key = _url_key(path, self._states.of(path)) if isinstance(path, UrlPath) else _file_key(path)
        if key is not None and (kept := self._known.get(key)) is not None:
            return kept
        numbers = make()
        now = _url_key(path, state_now(path)) if isinstance(path, UrlPath) else _file_key(path)
        if key is not None and key == now:  # nobody wrote it meanwhile
            self._added[key] = numbers
        return numbers

    def save(self) -> None:
        """Keep what was made, where anything can be written."""
        added = self._added.copy()
        if not added or self._path is None:
            return
        rows = added | dict(list(self._known.items())[: _MOST_ROWS - len(added)])
        content = io.BytesIO()
        np.save(content, np.array([(key, *numbers) for key, numbers in rows.items()], np.uint64))
        with contextlib.suppress(OSError, StoreError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path, content.getvalue())


def _file_key(path: Path) -> int | None:
    """64 bits of path, size and times; None where there is no such file, or it is brand-new."""
    try:
        state = os.stat(path)
    except OSError:
        return None
    if abs(time.time_ns() - state.st_mtime_ns) <= _TICK_NS:
        return None
    return _hashed(f"{os.path.abspath(path)}\0{state.st_size}\0{state.st_mtime_ns}\0{state.st_ctime_ns}")


def _url_key(path: Path, state: int | None) -> int | None:
    """The same of a file in a bucket, whose state is another one for another version."""
    return None if state is None else _hashed(f"{path}\0{state}")


def _hashed(facts: str) -> int:
    return int.from_bytes(hashlib.sha256(facts.encode("utf-8", "surrogateescape")).digest()[:8], "little")


def _read(path: Path, width: int) -> dict[int, Numbers]:
    """What is kept; nothing where the file is missing or damaged."""
    try:
        rows = load_array(path)
    except (ManifestError, ImageError):
        return {}
    if rows.ndim != 2 or rows.shape[1] != 1 + width or rows.dtype != np.uint64:
        return {}
    return {row[0]: tuple(row[1:]) for row in rows.tolist()}
