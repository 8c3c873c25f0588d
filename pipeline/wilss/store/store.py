"""`MaskStore`: open a store and read masks from it, also while somebody writes it. `writer` has the other half."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.names import NameIndex, Names
from ..digests import digest_of_bytes
from ..disk import Location, location_of
from ..errors import MasksError, StoreError
from .arrays import StoreArrays
from .parts import PartsState, StoreParts
from .row_state import RowState, RowStates
from .schema import FORMAT, FORMAT_VERSION, SEAL_KEY, SHARDS_PER_VECTOR_CHUNK, Status, StoreLayout
from .seal import Damage, verify, verify_but_shards
from .shards import RECEIPT_VECTORS, ShardReceipt

#: Shards that are read ahead at the same time.
_FETCHERS = 4


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
    """One step's masks on disk, for reading: a consistent snapshot of an image, or StoreError.

    An image's masks are there only when its status says done. Use `open`. Memory: about 60 bytes an image.
    """

    def __init__(self, path: Location) -> None:
        """For `open` alone: the store at `path`, whatever its format and state."""
        self.path = path
        self._arrays = StoreArrays(path)
        self.folder = self._arrays.folder

    @classmethod
    def open(cls, path: Location | str, *, allow_partial: bool = False) -> "MaskStore":
        """Open a store for reading. path: a folder, or the URL of a place in a bucket, such as s3://BUCKET/step-1.zarr.

        Raises StoreError when there is none, when a newer wilss wrote it, or when masks are still missing
        and `allow_partial` is False.
        """
        store = cls(location_of(path))
        store._check_format()
        if not allow_partial and not store.is_complete:
            missing = len(store.shards_to_make())
            lacks = f"{missing} of {store.layout.num_shards} shards are missing" if missing else "it has no seal"
            raise StoreError(f"{path} is not complete: {lacks}; {store.to_go_on}, or pass --allow-partial.")
        return store

    # -- what the store says of itself ----------------------------------------------------------------------

    @property
    def attributes(self) -> dict[str, Any]:
        """What the store was made with."""
        return self._arrays.attributes

    @property
    def layout(self) -> StoreLayout:
        """The sizes of this store."""
        return self._arrays.layout

    @property
    def step(self) -> int:
        """The step whose classes the masks are of. Raises StoreError where the store does not say it."""
        step = self.attributes.get("step")
        if not isinstance(step, int) or isinstance(step, bool) or step < 0:
            raise StoreError(
                f"{self.path} does not say of which step its masks are (step is {step!r}); it is damaged, so fetch "
                "another copy, or make it again."
            )
        return step

    @property
    def is_complete(self) -> bool:
        """Whether every shard was committed and the store sealed."""
        return SEAL_KEY in self.attributes

    @property
    def to_go_on(self) -> str:
        """What makes a store complete that is not, as a part of a sentence."""
        if "fused_from" in self.attributes:
            return "run the same `wilss-masks fuse` again with --overwrite"
        return "run the same `wilss-masks generate` again"

    @property
    def digest(self) -> str:
        """One sha256 of everything in a complete store, by its seal; two stores with equal ones hold the same bytes."""
        sealed = self.attributes.get(SEAL_KEY)
        if not isinstance(sealed, dict):
            raise StoreError(f"{self.path} is not complete, so it has no digest; {self.to_go_on}.")
        return digest_of_bytes(f"{sealed.get('root')} {sealed.get('files')}".encode())

    @cached_property
    def image_ids(self) -> Names:
        """Image ids, in the order of the image axis: a sequence of str."""
        count, step = self.layout.num_images, self.layout.chunk_rows("image")
        chunks = self.folder.each(
            lambda first: self._arrays.rows("image", slice(first, first + step)), range(0, count, step)
        )
        return Names(str(name) for chunk in chunks for name in chunk)

    @cached_property
    def _positions(self) -> NameIndex:
        return NameIndex(self.image_ids)

    @cached_property
    def category_names(self) -> tuple[str, ...]:
        """Names of the step's classes, in the order of the category axis."""
        return tuple(str(name) for name in self.vector("category"))

    @cached_property
    def category_ids(self) -> tuple[int, ...]:
        """Taxonomy ids of the step's classes, in the order of the category axis."""
        return tuple(int(i) for i in self.vector("category_id"))

    def position(self, image: str | int) -> int:
        """The position of `image` (an id, or already a position) on the image axis."""
        if isinstance(image, int):
            if not 0 <= image < self.layout.num_images:
                raise StoreError(f"{self.path} has no image at position {image}; it has {self.layout.num_images}.")
            return image
        position = int(self._positions.find_spelt([image])[0])
        if position < 0:
            raise StoreError(f"{self.path} has no image {image!r}; `wilss-masks info` shows what it holds.")
        return position

    def find(self, image_id: str) -> int | None:
        """The position of an image on the image axis, None where the store does not have it."""
        return self._positions.find(image_id)

    def vector(self, name: str) -> NDArray[Any]:
        """One of the small arrays, whole, from disk: [N], [N, C], [C] or one value per shard; see `schema.VECTORS`."""
        return self._arrays.rows(name, slice(None))

    def current_status(self) -> NDArray[np.int8]:
        """The status of every image, int8 [N], from disk; one whose shard is not committed is never done."""
        digests, status = self.vector("shard_digest"), self.vector("status")
        committed = np.repeat(digests != "", self.layout.shard_size)[: len(status)]
        return np.where(committed | (status != Status.DONE), status, Status.PENDING).astype(np.int8)

    def pending_shards(self) -> tuple[int, ...]:
        """Shards that were not committed, ascending; images that will never be made do not keep one pending."""
        status, digests, layout = self.vector("status"), self.vector("shard_digest"), self.layout
        return tuple(
            shard
            for shard in range(layout.num_shards)
            if not digests[shard] or (status[layout.row_slice(shard)] == Status.PENDING).any()
        )

    def parts(self) -> StoreParts | None:
        """The parts in which many processes make the store at present; None where they do not."""
        parts = StoreParts.of(self.path, self.layout)
        return parts if parts.is_begun and not self.is_complete else None

    def shards_to_make(self, state: PartsState | None = None) -> dict[int, int]:
        """Shards that nobody has made, ascending, and for each how many receipts of it are void; see `parts`.

        `pending_shards` are also those that are made in parts and not yet brought together. state: what `parts` says by
        now, where the caller has asked: a second listing may know of more.
        """
        # The receipts first: they go only once the vectors hold what they say.
        if state is None:
            parts = self.parts()
            state = PartsState({}, frozenset()) if parts is None else parts.state()
        generation, receipts = state
        again = {shard for shard in generation if shard not in receipts}
        return {shard: generation.get(shard, 0) for shard in sorted({*self.pending_shards(), *again} - receipts)}

    # -- masks ----------------------------------------------------------------------------------------------

    def read(self, image: str | int, categories: Sequence[int] | None = None) -> ImageMasks:
        """Masks of one image, by default of the categories it is tagged with.

        Somebody may be writing the store meanwhile: what is returned belongs together.
        Raises MasksError when the image's masks are not there or damaged, StoreError when the store is gone.
        """
        row = self.position(image)
        return self._states.consistently(row, lambda state: self._masks(row, state, categories))

    def plane(self, name: str, image: str | int, category: int | None = None) -> NDArray[Any]:
        """One plane of a sharded array as stored: on the canvas, or on the largest patch grid.

        category: a position on the category axis; None for an array without one.
        """
        spec = self._arrays.spec(name)
        (plane,) = self.planes(name, self.position(image), [0 if category is None else category])
        return np.full(spec.plane, spec.fill, spec.dtype) if plane is None else plane

    def planes(self, name: str, row: int, positions: Sequence[int]) -> list[NDArray[Any] | None]:
        """Planes of the image at `row` at these positions of a sharded array's category axis, None where all is fill.

        Raises MasksError where they are damaged.
        """
        return self._states.consistently(row, lambda state: self._arrays.planes(name, row, positions, state.digest))

    def fetch(self, rows: Iterable[int]) -> None:
        """Begin to read the masks of these images, which are wanted soon, into memory; on disk nothing is done.

        What cannot be read is told to whoever reads it.
        """
        if not self.folder.is_far:
            return
        for shard in {row // self.layout.shard_size for row in rows} - self._fetched:
            self._fetched.add(shard)
            self._fetchers.submit(self._fetch, shard)

    def _fetch(self, shard: int) -> None:
        row, names = shard * self.layout.shard_size, ("mask", "void") if self.layout.has_void else ("mask",)
        with contextlib.suppress(StoreError):
            self._states.consistently(
                row, lambda state: [self._arrays.planes(name, row, [], state.digest) for name in names]
            )
        self._fetched.discard(shard)

    @cached_property
    def _fetched(self) -> set[int]:
        return set()

    @cached_property
    def _fetchers(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(_FETCHERS, thread_name_prefix="fetch")

    def _masks(self, row: int, state: RowState, categories: Sequence[int] | None) -> ImageMasks:
        self._require_done(row, state)
        height, width = state.height, state.width
        wanted = self._tagged(row) if categories is None else sorted(categories)
        masks = np.zeros((len(wanted), height, width), np.bool_)
        for slot, plane in enumerate(self._arrays.planes("mask", row, wanted, state.digest)):
            if plane is not None:
                masks[slot] = plane[:height, :width]
        return ImageMasks(
            image_id=self.image_ids[row],
            categories=tuple(wanted),
            masks=masks,
            void=self._void(row, state) if self.layout.has_void else None,
        )

    def _void(self, row: int, state: RowState) -> NDArray[np.bool_]:
        (plane,), height, width = self._arrays.planes("void", row, [0], state.digest), state.height, state.width
        return np.zeros((height, width), np.bool_) if plane is None else plane[:height, :width].copy()

    def _tagged(self, row: int) -> list[int]:
        return np.flatnonzero(np.unpackbits(self._tag_bits[row], count=self.layout.num_categories)).tolist()

    @cached_property
    def _tag_bits(self) -> NDArray[np.uint8]:
        return np.packbits(self.vector("tags"), axis=1)

    @cached_property
    def _states(self) -> RowStates:
        return RowStates(self._arrays)

    def _require_done(self, row: int, state: RowState) -> None:
        if not state.is_done:
            pending = state.status is Status.DONE  # its shard is about to be made again
            word = "pending" if pending else state.status.name.lower()
            why = self._arrays.rows("error", slice(row, row + 1))[0] if state.status is Status.FAILED else ""
            raise MasksError(f"{self.path} holds no masks of {self.image_ids[row]}: {why or f'its status is {word}'}")

    # -- what was committed, and whether it is whole --------------------------------------------------------

    def receipt(self, shard: int) -> ShardReceipt:
        """What was committed of a shard."""
        rows, read = self.layout.row_slice(shard), self._arrays.rows
        return ShardReceipt(
            shard=shard,
            digest=str(read("shard_digest", slice(shard, shard + 1))[0]),
            status=read("status", rows),
            errors=tuple(str(error) for error in read("error", rows)),
            **{name: read(name, rows) for name in self._of_receipts},
        )

    @property
    def _of_receipts(self) -> tuple[str, ...]:
        return (*RECEIPT_VECTORS, "content") if self.layout.has_content else RECEIPT_VECTORS

    def verify(self) -> Iterator[Damage]:
        """Compare every byte with the store's digests; yields what is damaged, nothing when all is whole."""
        yield from verify(self.folder, self.layout, self._committed())

    def verify_but_shards(self) -> Iterator[Damage]:
        """The same for metadata and vectors alone, which takes no time to speak of."""
        yield from verify_but_shards(self.folder, self.layout)

    def _committed(self) -> Iterator[ShardReceipt]:
        """The receipts of all committed shards; the vectors are read a chunk at a time."""
        size, step, read = self.layout.shard_size, SHARDS_PER_VECTOR_CHUNK, self._arrays.rows
        for first in range(0, self.layout.num_shards, step):
            digests, rows = read("shard_digest", slice(first, first + step)), slice(first * size, (first + step) * size)
            names = ("status", "error", *self._of_receipts) if any(digests) else ()
            vectors = {name: read(name, rows) for name in names}
            for place, digest in enumerate(digests):
                own = {name: values[place * size : (place + 1) * size] for name, values in vectors.items()}
                if digest and Status.PENDING not in own["status"]:  # else a kill came before its status
                    errors = tuple(str(error) for error in own.pop("error"))
                    yield ShardReceipt(shard=first + place, digest=str(digest), errors=errors, **own)

    def _check_format(self) -> None:
        if self.attributes.get("format") != FORMAT:
            raise StoreError(f"{self.path} is a zarr group but not a mask store; pass the step-N.zarr folder.")
        version = self.attributes.get("format_version")
        if not isinstance(version, int) or version > FORMAT_VERSION:
            raise StoreError(
                f"{self.path} has format_version {version!r}, this wilss reads up to {FORMAT_VERSION}; "
                "upgrade wilss to read it."
            )
