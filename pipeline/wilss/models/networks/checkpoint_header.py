"""The header of a checkpoint's file, read without torch and without a look at the weights."""

import contextlib
import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...disk import on_disk
from ...errors import CheckpointError

MODEL_FILE = "model.safetensors"
FORMAT = "wilss-checkpoint"
FORMAT_VERSION = 1
KEY = "wilss"  # one key only: safetensors keeps several in no fixed order
_LONGEST_HEADER = 100_000_000
_PICKLES = (b"PK\x03\x04", b"\x80")


@contextlib.contextmanager
def one_copy(file: Path) -> Iterator[Path]:
    """The file on disk; of one in a bucket, while the body runs, a copy, so that all that is read is of one version.

    Raises CheckpointError where it is not there or cannot be read.
    """
    try:
        with on_disk(file) as copy:
            yield copy
    except FileNotFoundError:
        raise CheckpointError(f"{file} is not there; `wilss-train` makes it.") from None
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read ({error.strerror or error}); fix that and run again.") from error


def read_header(file: Path, copy: Path | None = None) -> dict[str, Any]:
    """What the checkpoint says of itself. Raises CheckpointError for what is no checkpoint, or a newer one.

    copy: where it lies on disk, by `one_copy`; sentences name `file`.
    """
    header = json_header(file, copy)
    try:
        content = json.loads(header["__metadata__"][KEY])
    except (KeyError, TypeError, ValueError, RecursionError):
        raise CheckpointError(f"{file} is no wilss checkpoint; `wilss-train` writes {MODEL_FILE}.") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{file} is no wilss checkpoint; `wilss-train` writes {MODEL_FILE}.")
    version = content.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise CheckpointError(
            f"{file} has format_version {version!r}, this wilss reads up to {FORMAT_VERSION}; upgrade wilss to read it."
        )
    return content


def json_header(file: Path, copy: Path | None = None) -> dict[str, Any]:
    """All that the header of a safetensors file says; the writer's own words are in its `__metadata__`.

    copy: as in `read_header`. Raises CheckpointError.
    """
    with one_copy(file) if copy is None else contextlib.nullcontext(copy) as there:
        return _json_header(file, there)


def _json_header(file: Path, copy: Path) -> dict[str, Any]:
    try:
        if not stat.S_ISREG(mode := copy.stat().st_mode) and not stat.S_ISDIR(mode):  # a pipe is waited on for ever
            raise CheckpointError(f"{file} is no plain file; pass the {MODEL_FILE} of a run.")
        with copy.open("rb") as stream:
            start, brace = stream.read(8), stream.read(1)
            if start.startswith(_PICKLES) and brace != b"{":  # a header may be 128 bytes long, too
                raise CheckpointError(
                    f"{file} is a pickle, which may run code when it is loaded, and is refused; pass the "
                    f"{MODEL_FILE} of a run."
                )
            length = int.from_bytes(start, "little")
            if len(start) < 8 or not 2 <= length <= _LONGEST_HEADER:
                raise CheckpointError(f"{file} is no safetensors file; pass the {MODEL_FILE} of a run.")
            header = json.loads(brace + stream.read(length - 1))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{file} is damaged: its header cannot be read; copy it again, or train again."
        ) from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{file} is damaged: its header is not a mapping; copy it again, or train again.")
    return header
