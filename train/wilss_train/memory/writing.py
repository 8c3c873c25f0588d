"""What a memory bank holds, how it lies on disk, and how it gets there: whole or not at all.

A Zarr v3 group that xarray opens without a warning. Crops lie top-left on a canvas of the largest height and width;
each is a chunk of its own, 32 to a shard. The vectors along `instance` say the rest.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from wilss.data.taxonomy import Taxonomy
from wilss.digests import digest_of_bytes, listing_of_files
from wilss.disk import UrlPath, built_beside, write_atomically, writing
from wilss.errors import StoreError
from wilss.store.schema import ArraySpec, VectorSpec, consolidate, create_sharded, create_vector
from wilss.store.shards import encode_shard, shard_name

FORMAT, FORMAT_VERSION = "wilss-memory", 1
DIGEST_KEY = "digest"
ROOT = "zarr.json"
#: Instances of a shard file.
SHARD = 32
#: The vectors along `instance`; who reads them begins with the names, of which there are as many as they say.
VECTORS = tuple(
    VectorSpec(name=name, dims=("instance", "edge") if name == "box" else ("instance",), dtype=dtype, fill=fill)
    for name, dtype, fill in (
        ("image_id", "object", ""), ("category_id", "int32", 0), ("area", "int32", 0), ("step", "int32", 0),
        ("weak", "bool", 0), ("confidence", "float32", 0), ("box", "int32", 0),
    )
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class InstanceInfo:
    """All about an instance but its pixels.

    index: its place in the bank. box: (top, left, bottom, right) in the image that it was cut out of, the last two
    not included. area: pixels of its mask. step: at which it was archived. weak: whether its mask was made from
    image tags. confidence: of that mask, NaN where its source gives none.
    """

    index: int
    category_id: int
    image_id: str
    box: tuple[int, int, int, int]
    area: int
    step: int
    weak: bool
    confidence: float

    @property
    def height(self) -> int:
        """Rows of the crop."""
        return self.box[2] - self.box[0]

    @property
    def width(self) -> int:
        """Columns of the crop."""
        return self.box[3] - self.box[1]


@dataclass(frozen=True, kw_only=True, eq=False)
class Instance(InstanceInfo):
    """An instance with its pixels: image uint8 [h, w, 3], the crop of `box`; mask bool [h, w], True on the instance."""

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]


def write_bank(
    path: Path,
    attributes: dict[str, Any],
    infos: Sequence[InstanceInfo],
    instances: Iterable[Instance],
    taxonomy: Taxonomy,
) -> str:
    """Write a bank of `infos`, whose pixels come in the same order from `instances`; its digest.

    attributes: JSON values. It is built beside `path` and renamed once every byte is on the disk. Raises StoreError
    where `path` is something other than a bank, or cannot be written.
    """
    _refuse_foreign(path)
    named = {"name": taxonomy.name, "class_names": list(taxonomy.class_names)}
    with writing(path), built_beside(path) as building:
        _write(building, {**attributes, "taxonomy": named}, infos, iter(instances))
        digest = _seal(building)
    return digest


def digest_on_disk(path: Path) -> str:
    """sha256 of every file of a bank by name and content, but for the digest that the bank itself names."""
    files = (file for file in path.rglob("*") if isinstance(path, UrlPath) or file.is_file())
    listing = listing_of_files(path, (file for file in files if file != path / ROOT))
    root = json.loads((path / ROOT).read_text(encoding="utf-8"))
    root["attributes"].pop(DIGEST_KEY, None)
    return digest_of_bytes(listing + json.dumps(root, sort_keys=True, separators=(",", ":")).encode())


def _write(
    path: Path, attributes: dict[str, Any], infos: Sequence[InstanceInfo], instances: Iterator[Instance]
) -> None:
    attributes = {"format": FORMAT, "format_version": FORMAT_VERSION, **attributes}
    group = zarr.create_group(path, zarr_format=3, attributes=attributes)
    specs = specs_of(infos)
    for spec in specs:
        create_sharded(group, spec, SHARD)
    _write_vectors(group, infos)
    for shard in range(-(-len(infos) // SHARD)):
        some = list(islice(instances, SHARD))
        for spec in specs:
            data = encode_shard(spec, SHARD, [{0: getattr(instance, spec.name)} for instance in some])
            write_atomically(path / shard_name(spec, shard), data)
    consolidate(group)


def specs_of(infos: Sequence[InstanceInfo]) -> tuple[ArraySpec, ArraySpec]:
    """The two sharded arrays, images and masks, of a bank that holds `infos`."""
    height = max((info.height for info in infos), default=1)
    width = max((info.width for info in infos), default=1)
    return (
        ArraySpec(name="image", dims=("instance", "y", "x", "colour"), shape=(len(infos), height, width, 3),
                  plane=(height, width, 3), dtype="uint8", fill=0),
        ArraySpec(name="mask", dims=("instance", "y", "x"), shape=(len(infos), height, width),
                  plane=(height, width), dtype="bool", fill=False),
    )  # fmt: skip


def _write_vectors(group: zarr.Group, infos: Sequence[InstanceInfo]) -> None:
    for spec in VECTORS:
        shape = vector_shape(spec, len(infos))
        array = create_vector(group, spec, shape, max(len(infos), 1))
        if infos:
            array[...] = np.array([getattr(info, spec.name) for info in infos], dtype=spec.dtype)


def vector_shape(spec: VectorSpec, count: int) -> tuple[int, ...]:
    """The shape of a vector of `count` instances."""
    return (count, 4) if spec.name == "box" else (count,)


def _seal(path: Path) -> str:
    digest = digest_on_disk(path)
    root = json.loads((path / ROOT).read_text(encoding="utf-8"))
    root["attributes"][DIGEST_KEY] = digest
    write_atomically(path / ROOT, json.dumps(root, indent=2).encode("utf-8"))
    return digest


def _refuse_foreign(path: Path) -> None:
    """Raise StoreError where `path` is there and no bank, which would be deleted."""
    if not path.exists() and not path.is_symlink():
        return
    try:
        is_bank = json.loads((path / ROOT).read_text(encoding="utf-8"))["attributes"]["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError):
        is_bank = False
    if not is_bank:
        raise StoreError(f"{path} exists and is no memory bank; move it away, or give another path.")
