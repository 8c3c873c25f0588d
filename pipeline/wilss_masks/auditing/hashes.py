"""Digests and perceptual hashes of many images, kept between commands: a hundred thousand are read in many minutes.

What is kept of a file counts while its path, size and times are the same. It is written every so many images, so that
an audit that was killed resumes where it stopped.
"""

import contextlib
import hashlib
import io
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wilss.data.images import read_image
from wilss.data.layouts import ImageRecord
from wilss.data.layouts.label_classes import file_key
from wilss.data.layouts.lists import load_array
from wilss.disk import cache_folder, write_atomically
from wilss.equations.duplicates import PICTURE, TURNS, frequencies, variants
from wilss.errors import ImageError, ManifestError, StoreError
from wilss.threads import map_in_threads

log = logging.getLogger("wilss_masks")

_FORM = 1  # raise it when the same file would give other numbers
_SAVED_EVERY = 2_000
_MOST_ROWS = 2_000_000
#: Of the pictures whose pixels are compared.
COMPARED = 64

Row = tuple[int, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Hashes:
    """Of N images: digests of their decoded pixels, uint64 [N, 2], and hashes in all TURNS, uint64 [N, 8].

    known: bool [N]. failed: image id -> why it could not be read.
    """

    digests: NDArray[np.uint64]
    turns: NDArray[np.uint64]
    known: NDArray[np.bool_]
    failed: dict[str, str]


def numbers_of(image: NDArray[np.uint8]) -> Row:
    """128 bits of sha256 over size and pixels of an image uint8 [H, W, 3], then its hash in every turn."""
    digest = hashlib.sha256(repr(image.shape).encode() + np.ascontiguousarray(image).tobytes()).digest()
    low = frequencies(np.asarray(_small(image, "L", PICTURE), np.float64))
    return (*(int.from_bytes(digest[at : at + 8], "little") for at in (0, 8)), *variants(low).tolist())


def small_picture(path: Path) -> NDArray[np.uint8]:
    """uint8 [COMPARED, COMPARED, 3]: an image brought to a square, each pixel the mean of what it covers."""
    return np.asarray(_small(read_image(path), "RGB", COMPARED))


def _small(image: NDArray[np.uint8], mode: str, side: int) -> Image.Image:
    return Image.fromarray(image).resize((side, side), Image.Resampling.BOX).convert(mode)


def hashes_of(
    records: Sequence[ImageRecord],
    *,
    threads: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Hashes:
    """Digests and hashes of these images, whatever the number of threads; what was read before is not read again."""
    kept = _Kept(records)
    digests, turns = np.zeros((len(records), 2), np.uint64), np.zeros((len(records), len(TURNS)), np.uint64)
    known, failed = np.zeros(len(records), np.bool_), dict[str, str]()
    progress(0, len(records))
    for place, row in enumerate(map_in_threads(kept.of, records, threads)):
        if isinstance(row, ImageError):
            failed[records[place].image_id] = str(row)
        else:
            digests[place], turns[place], known[place] = row[:2], row[2:], True
        if (place + 1) % _SAVED_EVERY == 0:
            kept.save()
        progress(place + 1, len(records))
    kept.save()
    return Hashes(digests=digests, turns=turns, known=known, failed=failed)


class _Kept:
    """What is known of files by path, size and times; on disk uint64 [N, 11], a key and `numbers_of`."""

    def __init__(self, records: Sequence[ImageRecord]) -> None:
        folder = cache_folder("audit")
        where = sorted({str(record.path.absolute().parent) for record in records})
        name = hashlib.sha256(repr((_FORM, where)).encode("utf-8", "surrogateescape")).hexdigest()[:32]
        self._path = None if folder is None else folder / f"{name}.npy"
        self._known = {} if self._path is None else _read(self._path)
        self._added: dict[int, Row] = {}

    def of(self, record: ImageRecord) -> Row | ImageError:
        key = file_key(record.path)
        if key is not None and (kept := self._known.get(key)) is not None:
            return kept
        try:
            row = numbers_of(read_image(record.path))
        except ImageError as error:
            return error
        if key is not None and key == file_key(record.path):  # nobody wrote it meanwhile
            self._added[key] = row
        return row

    def save(self) -> None:
        """Keep what was read, where anything can be written."""
        added = self._added.copy()
        if not added or self._path is None:
            return
        rows = added | dict(list(self._known.items())[: _MOST_ROWS - len(added)])
        content = io.BytesIO()
        np.save(content, np.array([(key, *rows[key]) for key in rows], np.uint64))
        with contextlib.suppress(OSError, StoreError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path, content.getvalue())


def _read(path: Path) -> dict[int, Row]:
    """What is kept; nothing where the file is missing or damaged."""
    try:
        rows = load_array(path)
    except (ManifestError, ImageError):
        return {}
    if rows.ndim != 2 or rows.shape[1] != 3 + len(TURNS) or rows.dtype != np.uint64:
        return {}
    return {row[0]: tuple(row[1:]) for row in rows.tolist()}
