"""The seal: digests from which any changed, missing, foreign or swapped byte of a complete store is found.

Three layers, so that each file is covered exactly once: a shard's files by its entry in `shard_digest`;
all other files but the root's by `seal.files`; the root's own metadata by `seal.root`.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..disk import PARTIAL_SUFFIX, WritePoint, write_atomically
from ..errors import StoreError
from .schema import StoreLayout
from .shards import digest_on_disk, shard_path

__all__ = ["SEAL_KEY", "Damage", "seal", "verify"]

SEAL_KEY = "seal"
_ROOT = "zarr.json"


@dataclass(frozen=True, kw_only=True)
class Damage:
    """One thing that is wrong with a store. `shard` is None where it is not a shard."""

    what: str
    shard: int | None = None


def seal(path: Path, layout: StoreLayout) -> None:
    """Write the digest of everything into the root's attributes."""
    root = json.loads((path / _ROOT).read_text(encoding="utf-8"))
    root["attributes"].pop(SEAL_KEY, None)
    digests = {"files": _files_digest(path, layout), "root": _root_digest(root)}
    root["attributes"][SEAL_KEY] = digests
    write_atomically(path / _ROOT, json.dumps(root, indent=2).encode("utf-8"), WritePoint.STORE_SEAL)


def verify(path: Path, layout: StoreLayout, digests: list[str]) -> Iterator[Damage]:
    """Compare every byte of a store with its digests and yield what differs, shard by shard.

    digests: the store's `shard_digest`; a shard without one is not committed and is not damage.
    """
    for shard, digest in enumerate(digests):
        if digest and digest_on_disk(path, layout, shard) != digest:
            yield Damage(what=f"shard {shard} does not match its digest", shard=shard)
    root = _read_root(path)
    found = root["attributes"].pop(SEAL_KEY, None)
    if found is None:
        return
    if not isinstance(found, dict) or found.get("root") != _root_digest(root):
        yield Damage(what=f"{_ROOT} does not match the seal")
    elif found.get("files") != _files_digest(path, layout):
        yield Damage(what="the vectors or array metadata do not match the seal, or a file is foreign")


def _read_root(path: Path) -> dict[str, Any]:
    try:
        root = json.loads((path / _ROOT).read_text(encoding="utf-8"))
        root["attributes"].keys()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{path / _ROOT} cannot be read ({error}); the store is damaged.") from error
    return dict(root)


def _root_digest(root: dict[str, Any]) -> str:
    text = json.dumps(root, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _files_digest(path: Path, layout: StoreLayout) -> str:
    covered = {shard_path(path, spec, shard) for spec in layout.arrays for shard in range(layout.num_shards)} | {
        path / _ROOT
    }
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        if file.is_dir() or file in covered or file.name.endswith(PARTIAL_SUFFIX):
            continue
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        digest.update(f"{file.relative_to(path).as_posix()} {content}\n".encode())
    return digest.hexdigest()
