"""data_manifest.lock.yaml: the sha256 of lists, images, labels and weights, so that a later run notices changes."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from wilss.data.contents import UNKNOWN, MadeOf, contents_of
from wilss.data.manifest.build import MAIN
from wilss.data.manifest.encoders import Encoders, EncoderSpec
from wilss.data.manifest.inputs import input_files, sha256_of_files
from wilss.data.manifest.text import read_yaml
from wilss.digests import digest_of_bytes
from wilss.disk import write_output
from wilss.errors import ManifestError, StoreError

if TYPE_CHECKING:
    from wilss.data.manifest.manifest import Manifest

_HEAD = "# Written by `wilss-masks manifest lock`: what lists, contents and weights were. Keep it by the manifest.\n"


class LockedWeights(BaseModel):
    """encoder: which one it was, so that another one in its place is not held to this digest."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoder: str
    sha256: str


class _LockModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    lock_version: Literal[1]
    manifest: str
    lists: dict[str, str] = {}
    contents: dict[str, str] = {}
    weights: dict[str, LockedWeights] = {}


@dataclass(frozen=True, kw_only=True)
class Lock:
    """lists: sha256 by key path in the manifest. weights: by the encoder's name.

    contents: sha256 over all images, or all labels, of a split, by key path; empty in an older lock.
    """

    path: Path
    lists: Mapping[str, str] = field(default_factory=dict)
    contents: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, LockedWeights] = field(default_factory=dict)

    def weights_of(self, name: str, encoder: str) -> str | None:
        """The digest kept for this very encoder, or None."""
        kept = self.weights.get(name)
        return kept.sha256 if kept is not None and kept.encoder == encoder else None


def lock_path(manifest: Path) -> Path:
    """Where the lock of a manifest lies: data_manifest.yaml -> data_manifest.lock.yaml."""
    return manifest.with_suffix(".lock.yaml")


def applied(manifest: "Manifest") -> "Manifest":
    """`manifest` held to its lock file, if any: lists are compared, weights get the digest they must have."""
    lock = read_lock(lock_path(manifest.path))
    if lock is None:
        return manifest
    for key, paths in _all_inputs(manifest).items():
        if key in lock.lists and (now := sha256_of_files(paths)) != lock.lists[key]:
            raise ManifestError(
                f"{paths[0]} ({key}) has sha256 {now}, but {lock.path} keeps {lock.lists[key]}; bring the old file "
                f"back, or run `wilss-masks manifest lock --manifest {manifest.path}` if the change is meant."
            )
    held = {name: _held(manifest, getattr(manifest.encoders, name), name, lock) for name in Encoders.model_fields}
    return dataclasses.replace(manifest, locked=lock, encoders=Encoders(**held))


def _held(manifest: "Manifest", spec: "EncoderSpec", name: str, lock: Lock) -> "EncoderSpec":
    kept = lock.weights_of(name, spec.title)
    if kept is None:
        return spec
    if spec.sha256 is not None and spec.sha256 != kept:
        raise ManifestError(
            f"{manifest.path}: encoders.{name}.sha256 is {spec.sha256}, but {lock.path} keeps {kept}; correct it, or "
            f"run `wilss-masks manifest lock --manifest {manifest.path}` if the change is meant."
        )
    return spec.held_to(kept, spec.sha256_from or str(lock.path))


def read_lock(path: Path) -> Lock | None:
    """The lock at `path`, None if there is none. Raises ManifestError if it is damaged."""
    if not path.exists():
        return None
    content, _ = read_yaml(path)
    try:
        model = _LockModel.model_validate(content)
    except ValidationError as error:
        what = ".".join(map(str, error.errors()[0]["loc"]))
        raise ManifestError(
            f"{path} is no lock file ({what}: {error.errors()[0]['msg']}); remove it and lock again."
        ) from None
    return Lock(path=path, lists=model.lists, contents=model.contents, weights=model.weights)


def list_digests(manifest: "Manifest") -> dict[str, str]:
    """sha256 of every list and tag file by key path."""
    return {key: sha256_of_files(paths) for key, paths in _all_inputs(manifest).items()}


def content_digests_of(manifest: "Manifest", data: str, split: str) -> dict[str, str]:
    """sha256 over the contents of all images, and of all labels, of a split by key path; reads every byte of them."""
    records = manifest.listing(data, split, lenient=True).records
    kinds: tuple[MadeOf, ...] = ("images", "labels")
    digests = {}
    for kind in kinds:
        contents = contents_of(records, np.arange(len(records)), kind)
        if (contents != UNKNOWN).any():
            digests[_key(data, f"{kind}.{split}")] = digest_of_bytes(contents.astype("<u8").tobytes())
    return digests


def require_locked_contents(manifest: "Manifest", step: int, split: str = "train") -> None:
    """Raise ManifestError where images or labels of a step's split are not those of the lock, if that has them."""
    locked, source = manifest.locked, manifest.steps[step]
    if locked is None or not locked.contents:
        return
    data, part = source.data, source.split if split == "train" else split
    found = content_digests_of(manifest, data, part)
    for key in (_key(data, f"{kind}.{part}") for kind in ("images", "labels")):
        if key in locked.contents and locked.contents[key] != found.get(key):
            raise ManifestError(
                f"{manifest.path}: {key} hold something else than {locked.path} keeps; bring the old files "
                f"back, or run `wilss-masks manifest lock --manifest {manifest.path}` if the change is meant."
            )


def write_lock(
    manifest: "Manifest",
    *,
    lists: Mapping[str, str],
    weights: Mapping[str, LockedWeights],
    contents: Mapping[str, str] = MappingProxyType({}),
) -> Path:
    """Write the lock beside the manifest, by rename. Raises StoreError if it cannot be written."""
    path = lock_path(manifest.path)
    model = _LockModel(
        lock_version=1, manifest=manifest.name, lists=dict(lists), contents=dict(contents), weights=dict(weights)
    )
    kept = model.model_dump(exclude=None if contents else {"contents"})
    text = _HEAD + yaml.safe_dump(kept, sort_keys=True, width=200)
    write_output(path, text.encode("utf-8"))
    return path


def record_hub_digest(manifest: "Manifest", name: str, sha256: str) -> bool:
    """Keep the digest of an encoder's hub weights at their first use; later runs must get the same file.

    name: clip or vit. Returns whether something was written: not if the manifest or the lock already says what
    the weights must be, if they lie in a local file, or if the folder may not be written.
    """
    spec: EncoderSpec = getattr(manifest.encoders, name)
    if spec.sha256 is not None or spec.file is not None or (spec.pretrained or "").startswith("random"):
        return False
    kept = read_lock(lock_path(manifest.path)) or Lock(path=lock_path(manifest.path))
    if kept.weights_of(name, spec.title) is not None:
        return False
    weights = {**kept.weights, name: LockedWeights(encoder=spec.title, sha256=sha256)}
    try:
        write_lock(manifest, lists=kept.lists, weights=weights, contents=kept.contents)
    except StoreError:
        return False
    return True


def _key(data: str, key: str) -> str:
    return key if data == MAIN else f"data.{data}.{key}"


def _all_inputs(manifest: "Manifest") -> dict[str, tuple[Path, ...]]:
    return {_key(name, key): paths for name, spec in manifest.data.items() for key, paths in input_files(spec).items()}
