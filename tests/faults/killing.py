"""Kills of training runs, at random moments and before a file gets its name, and what follows them."""

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.train_cli import forked, states, wilss_train
from wilss_train.run import fit

PAUSE = 0.02  # after every step, so that a kill meets a run at work also on a quick machine


def kill_at_random(given: list[str], out: Path, name: str, *, before_step: int) -> None:
    """Start `wilss-train` with these words and kill it at a moment that `name` draws; `out` is its folder."""
    draw = random.Random(name)
    step = draw.randrange(0, before_step)
    says = out.with_suffix(".txt")
    process = forked(given, says=says, before=slowly)
    wait_for_state(out, step, process.is_alive)
    time.sleep(draw.uniform(0, 2 * PAUSE))
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL, says.read_text()
    assert not is_finished(out)


def kill_at_rename(given: list[str], out: Path, number: int) -> None:
    """`wilss-train` with these words dies before the file or folder of this number (from 1) gets its name."""
    says = out.with_suffix(".txt")
    process = forked(given, says=says, die_at_rename=number)
    process.join()
    assert process.exitcode == -signal.SIGKILL, says.read_text()
    assert not is_finished(out)


def renames_of(given: list[str]) -> int:
    """How many files and folders `wilss-train` with these words renames into their place."""
    count = [0]
    with pytest.MonkeyPatch.context() as patch:
        for name in ("rename", "replace"):
            real = getattr(Path, name)

            def counted(path: Path, target: Path, real: Callable[[Path, Path], Path] = real) -> Path:
                count[0] += 1
                return real(path, target)

            patch.setattr(Path, name, counted)
        made = wilss_train(*given)
    assert made.code == 0, made.said
    return count[0]


def finish(given: list[str], out: Path) -> None:
    """`wilss-train` with these words, `--resume` among them, comes to its end and leaves nothing half done."""
    made = wilss_train(*given)
    assert made.code == 0, made.said
    assert is_finished(out)
    assert not [path for path in out.rglob("*") if path.name.endswith((".partial", ".building", ".former"))]


def slowly() -> None:
    """Called in the process that trains: a pause after every step."""
    take = fit._Run._take

    def paused(*given: object) -> None:
        take(*given)  # type: ignore[arg-type]
        time.sleep(PAUSE)

    fit._Run._take = paused  # type: ignore[method-assign, assignment]


def wait_for_state(run: Path, step: int, alive: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while max(states(run), default=0) < step and alive() and time.monotonic() < deadline:
        time.sleep(0.005)


def is_finished(run: Path) -> bool:
    return (run / "done.json").exists()
