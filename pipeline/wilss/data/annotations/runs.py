"""Run lengths of masks as annotation tools write them: by rows, by columns, and packed into bits.

A mask is bool [H, W]. Run lengths are int64 [R]: how many 0s, then how many 1s, and so on; the first is 0 where the
first pixel is 1.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Runs = NDArray[np.int64]

#: How many bits a run of a packed brush may have for its length; Label Studio's own choice.
_LENGTHS = (3, 4, 8, 16)
_WORD, _CHANNELS, _ALPHA = 8, 4, 3
_HEAD = 32 + 5 + 4 * len(_LENGTHS)


def runs_of_pixels(pixels: NDArray[np.bool_]) -> Runs:
    """The run lengths of pixels in a row, bool [N], 0s first."""
    changes = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    first = [0] if pixels.size and pixels[0] else []
    ends = np.concatenate([np.array(first, np.int64), changes, np.array([pixels.size], np.int64)])
    return np.diff(ends, prepend=0)


def pixels_of_runs(runs: Sequence[int] | Runs, count: int) -> NDArray[np.bool_]:
    """The `count` pixels, bool [count], of run lengths. Raises ValueError where they do not add up."""
    lengths = np.asarray(runs, np.int64)
    if lengths.ndim != 1 or (lengths < 0).any() or lengths.sum() != count:
        raise ValueError("its run lengths do not add up to its size")
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)


def runs_by_rows(mask: Mask) -> Runs:
    """The run lengths of a mask, row by row, as CVAT has them."""
    return runs_of_pixels(mask.ravel())


def mask_of_rows(runs: Sequence[int] | Runs, size: tuple[int, int]) -> Mask:
    """The mask of run lengths row by row. size: (height, width). Raises ValueError."""
    return pixels_of_runs(runs, size[0] * size[1]).reshape(size)


def placed(crop: Mask, top: int, left: int, size: tuple[int, int]) -> Mask:
    """A mask of `size` (height, width) that holds `crop` at (top, left). Raises ValueError where it does not fit."""
    high, wide = crop.shape
    if top < 0 or left < 0 or top + high > size[0] or left + wide > size[1]:
        raise ValueError("it reaches beyond the image")
    mask = np.zeros(size, np.bool_)
    mask[top : top + high, left : left + wide] = crop
    return mask


def box_of(mask: Mask) -> tuple[int, int, int, int]:
    """(top, left, height, width) of the box around a mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(rows[0]), int(columns[0]), int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1


def cropped(mask: Mask) -> tuple[Mask, int, int]:
    """The part of a mask, which is not empty, inside its box; and the box's top and left."""
    top, left, high, wide = box_of(mask)
    return mask[top : top + high, left : left + wide], top, left


def packed_brush(mask: Mask) -> list[int]:
    """A mask as Label Studio's brush: the bytes of its RGBA pixels, 255 or 0, packed as runs; see `mask_of_brush`."""
    runs = runs_by_rows(mask) * _CHANNELS
    bits = [f"{mask.size * _CHANNELS:032b}{_WORD - 1:05b}", *(f"{size - 1:04b}" for size in _LENGTHS)]
    for number, length in enumerate(runs.tolist()):
        value = "1" * _WORD if number % 2 else "0" * _WORD
        while length:
            part = min(length, 1 << _LENGTHS[-1])
            kind = next(kind for kind, size in enumerate(_LENGTHS) if part <= 1 << size)
            bits.append(f"1{kind:02b}{part - 1:0{_LENGTHS[kind]}b}{value}")
            length -= part
    digits = np.frombuffer("".join(bits).encode("ascii"), np.uint8) - ord("0")
    return np.packbits(digits).tolist()


def mask_of_brush(packed: Sequence[int], size: tuple[int, int]) -> Mask:
    """The mask of Label Studio's brush: where the fourth of the four channels, opacity, is not 0.

    packed: bytes, the highest bit first: the number of values in 32 bits, a word's size less 1 in 5, four sizes of
    lengths less 1 in 4 each; then, until all values are there, whether a run repeats one word (1 bit), which size its
    length has (2 bits), its length less 1, and its words. Raises ValueError for what is no brush of this size.
    """
    try:
        data = np.asarray(packed)
        if data.ndim != 1 or data.dtype.kind not in "iu" or (data.size and (data.min() < 0 or data.max() > 255)):
            raise ValueError
    except ValueError:
        raise ValueError("its run lengths are no list of bytes") from None
    bits = np.unpackbits(data.astype(np.uint8))
    if len(bits) < _HEAD or _number(bits, 0, 32) != size[0] * size[1] * _CHANNELS:
        raise ValueError("its run lengths are of another size than it says")
    values = _unpacked(bits, size[0] * size[1] * _CHANNELS)
    return values[_ALPHA::_CHANNELS].reshape(size)


def _unpacked(bits: NDArray[np.uint8], count: int) -> NDArray[np.bool_]:
    """Which of the values are not 0, bool [count]."""
    word = _number(bits, 32, 5) + 1
    lengths = [_number(bits, 37 + 4 * kind, 4) + 1 for kind in range(4)]
    values, place, done = np.zeros(count, np.bool_), _HEAD, 0
    while done < count:
        if place + 3 > len(bits):
            raise ValueError("its run lengths end too early")
        repeats, size = bits[place], lengths[_number(bits, place + 1, 2)]
        length = _number(bits, place + 3, size) + 1
        place += 3 + size
        words = 1 if repeats else length
        if place + words * word > len(bits) or done + length > count:
            raise ValueError("its run lengths end too early" if done + length <= count else "its runs are too long")
        values[done : done + length] = bits[place : place + words * word].reshape(words, word).any(axis=1)
        place, done = place + words * word, done + length
    return values


def _number(bits: NDArray[np.uint8], first: int, count: int) -> int:
    """`count` bits from `first` on as a number, the highest first."""
    number = 0
    for bit in bits[first : first + count].tolist():
        number = number << 1 | bit
    return number
