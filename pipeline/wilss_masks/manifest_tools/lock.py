"""`manifest lock`: the sha256 of lists, images, labels and weights, kept beside the manifest."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from wilss.data.manifest import (
    EncoderSpec,
    LockedWeights,
    Manifest,
    content_digests_of,
    list_digests,
    lock_path,
    write_lock,
)
from wilss.errors import EncoderError, ManifestError, WeightsError

from ..sources.base import require_encoder


@dataclass(frozen=True, kw_only=True)
class LockReport:
    """Where the lock lies, what it keeps, and sentences about weights that could not be had."""

    path: Path
    lists: Mapping[str, str]
    contents: Mapping[str, str]
    weights: Mapping[str, str]
    warnings: tuple[str, ...]


def lock_manifest(manifest: Manifest, *, weights: bool = True, contents: bool = True) -> LockReport:
    """Write data_manifest.lock.yaml for `manifest`, which was loaded with `check_lock=False`.

    contents: also read every image and label. weights: also digest the encoders' weights; hub weights are fetched if
    need be. Hub weights that cannot be had are left out with a warning, and are then recorded at their first use.
    Raises EncoderError for an encoder that cannot be used, WeightsError for a local file that is missing or is not what
    the manifest says, ManifestError where nothing may be written.
    """
    kept: dict[str, LockedWeights] = {}
    warnings: list[str] = []
    for name in ("clip", "vit") if weights else ():
        spec: EncoderSpec = getattr(manifest.encoders, name)
        _require_usable(name, spec)
        if spec.file is None and (spec.pretrained or "").partition(":")[0] == "random":
            continue
        try:
            kept[name] = LockedWeights(encoder=spec.title, sha256=_digest(spec))
        except WeightsError as error:
            if spec.file is not None:
                raise
            warnings.append(f"encoders.{name} is not locked yet, but will be at its first use: {error}")
    manifest.draw()
    lists = list_digests(manifest)
    read = _contents(manifest) if contents else {}
    write_lock(manifest, lists=lists, weights=kept, contents=read)
    return LockReport(
        path=lock_path(manifest.path),
        lists=lists,
        contents=read,
        weights={name: entry.sha256 for name, entry in kept.items()},
        warnings=tuple(warnings),
    )


def _require_usable(name: str, spec: EncoderSpec) -> None:
    try:
        require_encoder(name, spec)
    except EncoderError as error:
        raise EncoderError(f"encoders.{name}: {error}") from error


def _contents(manifest: Manifest) -> dict[str, str]:
    """Of every split whose list is there."""
    digests: dict[str, str] = {}
    for data, spec in manifest.data.items():
        for split in spec.splits:
            with contextlib.suppress(ManifestError):
                digests |= content_digests_of(manifest, data, split)
    return digests


def _digest(spec: EncoderSpec) -> str:
    from wilss.models.encoders.weights import digest_of

    return digest_of(spec)
