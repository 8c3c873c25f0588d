"""`MaskStore`: open a store, read masks from it, and (the coordinator alone) commit shards to it."""

import contextlib
import hashlib
import json
import operator
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import zarr
from numpy.typing import NDArray

from ..disk import WritePoint, at, built_beside, sweep_partials, sync_file
from ..errors import StoreError
from .bounds import require_names, require_planes, require_shape, require_values, require_vector
from .planes import read_planes
from .schema import (
    FORMAT,
    FORMAT_VERSION,
    SHARDS_PER_VECTOR_CHUNK,
    VECTORS,
    ArraySpec,
    Status,
    StoreHeader,
    StoreLayout,
    consolidate,
    create_group,
)
from .seal import SEAL_KEY, Damage, committed_digest, seal, verify
from .shards import ShardReceipt
from .standing import Standing, Stood
from .vectors import write_rows

__all__ = ["ImageMasks", "MaskStore"]

_VECTORS = ("confidence", "agreement", "area", "fallback")
#: A shard is made anew once in a run.
_MOST_READS = 5
_T = TypeVar("_T")


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
        return self._rows_of(name, slice(None))

    def _rows_of(self, name: str, rows: slice) -> NDArray[Any]:
        layout = self.layout
        with _reading(self.path, name):
            array = self._array(name)
            require_vector(self.path, name, array, layout.vector_shape(name))
            values = np.asarray(array[rows])
            require_values(name, values, layout)
        return values

    def plane(self, name: str, image: str | int, category: int | None = None) -> NDArray[Any]:
        """One plane of a sharded array as stored: on the canvas, or on the largest patch grid.

        category: a position on the category axis; None for an array without one.
        """
        spec, row = self._spec(name), self.position(image)
        positions = [0 if category is None else category]
        (plane,) = self._steadily(row, lambda stood: self._planes(name, row, positions))
        return np.full(spec.plane, spec.fill, spec.dtype) if plane is None else plane

    def read(self, image: str | int, categories: Sequence[int] | None = None) -> ImageMasks:
        """Masks of one image, by default of the categories it is tagged with.

        Somebody may be writing the store meanwhile: what is returned is all of one making of the image.
        Raises StoreError when the image's masks are not there, or not there any more.
        """
        row = self.position(image)
        return self._steadily(row, lambda stood: self._masks(row, stood, categories))

    def _masks(self, row: int, stood: Stood, categories: Sequence[int] | None) -> ImageMasks:
        self._require_done(row, stood)
        height, width = stood.height, stood.width
        tagged: list[int] = np.flatnonzero(self._tags[row]).tolist()
        wanted = tagged if categories is None else sorted(categories)
        masks = np.zeros((len(wanted), height, width), np.bool_)
        for slot, plane in enumerate(self._planes("mask", row, wanted)):
            if plane is not None:
                masks[slot] = plane[:height, :width]
        return ImageMasks(
            image_id=self.image_ids[row],
            categories=tuple(wanted),
            masks=masks,
            void=self._void(row, height, width) if self.layout.has_void else None,
        )

    def _void(self, row: int, height: int, width: int) -> NDArray[np.bool_]:
        (plane,) = self._planes("void", row, [0])
        return np.zeros((height, width), np.bool_) if plane is None else plane[:height, :width].copy()

    def _steadily(self, row: int, read: Callable[[Stood], _T]) -> _T:
        """What `read` gives of an image whose shard stays as it was while it reads; again where it did not."""
        for _ in range(_MOST_READS):
            stood, made, problem = self._standing.of(row), None, None
            try:
                made = read(stood)
            except StoreError as error:
                problem = error
            if self._standing.has_moved(row):
                self._standing.look_again(row)
                self._require_same_store()
                if self._standing.of(row) != stood:
                    continue
            if problem is not None:
                raise problem
            return cast(_T, made)
        raise StoreError(f"{self.path} is being made anew; read it once `wilss-masks generate` has ended.")

    def _require_same_store(self) -> None:
        """Positions mean something else in another store that came into this one's place."""
        try:
            root = json.loads((self.path / "zarr.json").read_text(encoding="utf-8"))["attributes"]
            shapes = [
                json.loads((self.path / spec.name / "zarr.json").read_text())["shape"] for spec in self.layout.arrays
            ]
        except (OSError, ValueError, KeyError, TypeError):
            root, shapes = None, []
        if (
            not isinstance(root, dict)
            or _but_for_seal(root) != _but_for_seal(self.attributes)
            or shapes != [list(spec.shape) for spec in self.layout.arrays]
        ):
            raise StoreError(f"{self.path} was removed or replaced while it was read; open it again.")

    def standings(self) -> NDArray[np.int8]:
        """The status of every image, read anew; one whose shard is not committed is never done."""
        digests, status = self.vector("shard_digest"), self.vector("status")
        committed = np.repeat(digests != "", self.layout.shard_size)[: len(status)]
        made: NDArray[np.int8] = np.where(committed | (status != Status.DONE), status, Status.PENDING).astype(np.int8)
        return made

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

    def commit(self, *receipts: ShardReceipt) -> None:
        """Say that these shards are on disk: vectors, then digests, then status, each chunk of them written once."""
        with at(WritePoint.STORE_COMMIT, self.path):
            for name in _VECTORS:
                self._write(name, receipts, operator.attrgetter(name))
            rows = [_rows(self.layout, receipt.shard) for receipt in receipts]
            if any(any(receipt.errors) for receipt in receipts) or any(any(self._errors[one]) for one in rows):
                self._write("error", receipts, lambda receipt: np.array(receipt.errors, dtype=object))
                self.__dict__.pop("_errors", None)
            digests = [
                (slice(receipt.shard, receipt.shard + 1), np.array([committed_digest(receipt)], dtype=object))
                for receipt in receipts
            ]
            write_rows(self.path, self.layout, "shard_digest", digests, WritePoint.STORE_COMMIT)
            self._write("status", receipts, lambda receipt: receipt.status)

    def _write(
        self, name: str, receipts: Sequence[ShardReceipt], values: Callable[[ShardReceipt], NDArray[Any]]
    ) -> None:
        changes = [(_rows(self.layout, receipt.shard), values(receipt)) for receipt in receipts]
        write_rows(self.path, self.layout, name, changes, WritePoint.STORE_COMMIT)

    def receipt(self, shard: int) -> ShardReceipt:
        """What was committed of a shard."""
        rows = _rows(self.layout, shard)
        return ShardReceipt(
            shard=shard,
            digest=str(self._rows_of("shard_digest", slice(shard, shard + 1))[0]),
            status=self._rows_of("status", rows),
            errors=tuple(str(error) for error in self._rows_of("error", rows)),
            **{name: self._rows_of(name, rows) for name in _VECTORS},
        )

    def reopen(self, shards: Sequence[int], header: StoreHeader) -> None:
        """Take back the commit of `shards`, so that they are made anew with the sizes in `header`."""
        uncommitted = np.array([""], dtype=object)
        rows = [_rows(self.layout, shard) for shard in shards]
        with at(WritePoint.STORE_REOPEN, self.path):
            self._drop_seal()
            digests = [(slice(shard, shard + 1), uncommitted) for shard in shards]
            write_rows(self.path, self.layout, "shard_digest", digests, WritePoint.STORE_REOPEN)
            for name, values in (("height", header.heights), ("width", header.widths), ("status", header.status)):
                changes = [(one, values[one]) for one in rows]
                write_rows(self.path, self.layout, name, changes, WritePoint.STORE_REOPEN)

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
        yield from verify(self.path, self.layout, self._committed())

    def _committed(self) -> Iterator[ShardReceipt]:
        """The receipts of all committed shards; the vectors are read a chunk at a time."""
        layout, step = self.layout, SHARDS_PER_VECTOR_CHUNK
        for first in range(0, layout.num_shards, step):
            digests = self._rows_of("shard_digest", slice(first, first + step))
            rows = slice(first * layout.shard_size, (first + step) * layout.shard_size)
            vectors = (
                {name: self._rows_of(name, rows) for name in ("status", "error", *_VECTORS)} if any(digests) else {}
            )
            for place, digest in enumerate(digests):
                own = slice(place * layout.shard_size, (place + 1) * layout.shard_size)
                if digest and Status.PENDING not in vectors["status"][own]:  # else a kill came before its status
                    errors = tuple(str(error) for error in vectors["error"][own])
                    said = {name: values[own] for name, values in vectors.items() if name != "error"}
                    yield ShardReceipt(shard=first + place, digest=str(digest), errors=errors, **said)

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
    def _standing(self) -> Standing:
        standing = Standing(self.path, self.layout, self._rows_of)
        self._require_same_store()
        return standing

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

    def _require_done(self, row: int, stood: Stood) -> None:
        if not stood.is_done:
            pending = stood.status is Status.DONE  # its shard is about to be made anew
            state = "pending" if pending else stood.status.name.lower()
            why = self.vector("error")[row] if stood.status is Status.FAILED else f"its status is {state}"
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
        attributes = _but_for_seal(self.attributes)
        if attributes != self.attributes:
            self._group.attrs.put(attributes)
            sync_file(self.path / "zarr.json")
            self._forget()

    def _forget(self) -> None:
        """Drop what was read from disk, since the files have changed."""
        for name in ("attributes", "_arrays", "_standing", "_errors"):
            self.__dict__.pop(name, None)
        self._group = _open_group(self.path)


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
            f"{path} is not a readable mask store ({_first_line(error)}); pass the step-N.zarr folder, or fetch "
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
            f"{path}: the array {name!r} cannot be read ({_first_line(error)}); `wilss-masks verify` says what is "
            "damaged."
        ) from error


def _but_for_seal(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in attributes.items() if key != SEAL_KEY}


def _rows(layout: StoreLayout, shard: int) -> slice:
    rows = layout.rows(shard)
    return slice(rows.start, rows.stop)


def _mend_for(name: str) -> str:
    if name in ("score", "attention", "seeds"):
        return "make the masks anew with `--keep scores`."
    return "run `wilss-masks verify` to see what is damaged."


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
