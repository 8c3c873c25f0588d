"""How a run shows itself, and how it is asked to stop."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from wilss.console import is_quiet

if TYPE_CHECKING:
    from ..results.report.log import Progress

INTERRUPTED = 130


@contextmanager
def stopping() -> Iterator[Any]:
    """Ctrl-C and SIGTERM ask for a stop, which the loop grants after the step at work; a second one stops at once."""
    asked: list[int] = []

    def ask(number: int, frame: object) -> None:
        if asked:
            os._exit(INTERRUPTED)
        asked.append(number)
        click.echo("Stopping after this step; once more to stop at once (--resume then continues from the last state).",
                   err=True)  # fmt: skip

    former = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


class RunDisplay:
    """A bar with losses and time left on a terminal, else a line now and then."""

    def __init__(self) -> None:
        self._bar: Any = None

    def __enter__(self) -> "RunDisplay":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self, step: int, steps: int) -> None:
        """Show that `step` of `steps` are taken."""
        if not is_quiet():
            from tqdm import tqdm

            seconds = 0.5 if sys.stderr.isatty() else 30.0
            self._bar = tqdm(total=steps, initial=step, unit="step", mininterval=seconds, dynamic_ncols=True)

    def __call__(self, progress: "Progress") -> None:
        """Show where the run stands."""
        if self._bar is not None:
            losses = "  ".join(f"{name} {value:.3f}" for name, value in progress.losses.items())
            self._bar.set_postfix_str(f"{losses}  {progress.images_per_second:.0f} img/s", refresh=False)
            self._bar.update(progress.step - self._bar.n)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
