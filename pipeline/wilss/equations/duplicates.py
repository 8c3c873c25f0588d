"""Pictures that are the same but for compression, size and turning: perceptual hashes, and pairs of them that are near.

The hash is the sign of an image's low frequencies (C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash
Functions", 2010). Pairs are found by parts of the hash that are equal or differ in one bit (multi-index hashing,
Norouzi et al., CVPR 2012), so that no two images are compared that share no part.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

#: Sides of the picture that is hashed, and of the square of its frequencies.
PICTURE, SIDE = 32, 8
#: What may have been done to a copy, in the order of `variants`.
TURNS = (
    "as it is", "mirrored", "upside down", "turned by 180 degrees",
    "transposed", "turned by 90 degrees to the left", "turned by 90 degrees to the right", "mirrored and transposed",
)  # fmt: skip
_BANDS, _BAND_BITS = 4, 16
#: Two hashes that differ in no more than so many bits share a band that differs in one bit at most.
RADIUS = 2 * _BANDS - 1
_AT_ONCE = 1 << 20
_ONES = np.array([bin(value).count("1") for value in range(256)], np.uint8)


def frequencies(grey: NDArray[Any]) -> NDArray[np.float64]:
    """The lowest frequencies of a picture, [SIDE, SIDE]: the corner of its DCT-II (orthonormal).

    grey: [PICTURE, PICTURE], any range.
    """
    return np.asarray(dctn(np.asarray(grey, np.float64), norm="ortho")[:SIDE, :SIDE])


def hash_of(low: NDArray[np.float64]) -> int:
    """64 bits: bit SIDE * row + column says whether a frequency is above the median of all but the first.

    low: [SIDE, SIDE]. The first, the mean brightness, is never set. Returns an int in [0, 2^63).
    """
    values = low.ravel()
    bits = values > np.median(values[1:])
    bits[0] = False
    return int(np.packbits(bits, bitorder="little").view("<u8")[0])


def variants(low: NDArray[np.float64]) -> NDArray[np.uint64]:
    """The hashes of a picture in all TURNS, uint64 [8], from its frequencies [SIDE, SIDE] alone.

    Mirroring changes the sign of every odd frequency along that axis; transposing transposes.
    """
    odd = (-1.0) ** np.arange(SIDE)
    both = []
    for base in (low, low.T):
        both += [base, base * odd[None, :], base * odd[:, None], base * np.outer(odd, odd)]
    # of the transposed: itself; its mirror image is a turn to the right, upside down a turn to the left
    order = (0, 1, 2, 3, 4, 6, 5, 7)
    return np.array([hash_of(both[place]) for place in order], np.uint64)


def turned(picture: NDArray[np.uint8], turn: int) -> NDArray[np.uint8]:
    """A picture [H, W, ...] in the turn of that place of TURNS."""
    swapped = picture.swapaxes(0, 1) if turn >= 4 else picture
    rows, columns = ((1, 1), (1, -1), (-1, 1), (-1, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))[turn]
    return swapped[::rows, ::columns]


def distances(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> NDArray[np.int64]:
    """In how many bits hashes differ, [N] and [N] to [N]; each in [0, 64]."""
    differing = np.ascontiguousarray(one ^ other)
    if hasattr(np, "bitwise_count"):  # numpy 2
        counts: NDArray[np.uint8] = np.bitwise_count(differing)
        return counts.astype(np.int64)
    return np.asarray(_ONES[differing.view(np.uint8).reshape(-1, 8)].sum(axis=1), np.int64)


def close_pairs(hashes: NDArray[np.uint64], asked: NDArray[np.uint64], radius: int) -> NDArray[np.int64]:
    """Pairs (i, j) whose hashes[i] and asked[j] differ in at most `radius` bits, int64 [P, 2], sorted.

    hashes: uint64 [N]. asked: uint64 [M]. radius: at most RADIUS. Memory grows with the pairs, not with N * M.
    """
    if not 0 <= radius <= RADIUS:
        raise ValueError(f"radius is {radius}; it is from 0 to {RADIUS}.")
    found = [np.empty((0, 2), np.int64)]
    for band in range(_BANDS):
        keys, wanted = _band(hashes, band), _band(asked, band)
        order = np.argsort(keys, kind="stable")
        ends = np.cumsum(np.bincount(keys, minlength=1 << _BAND_BITS))
        starts = np.concatenate([[0], ends[:-1]])
        for flip in (0, *(1 << bit for bit in range(_BAND_BITS))):
            for rows, columns in _expanded(order, starts[wanted ^ flip], ends[wanted ^ flip]):
                near = distances(hashes[rows], asked[columns]) <= radius
                found.append(np.stack([rows[near], columns[near]], axis=1))
    return np.unique(np.concatenate(found), axis=0)


def _band(hashes: NDArray[np.uint64], band: int) -> NDArray[np.int64]:
    """Every fourth bit, so that each band has low and high frequencies; int64 [N] in [0, 2^16)."""
    bits = np.unpackbits(np.ascontiguousarray(hashes, "<u8").view(np.uint8).reshape(-1, 8), axis=1, bitorder="little")
    return np.packbits(bits[:, band::_BANDS], axis=1, bitorder="little").view("<u2")[:, 0].astype(np.int64)


def _expanded(
    order: NDArray[np.int64], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """(row, column) of every pair that shares a band, a bounded number at a time."""
    counts = ends - starts
    total = np.cumsum(counts)
    first = 0
    while first < len(counts):
        done = total[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(total, done + _AT_ONCE, "right")))
        few = counts[first:last]
        columns = np.repeat(np.arange(first, last), few)
        within = np.arange(len(columns)) - np.repeat(np.cumsum(few) - few, few)
        yield order[starts[columns] + within], columns
        first = last


def difference(one: NDArray[np.uint8], other: NDArray[np.uint8], cells: int = 8) -> float:
    """How far two pictures of the same size are apart where they differ most, in [0, 1].

    one, other: uint8 [S, S, 3], S a multiple of `cells`. The greatest mean absolute difference of cells x cells
    squares, once the mean colour of each picture is taken off: a copy that is lighter is still a copy, and two pictures
    of one ground with different things on it are not.
    """
    centred = [picture.astype(np.float64) - picture.mean(axis=(0, 1)) for picture in (one, other)]
    size = one.shape[0] // cells
    apart = np.abs(centred[0] - centred[1]).mean(axis=2).reshape(cells, size, cells, size)
    return float(apart.mean(axis=(1, 3)).max() / 255)
