"""How much memory a store may ask for: what it says of its own sizes is believed within limits only.

A few bytes on disk can claim to be gigabytes: a zstd frame says how large it will become, and metadata says how large
an array is. Both are looked at before memory is taken. A store of our own always passes.
"""

import math
from typing import Any

import numpy as np
from numcodecs.zstd import Zstd
from numpy.typing import NDArray

from ..data.images import PIXEL_CAP
from ..data.taxonomy import BACKGROUND, VOID
from ..disk import Folder, Location, folder_at
from ..errors import StoreError
from .schema import VECTORS, ArraySpec, Status, StoreLayout

_MAGIC = b"\x28\xb5\x2f\xfd"
_LONGEST_HEADER = 18
_CODECS = frozenset({"bytes", "vlen-utf8", "zstd"})
_LARGEST_SHARD = 1 << 20
_LARGEST_ITEM = 8
#: Of a chunk of names or sentences: so much for each, and all of them together.
_LONGEST_TEXT = 1 << 14
_LARGEST_TEXTS = 1 << 30
#: Bytes before the texts of a chunk (zarr's vlen-utf8): how many there are.
_COUNT = 4
_FIX = "it is damaged, or was made to do harm; fetch another copy, or make it again."


def content_size(frame: bytes) -> int:
    """What a zstd frame becomes, in bytes, by its header (RFC 8878, 3.1.1.1). Raises ValueError where it does not say.

    Every frame of ours says it; one that does not could grow without end.
    """
    if len(frame) < 6 or frame[:4] != _MAGIC:
        raise ValueError("what is stored is no zstd frame")
    flags = frame[4]
    is_single = bool(flags & 0x20)
    begin = 5 + (not is_single) + (0, 1, 2, 4)[flags & 3]
    width = (int(is_single), 2, 4, 8)[flags >> 6]
    field = frame[begin : begin + width]
    if not width or len(field) < width:
        raise ValueError("a zstd frame does not say how large its content is")
    return int.from_bytes(field, "little") + (256 if width == 2 else 0)


def unpacked(frame: bytes, values: int, itemsize: int | None) -> bytes:
    """What a zstd frame of so many values holds; ValueError where it would be more. itemsize: None for texts."""
    most = min(values * _LONGEST_TEXT, _LARGEST_TEXTS) if itemsize is None else values * itemsize
    if (claimed := content_size(frame)) > most:
        raise ValueError(f"{'its texts' if itemsize is None else 'a chunk'} would become {claimed} bytes")
    return bytes(Zstd().decode(frame))


def require_planes(path: Location, spec: ArraySpec, shard_size: int, *, bytes_per_pixel: int = 1) -> None:
    """Raise StoreError unless the planes of a sharded array, and the index of a shard of them, are of bearable size.

    bytes_per_pixel: of the largest canvas that is allowed.
    """
    size = math.prod(spec.plane) * np.dtype(spec.dtype).itemsize
    if size > bytes_per_pixel * PIXEL_CAP or spec.planes_per_image > VOID or shard_size > _LARGEST_SHARD:
        raise StoreError(
            f"{path}: the array {spec.name!r} says that it has {spec.planes_per_image} planes of {spec.plane} an image "
            f"and {shard_size} images a shard, more than there can be; {_FIX}"
        )


def require_names(root: Location | Folder, name: str, array: Any, count: int, rows: int) -> None:
    """Raise StoreError unless as many things are named on disk as the sizes say that there are.

    root: the group's folder. array: zarr's array of names, in the folder `name` below; it has `rows` of them in a
    chunk. A name is never empty, so each chunk has its file.
    """
    last = (count - 1) // max(rows, 1)
    if array.chunks != (max(rows, 1),) or (count and not folder_at(root).exists(f"{name}/c/{last}")):
        raise StoreError(f"{root} says that it holds {count} things, which its array {name!r} does not name; {_FIX}")


def require_shape(path: Location, name: str, array: Any, shape: tuple[int, ...]) -> None:
    """Raise StoreError unless the unsharded `array` has this shape."""
    if tuple(array.shape) != shape:
        raise StoreError(f"{path}: the array {name!r} has the shape {array.shape}, not {shape}; {_FIX}")


def require_as_written(path: Location, name: str, array: Any, layout: StoreLayout) -> None:
    """Raise StoreError unless the metadata of the small `array` of a store is what `schema` writes; reads no chunk."""
    spec, shape = VECTORS[name], layout.vector_shape(name)
    require_shape(path, name, array, shape)
    codecs = {str(codec.to_dict()["name"]): codec.to_dict().get("configuration", {}) for codec in array.metadata.codecs}
    first = "vlen-utf8" if spec.dtype == "object" else "bytes"
    is_little = dict(codecs.get(first, {})).get("endian", "little") == "little"
    has_dtype = spec.dtype == "object" or array.dtype == spec.dtype
    if list(codecs) != [first, "zstd"] or not (is_little and has_dtype):
        raise StoreError(f"{path}: the array {name!r} is not as wilss writes it ({array.dtype}); {_FIX}")
    if all(shape) and array.chunks != (layout.chunk_rows(name), *shape[1:]):
        raise StoreError(f"{path}: the array {name!r} has chunks of {array.chunks}; {_FIX}")


def require_text_count(data: bytes, count: int) -> None:
    """Raise ValueError unless the texts of a chunk, by their own word, are so many: room is made for all of them."""
    if (claimed := int.from_bytes(data[:_COUNT], "little")) != count:
        raise ValueError(f"a chunk has {claimed} values and not {count}")


def require_values(name: str, values: NDArray[Any], layout: StoreLayout) -> None:
    """ValueError where a small array holds what nothing can be: a status, a side or a class that there is not."""
    least, most = {
        "status": (min(Status), max(Status)),
        "height": (0, layout.canvas[0]),
        "width": (0, layout.canvas[1]),
        "category_id": (BACKGROUND + 1, VOID - 1),
        "verdict": (0, VECTORS["verdict"].attributes["flag_values"][-1]),
    }.get(name, (0, 0))
    if most and values.size and not least <= values.min() <= values.max() <= most:
        raise ValueError(f"it has values from {values.min()} to {values.max()}, and {least} to {most} there can be")
