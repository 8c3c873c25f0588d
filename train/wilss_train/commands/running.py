"""How a run shows itself, and how it is asked to stop."""

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import click

from wilss.console import is_quiet
from wilss.errors import counted
from wilss.process import StopSignals

if TYPE_CHECKING:
    from ..results.report.log import Progress
    from ..run.plan import RunPlan

INTERRUPTED = 130
_GRACE = 5.0  # seconds in which what is not the loop has to answer an interrupt
_BEAT = 10.0  # seconds after which a silent run says what it is at
_LOOKS = 1.0  # seconds between two looks at whether it is silent
_BETWEEN_LINES = 30.0
_SMOOTHING = 0.1  # weight of the newest step in the mean that time left is reckoned with


class StopRequest:
    """Ctrl-C and a queue's signals, noticed also while torch computes; a context for the main thread.

    In the loop (`running`) the step at work has a few seconds to end. Elsewhere the command is interrupted, and left
    where it does not answer. A second signal ends the process at once.
    """

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._handled = StopSignals()
        self._in_loop = False
        self._answered = threading.Event()  # the block has been left
        #: What an interrupt outside the loop is answered with.
        self.sentence = "Interrupted."

    def say(self, sentence: str) -> None:
        """From now on an interrupt outside the loop is answered with this."""
        self.sentence = sentence

    def __enter__(self) -> Self:
        # the handler of a signal waits for the operation of torch at work; what is written here does not
        self._reading, self._writing = socket.socketpair()
        self._writing.setblocking(False)
        self._former = {number: signal.signal(number, self._interrupt) for number in StopSignals.ALL}
        self._former_fd = signal.set_wakeup_fd(self._writing.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._listen, name="signals", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._answered.set()
        signal.set_wakeup_fd(self._former_fd)
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self._writing.close()

    def asked(self) -> bool:
        """Whether somebody wants the run to stop."""
        return self._asked.is_set()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Around the loop, which looks at `asked` itself."""
        self._in_loop = True
        try:
            yield
        finally:
            self._in_loop = False
        if self.asked():  # after the loop's last look
            raise KeyboardInterrupt

    def _interrupt(self, number: int, frame: object) -> None:
        if not self._handled.is_echo() and not self._in_loop:
            raise KeyboardInterrupt

    def _listen(self) -> None:
        signals = StopSignals()
        while number := self._reading.recv(1):
            if number[0] not in StopSignals.ALL or signals.is_echo():
                continue
            if self.asked():
                os._exit(INTERRUPTED)
            if self._in_loop:
                click.echo("Stopping; once more to stop at once (--resume then continues from the last saved state).",
                           err=True)  # fmt: skip
            else:
                threading.Thread(target=self._leave_if_deaf, name="deaf", daemon=True).start()
            self._asked.set()
        self._reading.close()

    def _leave_if_deaf(self) -> None:
        if not self._answered.wait(_GRACE):
            click.echo(self.sentence, err=True)
            exit_now(INTERRUPTED)


def exit_now(code: int) -> None:
    """End the process from any thread, whatever the others are at."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class RunDisplay:
    """What a run is at: a bar with losses and time left on a terminal, else lines; never silent for long.

    folder: of the run, for the line that says that it is resumed; None for a display without that line.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._bar: Any = None
        self._is_quiet = is_quiet()  # click knows it in the main thread alone
        self._over = threading.Event()
        self._first = self._step = self._steps = 0
        self._phase = self._losses = ""
        self._seconds_per_step = 0.0
        self._since = self._last_line = time.monotonic()

    def __enter__(self) -> Self:
        if not self._is_quiet:
            threading.Thread(target=self._beat, name="display", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def plan(self, plan: "RunPlan") -> None:
        """Say what is about to be trained."""
        for line in plan.lines:
            self._say(line)

    def start(self, step: int, steps: int) -> None:
        """Show that `step` of `steps` are taken."""
        self._first, self._step, self._steps = step, step, steps
        if step and self._folder is not None:
            self._say(f"Resuming {self._folder} at step {step} of {steps}")
        self._since = self._last_line = time.monotonic()
        if sys.stderr.isatty() and not self._is_quiet:
            from tqdm import tqdm

            self._bar = tqdm(total=steps, initial=step, unit="step", mininterval=0.5, dynamic_ncols=True)

    def phase(self, phase: str) -> None:
        """Note what is being done; what stands behind a colon says how far it is."""
        begins = phase.partition(":")[0] != self._phase.partition(":")[0]
        self._phase = phase
        if begins and self._step == self._steps:  # before the first step, or after the last
            self._since = time.monotonic()
            self._close_bar()
            self._say(self._where())

    def step(self, step: int) -> None:
        """Show that so many steps are taken; after the second one, how long the others may take."""
        now = time.monotonic()
        seconds, self._since, self._step = now - self._since, now, step
        taken = step - self._first
        weight = _SMOOTHING if taken > 2 else 1.0  # the first step is a slow one, and is forgotten
        self._seconds_per_step += weight * (seconds - self._seconds_per_step)
        if self._bar is not None:
            self._bar.update(step - self._bar.n)
        if taken == 2 and step < self._steps:
            self._say(f"{self._left()} for the {counted(self._steps - step, 'step')} left, judging not counted")
        elif taken > 2 and self._bar is None and now - self._last_line >= _BETWEEN_LINES and step < self._steps:
            self._say(f"Step {step} of {self._steps}{self._losses}, {self._left().lower()} left")

    def __call__(self, progress: "Progress") -> None:
        """Show the losses."""
        losses = "  ".join(f"{name} {value:.3f}" for name, value in progress.losses.items())
        self._losses = f": {losses}, {progress.images_per_second:.1f} images/s"
        if self._bar is not None:
            self._bar.set_postfix_str(self._losses[2:], refresh=False)
        elif progress.step == progress.steps:
            self._say(f"Step {progress.step} of {progress.steps}{self._losses}")

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._over.set()
        self._close_bar()

    def _close_bar(self) -> None:
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.close()

    def _beat(self) -> None:
        """While nothing else is shown, say what is being done and for how long."""
        while not self._over.wait(_LOOKS):
            now = time.monotonic()
            at_work = now - self._since
            if self._bar is not None:
                if at_work >= _BEAT:
                    self._bar.set_postfix_str(f"{self._phase}, {at_work:.0f} s", refresh=False)
                self._bar.refresh()
            elif min(at_work, now - self._last_line) >= _BEAT:
                self._say(f"{self._where()}, {at_work:.0f} s so far")

    def _where(self) -> str:
        if self._step == self._steps:
            return f"{self._phase[:1].upper()}{self._phase[1:]}" or "Reading masks"
        return f"Step {self._step + 1} of {self._steps}: {self._phase}"

    def _left(self) -> str:
        return f"About {_duration(self._seconds_per_step * (self._steps - self._step))}"

    def _say(self, line: str) -> None:
        self._last_line = time.monotonic()
        if self._is_quiet:
            return
        if self._bar is None:
            click.echo(line, err=True)
        else:
            self._bar.write(line, file=sys.stderr)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
