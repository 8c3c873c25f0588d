"""The files that decide which images and tags there are, and their digests."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from wilss.data.layouts import DataSpec, annotation_file
from wilss.data.layouts.lists import list_files
from wilss.data.layouts.tags import tag_files
from wilss.digests import digest_of_bytes, digest_of_file
from wilss.errors import ManifestError


def input_files(spec: DataSpec) -> dict[str, tuple[Path, ...]]:
    """The list and tag files of a data set by their key path; those that are not there are left out."""
    files: dict[str, tuple[Path, ...]] = {}
    for split in spec.splits:
        files[f"splits.{split}"] = _or_none(partial(_lists, spec, split))
        files[f"tags.{split}"] = _or_none(partial(tag_files, spec, split))
    return {key: paths for key, paths in files.items() if paths}


def content_digests(spec: DataSpec) -> dict[str, str]:
    """sha256 of the files of every list by split; the tags are not part of it."""
    return {key: sha256_of_files(paths) for key, paths in input_files(spec).items() if key.startswith("splits.")}


def sha256_of_files(paths: tuple[Path, ...]) -> str:
    """The sha256 of one file, or that of the sha256s of several, in order. Raises ManifestError."""
    digests = [_sha256(path) for path in paths]
    return digests[0] if len(digests) == 1 else digest_of_bytes("\n".join(digests).encode())


def _lists(spec: DataSpec, split: str) -> tuple[Path, ...]:
    chosen = spec.split(split)
    if spec.layout == "coco":
        lists = list_files(spec, chosen) if chosen.list.endswith((".txt", ".npy")) else ()
        return (annotation_file(spec, chosen), *lists)
    return list_files(spec, chosen)


def _or_none(files: Callable[[], tuple[Path, ...]]) -> tuple[Path, ...]:
    try:
        return files()
    except ManifestError:
        return ()


def _sha256(path: Path) -> str:
    try:
        return digest_of_file(path)
    except OSError as error:
        raise ManifestError(f"{path} cannot be read ({error.strerror}); check its permissions.") from None
