"""`MemoryBank`: open a bank, list what it holds, read an instance."""

import contextlib
import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from wilss.data.names import composed
from wilss.data.taxonomy import Taxonomy
from wilss.disk import data_folder_at, data_path
from wilss.errors import MasksError, StoreError, first_line
from wilss.store.arrays import read_chunk
from wilss.store.schema import ArraySpec
from wilss.store.shards import read_planes
from wilss.store.size_limits import require_names, require_planes, require_shape

from ..data.image_pool import BoundedCache
from .writing import (
    DIGEST_KEY,
    FORMAT,
    FORMAT_VERSION,
    ROOT,
    SHARD,
    VECTORS,
    Instance,
    InstanceInfo,
    digest_on_disk,
    specs_of,
    vector_shape,
)


class MemoryBank:
    """Instances of classes learnt so far; instances of a class lie together, by priority.

    Arrays are opened at first use and kept; a pickled bank is its path, so every process opens its own.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.folder = path, data_folder_at(path)
        self._cache = BoundedCache[int, Instance](_CACHE_MIB, _bytes_of)

    @classmethod
    def open(cls, path: Path | str) -> "MemoryBank":
        """The bank at `path`, or in a bucket. Raises StoreError when there is none, or a newer wilss wrote it."""
        bank = cls(data_path(path))
        bank._check_format()
        return bank

    def __reduce__(self) -> tuple[type["MemoryBank"], tuple[Path]]:
        return type(self), (self.path,)

    def __len__(self) -> int:
        return len(self.infos)

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """What the bank was made with."""
        root = self.path / ROOT
        if not root.is_file():
            raise StoreError(f"{self.path} is not there or no memory bank; `wilss-train` writes memory.zarr in a run.")
        try:
            return dict(json.loads(root.read_text(encoding="utf-8"))["attributes"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise StoreError(f"{root} cannot be read ({error}); copy the bank again, or train again.") from error

    @property
    def digest(self) -> str:
        """The bank's name for its own content; `verify` holds it against the files."""
        return str(self.attributes.get(DIGEST_KEY, ""))

    @cached_property
    def taxonomy(self) -> Taxonomy:
        """The classes that the ids stand for."""
        with _reading(self.path, "taxonomy"):
            named = self.attributes["taxonomy"]
            return Taxonomy(name=named["name"], class_names=tuple(named["class_names"]))

    @cached_property
    def infos(self) -> tuple[InstanceInfo, ...]:
        """Every instance, in the bank's order."""
        with _reading(self.path, "vectors"):
            return tuple(self._read_infos())

    @cached_property
    def category_ids(self) -> tuple[int, ...]:
        """The classes that have instances here, in the order in which they were learnt."""
        return tuple(self._by_class)

    def instances(self, category_id: int) -> tuple[InstanceInfo, ...]:
        """The instances of a class, by priority; none for a class that the bank does not have."""
        return self._by_class.get(category_id, ())

    def read(self, index: int) -> Instance:
        """The instance at this place in the bank, kept for the next time. Raises MasksError for damaged bytes."""
        return self._cache.get(index, lambda: self._read(index))

    def _read(self, index: int) -> Instance:
        info = self.infos[index]
        top, left, bottom, right = info.box
        with _reading(self.path, "arrays"):
            specs = self._specs
        with _reading(self.path, f"instance {index}", MasksError):
            planes = [self._plane(spec, index) for spec in specs]
            image, mask = (plane[: bottom - top, : right - left].copy() for plane in planes)
        return Instance(**vars(info), image=image, mask=mask)

    def _plane(self, spec: ArraySpec, index: int) -> NDArray[Any]:
        (plane,) = read_planes(self.folder, spec, SHARD, index, [0], version=self.digest)
        return np.full(spec.plane, spec.fill, spec.dtype) if plane is None else plane

    def verify(self) -> None:
        """Raise StoreError unless every byte is as it was written."""
        with _reading(self.path, "digest"):
            digest = digest_on_disk(self.path)
        if digest != self.digest:
            raise StoreError(f"{self.path} does not match its digest: {_FIX}")

    def require_taxonomy(self, taxonomy: Taxonomy) -> None:
        """Raise StoreError unless the ids of the bank's instances stand for the same classes in `taxonomy`."""
        ours, theirs = (dict(enumerate(map(composed, one.class_names))) for one in (self.taxonomy, taxonomy))
        if any(ours.get(identity) != theirs.get(identity) for identity in {info.category_id for info in self.infos}):
            raise StoreError(
                f"{self.path} holds classes of {self.taxonomy.name}, which are not those of {taxonomy.name}; pass the "
                "checkpoint that was trained with this manifest."
            )

    @cached_property
    def _by_class(self) -> dict[int, tuple[InstanceInfo, ...]]:
        by_class: dict[int, list[InstanceInfo]] = {}
        for info in self.infos:
            by_class.setdefault(info.category_id, []).append(info)
        return {identity: tuple(infos) for identity, infos in by_class.items()}

    @cached_property
    def _specs(self) -> tuple[ArraySpec, ...]:
        """The two sharded arrays, as the vectors say that they are; those on disk must be so."""
        group = self._group()
        specs = specs_of(self.infos)
        for spec in specs:
            sizes = group[spec.name].shape, group[spec.name].shards[0]
            if sizes != (spec.shape, SHARD):
                raise ValueError(f"{spec.name} has shape and shard {sizes}, not {(spec.shape, SHARD)}")
            require_planes(self.path, spec, SHARD, bytes_per_pixel=_BYTES_PER_PIXEL)
        return specs

    def _read_infos(self) -> Iterator[InstanceInfo]:
        group = self._group()
        count = group["area"].shape[0]
        require_names(self.path, "image_id", group["image_id"], count, rows=count)
        columns: dict[str, list[Any]] = {}
        for spec in VECTORS:
            shape = vector_shape(spec, count)
            require_shape(self.path, spec.name, group[spec.name], shape)
            columns[spec.name] = read_chunk(self.folder, spec, 0, shape).tolist()
        for index, values in enumerate(zip(*columns.values(), strict=True)):
            fields = dict(zip(columns, values, strict=True))
            top, left, bottom, right = fields.pop("box")
            yield InstanceInfo(index=index, box=(top, left, bottom, right), **fields)

    def _group(self) -> Any:
        return zarr.open_group(self.folder.for_zarr(), mode="r", zarr_format=3)

    def _check_format(self) -> None:
        if self.attributes.get("format") != FORMAT:
            raise StoreError(f"{self.path} is no memory bank; pass the memory.zarr of a run.")
        version = self.attributes.get("format_version")
        if not isinstance(version, int) or version > FORMAT_VERSION:
            raise StoreError(
                f"{self.path} has format_version {version!r}, this wilss reads up to {FORMAT_VERSION}; upgrade wilss "
                "to read it."
            )


_CACHE_MIB = 256
#: Of the largest canvas: crops have three colours, and the highest may not be the widest.
_BYTES_PER_PIXEL = 12
_FIX = "its files were changed or are incomplete; copy the bank again, or train its step again."


def _bytes_of(instance: Instance) -> int:
    return instance.image.nbytes + instance.mask.nbytes


@contextlib.contextmanager
def _reading(path: Path, what: str, raises: type[StoreError] = StoreError) -> Iterator[None]:
    """Damaged bytes make zarr and its codecs raise nearly anything; the user gets one sentence with a fix."""
    try:
        yield
    except StoreError:
        raise
    except Exception as error:
        raise raises(f"{path}: {what} cannot be read ({first_line(error)}); {_FIX}") from error
