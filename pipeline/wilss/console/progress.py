"""How far a run has come, for whoever waits for it."""

import sys
import time
from typing import Any, Self

import click

from .options import is_quiet

_SECONDS_BETWEEN_LINES = 10.0


class ProgressDisplay:
    """Progress with rate and time left: a bar on a terminal, else a line every 10 seconds.

    noun: what is counted, in the plural; unit: its short form on the bar.
    """

    def __init__(self, noun: str = "images", unit: str = "img") -> None:
        self._noun, self._unit = noun, unit
        self._bar: Any = None
        self._started = self._last_line = time.monotonic()
        self._first: int | None = None
        self._shown: int | None = None
        self._on_terminal = sys.stderr.isatty()

    def __call__(self, done: int, total: int) -> None:
        """Show that `done` of `total` are made."""
        if is_quiet():
            return
        if self._first is None:
            self._first, self._started = done, time.monotonic()
        if self._on_terminal:
            self._draw(done, total)
        elif time.monotonic() - self._last_line >= _SECONDS_BETWEEN_LINES or (done == total and done != self._shown):
            self._last_line, self._shown = time.monotonic(), done
            click.echo(self._line(done, total), err=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.close()

    def _draw(self, done: int, total: int) -> None:
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(total=total, initial=done, unit=self._unit, dynamic_ncols=True)
        self._bar.total = total  # of what lies ahead it may have been a guess
        self._bar.update(done - self._bar.n)

    def _line(self, done: int, total: int) -> str:
        seconds = time.monotonic() - self._started
        rate = (done - (self._first or 0)) / seconds if seconds else 0.0
        if not rate:  # nothing was made since
            return f"{done} of {total} {self._noun}"
        left = f", {(total - done) / rate:.0f} s left" if done < total else ""
        return f"{done} of {total} {self._noun}, {rate:.1f} {self._noun}/s{left}"
