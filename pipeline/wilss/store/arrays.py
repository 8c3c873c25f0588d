"""The arrays of a store as they lie on disk: sizes, small arrays and planes.

Whatever is damaged, of another format or not there is a StoreError of one sentence. zarr reads the metadata alone.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import zarr
from numpy.typing import NDArray

from ..errors import StoreError, first_line
from .schema import ArraySpec, StoreLayout
from .shards import read_planes
from .size_limits import require_as_written, require_names, require_planes, require_shape, require_values
from .vectors import read_rows


class StoreArrays:
    """The zarr group at `path`. Raises StoreError where there is none that can be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._group = _open_group(path)
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
            require_names(self.path, "image", self._array("image"), layout.num_images, layout.chunk_rows("image"))
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
            values = read_rows(self.path, layout, name, rows)
            require_values(name, values, layout)
        return values

    def planes(self, name: str, row: int, positions: Sequence[int]) -> list[NDArray[Any] | None]:
        """Planes of the image at `row` at these positions of the category axis; None for one that is all fill."""
        with _reading(self.path, name):
            return read_planes(self.path, self.spec(name), self.layout.shard_size, row, positions)

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
        )

    def _grid(self, name: str) -> tuple[int, int]:
        shape = self._array(name).shape
        return shape[2], shape[3]

    def _array(self, name: str) -> Any:
        """zarr parses metadata on every access through the group; one handle per array is kept instead."""
        if name not in self._handles:
            try:
                self._handles[name] = self._group[name]
            except KeyError:
                raise self._missing(name) from None
        return self._handles[name]

    def _missing(self, name: str) -> StoreError:
        fix = "run `wilss-masks verify` to see what is damaged."
        if name in ("score", "attention", "seeds"):
            fix = "make the masks again with `--keep scores`."
        return StoreError(f"{self.path} has no array {name!r}; {fix}")


def _open_group(path: Path) -> zarr.Group:
    if not path.exists():
        raise StoreError(f"{path} does not exist; make it with `wilss-masks generate`.")
    root = path / "zarr.json"
    if root.exists() and not root.is_file():  # a pipe would be waited on for ever
        raise StoreError(f"{path} is not a readable mask store ({root.name} is no file); fetch another copy.")
    try:
        return zarr.open_group(path, mode="r+" if os.access(path, os.W_OK) else "r", zarr_format=3)
    except Exception as error:  # whatever zarr meets in metadata of any shape
        raise StoreError(
            f"{path} is not a readable mask store ({first_line(error)}); pass the step-N.zarr folder, or fetch "
            "another copy."
        ) from error


@contextlib.contextmanager
def _reading(path: Path, name: str) -> Iterator[None]:
    """Damaged bytes make zarr and its codecs raise nearly anything; a user is told what to do."""
    try:
        yield
    except StoreError:
        raise
    except Exception as error:
        raise StoreError(
            f"{path}: the array {name!r} cannot be read ({first_line(error)}); `wilss-masks verify` says what is "
            "damaged."
        ) from error
