"""The small arrays along images and shards, read and written a chunk at a time: the counterpart of zarr's own writer.

zarr hands every write to its event loop and back: 3 ms where the work is 0.1, six times for every shard that a
coordinator commits. The bytes here are zarr's; the tests hold both against each other.
"""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numcodecs.vlen import VLenUTF8
from numcodecs.zstd import Zstd
from numpy.typing import NDArray

from ..disk import unlink, write_atomically
from .schema import VECTORS, ZSTD_LEVEL, StoreLayout, VectorSpec
from .size_limits import require_text_count, unpacked

#: Rows and what they become.
Change = tuple[slice, NDArray[Any]]


def write_rows(root: Path, layout: StoreLayout, name: str, changes: Sequence[Change]) -> None:
    """Put `changes` into the vector `name` on disk, each chunk that they change once, fsynced. Raises OSError."""
    spec = VECTORS[name]
    rows = layout.chunk_rows(name)
    for chunk in sorted({chunk for where, _ in changes for chunk in _touched(where, rows)}):
        values = _read(root, layout, spec, chunk)
        before = values.copy()
        for where, new in changes:
            first, last = max(where.start, chunk * rows), min(where.stop, (chunk + 1) * rows)
            if first < last:
                values[first - chunk * rows : last - chunk * rows] = new[first - where.start : last - where.start]
        if not np.array_equal(before, values, equal_nan=spec.dtype == "float32"):
            _write(root, spec, chunk, values)


def read_rows(root: Path, layout: StoreLayout, name: str, rows: slice) -> NDArray[Any]:
    """Some rows of the vector `name` on disk. Raises ValueError or RuntimeError where it is damaged, and OSError."""
    spec, shape = VECTORS[name], layout.vector_shape(name)
    step, (first, last, _) = layout.chunk_rows(name), rows.indices(shape[0])
    values = np.empty((max(last - first, 0), *shape[1:]), spec.dtype)
    for chunk in _touched(slice(first, last), step):
        begin, end = max(first, chunk * step), min(last, (chunk + 1) * step)
        part = _read(root, layout, spec, chunk)
        values[begin - first : end - first] = part[begin - chunk * step : end - chunk * step]
    return values


def is_as_written(root: Path, layout: StoreLayout, name: str) -> bool:
    """Whether the bytes of the vector `name` are those that `write_rows` would write: damage may leave values alone."""
    spec, rows = VECTORS[name], layout.chunk_rows(name)
    for chunk in range(-(-layout.vector_shape(name)[0] // rows)):
        path = _path(root, spec, chunk)
        try:
            values = _read(root, layout, spec, chunk)
            if spec.dtype == "bool":
                values = values.view(np.uint8) != 0
            if path.exists() and (_is_fill(values, spec) or _encoded(values, spec) != path.read_bytes()):
                return False
        except (ValueError, RuntimeError, OSError):  # numcodecs raises the middle one
            return False
    return True


def _touched(where: slice, rows: int) -> Iterable[int]:
    return range(where.start // rows, -(-where.stop // rows))


def _path(root: Path, spec: VectorSpec, chunk: int) -> Path:
    return root.joinpath(spec.name, "c", str(chunk), *("0",) * (len(spec.dims) - 1))


def _read(root: Path, layout: StoreLayout, spec: VectorSpec, chunk: int) -> NDArray[Any]:
    return read_chunk(root, spec, chunk, (layout.chunk_rows(spec.name), *layout.vector_shape(spec.name)[1:]))


def read_chunk(root: Path, spec: VectorSpec, chunk: int, shape: tuple[int, ...]) -> NDArray[Any]:
    """A chunk of a small array as it is on disk, padded to its full length, which is `shape`.

    Raises ValueError or RuntimeError where it is damaged, before it takes more memory than that, and OSError.
    """
    try:
        itemsize = None if spec.dtype == "object" else _on_disk(spec).itemsize
        data = unpacked(_path(root, spec, chunk).read_bytes(), math.prod(shape), itemsize)
    except FileNotFoundError:  # all fill
        return np.full(shape, spec.fill, spec.dtype)
    if spec.dtype == "object":
        require_text_count(data, math.prod(shape))
        return np.asarray(VLenUTF8().decode(data), dtype=object).reshape(shape)
    return np.frombuffer(data, _on_disk(spec)).reshape(shape).copy()


def _write(root: Path, spec: VectorSpec, chunk: int, values: NDArray[Any]) -> None:
    path = _path(root, spec, chunk)
    if _is_fill(values, spec):  # as zarr does it
        unlink(path)
        return
    write_atomically(path, _encoded(values, spec))


def _encoded(values: NDArray[Any], spec: VectorSpec) -> bytes:
    if spec.dtype == "float32":  # of the many bit patterns that are no number, the fill's
        values = np.where(np.isnan(values), spec.fill, values)
    data = VLenUTF8().encode(values) if spec.dtype == "object" else values.astype(_on_disk(spec)).tobytes()
    return bytes(Zstd(level=ZSTD_LEVEL).encode(data))


def _is_fill(values: NDArray[Any], spec: VectorSpec) -> bool:
    empty = np.isnan(values) if spec.fill != spec.fill else values == spec.fill
    return bool(np.all(empty))


def _on_disk(spec: VectorSpec) -> np.dtype[Any]:
    return np.dtype(spec.dtype).newbyteorder("<")
