"""Which classes label files hold, kept between commands: to read ten thousand of them takes half a minute.

What is kept of a file counts while its path, size and times are the same, as a store's stamps do.
"""

import contextlib
import dataclasses
import hashlib
import io
import logging
import os
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wilss.data.layouts.lists import load_array
from wilss.data.layouts.records import PngLabel
from wilss.data.layouts.spec import DataSpec
from wilss.data.taxonomy import BACKGROUND, VOID
from wilss.disk import cache_folder, write_atomically
from wilss.errors import ImageError, ManifestError, StoreError

log = logging.getLogger("wilss")

_FORM = 1  # raise it when the same key would mean something else
_MOST_ROWS = 2_000_000
#: A file that was written so lately may be written again within one tick of a file system's clock.
_TICK_NS = 2_000_000_000


class LabelClasses:
    """The classes in the label files of a data set, as far as they are known, and those that are read now.

    On disk: uint64 [N, 5], a key of path, size and times, and a bit for each of 256 ids.
    """

    def __init__(self, spec: DataSpec) -> None:
        folder = cache_folder("labels")
        meaning = repr((_FORM, str(spec.root), dataclasses.astuple(spec.label_table)))
        self._path = None if folder is None else folder / f"{hashlib.sha256(meaning.encode()).hexdigest()[:32]}.npy"
        self._known = {} if self._path is None else _read(self._path)
        self._added: dict[int, tuple[int, ...]] = {}

    def of(self, label: PngLabel) -> list[int]:
        """The ids in a label, without background and void. Raises ImageError where it cannot be read."""
        key = file_key(label.path)
        kept = None if key is None else self._known.get(key)
        if kept is not None:
            return _ids(kept)
        ids = classes_in(label.read())
        if key is not None and key == file_key(label.path):  # nobody wrote it meanwhile
            self._added[key] = _bits(ids)
        return ids

    def save(self) -> None:
        """Keep what was read, where anything can be written."""
        if not self._added or self._path is None:
            return
        rows = self._added | dict(list(self._known.items())[: _MOST_ROWS - len(self._added)])
        content = io.BytesIO()
        np.save(content, np.array([(key, *bits) for key, bits in rows.items()], np.uint64))
        with contextlib.suppress(OSError, StoreError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path, content.getvalue())


def classes_in(labels: NDArray[np.uint8]) -> list[int]:
    """The ids of a label map uint8 [H, W], ascending, without background and void."""
    counts = np.bincount(labels.ravel(), minlength=256)
    return [identity for identity in np.flatnonzero(counts).tolist() if identity not in (BACKGROUND, VOID)]


def file_key(path: Path) -> int | None:
    """64 bits of path, size and times; None where there is no such file, or it is brand-new."""
    try:
        state = os.stat(path)
    except OSError:
        return None
    if abs(time.time_ns() - state.st_mtime_ns) <= _TICK_NS:
        return None
    facts = f"{os.path.abspath(path)}\0{state.st_size}\0{state.st_mtime_ns}\0{state.st_ctime_ns}"
    return int.from_bytes(hashlib.sha256(facts.encode("utf-8", "surrogateescape")).digest()[:8], "little")


def _bits(ids: list[int]) -> tuple[int, ...]:
    number = sum(1 << identity for identity in ids)
    return tuple(number >> shift & (1 << 64) - 1 for shift in (0, 64, 128, 192))


def _ids(bits: tuple[int, ...]) -> list[int]:
    number = sum(part << 64 * place for place, part in enumerate(bits))
    return [identity for identity in range(256) if number >> identity & 1]


def _read(path: Path) -> dict[int, tuple[int, ...]]:
    """What is kept; nothing where the file is missing or damaged."""
    try:
        rows = load_array(path)
    except (ManifestError, ImageError):
        return {}
    if rows.ndim != 2 or rows.shape[1] != 5 or rows.dtype != np.uint64:
        return {}
    return {key: (a, b, c, d) for key, a, b, c, d in rows.tolist()}
