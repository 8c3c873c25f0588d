"""A store that is open: what it says of itself, its small arrays, and its planes as they lie on disk.

Whatever is damaged, of another format or not there is a StoreError of one sentence.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from ..digests import digest_of_bytes
from ..errors import StoreError, first_line
from .planes import read_planes
from .schema import FORMAT, FORMAT_VERSION, VECTORS, ArraySpec, StoreLayout
from .seal import SEAL_KEY
from .size_limits import require_names, require_planes, require_shape, require_values, require_vector

__all__ = ["OpenStore", "open_group"]


class OpenStore:
    """The arrays and attributes of a store; `group` is its root."""

    def __init__(self, path: Path, group: zarr.Group) -> None:
        self.path = path
        self._group = group

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """What the store was made with."""
        return dict(self._group.attrs)

    @property
    def step(self) -> int:
        """The step whose classes the masks are of. Raises StoreError where the store does not say it."""
        step = self.attributes.get("step")
        if not isinstance(step, int) or isinstance(step, bool) or step < 0:
            raise StoreError(
                f"{self.path} does not say of which step its masks are (step is {step!r}); it is damaged, so fetch "
                "another copy, or make it anew."
            )
        return step

    @cached_property
    def layout(self) -> StoreLayout:
        """The sizes of this store, read from its arrays."""
        with _reading(self.path, "mask"):
            layout = self._read_layout()
            for name in VECTORS:
                require_shape(self.path, name, self._array(name), layout.vector_shape(name))
            require_names(self.path, "image", self._array("image"), layout.num_images, layout.chunk_rows("image"))
        for spec in layout.arrays:
            require_planes(self.path, spec, layout.shard_size)
        return layout

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
        )

    @property
    def is_complete(self) -> bool:
        """Whether every shard was committed and the store sealed."""
        return SEAL_KEY in self.attributes

    @property
    def digest(self) -> str:
        """One sha256 of everything in a complete store, by its seal; two stores with equal ones hold the same bytes."""
        sealed = self.attributes.get(SEAL_KEY)
        if not isinstance(sealed, dict):
            raise StoreError(f"{self.path} is not complete, so it has no digest; run `wilss-masks generate` again.")
        return digest_of_bytes(f"{sealed.get('root')} {sealed.get('files')}".encode())

    def vector(self, name: str) -> NDArray[Any]:
        """One of the small per-image, per-category or per-shard arrays, whole."""
        return self._rows_of(name, slice(None))

    def _rows_of(self, name: str, rows: slice) -> NDArray[Any]:
        layout = self.layout
        with _reading(self.path, name):
            array = self._array(name)
            require_vector(self.path, name, array, layout.vector_shape(name))
            values = np.asarray(array[rows])
            require_values(name, values, layout)
        return values

    @cached_property
    def _arrays(self) -> dict[str, Any]:
        return {}

    def _array(self, name: str) -> Any:
        """zarr parses metadata on every access through the group; one handle per array is kept instead."""
        if name not in self._arrays:
            try:
                self._arrays[name] = self._group[name]
            except KeyError:
                raise StoreError(f"{self.path} has no array {name!r}; {_mend_for(name)}") from None
        return self._arrays[name]

    def _spec(self, name: str) -> ArraySpec:
        for spec in self.layout.arrays:
            if spec.name == name:
                return spec
        raise StoreError(f"{self.path} has no array {name!r}; {_mend_for(name)}")

    def _planes(self, name: str, row: int, positions: Sequence[int]) -> list[NDArray[Any] | None]:
        with _reading(self.path, name):
            return read_planes(self.path, self._spec(name), self.layout.shard_size, row, positions)

    def _grid(self, name: str) -> tuple[int, int]:
        shape = self._array(name).shape
        return shape[2], shape[3]

    def _check_format(self) -> None:
        if self.attributes.get("format") != FORMAT:
            raise StoreError(f"{self.path} is a zarr group but not a mask store; pass the step-N.zarr folder.")
        version = self.attributes.get("format_version")
        if not isinstance(version, int) or version > FORMAT_VERSION:
            raise StoreError(
                f"{self.path} has format_version {version!r}, this wilss reads up to {FORMAT_VERSION}; "
                "upgrade wilss to read it."
            )


def open_group(path: Path) -> zarr.Group:
    """The root of the store at `path`. Raises StoreError where there is none that can be read."""
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


def _mend_for(name: str) -> str:
    if name in ("score", "attention", "seeds"):
        return "make the masks anew with `--keep scores`."
    return "run `wilss-masks verify` to see what is damaged."
