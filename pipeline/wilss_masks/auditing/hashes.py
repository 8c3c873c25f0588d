"""Digests and perceptual hashes of many images, kept between commands: a hundred thousand are read in many minutes.

They are written every so many images, so that an audit that was killed resumes where it stopped.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wilss.data.images import ALL_BITS, read_image
from wilss.data.layouts import ImageRecord
from wilss.data.layouts.kept_numbers import KeptNumbers, Numbers
from wilss.equations.duplicates import PICTURE, TURNS, frequencies, variants
from wilss.errors import ImageError
from wilss.process import map_in_threads

_FORM = 1  # raise it when the same file would give other numbers
_SAVED_EVERY = 2_000
#: Of the pictures whose pixels are compared.
COMPARED = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class Hashes:
    """Of N images: digests of their decoded pixels, uint64 [N, 2], and hashes in all TURNS, uint64 [N, 8].

    known: bool [N]. failed: image id -> why it could not be read.
    """

    digests: NDArray[np.uint64]
    turns: NDArray[np.uint64]
    known: NDArray[np.bool_]
    failed: dict[str, str]


def numbers_of(image: NDArray[np.uint8]) -> Numbers:
    """128 bits of sha256 over size and pixels of an image uint8 [H, W, 3], then its hash in every turn."""
    digest = hashlib.sha256(repr(image.shape).encode() + np.ascontiguousarray(image).tobytes()).digest()
    low = frequencies(np.asarray(_small(image, "L", PICTURE), np.float64))
    return (*(int.from_bytes(digest[at : at + 8], "little") for at in (0, 8)), *variants(low).tolist())


def small_picture(record: ImageRecord) -> NDArray[np.uint8]:
    """uint8 [COMPARED, COMPARED, 3]: an image brought to a square, each pixel the mean of what it covers."""
    return np.asarray(_small(read_image(record.path, record.bits), "RGB", COMPARED))


def _small(image: NDArray[np.uint8], mode: str, side: int) -> Image.Image:
    return Image.fromarray(image).resize((side, side), Image.Resampling.BOX).convert(mode)


def hashes_of(
    records: Sequence[ImageRecord],
    *,
    threads: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Hashes:
    """Digests and hashes of these images, whatever the number of threads; what was read before is not read again."""
    where = sorted({str(record.path.absolute().parent) for record in records})
    kept = {bits: _kept(where, bits) for bits in {record.bits for record in records}}

    def row_of(record: ImageRecord) -> Numbers | ImageError:
        try:
            return kept[record.bits].of(record.path, lambda: numbers_of(read_image(record.path, record.bits)))
        except ImageError as error:
            return error

    digests, turns = np.zeros((len(records), 2), np.uint64), np.zeros((len(records), len(TURNS)), np.uint64)
    known, failed = np.zeros(len(records), np.bool_), dict[str, str]()
    progress(0, len(records))
    for place, row in enumerate(map_in_threads(row_of, records, threads)):
        if isinstance(row, ImageError):
            failed[records[place].image_id] = str(row)
        else:
            digests[place], turns[place], known[place] = row[:2], row[2:], True
        if (place + 1) % _SAVED_EVERY == 0:
            _save(kept)
        progress(place + 1, len(records))
    _save(kept)
    return Hashes(digests=digests, turns=turns, known=known, failed=failed)


def _kept(folders: Sequence[str], bits: int) -> KeptNumbers:
    """What is kept of the images in these folders, where `bits` of their 16 are read."""
    meaning = (_FORM, folders) if bits == ALL_BITS else (_FORM, folders, bits)
    return KeptNumbers("audit", repr(meaning), 2 + len(TURNS))


def _save(kept: Mapping[int, KeptNumbers]) -> None:
    for each in kept.values():
        each.save()
