"""What a store says of its images, and whether that still holds: for reading while somebody writes.

A shard is committed by its digest, and no file of it is touched unless the digest was taken back before. So masks
that were read are those of the shard that was asked for if its digest is the same before and after. To look for that
costs two `stat`s, since every commit gives the files of digests and statuses anew.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .schema import SHARDS_PER_VECTOR_CHUNK, Status, StoreLayout

__all__ = ["Standing", "Stood"]

_Signature = tuple[tuple[int, int, int] | None, ...]
_WATCHED = ("shard_digest", "status")


@dataclass(frozen=True, kw_only=True)
class Stood:
    """What was said of one image. digest: that of its shard, "" while it is not committed."""

    status: Status
    height: int
    width: int
    digest: str

    @property
    def is_done(self) -> bool:
        """Whether its masks are there."""
        return self.status is Status.DONE and bool(self.digest)


@dataclass(frozen=True)
class _Piece:
    """The rows of one chunk of the vectors, and by what it is seen that the chunk was written since."""

    signature: _Signature
    status: NDArray[np.int8]
    height: NDArray[np.int32]
    width: NDArray[np.int32]
    shard_digest: NDArray[Any]


class Standing:
    """The standing of every image, kept until it changes on disk. Several threads may ask at once.

    read: some rows of a vector, from disk.
    """

    def __init__(self, path: Path, layout: StoreLayout, read: Callable[[str, slice], NDArray[Any]]) -> None:
        self._path, self._layout, self._read = path, layout, read
        self._rows = SHARDS_PER_VECTOR_CHUNK * layout.shard_size
        count = -(-layout.num_images // self._rows)
        signatures = [self._signature(chunk) for chunk in range(count)]  # first, so that what follows may be newer
        whole = {name: read(name, slice(None)) for name in ("status", "height", "width", "shard_digest")}
        self._pieces = [self._cut(chunk, signature, whole) for chunk, signature in enumerate(signatures)]

    def of(self, row: int) -> Stood:
        """What was said of the image at `row` when last looked."""
        chunk, place = divmod(row, self._rows)
        piece = self._pieces[chunk]
        return Stood(
            status=Status(int(piece.status[place])),
            height=int(piece.height[place]),
            width=int(piece.width[place]),
            digest=str(piece.shard_digest[place // self._layout.shard_size]),
        )

    def has_moved(self, row: int) -> bool:
        """Whether anything near `row` was written since."""
        chunk = row // self._rows
        return self._signature(chunk) != self._pieces[chunk].signature

    def look_again(self, row: int) -> None:
        """Take what the disk says now of the images near `row`."""
        chunk = row // self._rows
        signature = self._signature(chunk)
        images = slice(chunk * self._rows, (chunk + 1) * self._rows)
        shards = slice(chunk * SHARDS_PER_VECTOR_CHUNK, (chunk + 1) * SHARDS_PER_VECTOR_CHUNK)
        digests = self._read("shard_digest", shards)
        status, height, width = (self._read(name, images) for name in ("status", "height", "width"))
        self._pieces[chunk] = _Piece(signature, status, height, width, digests)

    def _cut(self, chunk: int, signature: _Signature, whole: dict[str, NDArray[Any]]) -> _Piece:
        images = slice(chunk * self._rows, (chunk + 1) * self._rows)
        shards = slice(chunk * SHARDS_PER_VECTOR_CHUNK, (chunk + 1) * SHARDS_PER_VECTOR_CHUNK)
        status, height, width = (whole[name][images] for name in ("status", "height", "width"))
        return _Piece(signature, status, height, width, whole["shard_digest"][shards])

    def _signature(self, chunk: int) -> _Signature:
        """A file that is written anew is another one; an array all of whose values are fill has none."""
        return tuple(_seen(f"{self._path}/{name}/c/{chunk}") for name in _WATCHED)


def _seen(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
