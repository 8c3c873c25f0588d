"""What an image's masks are made of, as numbers that change when it changes: its bytes, or what its label says.

Two kinds of number. A content is a digest of what was read; it is the same on every machine. A stamp is of the sizes
and modification times of the files; it costs a look at the folder alone, and tells which contents need not be read.
"""

import dataclasses
import functools
import hashlib
import os
import stat
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from wilss.data.images import ALL_BITS
from wilss.data.layouts import CocoLabel, ImageRecord, Label
from wilss.disk import FileStates, UrlPath, threads_for
from wilss.errors import ImageError

#: What the masks of a source are made of: of images, or of their pixel labels.
MadeOf = Literal["images", "labels"]
#: The content of what cannot be read, and the stamp of what may be changed without a new one.
UNKNOWN = 0

_THREADS = 8
#: Images that a thread looks at at a time; fewer where each waits for an answer.
_AT_ONCE, _AT_ONCE_FAR = 256, 8
#: A file can be changed twice within one tick of a file system's clock (2 s on FAT), and its time tells of one change.
_TICK_NS = 2_000_000_000
_SPREAD = np.uint64(0x9E3779B97F4A7C15)


def content_of(record: ImageRecord, made_of: MadeOf) -> int:
    """64 bits of sha256 over what decides the masks of an image; UNKNOWN where that cannot be read.

    Of an image, its file and how many of 16 bits are read. Of a label, its file and what the values in it mean, or the
    shapes that a json holds.
    """
    try:
        digest = _digest_of_image(record) if made_of == "images" else _digest_of_label(record.label)
    except (OSError, ValueError, ImageError):
        return UNKNOWN
    return _number(digest)


def contents_of(records: Sequence[ImageRecord], rows: NDArray[np.integer], made_of: MadeOf) -> NDArray[np.uint64]:
    """`content_of` the records at these rows, uint64 [N]."""
    return _of_all(records, rows, lambda few: np.array([content_of(record, made_of) for record in few], np.uint64))


def stamps_of(records: Sequence[ImageRecord], rows: NDArray[np.integer], made_of: MadeOf) -> NDArray[np.uint64]:
    """A number of the sizes and times of the files of the records at these rows, uint64 [N].

    UNKNOWN where a file is missing or brand-new. The number is also of how many bits of an image are read, and of what
    a label's values mean, or of its shapes.
    """
    return _of_all(records, rows, functools.partial(_stamps_of_few, made_of=made_of, states=FileStates()))


def files_of(record: ImageRecord, made_of: MadeOf) -> tuple[Path, ...]:
    """The files whose content or size decides the masks: the image, whose size a label must have, and the label."""
    label = _label_file(record.label) if made_of == "labels" else None
    return (record.path,) if label is None else (record.path, label)


def _of_all(
    records: Sequence[ImageRecord],
    rows: NDArray[np.integer],
    function: Callable[[Sequence[ImageRecord]], NDArray[np.uint64]],
) -> NDArray[np.uint64]:
    """What `function` gives of a few records at a time, in threads: a future for each of a million takes a gigabyte."""

    def few(first: int) -> NDArray[np.uint64]:
        return function([records[row] for row in rows[first : first + at_once].tolist()])

    threads = threads_for(records[int(rows[0])].path, _THREADS) if len(rows) else 1
    at_once = _AT_ONCE if threads == _THREADS else _AT_ONCE_FAR
    with ThreadPoolExecutor(threads) as pool:
        return np.concatenate([np.empty(0, np.uint64), *pool.map(few, range(0, len(rows), at_once))])


def _stamps_of_few(records: Sequence[ImageRecord], made_of: MadeOf, states: FileStates) -> NDArray[np.uint64]:
    now = time.time_ns()
    facts = np.zeros((len(records), 5), np.uint64)
    known = np.zeros(len(records), np.bool_)
    for row, record in enumerate(records):
        try:
            numbers = [number for path in files_of(record, made_of) for number in _state_of(path, now, states)]
        except (OSError, ValueError):
            continue
        known[row] = True
        facts[row, : len(numbers)] = [number % 2**64 for number in numbers]
        if made_of == "labels" and record.label is not None:
            facts[row, -1] = _number(_meaning_of(record.label))
        elif made_of == "images":
            facts[row, -1] = ALL_BITS - record.bits
    stamps = np.ones(len(records), np.uint64)
    for column in facts.T:
        stamps = (stamps ^ column) * _SPREAD
        stamps ^= stamps >> np.uint64(31)
    return np.where(known, np.maximum(stamps, np.uint64(1)), np.uint64(UNKNOWN))


def _state_of(path: Path, now: int, states: FileStates) -> tuple[int, int]:
    """Size and time of a file, or the version of one in a bucket. Raises OSError where it is missing or brand-new."""
    if isinstance(path, UrlPath):
        version = states.of(path)
        if version is None:
            raise FileNotFoundError(path)
        return version, 0
    state = os.stat(path)
    if abs(now - state.st_mtime_ns) <= _TICK_NS:
        raise OSError
    return state.st_size, state.st_mtime_ns


def _label_file(label: Label | None) -> Path | None:
    """The file of a label that has one to itself."""
    path = getattr(label, "path", None)
    return path if isinstance(path, Path) and not isinstance(label, CocoLabel) else None


def _number(digest: bytes) -> int:
    return int.from_bytes(digest[:8], "little") or 1


def _digest_of_image(record: ImageRecord) -> bytes:
    digest = _digest_of_file(record.path)
    return digest if record.bits == ALL_BITS else hashlib.sha256(digest + bytes([record.bits])).digest()


def _digest_of_label(label: Label | None) -> bytes:
    if label is None:
        raise FileNotFoundError
    file, meaning = _label_file(label), _meaning_of(label)
    return meaning if file is None else hashlib.sha256(meaning + _digest_of_file(file)).digest()


def _meaning_of(label: Label) -> bytes:
    """sha256 of what a label says besides its file: what its values mean, or its shapes; of another kind, its ids."""
    if not dataclasses.is_dataclass(label):
        return hashlib.sha256(label.read().tobytes()).digest()
    named = ((field.name, getattr(label, field.name)) for field in dataclasses.fields(label))
    facts = tuple((name, value) for name, value in named if name not in ("path", "image_id"))
    try:
        return _digest_of_facts(facts) if _label_file(label) is None else _kept_digest(facts)
    except TypeError:  # they cannot be hashed
        return _digest_of_facts(facts)


def _digest_of_facts(facts: tuple[tuple[str, Any], ...]) -> bytes:
    return hashlib.sha256(repr(_plain(facts)).encode("utf-8", "surrogatepass")).digest()


#: The labels of a data set share what their values mean.
_kept_digest: Callable[[tuple[tuple[str, Any], ...]], bytes] = functools.lru_cache(maxsize=16)(_digest_of_facts)


def _plain(value: Any) -> Any:
    """Whatever `repr` leaves out of a dataclass."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(field.name, _plain(getattr(value, field.name))) for field in dataclasses.fields(value)]
    if isinstance(value, tuple | list):
        return [_plain(inner) for inner in value]
    if isinstance(value, np.ndarray):
        return [value.shape, value.dtype.str, value.tobytes()]
    return value


def _digest_of_file(path: Path) -> bytes:
    """sha256 of a plain file. Raises OSError, also for what is none: a pipe would be waited on for ever."""
    if isinstance(path, UrlPath):
        return hashlib.sha256(path.read_bytes()).digest()
    with open(path, "rb", opener=_without_waiting) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise FileNotFoundError(path)
        return hashlib.file_digest(file, "sha256").digest()


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)
