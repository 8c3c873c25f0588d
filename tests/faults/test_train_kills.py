"""SIGKILL, SIGTERM and SIGINT in training: going on gives the bytes of a run that nobody disturbed."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.drills import forms, turns
from tests.faults.cli import start
from tests.faults.killing import finish, is_finished, kill_at_random, kill_at_rename, renames_of, slowly, wait_for_state
from tests.faults.train_cli import STEPS, Result, forked, program, result, states, wilss_train, words

KILLED, KILLED_LONG = range(10), range(100, 200)
BEFORE = [1, 2, 3, -4, -3, -2, -1]
OTHERS, OTHERS_SHORT = ["wilson", "mib", "plop"], ["wilson", "mib"]


@pytest.fixture(scope="module")
def renames(root: Path) -> int:
    """How many files and folders a run renames into their place."""
    return renames_of(words(root, "counted"))


def resumed(root: Path, out: str) -> Result:
    finish(words(root, out, "--resume"), root / out)
    return result(root / out)


@pytest.mark.parametrize("number", turns(KILLED, short=[0]))
def test_a_killed_run_goes_on_to_the_same_bytes(root: Path, uninterrupted: Result, number: int) -> None:
    out = f"killed-{number}"
    kill_at_random(words(root, out), root / out, f"kill {number}", before_step=STEPS - 3)
    assert resumed(root, out) == uninterrupted


@pytest.mark.long
def test_the_program_itself_killed_in_the_middle_of_an_epoch(root: Path, uninterrupted: Result) -> None:
    process = start(program(words(root, "program")))
    wait_for_state(root / "program", 4, lambda: process.poll() is None)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not is_finished(root / "program")
    assert states(root / "program")[-1] % 3, "the state is not in the middle of an epoch"
    assert resumed(root, "program") == uninterrupted


@pytest.mark.long  # each kind of file, and again and again at one: test_points, and below
@pytest.mark.parametrize("number", BEFORE)
def test_killed_before_a_file_gets_its_name(root: Path, uninterrupted: Result, renames: int, number: int) -> None:
    out, at = f"rename-{number}", number if number > 0 else renames + 1 + number
    kill_at_rename(words(root, out), root / out, at)
    assert resumed(root, out) == uninterrupted


@pytest.mark.parametrize("method", forms(OTHERS, short=OTHERS_SHORT))
def test_other_methods_killed_go_on_to_the_same_bytes(root: Path, method: str) -> None:
    """Of `wilson`, whose localizer learns beside the student, and of methods that keep the old model's outputs."""
    given = ("--method", method)
    finish(words(root, f"whole-{method}", *given), root / f"whole-{method}")
    kill_at_rename(words(root, f"killed-{method}", *given), root / f"killed-{method}", 5)
    assert 0 < states(root / f"killed-{method}")[-1] < STEPS
    finish(words(root, f"killed-{method}", *given, "--resume"), root / f"killed-{method}")
    assert result(root / f"killed-{method}") == result(root / f"whole-{method}")


def test_killed_again_and_again(root: Path, uninterrupted: Result) -> None:
    for _ in range(3):
        kill_at_rename(words(root, "often", "--resume"), root / "often", 5)
    assert len(states(root / "often")) == 2
    assert resumed(root, "often") == uninterrupted


@pytest.mark.long
def test_the_program_itself_stopped(root: Path, uninterrupted: Result) -> None:
    process = start(program(words(root, "term", "--set", "save_steps=0")))
    wait_for(lambda: (root / "term/log.jsonl").exists() and b'"kind":"step"' in (root / "term/log.jsonl").read_bytes())
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    stopped(root, "term", said)
    assert resumed(root, "term") == uninterrupted


@pytest.mark.parametrize("number", forms([signal.SIGINT], short=[signal.SIGTERM]))
def test_a_signal_saves_and_says_how_to_go_on(root: Path, uninterrupted: Result, number: signal.Signals) -> None:
    out = root / number.name
    says = out.with_suffix(".txt")
    process = forked(words(root, out.name, "--set", "save_steps=0"), says=says, before=slowly)
    wait_for(lambda: (out / "log.jsonl").exists() and b'"kind":"step"' in (out / "log.jsonl").read_bytes())
    os.kill(process.pid or 0, number)
    process.join()
    assert process.exitcode == 130, says.read_text()
    stopped(root, out.name, says.read_text())
    assert resumed(root, out.name) == uninterrupted


def stopped(root: Path, out: str, said: str) -> None:
    (at,) = states(root / out)
    assert (
        f"Stopped at step {at} of {STEPS}; saved in {root / out}. Continue with the same command and --resume." in said
    )
    assert "Traceback" not in said
    assert 0 < at < STEPS


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)


def test_a_second_run_in_the_same_folder_is_refused(root: Path) -> None:
    process = forked(words(root, "twice"), says=root / "twice.txt", before=slowly)
    wait_for_state(root / "twice", 2, process.is_alive)
    second = wilss_train(*words(root, "twice", "--resume"))
    process.kill()
    process.join()
    assert second.code == 1
    assert f"is being written by process {process.pid} on " in second.err


@pytest.mark.long
@pytest.mark.parametrize("number", KILLED_LONG)
def test_killed_long_form(root: Path, uninterrupted: Result, number: int) -> None:
    test_a_killed_run_goes_on_to_the_same_bytes(root, uninterrupted, number)
