"""Single planes out of a shard file: the counterpart of `shards.encode_shard`.

zarr's own reader hands every plane to its event loop and back, which takes longer than the plane takes to decode, and
stops other threads of a trainer meanwhile. Here a plane is one read and one decompression. zarr reads the same bytes;
the tests hold both against each other.
"""

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numcodecs.zstd import Zstd
from numpy.typing import NDArray

from .schema import ArraySpec
from .shards import ABSENT, shard_path
from .size_limits import content_size

__all__ = ["read_planes"]

_CHECKSUM = 4


def read_planes(
    root: Path, spec: ArraySpec, shard_size: int, row: int, positions: Sequence[int]
) -> list[NDArray[Any] | None]:
    """The planes of the image at `row` at these positions of its category axis (0 for an array without one).

    Each on the array's canvas, read-only, or None where it is all fill. The file is opened once, so they are of one
    version of it. Raises ValueError for bytes that are damaged or a position that there is not, OSError for a file
    that cannot be read.
    """
    if not all(0 <= position < spec.planes_per_image for position in positions):
        raise ValueError(f"{spec.name} has planes 0 to {spec.planes_per_image - 1}, not {list(positions)}")
    shard, place = divmod(row, shard_size)
    path = shard_path(root, spec, shard)
    try:
        file = path.open("rb")
    except FileNotFoundError:  # no plane in this shard differs from the fill
        return [None] * len(positions)
    with file:
        index = _index(file.fileno(), shard_size * spec.planes_per_image)
        slots = [place * spec.planes_per_image + position for position in positions]
        return list(_decoded(file.fileno(), index[slots].tolist(), spec))


def _index(file: int, slots: int) -> NDArray[np.uint64]:
    """Offset and length of every slot, from the end of the file."""
    size = 16 * slots + _CHECKSUM
    end = os.fstat(file).st_size
    footer = os.pread(file, size, end - size) if end >= size else b""
    table, checksum = footer[:-_CHECKSUM], footer[-_CHECKSUM:]
    if len(footer) != size or google_crc32c.value(table).to_bytes(_CHECKSUM, "little") != checksum:
        raise ValueError("the index of a shard does not match its checksum")
    return np.frombuffer(table, "<u8").reshape(slots, 2)


def _decoded(file: int, places: list[list[int]], spec: ArraySpec) -> Iterator[NDArray[Any] | None]:
    codec, dtype = Zstd(), np.dtype(spec.dtype).newbyteorder("<")
    size, end = math.prod(spec.plane) * dtype.itemsize, os.fstat(file).st_size
    for offset, length in places:
        if length == ABSENT:
            yield None
            continue
        if offset + length > end:
            raise ValueError("a plane is said to lie beyond the end of its shard")
        frame = os.pread(file, length, offset)
        if (claimed := content_size(frame)) != size:  # before the codec takes as much memory as the frame asks for
            raise ValueError(f"a plane would become {claimed} bytes instead of {size}")
        yield np.frombuffer(codec.decode(frame), dtype).reshape(spec.plane)
