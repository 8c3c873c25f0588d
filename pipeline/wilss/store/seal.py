"""The seal: digests from which any changed, missing, foreign or swapped byte of a complete store is found.

Three layers, so that each file is covered exactly once: a shard's files by its entry in `shard_digest`;
all other files but the root's by `seal.files`; the root's own metadata by `seal.root`.

Before there is a seal, an entry in `shard_digest` covers the shard's rows of the vectors, too, and the metadata of the
arrays stands twice in the store. So a run that goes on with a store does not go on with damage.
"""

import functools
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..digests import digest_of_bytes, digest_of_json
from ..disk import Folder, Location, folder_at
from ..errors import StoreError
from ..process import map_in_threads
from .arrays import chunk_name, is_as_written
from .schema import SEAL_KEY, StoreLayout
from .shards import ShardReceipt, committed_digest, digest_on_disk

_ROOT = "zarr.json"
_THREADS = 8


@dataclass(frozen=True, kw_only=True)
class Damage:
    """One thing that is wrong with a store. `shard` is None where it is not a shard."""

    what: str
    shard: int | None = None


def seal(place: Location | Folder, layout: StoreLayout) -> None:
    """Write the digest of everything into the root's attributes."""
    folder = folder_at(place)
    root = _unsealed_root(folder)
    digests = {"files": _files_digest(folder, layout), "root": _root_digest(root)}
    root["attributes"][SEAL_KEY] = digests
    _write_root(folder, root)


def unseal(place: Location | Folder) -> None:
    """Take the seal out of the root's attributes: the store is about to change."""
    folder = folder_at(place)
    _write_root(folder, _unsealed_root(folder))


def _unsealed_root(folder: Folder) -> dict[str, Any]:
    root = json.loads(folder.read(_ROOT))
    root["attributes"].pop(SEAL_KEY, None)
    return dict(root)


def _write_root(folder: Folder, root: dict[str, Any]) -> None:
    folder.write(_ROOT, json.dumps(root, indent=2).encode("utf-8"))


def identity_of(folder: Folder) -> tuple[str, bool]:
    """A digest of what a store says of itself, the same before and after it is sealed, and whether it is.

    Raises StoreError.
    """
    root = _read_root(folder)
    is_sealed = root["attributes"].pop(SEAL_KEY, None) is not None
    return _root_digest(root), is_sealed


def verify(folder: Folder, layout: StoreLayout, receipts: Iterable[ShardReceipt]) -> Iterator[Damage]:
    """Compare every byte of a store with its digests and yield what differs, shard by shard.

    receipts: what was committed of the shards, by the store's vectors.
    """
    for receipt, found in folder.each(lambda one: (one, digest_on_disk(folder, layout, one.shard)), receipts):
        shard, (files, *rows) = receipt.shard, receipt.digest.split() or [""]
        if found != files:
            yield Damage(what=f"shard {shard} does not match its digest", shard=shard)
        elif rows and committed_digest(receipt) != receipt.digest:
            yield Damage(what=f"what is said of the images in shard {shard} does not match its digest", shard=shard)
    yield from verify_but_shards(folder, layout)


def verify_but_shards(folder: Folder, layout: StoreLayout) -> Iterator[Damage]:
    """The same for all that is small: metadata and vectors."""
    root = _read_root(folder)
    digests = root["attributes"].pop(SEAL_KEY, None)
    if digests is None:
        yield from _of_metadata(folder, root)
        yield from _foreign_files(folder, layout)
        for name in layout.vectors:
            if not is_as_written(folder, layout, name):
                yield Damage(what=f"the vector {name} is not as it was written")
        return
    if not isinstance(digests, dict) or digests.get("root") != _root_digest(root):
        yield Damage(what=f"{_ROOT} does not match the seal")
    elif digests.get("files") != _files_digest(folder, layout):
        yield Damage(what="the vectors or array metadata do not match the seal, or a file is foreign")


def _of_metadata(folder: Folder, root: dict[str, Any]) -> Iterator[Damage]:
    """Compare the metadata of every array with the copy in the root's."""
    copies = (root.get("consolidated_metadata") or {}).get("metadata") or {}
    for name, copy in copies.items():
        try:
            same = json.loads(folder.read(f"{name}/{_ROOT}")) == copy
        except (OSError, ValueError):
            same = False
        if not same:
            yield Damage(what=f"{name}/{_ROOT} does not match {_ROOT}")


def _foreign_files(folder: Folder, layout: StoreLayout) -> Iterator[Damage]:
    """Name what would be sealed in with the store and is none of its files."""
    own = _own_files(layout)
    for name in sorted(_listed_files(folder, layout)):
        if name not in own:
            yield Damage(what=f"the file {name} does not belong to it")


def _own_files(layout: StoreLayout) -> set[str]:
    """The names of all files that a store of these sizes can have, but those of shards."""
    names = (*layout.vectors, *(spec.name for spec in layout.arrays))
    return {_ROOT, *(f"{name}/{_ROOT}" for name in names), *_chunk_files(layout)}


def _chunk_files(layout: StoreLayout) -> Iterator[str]:
    for name, spec in layout.vectors.items():
        for chunk in range(-(-layout.vector_shape(name)[0] // layout.chunk_rows(name))):
            yield chunk_name(spec, chunk)


def _listed_files(folder: Folder, layout: StoreLayout) -> Iterator[str]:
    """All files that are there but those of shards, which their digests cover, and those that are not finished."""
    shards = {spec.name: (layout.num_shards, len(spec.shape)) for spec in layout.arrays}
    return (name for name, _ in folder.files() if not _is_piece(tuple(name.split("/")), shards))


def _is_piece(parts: tuple[str, ...], arrays: Mapping[str, tuple[int, int]]) -> bool:
    """Whether a relative path is array/c/<number>/0/0. arrays: name -> how many pieces and axes it has."""
    count, axes = arrays.get(parts[0], (0, 0))
    if not axes or len(parts) != axes + 2 or not parts[2].isdecimal():
        return False
    number = int(parts[2])
    return number < count and parts[1:] == ("c", str(number), *("0",) * (axes - 1))


def _read_root(folder: Folder) -> dict[str, Any]:
    try:
        root = json.loads(folder.read(_ROOT))
        root["attributes"].keys()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{folder}/{_ROOT} cannot be read ({error}); the store is damaged.") from error
    return dict(root)


def _root_digest(root: dict[str, Any]) -> str:
    return digest_of_json(root, compact=True)


def _files_digest(folder: Folder, layout: StoreLayout) -> str:
    """Of a line for each small file but the root, in the order of their names' parts: its name, and its sha256.

    A listing may come late, where a server makes it; so the store's own files are asked for by name.
    """
    names = ({*_listed_files(folder, layout)} | _own_files(layout)) - {_ROOT}
    ordered = sorted(names, key=lambda name: name.split("/"))
    return digest_of_bytes("".join(map_in_threads(functools.partial(_line, folder), ordered, _THREADS)).encode())


def _line(folder: Folder, name: str) -> str:
    try:
        return f"{name} {digest_of_bytes(folder.read(name))}\n"
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):  # an array that is all fill has no file
        return ""
