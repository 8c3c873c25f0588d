"""`MaskStore`: open a store, read masks from it, and (the coordinator alone) commit shards to it."""

import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from ..disk import WritePoint, at, built_beside, sweep_partials, sync_file
from ..errors import StoreError
from .planes import read_planes
from .schema import (
    FORMAT,
    FORMAT_VERSION,
    SHARDS_PER_VECTOR_CHUNK,
    ArraySpec,
    Status,
    StoreHeader,
    StoreLayout,
    consolidate,
    create_group,
)
from .seal import SEAL_KEY, Damage, seal, verify
from .shards import ShardReceipt

__all__ = ["ImageMasks", "MaskStore"]

_VECTORS = ("confidence", "agreement", "area", "fallback")


@dataclass(frozen=True, kw_only=True)
class ImageMasks:
    """The masks of one image, cropped to its true size.

    categories: positions on the store's category axis, ascending; masks: bool [T, H, W], one per category.
    void: bool [H, W] or None where the store knows no void.
    """

    image_id: str
    categories: tuple[int, ...]
    masks: NDArray[np.bool_]
    void: NDArray[np.bool_] | None


class MaskStore:
    """One step's masks on disk; the only home of how they are read and committed.

    Readers see an image's masks only when its status says done. Shards are written by
    `wilss.store.write_shard`, by any number of processes; `commit` and `seal` belong to the one process
    that holds `writer_lock`.
    """

    def __init__(self, path: Path, group: zarr.Group) -> None:
        self.path = path
        self._group = group

    @classmethod
    def create(cls, path: Path, header: StoreHeader) -> "MaskStore":
        """Make an empty store; `path` must not exist. Its statuses come from the header.

        The store is built under a temporary name and renamed, so a half-made one is never seen.
        """
        with built_beside(path, WritePoint.STORE_CREATE) as building:
            create_group(building, header)
        return cls.open(path, allow_partial=True)

    @classmethod
    def open(cls, path: Path | str, *, allow_partial: bool = False) -> "MaskStore":
        """Open a store for reading.

        Raises StoreError when there is none, when a newer wilss wrote it, or when masks are still missing
        and `allow_partial` is False.
        """
        path = Path(path)
        store = cls(path, _open_group(path))
        store._check_format()
        if not allow_partial and not store.is_complete:
            raise StoreError(
                f"{path} is not complete: {len(store.pending_shards())} of {store.layout.num_shards} shards are "
                "missing; run the same `wilss-masks generate` again to go on, or pass --allow-partial."
            )
        return store

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """What the store was made with."""
        return dict(self._group.attrs)

    @cached_property
    def layout(self) -> StoreLayout:
        """The sizes of this store, read from its arrays."""
        with _reading(self.path, "mask"):
            return self._read_layout()

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

    @cached_property
    def image_ids(self) -> tuple[str, ...]:
        """Image ids, in the order of the image axis."""
        return tuple(str(name) for name in self.vector("image"))

    @cached_property
    def category_names(self) -> tuple[str, ...]:
        """Names of the step's classes, in the order of the category axis."""
        return tuple(str(name) for name in self.vector("category"))

    @cached_property
    def category_ids(self) -> tuple[int, ...]:
        """Taxonomy ids of the step's classes, in the order of the category axis."""
        return tuple(int(i) for i in self.vector("category_id"))

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {name: position for position, name in enumerate(self.image_ids)}

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
        return hashlib.sha256(f"{sealed.get('root')} {sealed.get('files')}".encode()).hexdigest()

    def position(self, image: str | int) -> int:
        """Where `image` (an id, or already a position) stands on the image axis."""
        if isinstance(image, int):
            if not 0 <= image < len(self.image_ids):
                raise StoreError(f"{self.path} has no image at position {image}; it has {len(self.image_ids)}.")
            return image
        try:
            return self._positions[image]
        except KeyError:
            raise StoreError(f"{self.path} has no image {image!r}; `wilss-masks info` shows what it holds.") from None

    def vector(self, name: str) -> NDArray[Any]:
        """One of the small per-image, per-category or per-shard arrays, whole."""
        with _reading(self.path, name):
            return np.asarray(self._array(name)[...])

    def plane(self, name: str, image: str | int, category: int | None = None) -> NDArray[Any]:
        """One plane of a sharded array as stored: on the canvas, or on the largest patch grid.

        category: a position on the category axis; None for an array without one.
        """
        spec = self._spec(name)
        (plane,) = self._planes(name, self.position(image), [0 if category is None else category])
        return np.full(spec.plane, spec.fill, spec.dtype) if plane is None else plane

    def read(self, image: str | int, categories: Sequence[int] | None = None) -> ImageMasks:
        """Masks of one image, by default of the categories it is tagged with.

        Raises StoreError when the image's masks are not there.
        """
        row = self.position(image)
        self._require_done(row)
        height, width = int(self._sizes[0][row]), int(self._sizes[1][row])
        tagged: list[int] = np.flatnonzero(self._tags[row]).tolist()
        wanted = tagged if categories is None else sorted(categories)
        masks = np.zeros((len(wanted), height, width), np.bool_)
        for slot, plane in enumerate(self._planes("mask", row, wanted)):
            if plane is not None:
                masks[slot] = plane[:height, :width]
        void = self.plane("void", row)[:height, :width].copy() if self.layout.has_void else None
        return ImageMasks(image_id=self.image_ids[row], categories=tuple(wanted), masks=masks, void=void)

    def pending_shards(self) -> tuple[int, ...]:
        """Shards that were not committed, ascending; images that will never be made do not keep one pending."""
        status = self.vector("status")
        digests = self.vector("shard_digest")
        layout = self.layout
        return tuple(
            shard
            for shard in range(layout.num_shards)
            if not digests[shard] or (status[_rows(layout, shard)] == Status.PENDING).any()
        )

    def commit(self, receipt: ShardReceipt) -> None:
        """Say that a shard is on disk: vectors, then its digest, then its status, each fsynced."""
        rows = _rows(self.layout, receipt.shard)
        with at(WritePoint.STORE_COMMIT, self.path):
            for name in _VECTORS:
                self._write_rows(name, rows, getattr(receipt, name))
            if any(receipt.errors) or any(self._errors[rows]):
                self._errors[rows] = receipt.errors
                self._write_rows("error", rows, np.array(receipt.errors, dtype=object))
            shard = slice(receipt.shard, receipt.shard + 1)
            self._write_rows("shard_digest", shard, np.array([receipt.digest], dtype=object))
            self._write_rows("status", rows, receipt.status)

    def reopen(self, shards: Sequence[int], header: StoreHeader) -> None:
        """Take back the commit of `shards`, so that they are made anew with the sizes in `header`."""
        with at(WritePoint.STORE_REOPEN, self.path):
            self._drop_seal()
            for shard in shards:
                rows = _rows(self.layout, shard)
                self._write_rows("shard_digest", slice(shard, shard + 1), np.array([""], dtype=object))
                self._write_rows("height", rows, header.heights[rows])
                self._write_rows("width", rows, header.widths[rows])
                self._write_rows("status", rows, header.status[rows])

    def seal(self) -> None:
        """Close a store all of whose shards are committed; its attributes then hold a digest of everything."""
        pending = self.pending_shards()
        if pending:
            raise StoreError(f"{self.path} cannot be sealed: shards {list(pending)[:5]} are not committed.")
        with at(WritePoint.STORE_SEAL, self.path):
            self._group = consolidate(self._group)
            seal(self.path, self.layout)
        self._forget()

    def verify(self) -> Iterator[Damage]:
        """Compare every byte with the store's digests; yields what is damaged, nothing when all is whole."""
        yield from verify(self.path, self.layout, [str(digest) for digest in self.vector("shard_digest")])

    def sweep(self) -> int:
        """Remove what a killed writer left unfinished; only while holding `writer_lock`."""
        return sweep_partials(self.path, WritePoint.STORE_SWEEP)

    @cached_property
    def _errors(self) -> NDArray[Any]:
        return self.vector("error").astype(object)

    @cached_property
    def _tags(self) -> NDArray[np.bool_]:
        return self.vector("tags")

    @cached_property
    def _sizes(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        return self.vector("height"), self.vector("width")

    @cached_property
    def _status(self) -> NDArray[np.int8]:
        return self.vector("status")

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

    def _write_rows(self, name: str, rows: slice, values: NDArray[Any]) -> None:
        self._array(name)[rows] = values
        unit = 1 if name == "shard_digest" else self.layout.shard_size
        chunk = rows.start // (SHARDS_PER_VECTOR_CHUNK * unit)
        written = self.path.joinpath(name, "c", str(chunk), *("0",) * (values.ndim - 1))
        if written.exists():  # zarr stores no chunk that is all fill value
            sync_file(written)

    def _require_done(self, row: int) -> None:
        status = Status(int(self._status[row]))
        if status is Status.DONE:
            return
        why = self.vector("error")[row] if status is Status.FAILED else f"its status is {status.name.lower()}"
        raise StoreError(f"{self.path} holds no masks of {self.image_ids[row]}: {why}")

    def _check_format(self) -> None:
        if self.attributes.get("format") != FORMAT:
            raise StoreError(f"{self.path} is a zarr group but not a mask store; pass the step-N.zarr folder.")
        version = self.attributes.get("format_version")
        if not isinstance(version, int) or version > FORMAT_VERSION:
            raise StoreError(
                f"{self.path} has format_version {version!r}, this wilss reads up to {FORMAT_VERSION}; "
                "upgrade wilss to read it."
            )

    def _drop_seal(self) -> None:
        attributes = {key: value for key, value in self.attributes.items() if key != SEAL_KEY}
        if attributes != self.attributes:
            self._group.attrs.put(attributes)
            sync_file(self.path / "zarr.json")
            self._forget()

    def _forget(self) -> None:
        """Drop what was read from disk, since the files have changed."""
        for name in ("attributes", "_arrays", "_status", "_sizes", "_errors"):
            self.__dict__.pop(name, None)
        self._group = _open_group(self.path)


def _open_group(path: Path) -> zarr.Group:
    if not path.exists():
        raise StoreError(f"{path} does not exist; make it with `wilss-masks generate`.")
    try:
        return zarr.open_group(path, mode="r+" if os.access(path, os.W_OK) else "r", zarr_format=3)
    except Exception as error:  # whatever zarr meets in metadata of any shape
        raise StoreError(f"{path} is not a readable mask store ({_first_line(error)}).") from error


@contextlib.contextmanager
def _reading(path: Path, name: str) -> Iterator[None]:
    """Damaged bytes make zarr and its codecs raise nearly anything; a user is told what to do."""
    try:
        yield
    except StoreError:
        raise
    except Exception as error:
        raise StoreError(
            f"{path}: the array {name!r} cannot be read ({_first_line(error)}); `wilss-masks verify` says what is "
            "damaged."
        ) from error


def _rows(layout: StoreLayout, shard: int) -> slice:
    rows = layout.rows(shard)
    return slice(rows.start, rows.stop)


def _mend_for(name: str) -> str:
    if name in ("score", "attention", "seeds"):
        return "make the masks anew with `--keep scores`."
    return "run `wilss-masks verify` to see what is damaged."


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
