"""The seal: digests from which any changed, missing, foreign or swapped byte of a complete store is found.

Three layers, so that each file is covered exactly once: a shard's files by its entry in `shard_digest`;
all other files but the root's by `seal.files`; the root's own metadata by `seal.root`.

Before there is a seal, an entry in `shard_digest` covers the shard's rows of the vectors, too, and the metadata of the
arrays stands twice in the store. So a run that goes on with a store does not go on with damage.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..digests import digest_of_bytes, digest_of_json, listing_of_files
from ..disk import PARTIAL_SUFFIX, write_atomically
from ..errors import StoreError
from .arrays import is_as_written
from .schema import SEAL_KEY, StoreLayout
from .shards import ShardReceipt, committed_digest, digest_on_disk

_ROOT = "zarr.json"


@dataclass(frozen=True, kw_only=True)
class Damage:
    """One thing that is wrong with a store. `shard` is None where it is not a shard."""

    what: str
    shard: int | None = None


def seal(path: Path, layout: StoreLayout) -> None:
    """Write the digest of everything into the root's attributes."""
    root = _unsealed_root(path)
    digests = {"files": _files_digest(path, layout), "root": _root_digest(root)}
    root["attributes"][SEAL_KEY] = digests
    _write_root(path, root)


def unseal(path: Path) -> None:
    """Take the seal out of the root's attributes: the store is about to change."""
    _write_root(path, _unsealed_root(path))


def _unsealed_root(path: Path) -> dict[str, Any]:
    root = json.loads((path / _ROOT).read_text(encoding="utf-8"))
    root["attributes"].pop(SEAL_KEY, None)
    return dict(root)


def _write_root(path: Path, root: dict[str, Any]) -> None:
    write_atomically(path / _ROOT, json.dumps(root, indent=2).encode("utf-8"))


def verify(path: Path, layout: StoreLayout, receipts: Iterable[ShardReceipt]) -> Iterator[Damage]:
    """Compare every byte of a store with its digests and yield what differs, shard by shard.

    receipts: what was committed of the shards, by the store's vectors.
    """
    for receipt in receipts:
        shard, (files, *rows) = receipt.shard, receipt.digest.split() or [""]
        if digest_on_disk(path, layout, shard) != files:
            yield Damage(what=f"shard {shard} does not match its digest", shard=shard)
        elif rows and committed_digest(receipt) != receipt.digest:
            yield Damage(what=f"what is said of the images in shard {shard} does not match its digest", shard=shard)
    yield from verify_but_shards(path, layout)


def verify_but_shards(path: Path, layout: StoreLayout) -> Iterator[Damage]:
    """The same for all that is small: metadata and vectors."""
    root = _read_root(path)
    digests = root["attributes"].pop(SEAL_KEY, None)
    if digests is None:
        yield from _of_metadata(path, root)
        yield from _foreign_files(path, layout)
        for name in layout.vectors:
            if not is_as_written(path, layout, name):
                yield Damage(what=f"the vector {name} is not as it was written")
        return
    if not isinstance(digests, dict) or digests.get("root") != _root_digest(root):
        yield Damage(what=f"{_ROOT} does not match the seal")
    elif digests.get("files") != _files_digest(path, layout):
        yield Damage(what="the vectors or array metadata do not match the seal, or a file is foreign")


def _of_metadata(path: Path, root: dict[str, Any]) -> Iterator[Damage]:
    """Compare the metadata of every array with the copy in the root's."""
    copies = (root.get("consolidated_metadata") or {}).get("metadata") or {}
    for name, copy in copies.items():
        try:
            same = json.loads((path / name / _ROOT).read_text(encoding="utf-8")) == copy
        except (OSError, ValueError):
            same = False
        if not same:
            yield Damage(what=f"{name}/{_ROOT} does not match {_ROOT}")


def _foreign_files(path: Path, layout: StoreLayout) -> Iterator[Damage]:
    """Name what would be sealed in with the store and is none of its files."""
    names = (*layout.vectors, *(spec.name for spec in layout.arrays))
    metadata = {path / _ROOT, *(path / name / _ROOT for name in names)}
    chunks = {
        name: (-(-layout.vector_shape(name)[0] // layout.chunk_rows(name)), len(spec.dims))
        for name, spec in layout.vectors.items()
    }
    for file in sorted(_small_files(path, layout)):
        if file not in metadata and not _is_piece(file.relative_to(path).parts, chunks):
            yield Damage(what=f"the file {file.relative_to(path)} does not belong to it")


def _small_files(path: Path, layout: StoreLayout) -> Iterator[Path]:
    """All files below `path` but those of shards, which their digests cover, and those that are not finished."""
    shards = {spec.name: (layout.num_shards, len(spec.shape)) for spec in layout.arrays}
    for file in path.rglob("*"):
        is_shard = _is_piece(file.relative_to(path).parts, shards)
        if not (is_shard or file.is_dir() or file.name.endswith(PARTIAL_SUFFIX)):
            yield file


def _is_piece(parts: tuple[str, ...], arrays: Mapping[str, tuple[int, int]]) -> bool:
    """Whether a relative path is array/c/<number>/0/0. arrays: name -> how many pieces and axes it has."""
    count, axes = arrays.get(parts[0], (0, 0))
    if not axes or len(parts) != axes + 2 or not parts[2].isdecimal():
        return False
    number = int(parts[2])
    return number < count and parts[1:] == ("c", str(number), *("0",) * (axes - 1))


def _read_root(path: Path) -> dict[str, Any]:
    try:
        root = json.loads((path / _ROOT).read_text(encoding="utf-8"))
        root["attributes"].keys()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{path / _ROOT} cannot be read ({error}); the store is damaged.") from error
    return dict(root)


def _root_digest(root: dict[str, Any]) -> str:
    return digest_of_json(root, compact=True)


def _files_digest(path: Path, layout: StoreLayout) -> str:
    files = (file for file in _small_files(path, layout) if file != path / _ROOT)
    return digest_of_bytes(listing_of_files(path, files))
