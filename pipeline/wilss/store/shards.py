"""One shard: the planes of a few images, encoded as a Zarr v3 shard and written whole; and single planes out of it.

zarr's own writer takes a dense block (images x categories x H x W) and looks at every plane to find those
that are empty; with 80 categories that costs more than the masks are worth. The planes that exist are known
here, so only they are compressed, into the same file format (Zarr v3 core, `sharding_indexed` codec, index
at the end, crc32c). zarr reads it back in the tests.

zarr's own reader hands every plane to its event loop and back, which takes longer than the plane takes to decode, and
stops other threads of a trainer meanwhile. Here a plane is one read and one decompression.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import google_crc32c
import numpy as np
from numcodecs.zstd import Zstd
from numpy.typing import NDArray

from ..disk import Folder, Location, OpenedFile, folder_at
from .schema import VECTORS, ZSTD_LEVEL, ArraySpec, Status, StoreLayout
from .size_limits import content_size

#: Offset and length of a plane that is not there (Zarr v3 sharding codec: 2**64 - 1 in both).
_ABSENT = 2**64 - 1
_CHECKSUM = 4
#: What is committed of a shard's images besides their status and errors; each [n, C].
RECEIPT_VECTORS = ("confidence", "agreement", "area", "fallback")


@dataclass(frozen=True, kw_only=True)
class ImageContent:
    """What is stored of one image; categories are positions on the store's category axis.

    planes: array name -> category position -> plane, not larger than that array's plane; arrays
        without a category axis use position 0. Planes are anchored top-left.
    confidence, agreement, area, fallback: category position -> value.
    content: what its masks were made of, see `wilss.data.contents`; 0 where that is not known.
    """

    status: Status
    error: str = ""
    planes: Mapping[str, Mapping[int, NDArray[Any]]] = field(default_factory=dict)
    confidence: Mapping[int, float] = field(default_factory=dict)
    agreement: Mapping[int, float] = field(default_factory=dict)
    area: Mapping[int, int] = field(default_factory=dict)
    fallback: Mapping[int, bool] = field(default_factory=dict)
    content: int = 0


@dataclass(frozen=True, kw_only=True)
class ShardReceipt:
    """What the writer of a shard hands to the coordinator: the digest, and one row per image for the vectors.

    content: None for a store that has no such vector.
    """

    shard: int
    digest: str
    status: NDArray[np.int8]
    errors: tuple[str, ...]
    confidence: NDArray[np.float32]
    agreement: NDArray[np.float32]
    area: NDArray[np.int32]
    fallback: NDArray[np.bool_]
    content: NDArray[np.uint64] | None = None

    @property
    def vectors(self) -> tuple[str, ...]:
        """The vectors besides status and errors that it has rows for."""
        return RECEIPT_VECTORS if self.content is None else (*RECEIPT_VECTORS, "content")


def write_shard(root: Location | Folder, layout: StoreLayout, shard: int, images: list[ImageContent]) -> ShardReceipt:
    """Write every array's file of one shard, fsynced, and describe it; needs no zarr and no other shard.

    A file is left out, and an old one removed, where the array has no plane in this shard.
    """
    folder, digest = folder_at(root), hashlib.sha256()
    for spec, data in encoded_arrays(layout, images):
        if data:
            folder.write(shard_name(spec, shard), data)
        else:
            folder.remove(shard_name(spec, shard))
        add_to_digest(digest, spec.name, data)
    return receipt_of(shard, digest.hexdigest(), layout, images)


def encoded_arrays(layout: StoreLayout, images: list[ImageContent]) -> Iterator[tuple[ArraySpec, bytes]]:
    """Every array with the bytes of its file in the shard of these images; b"" where it has no plane there."""
    for spec in layout.arrays:
        yield spec, encode_shard(spec, layout.shard_size, [image.planes.get(spec.name, {}) for image in images])


def encode_shard(spec: ArraySpec, shard_size: int, images: list[Mapping[int, NDArray[Any]]]) -> bytes:
    """The bytes of one shard file: compressed planes, then their offsets and lengths, then a checksum.

    images: for each image of the shard, in order, category position -> plane.
    Returns b"" when no plane differs from the fill value.
    """
    codec = Zstd(level=ZSTD_LEVEL)
    index = np.full((shard_size * spec.planes_per_image, 2), _ABSENT, dtype="<u8")
    body, offset = [], 0
    for slot, plane in _slots(spec, images):
        encoded = codec.encode(np.ascontiguousarray(plane))
        index[slot] = offset, len(encoded)
        body.append(encoded)
        offset += len(encoded)
    if not body:
        return b""
    table = index.tobytes()
    return b"".join([*body, table, google_crc32c.value(table).to_bytes(4, "little")])


def shard_name(spec: ArraySpec, shard: int) -> str:
    """Where zarr looks for this shard in a store: every axis but the first has a single shard."""
    return "/".join((spec.name, "c", str(shard), *("0",) * (len(spec.shape) - 1)))


def read_planes(
    root: Location | Folder, spec: ArraySpec, shard_size: int, row: int, positions: Sequence[int], version: str = ""
) -> list[NDArray[Any] | None]:
    """The planes of the image at `row` at these positions of its category axis (0 for an array without one).

    Each on the array's canvas, read-only, or None where it is all fill. The file is opened once, so they are of one
    version of it. version: see `Folder.open`. Raises ValueError for bytes that are damaged or a position that there is
    not, OSError for a file that cannot be read.
    """
    if not all(0 <= position < spec.planes_per_image for position in positions):
        raise ValueError(f"{spec.name} has planes 0 to {spec.planes_per_image - 1}, not {list(positions)}")
    shard, place = divmod(row, shard_size)
    try:
        with folder_at(root).open(shard_name(spec, shard), version) as file:
            index = _index(file, shard_size * spec.planes_per_image)
            slots = [place * spec.planes_per_image + position for position in positions]
            return list(_decoded(file, index[slots].tolist(), spec))
    except FileNotFoundError:  # no plane in this shard differs from the fill
        return [None] * len(positions)


def digest_on_disk(root: Location | Folder, layout: StoreLayout, shard: int) -> str:
    """The digest of what lies on disk now; equals the receipt's unless a bit changed or a file was moved."""
    folder, digest = folder_at(root), hashlib.sha256()
    for spec in layout.arrays:
        try:
            data = folder.read(shard_name(spec, shard))
        except FileNotFoundError:
            data = b""
        add_to_digest(digest, spec.name, data)
    return digest.hexdigest()


def committed_digest(receipt: ShardReceipt) -> str:
    """What `shard_digest` says of a shard: the digest of its files, and that of its rows of the vectors."""
    digest = hashlib.sha256(json.dumps(receipt.errors).encode("utf-8"))
    for name in ("status", *receipt.vectors):
        values = np.asarray(getattr(receipt, name), np.dtype(VECTORS[name].dtype).newbyteorder("<"))
        digest.update(np.where(values == values, values, values.dtype.type(VECTORS[name].fill)).tobytes())
    return f"{receipt.digest.split()[0]} {digest.hexdigest()}"


def _slots(spec: ArraySpec, images: list[Mapping[int, NDArray[Any]]]) -> Iterator[tuple[int, NDArray[Any]]]:
    """Slot on the shard's index and full-size plane, for every plane that differs from the fill value."""
    for row, planes in enumerate(images):
        for position in sorted(planes):
            plane = _on_canvas(planes[position], spec)
            if plane is not None:
                yield row * spec.planes_per_image + position, plane


def _on_canvas(plane: NDArray[Any], spec: ArraySpec) -> NDArray[Any] | None:
    """`plane` in the array's type, anchored top-left on its canvas; None when it is all fill."""
    if plane.ndim != len(spec.plane) or any(have > room for have, room in zip(plane.shape, spec.plane, strict=True)):
        raise ValueError(f"a plane of {plane.shape} does not fit {spec.name}, whose planes are {spec.plane}")
    canvas = np.full(spec.plane, spec.fill, dtype=np.dtype(spec.dtype).newbyteorder("<"))
    canvas[tuple(slice(n) for n in plane.shape)] = plane
    empty = np.isnan(canvas).all() if np.isnan(spec.fill) else (canvas == spec.fill).all()
    return None if empty else canvas


def add_to_digest(digest: Any, name: str, data: bytes) -> None:
    """Add an array's file, b"" where there is none, to the digest of a shard; arrays come in the layout's order."""
    digest.update(f"{name}:{len(data)}\n".encode("ascii"))
    digest.update(data)


def receipt_of(shard: int, digest: str, layout: StoreLayout, images: list[ImageContent]) -> ShardReceipt:
    """What is to be committed of a shard. digest: of its files."""
    shape = (len(images), layout.num_categories)
    receipt = ShardReceipt(
        shard=shard,
        digest=digest,
        status=np.array([image.status for image in images], np.int8),
        errors=tuple(image.error for image in images),
        confidence=np.full(shape, np.nan, np.float32),
        agreement=np.full(shape, np.nan, np.float32),
        area=np.zeros(shape, np.int32),
        fallback=np.zeros(shape, np.bool_),
        content=np.array([image.content for image in images], np.uint64) if layout.has_content else None,
    )
    for row, image in enumerate(images):
        for name in RECEIPT_VECTORS:
            vector = getattr(receipt, name)
            for position, value in getattr(image, name).items():
                vector[row, position] = value
    return receipt


def _index(file: OpenedFile, slots: int) -> NDArray[np.uint64]:
    """Offset and length of every slot, from the end of the file."""
    size = 16 * slots + _CHECKSUM
    footer = file.read(file.size - size, size) if file.size >= size else b""
    table, checksum = footer[:-_CHECKSUM], footer[-_CHECKSUM:]
    if len(footer) != size or google_crc32c.value(table).to_bytes(_CHECKSUM, "little") != checksum:
        raise ValueError("the index of a shard does not match its checksum")
    return np.frombuffer(table, "<u8").reshape(slots, 2)


def _decoded(file: OpenedFile, places: list[list[int]], spec: ArraySpec) -> Iterator[NDArray[Any] | None]:
    codec, dtype = Zstd(), np.dtype(spec.dtype).newbyteorder("<")
    size = math.prod(spec.plane) * dtype.itemsize
    for offset, length in places:
        if length == _ABSENT:
            yield None
            continue
        if offset + length > file.size:
            raise ValueError("a plane is said to lie beyond the end of its shard")
        frame = file.read(offset, length)
        if (claimed := content_size(frame)) != size:  # before the codec takes as much memory as the frame asks for
            raise ValueError(f"a plane would become {claimed} bytes instead of {size}")
        yield np.frombuffer(codec.decode(frame), dtype).reshape(spec.plane)
