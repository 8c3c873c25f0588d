"""What a command leaves behind when it is done: JSON, and the names of what failed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from wilss.disk import write_output

__all__ = ["FINISHED_WITH_FAILURES", "tell_failures", "write_json"]

#: The exit code of a run that is done, but for images that it names.
FINISHED_WITH_FAILURES = 3
_FAILURES_SHOWN = 10


def write_json(value: Any, target: str) -> None:
    """Write `value` as JSON to the file `target`, whole or not at all; "-" is standard output.

    Raises StoreError when the file cannot be written.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    if target == "-":
        click.echo(text)
        return
    write_output(Path(target), f"{text}\n".encode())


def tell_failures(failed: Mapping[str, str], rest: str) -> None:
    """Name the first images that failed and why, on stderr. rest: where the others are named, if there are more."""
    for number, (image, error) in enumerate(failed.items()):
        if number == _FAILURES_SHOWN:
            click.echo(f"... and {len(failed) - number} more; {rest}", err=True)
            break
        click.echo(f"Failed: {image}: {error}", err=True)
