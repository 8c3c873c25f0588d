"""What a store was made with, and whether that is what is asked for now."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from wilss.data.layouts import ImageRecord, Records
from wilss.data.manifest import Manifest
from wilss.errors import StoreError
from wilss.randomness import DESCRIPTION
from wilss.store import MaskStore

from ..sources.base import MaskSource
from .options import Options
from .update import UPDATABLE

__all__ = ["attributes_of", "compatible", "holds_nothing", "is_of", "keeping_what_is_kept"]

#: Libraries whose version can change a mask or its bytes.
_LIBRARIES = (
    "wilss",
    "torch",
    "torchvision",
    "open_clip_torch",
    "timm",
    "numpy",
    "pillow",
    "zarr",
    "numcodecs",
)


def attributes_of(
    manifest: Manifest, step: int, source: MaskSource, records: Sequence[ImageRecord], options: Options
) -> dict[str, Any]:
    """What a store says of itself; two runs with equal attributes make equal masks."""
    protocol = manifest.protocol
    attributes = {
        "protocol": protocol.name,
        "setting": protocol.setting,
        "step": step,
        "steps": [list(ids) for ids in protocol.steps],
        "classes": list(manifest.taxonomy.class_names),
        "split": options.split,
        "source": source.name,
        **source.identity(),
        **({} if source.uses_tags else {"uses_tags": False}),
        "keep": ["scores"] if options.keep_scores else [],
        "limit": options.limit,
        "shard_size": options.shard_size,
        "batch_size": options.batch_size,
        "threads": options.threads,
        "manifest": manifest.name,
        "manifest_sha256": manifest.digest,
        "records_sha256": _records_digest(records, source.uses_tags),
        "rng": DESCRIPTION,
        "versions": {name: _version(name) for name in _LIBRARIES},
    }
    return dict(json.loads(json.dumps(attributes)))


def compatible(path: Path, attributes: Mapping[str, Any], options: Options) -> MaskStore | None:
    """The store that is there, None if there is none, or it is to be overwritten, or nothing was ever made in it.

    Raises StoreError, with the difference, when it was made with something else.
    """
    if options.overwrite or not path.exists():
        return None
    store = MaskStore.open(path, allow_partial=True)
    # A store made by `fuse` has seeds of other parameters than its masks: never the one that is asked for here.
    differences = _differences({**attributes, "fused_from": None}, store.attributes)
    if differences and holds_nothing(store):
        return None
    of_images_alone = all(line.split(":")[0] in UPDATABLE for line in differences)
    if differences and not (options.update and of_images_alone):
        also = "; --update keeps what is the same" if of_images_alone else ""
        raise StoreError(
            f"{path} was made with something else:\n"
            + "\n".join(f"  {line}" for line in differences)
            + f"\nGive another --out, or make it anew with --overwrite{also}."
        )
    return store


def is_of(store: MaskStore, attributes: Mapping[str, Any]) -> bool:
    """Whether a store that is `compatible` is of the very images that are asked for."""
    return not _differences({**attributes, "fused_from": None}, store.attributes)


def keeping_what_is_kept(path: Path, options: Options) -> Options:
    """A store that keeps its scores is gone on with as it was begun, also when nobody asks for scores again."""
    if options.keep_scores or options.overwrite or not path.exists():
        return options
    kept = MaskStore.open(path, allow_partial=True).attributes.get("keep") == ["scores"]
    return dataclasses.replace(options, keep_scores=kept)


def holds_nothing(store: MaskStore) -> bool:
    """Whether no shard was ever committed, so that nothing is lost when it is begun anew."""
    return not any(store.vector("shard_digest"))


def _records_digest(records: Sequence[ImageRecord], with_tags: bool) -> str:
    """sha256 of a JSON list, a list [id, tags] or [id] for each image, taken piece by piece: there may be millions."""
    digest = hashlib.sha256(b"[")
    for number, (image_id, tags, _) in enumerate(Records.of(records).facts()):
        facts = [image_id, list(tags)] if with_tags else [image_id]
        digest.update(f"{',' if number else ''}{json.dumps(facts, separators=(',', ':'))}".encode())
    digest.update(b"]")
    return digest.hexdigest()


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def _differences(wanted: Mapping[str, Any], found: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Leaves that differ, as `parameters.threshold: 0.5 asked for, 0.6 in the store`."""
    lines = []
    for key in wanted:
        mine, theirs = wanted[key], found.get(key)
        if isinstance(mine, dict) and isinstance(theirs, dict):
            lines += _differences(mine, theirs, f"{prefix}{key}.")
        elif mine != theirs:
            lines.append(f"{prefix}{key}: {_short(mine)} asked for, {_short(theirs)} in the store")
    return lines


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
