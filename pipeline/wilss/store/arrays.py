"""The arrays of a store as they lie on disk: sizes, small arrays along images and shards, planes.

`StoreArrays` is for readers: whatever is damaged, of another format or not there is a StoreError of one sentence.

zarr reads metadata alone. The small arrays are read and written here, a chunk at a time: zarr hands every write to its
event loop and back, 3 ms where the work is 0.1, six times for every shard that a coordinator commits. The bytes are
zarr's; the tests hold both against each other.
"""

import contextlib
import functools
import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import zarr
from numcodecs.vlen import VLenUTF8
from numcodecs.zstd import Zstd
from numpy.typing import NDArray

from ..disk import Folder, Location, folder_at
from ..errors import MasksError, StoreError, first_line
from .schema import FEATURES, VECTORS, ZSTD_LEVEL, ArraySpec, FeatureLayout, StoreLayout, VectorSpec
from .shards import read_planes
from .size_limits import (
    require_as_written,
    require_names,
    require_planes,
    require_shape,
    require_text_count,
    require_values,
    unpacked,
)

#: Rows of a small array and what they become.
Change = tuple[slice, NDArray[Any]]
#: Where the files of a store are: its location, or the folder there.
Place: TypeAlias = Location | Folder


class StoreArrays:
    """The zarr group at `path`. Raises StoreError where there is none that can be read."""

    def __init__(self, path: Location) -> None:
        self.path = path
        self.folder = folder_at(path)
        self._group = _open_group(self.folder)
        self._handles: dict[str, Any] = {}

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """The attributes of the group."""
        return dict(self._group.attrs)

    @cached_property
    def layout(self) -> StoreLayout:
        """The sizes of the store, read from its arrays."""
        with _reading(self.path, "mask"):
            layout = self._read_layout()
            for name in layout.vectors:
                require_shape(self.path, name, self._array(name), layout.vector_shape(name))
            require_names(self.folder, "image", self._array("image"), layout.num_images, layout.chunk_rows("image"))
        for spec in layout.arrays:
            require_planes(self.path, spec, layout.shard_size)
        return layout

    def spec(self, name: str) -> ArraySpec:
        """The sharded array `name`."""
        for spec in self.layout.arrays:
            if spec.name == name:
                return spec
        raise self._missing(name)

    def rows(self, name: str, rows: slice) -> NDArray[Any]:
        """Some rows of the small array `name`, from disk."""
        layout = self.layout
        with _reading(self.path, name):
            require_as_written(self.path, name, self._array(name), layout)
            values = read_rows(self.folder, layout, name, rows)
            require_values(name, values, layout)
        return values

    def planes(self, name: str, row: int, positions: Sequence[int], version: str = "") -> list[NDArray[Any] | None]:
        """Planes of the image at `row` at these positions of the category axis; None for one that is all fill.

        version: what the shard is committed as, "" where that is not known. Raises MasksError where they are damaged.
        """
        with _reading(self.path, name, MasksError):
            return read_planes(self.folder, self.spec(name), self.layout.shard_size, row, positions, version)

    def _read_layout(self) -> StoreLayout:
        mask = self._array("mask")
        names = set(self._group.array_keys())
        return StoreLayout(
            num_images=mask.shape[0],
            num_categories=mask.shape[1],
            canvas=(mask.shape[2], mask.shape[3]),
            shard_size=mask.shards[0],
            score_grid=self._grid("score") if "score" in names else None,
            attention_grid=self._grid("attention") if "attention" in names else None,
            num_seeds=self._array("seeds").shape[2] if "seeds" in names else 0,
            has_void="void" in names,
            has_content="content" in names,
            has_review="verdict" in names,
            features=tuple(self._features(name) for name in FEATURES if f"{name}_features" in names),
        )

    def _features(self, name: str) -> FeatureLayout:
        kept, (dims, width) = self._array(f"{name}_features"), self._array(f"{name}_basis").shape
        notes = dict(kept.attrs)
        prefix = int(notes.pop("prefix", 0))
        return FeatureLayout(name=name, tokens=kept.shape[1], dims=dims, width=width, prefix=prefix, notes=notes)

    def _grid(self, name: str) -> tuple[int, int]:
        shape = self._array(name).shape
        return shape[2], shape[3]

    def _array(self, name: str) -> Any:
        """zarr parses metadata on every access through the group; one handle per array is kept instead."""
        if name not in self._handles:
            try:
                gathered = self._gathered(name)
                self._handles[name] = self._group[name] if gathered is None else gathered
            except KeyError:
                raise self._missing(name) from None
        return self._handles[name]

    def _gathered(self, name: str) -> Any:
        """The array whose metadata the group's own file holds, if it does; the group itself asks its event loop."""
        gathered = self._group.metadata.consolidated_metadata
        found: Any = None if gathered is None else gathered.metadata.get(name)
        if found is None or (found.zarr_format, getattr(found, "node_type", "")) != (3, "array"):
            return None
        return zarr.Array(zarr.AsyncArray(found, self._group.store_path / name))

    def _missing(self, name: str) -> StoreError:
        fix = "run `wilss-masks verify` to see what is damaged."
        if name in ("score", "attention", "seeds"):
            fix = "make the masks again with `--keep scores`."
        return StoreError(f"{self.path} has no array {name!r}; {fix}")


def refused(path: object, error: PermissionError) -> StoreError:
    """What to say of a store that belongs to somebody else, who has not opened all of it."""
    if error.filename is None:  # a server said so
        return StoreError(f"{path} may not be read with these credentials ({first_line(error)}); use others.")
    return StoreError(
        f"{path} may not be read by this user ({error.filename}: {error.strerror}); let its owner open all of it and "
        "the folders above it, for a group by chmod -R g+rX."
    )


def _open_group(folder: Folder) -> zarr.Group:
    try:
        return _opened(folder)
    except PermissionError as error:
        raise refused(folder, error) from None


def _opened(folder: Folder) -> zarr.Group:
    if not folder.exists():
        raise StoreError(f"{folder} does not exist; make it with `wilss-masks generate`.")
    if not folder.exists("zarr.json"):  # a pipe would be waited on for ever
        raise StoreError(
            f"{folder} is not a readable mask store (zarr.json is no file in it); pass the step-N.zarr folder, or "
            "fetch another copy."
        )
    try:
        return zarr.open_group(folder.for_zarr(), mode="r", zarr_format=3)
    except PermissionError:
        raise
    except Exception as error:  # whatever zarr meets in metadata of any shape
        raise StoreError(
            f"{folder} is not a readable mask store ({first_line(error)}); pass the step-N.zarr folder, or fetch "
            "another copy."
        ) from error


@contextlib.contextmanager
def _reading(path: Location, name: str, raises: type[StoreError] = StoreError) -> Iterator[None]:
    """Damaged bytes make zarr and its codecs raise nearly anything; a user is told what to do."""
    try:
        yield
    except StoreError:
        raise
    except PermissionError as error:
        raise refused(path, error) from None
    except Exception as error:
        raise raises(
            f"{path}: the array {name!r} cannot be read ({first_line(error)}); `wilss-masks verify` says what is "
            "damaged."
        ) from error


def write_rows(root: Place, layout: StoreLayout, name: str, changes: Sequence[Change]) -> None:
    """Put `changes` into the vector `name` on disk, each chunk that they change once, fsynced. Raises OSError."""
    root, spec = folder_at(root), VECTORS[name]
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


def read_rows(root: Place, layout: StoreLayout, name: str, rows: slice) -> NDArray[Any]:
    """Some rows of the vector `name` on disk. Raises ValueError or RuntimeError where it is damaged, and OSError."""
    root = folder_at(root)
    spec, shape = VECTORS[name], layout.vector_shape(name)
    step, (first, last, _) = layout.chunk_rows(name), rows.indices(shape[0])
    values = np.empty((max(last - first, 0), *shape[1:]), spec.dtype)
    chunks = _touched(slice(first, last), step)
    parts = root.each(functools.partial(_read, root, layout, spec), chunks) if len(chunks) > 1 else None
    for chunk in chunks:
        begin, end = max(first, chunk * step), min(last, (chunk + 1) * step)
        part = _read(root, layout, spec, chunk) if parts is None else next(parts)
        values[begin - first : end - first] = part[begin - chunk * step : end - chunk * step]
    return values


def is_as_written(folder: Folder, layout: StoreLayout, name: str) -> bool:
    """Whether the bytes of the vector `name` are those that `write_rows` would write: damage may leave values alone."""
    spec, rows = VECTORS[name], layout.chunk_rows(name)
    for chunk in range(-(-layout.vector_shape(name)[0] // rows)):
        try:
            values = _read(folder, layout, spec, chunk)
            if spec.dtype == "bool":
                values = values.view(np.uint8) != 0
            if _differs(folder, chunk_name(spec, chunk), b"" if _is_fill(values, spec) else _encoded(values, spec)):
                return False
        except (ValueError, RuntimeError, OSError):  # numcodecs raises the middle one
            return False
    return True


def _differs(folder: Folder, name: str, data: bytes) -> bool:
    """Whether a file is there and holds something else."""
    try:
        return folder.read(name) != data
    except FileNotFoundError:
        return False


def _touched(where: slice, rows: int) -> range:
    return range(where.start // rows, -(-where.stop // rows))


def chunk_name(spec: VectorSpec, chunk: int) -> str:
    """Where zarr looks for this chunk of a small array in a store."""
    return "/".join((spec.name, "c", str(chunk), *("0",) * (len(spec.dims) - 1)))


def _read(root: Folder, layout: StoreLayout, spec: VectorSpec, chunk: int) -> NDArray[Any]:
    return read_chunk(root, spec, chunk, (layout.chunk_rows(spec.name), *layout.vector_shape(spec.name)[1:]))


def read_chunk(root: Place, spec: VectorSpec, chunk: int, shape: tuple[int, ...]) -> NDArray[Any]:
    """A chunk of a small array as it is on disk, padded to its full length, which is `shape`.

    Raises ValueError or RuntimeError where it is damaged, before it takes more memory than that, and OSError.
    """
    try:
        itemsize = None if spec.dtype == "object" else _on_disk(spec).itemsize
        data = unpacked(folder_at(root).read(chunk_name(spec, chunk)), math.prod(shape), itemsize)
    except FileNotFoundError:  # all fill
        return np.full(shape, spec.fill, spec.dtype)
    if spec.dtype == "object":
        require_text_count(data, math.prod(shape))
        return np.asarray(VLenUTF8().decode(data), dtype=object).reshape(shape)
    return np.frombuffer(data, _on_disk(spec)).reshape(shape).copy()


def _write(folder: Folder, spec: VectorSpec, chunk: int, values: NDArray[Any]) -> None:
    name = chunk_name(spec, chunk)
    if _is_fill(values, spec):  # as zarr does it
        folder.remove(name)
    else:
        folder.write(name, _encoded(values, spec))


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
