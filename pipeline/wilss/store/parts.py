"""A store that many processes make without a coordinator: what each says of the shards that it has made.

Beside the store, and gone once it is sealed:

    step-1.zarr.parts/<identity of the store>/
        12.mask.<digest>      a file of shard 12 on its way: whole, named by the digest of the shard's files
        12.0.receipt          shard 12 is made: the digest of its files, and its rows of the vectors
        12.0.void             the files are not as 12.0.receipt says; the shard is made again, for 12.1.receipt

Whoever makes a shard first puts its files here, then creates the receipt, which the file system grants to one alone,
and then those files whose digest the receipt names get their places in the store, whoever made them. So the files and
the receipt of a shard belong together, also where two machines make it and their bytes differ: the loser's files never
come near the store. Nothing here is ever changed or taken back; a void receipt has a successor. So whatever a process
remembers still holds, even if it was stopped for an hour.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..disk import Location, SharedFolder, folder_at, left_of, shared_folder_at
from ..disk.shared import build_once, upload_once
from ..errors import StoreError
from .creation import create_group
from .schema import VECTORS, StoreHeader, StoreLayout
from .seal import identity_of
from .shards import (
    ImageContent,
    ShardReceipt,
    add_to_digest,
    committed_digest,
    encoded_arrays,
    receipt_of,
    shard_name,
)

_MARK = re.compile(r"(\d+)\.(\d+)\.(receipt|void)")


class PartsGoneError(StoreError):
    """The store is not made in parts any more: others have sealed it, thrown it away or replaced it."""


@dataclass(frozen=True, kw_only=True)
class PartReceipt:
    """A receipt, and the arrays that have a file in its shard."""

    receipt: ShardReceipt
    arrays: tuple[str, ...]


class PartsState(NamedTuple):
    """What was found in one look. generation: how many receipts of a shard are void, where there are any.

    receipts: shards whose next receipt is there.
    """

    generation: Mapping[int, int]
    receipts: frozenset[int]


@dataclass(frozen=True, kw_only=True)
class StoreParts:
    """The shards of the store at `path` that many processes make; can be sent to workers. identity: of the store."""

    path: Location
    layout: StoreLayout
    identity: str

    @classmethod
    def of(cls, path: Location, layout: StoreLayout) -> "StoreParts":
        """Those of the store at `path`, whether or not there are any yet. Raises StoreError."""
        return cls(path=path, layout=layout, identity=identity_of(folder_at(path))[0])

    @cached_property
    def files(self) -> SharedFolder:
        """Where they are."""
        return shared_folder_at(parts_folder(self.path) / self.identity[:16])

    @property
    def is_begun(self) -> bool:
        """Whether somebody has begun to make the store in parts, and it is not sealed yet."""
        return self.files.is_begun()

    def begin(self) -> None:
        """Let it be made in parts. Raises OSError."""
        self.files.begin()

    def state(self) -> PartsState:
        """What there is now; nothing where the folder is gone. Raises OSError."""
        marks: dict[str, set[tuple[int, int]]] = {"receipt": set(), "void": set()}
        for name in self.files.names():
            if found := _MARK.fullmatch(name):
                marks[found[3]].add((int(found[1]), int(found[2])))
        generation: dict[int, int] = {}
        for shard, number in sorted(marks["void"]):
            if number == generation.get(shard, 0):
                generation[shard] = number + 1
        there = frozenset(shard for shard, number in marks["receipt"] if number == generation.get(shard, 0))
        return PartsState(generation, there)

    def has_receipt(self, shard: int, generation: int = 0) -> bool:
        """Whether there is a receipt of a shard, found with one question."""
        return self.files.has(_mark(shard, generation, "receipt"))

    def receipt(self, shard: int, generation: int = 0) -> PartReceipt:
        """What the shard's receipt says. Raises PartsGoneError, StoreError for one that is damaged, OSError."""
        name = _mark(shard, generation, "receipt")
        try:
            return _decoded(self.files.read(name), shard, self.layout)
        except FileNotFoundError as error:
            raise self._gone() from error
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
            file = parts_folder(self.path) / self.identity[:16] / name
            raise StoreError(f"{file} is damaged; remove it, and run the same command again.") from error

    def void(self, shard: int, generation: int) -> None:
        """Say that a shard is to be made again. Raises PartsGoneError, OSError."""
        try:
            self.files.create(_mark(shard, generation, "void"), b"void")
        except FileNotFoundError as error:
            raise self._gone() from error

    def hand_in(self, shard: int, images: list[ImageContent], generation: int = 0) -> ShardReceipt:
        """Write a shard that is made; returns the receipt that counts, this one or that of somebody quicker.

        Raises PartsGoneError where the store was sealed, thrown away or replaced by others meanwhile; OSError.
        """
        if self.has_receipt(shard, generation):
            counts = self.receipt(shard, generation)
        else:
            counts = self._create(shard, images, generation)
        # A store that is sealed has no receipts any more, and one may just have been created again: it must not count.
        if not self._is_open():
            raise self._gone()
        if not self.files.has(_mark(shard, generation, "void")):
            self.place(counts)
        return counts.receipt

    def place(self, counts: PartReceipt) -> None:
        """Give the files of a receipt that are still on their way their places in the store. Raises OSError."""
        receipt, folder = counts.receipt, folder_at(self.path)
        for spec in self.layout.arrays:
            target = shard_name(spec, receipt.shard)
            if spec.name in counts.arrays:
                self.files.move(_on_its_way(receipt.shard, spec.name, receipt.digest), folder, target)
            else:
                folder.remove(target)  # of a run that was killed before the store was made in parts

    def _create(self, shard: int, images: list[ImageContent], generation: int) -> PartReceipt:
        """Put the files of a shard here and create its receipt; the one that counts."""
        files = {spec.name: data for spec, data in encoded_arrays(self.layout, images)}
        digest = hashlib.sha256()
        for name, data in files.items():
            add_to_digest(digest, name, data)
        mine = PartReceipt(
            receipt=receipt_of(shard, digest.hexdigest(), self.layout, images),
            arrays=tuple(name for name, data in files.items() if data),
        )
        on_their_way = {name: _on_its_way(shard, name, mine.receipt.digest) for name in mine.arrays}
        try:
            for array, name in on_their_way.items():
                self.files.write(name, files[array])
            if self.files.create(_mark(shard, generation, "receipt"), _encoded(mine)):
                return mine
        except FileNotFoundError as error:
            raise self._gone() from error
        counts = self.receipt(shard, generation)
        if counts.receipt.digest != mine.receipt.digest:
            for name in on_their_way.values():
                self.files.remove(name)
        return counts

    def _is_open(self) -> bool:
        """Whether the store is the same, and not sealed."""
        try:
            return identity_of(folder_at(self.path)) == (self.identity, False)
        except StoreError:
            return False

    def _gone(self) -> PartsGoneError:
        return PartsGoneError(
            f"{self.path} was thrown away or replaced while parts of it were made; run the same command again to make "
            "the new one."
        )


def create_in_parts(place: Location, header: StoreHeader) -> None:
    """Make an empty store at `place` unless somebody has; of any number of processes that do, one makes it.

    Raises StoreError where another one is being made in a bucket at this moment; OSError.
    """
    folder = folder_at(place)
    if isinstance(place, Path):
        build_once(place, lambda building: create_group(building, header))
    elif not folder.exists("zarr.json"):
        beside = shared_folder_at(parts_folder(place))
        if not upload_once(folder, lambda building: create_group(building, header), "zarr.json", beside):
            raise StoreError(
                f"{place} is being made in parts with something else; give all parts the same options and data, or "
                f"remove {parts_folder(place)} where nothing is made of it any more."
            )


def parts_folder(path: Location) -> Location:
    """Beside a store: what is made of it in parts."""
    return path.with_name(f"{path.name}.parts")


def are_begun(path: Location) -> bool:
    """Whether there are parts of the store at `path`, or of one that was there before; one question. Raises OSError."""
    return bool(shared_folder_at(parts_folder(path)).names())


def discard_parts(path: Location) -> None:
    """Remove what is made of the store at `path` in parts, once it is sealed or thrown away. Raises OSError."""
    shared_folder_at(parts_folder(path)).discard()


def left_of_parts(path: Location) -> bool:
    """Whether anything lies beside the store at `path` that goes when it is sealed. Raises OSError."""
    return shared_folder_at(parts_folder(path)).is_begun() or are_begun(path) or bool(left_of(path))


def _mark(shard: int, generation: int, kind: str) -> str:
    return f"{shard}.{generation}.{kind}"


def _on_its_way(shard: int, array: str, digest: str) -> str:
    return f"{shard}.{array}.{digest}"


def _encoded(made: PartReceipt) -> bytes:
    """A receipt as JSON; of the vectors [n, C] what is not fill alone, as [row, position, value]."""
    receipt = made.receipt
    vectors = {name: _entries(getattr(receipt, name), VECTORS[name].fill) for name in receipt.vectors}
    value = {
        "digest": committed_digest(receipt),
        "arrays": list(made.arrays),
        "status": receipt.status.tolist(),
        "errors": list(receipt.errors),
        "vectors": vectors,
    }
    return json.dumps(value, separators=(",", ":")).encode("utf-8")


def _entries(values: NDArray[Any], fill: Any) -> list[list[Any]]:
    is_there = ~np.isnan(values) if fill != fill else values != fill
    return [[*place, values[tuple(place)].item()] for place in np.argwhere(is_there).tolist()]


def _decoded(data: bytes, shard: int, layout: StoreLayout) -> PartReceipt:
    """Raises ValueError and others where `data` is not what `_encoded` wrote for this shard of such a store."""
    value, count = json.loads(data), len(layout.rows(shard))
    arrays = tuple(spec.name for spec in layout.arrays if spec.name in value["arrays"])
    vectors = {name: _filled(name, entries, count, layout) for name, entries in value["vectors"].items()}
    receipt = ShardReceipt(
        shard=shard,
        digest=str(value["digest"]).split()[0],
        status=np.array(value["status"], np.int8),
        errors=tuple(map(str, value["errors"])),
        **vectors,
    )
    if receipt.status.shape != (count,) or len(receipt.errors) != count or ("content" in vectors) != layout.has_content:
        raise ValueError("it is of another shard")
    if committed_digest(receipt) != value["digest"]:
        raise ValueError("it does not match its digest")
    return PartReceipt(receipt=receipt, arrays=arrays)


def _filled(name: str, entries: list[list[Any]], count: int, layout: StoreLayout) -> NDArray[Any]:
    spec = VECTORS[name]
    values = np.full((count, layout.num_categories)[: len(spec.dims)], spec.fill, spec.dtype)
    for *place, value in entries:
        values[tuple(place)] = value
    return values
