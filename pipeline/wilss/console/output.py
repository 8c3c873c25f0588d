"""What a command shows or leaves behind: JSON, the names of what failed, tables of figures."""

import json
import shlex
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from wilss.disk import Location, write_output

from .options import is_quiet

#: The exit code of a run that is done, but for images that it names.
FINISHED_WITH_FAILURES = 3
_FAILURES_SHOWN = 10
#: The manifest that commands take where none is named.
DEFAULT_MANIFEST = "data_manifest.yaml"


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


def finish(failed: Mapping[str, str], rest: str) -> None:
    """`tell_failures`, and leave with the exit code that says so where there are any."""
    tell_failures(failed, rest)
    if failed:
        sys.exit(FINISHED_WITH_FAILURES)


def show_figures(lines: Iterable[str], figures: Any, json_path: str | None, failed: Mapping[str, str]) -> None:
    """A table on stdout, or its figures as JSON there or in a file, as --json says; then `finish`."""
    if json_path is not None:
        write_json(figures, json_path)
    if json_path != "-" and not is_quiet():
        click.echo("\n".join(lines))
    finish(failed, "--json names them all.")


def require_png(target: Path, option: str = "--out") -> Path:
    """`target`, refused where it is not called a PNG."""
    if target.suffix.lower() != ".png":
        raise click.BadParameter(f"{target} does not end in .png; it is a PNG picture.", param_hint=option)
    return target


def aligned(table: Sequence[tuple[str, ...]], rules_before: Collection[int] = ()) -> list[str]:
    """Rows with the first column to the left, the others to the right, and a rule before some of them."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    lines = []
    for number, row in enumerate(table):
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines += ([rule] if number in rules_before else []) + ["  ".join([row[0].ljust(widths[0]), *cells]).rstrip()]
    return lines


def percent(value: float | None) -> str:
    """A ratio as a percentage with one decimal; "-" where there is none (None or NaN)."""
    return "-" if value is None or value != value else f"{100 * value:.1f}"


def pasted(command: str, *arguments: Location | str, manifest: Path | str = DEFAULT_MANIFEST) -> str:
    """A command line that can be pasted as it stands: its arguments quoted, the manifest unless it is the default."""
    chosen = [] if str(manifest) == DEFAULT_MANIFEST else ["--manifest", str(manifest)]
    return " ".join([command, *(shlex.quote(str(one)) for one in (*arguments, *chosen))])
