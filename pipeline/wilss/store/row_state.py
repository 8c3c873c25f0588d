"""What a store says of its images, and whether that still holds: for reading while somebody writes.

A shard is committed by its digest, and no file of it is touched unless the digest was taken back before. So masks
that were read are those of the shard that was asked for if its digest is the same before and after. To look for that
costs two `stat`s, since every commit replaces the files of digests and statuses. What was kept in memory of an earlier
read, by the digest of its shard, was looked for then.
"""

import json
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from ..errors import StoreError
from .arrays import StoreArrays, refused
from .schema import SEAL_KEY, SHARDS_PER_VECTOR_CHUNK, Status

_Signature = tuple[Hashable, ...]
_WATCHED = ("shard_digest", "status")
#: A shard is made at most twice in a run: a reader who is disturbed more often reads a store that is replaced.
_MOST_READS = 5
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class RowState:
    """What the store says of one image. digest: that of its shard, "" while it is not committed."""

    status: Status
    height: int
    width: int
    digest: str

    @property
    def is_done(self) -> bool:
        """Whether its masks are there."""
        return self.status is Status.DONE and bool(self.digest)


@dataclass(frozen=True)
class _Chunk:
    """The rows of one chunk of the vectors, and what tells whether the chunk was written since.

    status: int8 [n]; height, width: int32 [n]; shard_digest: str [shards].
    """

    signature: _Signature
    status: NDArray[np.int8]
    height: NDArray[np.int32]
    width: NDArray[np.int32]
    shard_digest: NDArray[Any]


class RowStates:
    """The state of every image, kept until it changes on disk. Several threads may ask at once."""

    def __init__(self, arrays: StoreArrays) -> None:
        self._arrays, self._layout = arrays, arrays.layout
        self._rows = SHARDS_PER_VECTOR_CHUNK * self._layout.shard_size
        self._chunks = [*arrays.folder.each(self._read_chunk, range(-(-self._layout.num_images // self._rows)))]
        self._require_same_store()

    def of(self, row: int) -> RowState:
        """What was said of the image at `row` when last looked."""
        number, place = divmod(row, self._rows)
        chunk = self._chunks[number]
        return RowState(
            status=Status(int(chunk.status[place])),
            height=int(chunk.height[place]),
            width=int(chunk.width[place]),
            digest=str(chunk.shard_digest[place // self._layout.shard_size]),
        )

    def has_changed(self, row: int) -> bool:
        """Whether anything near `row` was written since."""
        chunk = row // self._rows
        return self._signature(chunk) != self._chunks[chunk].signature

    def look_again(self, row: int) -> None:
        """Take what the disk says now of the images near `row`."""
        self._chunks[row // self._rows] = self._read_chunk(row // self._rows)

    def consistently(self, row: int, read: Callable[[RowState], _T]) -> _T:
        """What `read` gives of an image whose shard stays as it was while it reads; again where it did not.

        Raises StoreError where `read` does, and where another store came into this one's place.
        """
        for _ in range(_MOST_READS):
            state, result, problem = self.of(row), None, None
            watch = self._arrays.folder.watch()
            try:
                result = read(state)
            except StoreError as error:
                problem = error
            if watch.is_doubtful and self.has_changed(row):
                self._require_same_store()  # of another one the vectors have another length
                self.look_again(row)
                self._require_same_store()
                if self.of(row) != state:
                    watch.drop()
                    continue
            watch.keep()
            if problem is not None:
                raise problem
            return cast(_T, result)
        raise StoreError(f"{self._arrays.path} is being made again; read it once `wilss-masks generate` has ended.")

    def _require_same_store(self) -> None:
        """Positions mean something else in another store that came into this one's place."""
        path, read, specs = self._arrays.path, self._arrays.folder.read, self._layout.arrays
        try:
            root = json.loads(read("zarr.json"))["attributes"]
            shapes = [json.loads(read(f"{spec.name}/zarr.json"))["shape"] for spec in specs]
        except PermissionError as error:
            raise refused(path, error) from None
        except (OSError, ValueError, KeyError, TypeError):
            root, shapes = None, []
        if (
            not isinstance(root, dict)
            or {**root, SEAL_KEY: None} != {**self._arrays.attributes, SEAL_KEY: None}
            or shapes != [list(spec.shape) for spec in specs]
        ):
            raise StoreError(f"{path} was removed or replaced while it was read; open it again.")

    def _read_chunk(self, chunk: int) -> _Chunk:
        signature = self._signature(chunk)  # first, so that what follows may be newer
        images = slice(chunk * self._rows, (chunk + 1) * self._rows)
        shards = slice(chunk * SHARDS_PER_VECTOR_CHUNK, (chunk + 1) * SHARDS_PER_VECTOR_CHUNK)
        read = self._arrays.rows
        digests = read("shard_digest", shards)
        return _Chunk(signature, read("status", images), read("height", images), read("width", images), digests)

    def _signature(self, chunk: int) -> _Signature:
        """A file that is replaced is another one; an array all of whose values are fill has none."""
        return tuple(self._arrays.folder.signature(f"{name}/c/{chunk}") for name in _WATCHED)
