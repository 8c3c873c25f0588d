"""What several commands share: options that mean the same everywhere, and how progress is shown."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

__all__ = ["ProgressDisplay", "is_quiet", "manifest_option", "store_argument"]

_SECONDS_BETWEEN_LINES = 30.0

manifest_option: Callable[..., Any] = click.option(
    "--manifest", "manifest_path", type=click.Path(path_type=Path), default=Path("data_manifest.yaml"),
    show_default=True, envvar="WILSS_MANIFEST", show_envvar=True, help="The data manifest.",
)  # fmt: skip

store_argument: Callable[..., Any] = click.argument("store", type=click.Path(path_type=Path))


def is_quiet() -> bool:
    """Whether -q was given."""
    context = click.get_current_context(silent=True)
    return bool(context and (context.find_root().obj or {}).get("quiet"))


class ProgressDisplay:
    """Progress with rate and time left: a bar on a terminal, else a line every 30 seconds."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._started = self._last_line = time.monotonic()
        self._first: int | None = None
        self._on_terminal = sys.stderr.isatty()

    def __call__(self, done: int, total: int) -> None:
        """Show that `done` of `total` images are made."""
        if is_quiet():
            return
        if self._first is None:
            self._first, self._started = done, time.monotonic()
        if self._on_terminal:
            self._draw(done, total)
        elif time.monotonic() - self._last_line >= _SECONDS_BETWEEN_LINES or done == total:
            self._last_line = time.monotonic()
            click.echo(self._line(done, total), err=True)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.close()

    def _draw(self, done: int, total: int) -> None:
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(total=total, initial=done, unit="img", dynamic_ncols=True)
        self._bar.update(done - self._bar.n)

    def _line(self, done: int, total: int) -> str:
        seconds = time.monotonic() - self._started
        rate = (done - (self._first or 0)) / seconds if seconds else 0.0
        left = f", {(total - done) / rate:.0f} s left" if rate and done < total else ""
        return f"{done} of {total} images, {rate:.1f} images/s{left}"
