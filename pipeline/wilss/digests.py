"""What a result was made from: sha256 of bytes, files and JSON values, and versions of libraries."""

import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any


def digest_of_bytes(data: bytes) -> str:
    """sha256, as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def digest_of_file(path: Path) -> str:
    """sha256 of a file's content, read piece by piece. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of_json(value: Any, *, compact: bool = False) -> str:
    """sha256 of a JSON value whose keys are sorted. compact: without the spaces after commas and colons."""
    return digest_of_bytes(json.dumps(value, sort_keys=True, separators=(",", ":") if compact else None).encode())


def listing_of_files(root: Path, files: Iterable[Path]) -> bytes:
    """A line for each file below `root`, sorted: its relative path and the sha256 of its content. Raises OSError."""
    lines = (f"{file.relative_to(root).as_posix()} {digest_of_file(file)}\n" for file in sorted(files))
    return "".join(lines).encode()


@cache
def version_of(library: str) -> str | None:
    """The installed version of a library; None where it is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(library)
    except PackageNotFoundError:
        return None
