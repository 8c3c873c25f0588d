"""What several commands of this verb share; what both verbs share is in `wilss.console`."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

store_argument: Callable[..., Any] = click.argument("store", type=click.Path(path_type=Path))


def as_interrupt(signum: int, frame: object) -> None:
    """A scheduler's SIGTERM ends a run as Ctrl-C does."""
    raise KeyboardInterrupt


def pasted(command: str, *arguments: Path | str, manifest: Path | str) -> str:
    """A command line that can be pasted as it stands: its arguments quoted, the manifest unless it is the default."""
    chosen = [] if str(manifest) == "data_manifest.yaml" else ["--manifest", str(manifest)]
    return " ".join([command, *(shlex.quote(str(one)) for one in (*arguments, *chosen))])
