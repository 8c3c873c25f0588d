"""How a run shows itself, and how it is asked to stop."""

import os
import queue
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from wilss.process import StopSignals
from wilss_train.commands import running
from wilss_train.commands.running import RunDisplay, StopRequest
from wilss_train.data.batch_source import Order
from wilss_train.params import RANDOM, TrainParams
from wilss_train.results.report.log import Progress
from wilss_train.run.plan import Origin, RunPlan, _slow, _too_short
from wilss_train.run.processes import is_bf16

PLAN = RunPlan(
    origin=Origin(network="tf_efficientnet_lite0", weights="timm"), method="fmwiss", parameters=4_412_000, crop=224,
    batch_size=8, images=434, epochs=16, steps=864, device="cpu", mean=(0.5,) * 3, std=(0.5,) * 3,
)  # fmt: skip


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands still unless it is set."""
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def test_the_plan_says_network_weights_and_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    RunDisplay().plan(PLAN)
    assert capsys.readouterr().err == (
        "Network: tf_efficientnet_lite0, weights timm (images of mean 0.5, std 0.5), 4.4 million parameters to train\n"
        "Training: fmwiss, crop 224, batch 8 of 434 images, 864 steps in 16 epochs, on cpu\n"
    )


def test_a_start_from_nothing_is_said_with_the_remedy() -> None:
    origin = Origin(network="resnet18", weights=RANDOM, remedy="Set backbone_weights to `timm`.")
    assert origin.is_random
    assert origin.warning.startswith("RANDOM WEIGHTS: resnet18 starts from random weights")
    assert origin.warning.endswith("Set backbone_weights to `timm`.")


def test_time_left_is_told_after_two_steps_and_follows(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    """The first step, a slow one, is not reckoned with; a later one moves the mean by a tenth."""
    display = RunDisplay()
    display.start(10, 112)
    clock[0] += 90
    display.step(11)
    assert not capsys.readouterr().err
    clock[0] += 6
    display.step(12)
    assert capsys.readouterr().err == "About 10 min for the 100 steps left, judging not counted\n"
    display(Progress(step=12, steps=112, epoch=0, losses={"seg": 0.25}, lr={}, seconds=96, images_per_second=1.25))
    clock[0] += 36
    display.step(13)
    assert capsys.readouterr().err == "Step 13 of 112: seg 0.250, 1.2 images/s, about 15 min left\n"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "1 s"), (89, "89 s"), (90, "2 min"), (5399, "90 min"), (5400, "1.5 hours")]
)
def test_durations(seconds: float, words: str) -> None:
    assert running._duration(seconds) == words


@pytest.mark.parametrize(
    ("in_loop", "line"),
    [(False, "Reading the masks, 0 s so far"), (True, "Step 3 of 5: reading the masks, 0 s so far")],
)
def test_a_silent_run_says_what_it_is_at(in_loop: bool, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "_BEAT", 0.0)
    monkeypatch.setattr(running, "_LOOKS", 0.001)
    lines = queue.SimpleQueue[str]()
    display = RunDisplay()
    if in_loop:
        display.start(2, 5)
    display.phase("reading the masks")
    monkeypatch.setattr(RunDisplay, "_say", lambda display, line: lines.put(line))
    with display:
        assert lines.get(timeout=60) == line


def test_how_far_something_is_does_not_begin_it_again(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    display = RunDisplay()
    display.phase("judging the result on val")
    clock[0] += 30
    display.phase("judging the result on val: 40 of 108 done")
    assert (display._where(), clock[0] - display._since) == ("Judging the result on val: 40 of 108 done", 30)
    assert capsys.readouterr().err == "Judging the result on val\n"


def test_what_begins_beside_the_steps_is_said_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    display = RunDisplay(Path("runs/step-0"))
    display.phase("reading and checking masks, images and weights")
    display.start(3, 4)
    display.phase("forward pass")
    display.step(4)
    display.phase("writing the results")
    assert capsys.readouterr().err.splitlines() == [
        "Reading and checking masks, images and weights", "Resuming runs/step-0 at step 3 of 4", "Writing the results",
    ]  # fmt: skip


def test_a_run_from_the_start_resumes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    RunDisplay(Path("runs/step-0")).start(0, 4)
    assert not capsys.readouterr().err


def test_a_signal_in_the_loop_is_noted(capsys: pytest.CaptureFixture[str]) -> None:
    """The loop looks at it; had it looked for the last time, the command is interrupted after it."""
    with StopRequest() as stop, pytest.raises(KeyboardInterrupt):
        _terminated_in_the_loop(stop)
    assert "Stopping; once more to stop at once" in capsys.readouterr().err


def _terminated_in_the_loop(stop: StopRequest) -> None:
    with stop.running():
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop._asked.wait(60)


def test_the_echo_of_a_signal_is_no_second_wish(monkeypatch: pytest.MonkeyPatch) -> None:
    """A launcher passes on the SIGTERM that a queue sends to all processes: the step at work is saved."""
    ended: list[int] = []
    monkeypatch.setattr("wilss_train.commands.running.os._exit", ended.append)
    with StopRequest() as stop, pytest.raises(KeyboardInterrupt):
        _terminated_by_echoes(stop, ended)
    with StopRequest() as stop, pytest.raises(KeyboardInterrupt):
        _terminated_by_wishes(stop, ended, monkeypatch)
    assert ended == [130]


def _terminated_by_echoes(stop: StopRequest, ended: list[int]) -> None:
    with stop.running():
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop._asked.wait(60)
            time.sleep(0.05)
        assert not ended


def _terminated_by_wishes(stop: StopRequest, ended: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StopSignals, "ECHO", 0.0)
    with stop.running():
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop._asked.wait(60)
        os.kill(os.getpid(), signal.SIGTERM)
        while not ended:
            time.sleep(0.001)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_outside_of_the_loop_interrupts(number: signal.Signals) -> None:
    before = [signal.getsignal(number) for number in StopSignals.ALL]
    with StopRequest(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)
    assert [signal.getsignal(number) for number in StopSignals.ALL] == before
    while any(thread.name == "deaf" for thread in threading.enumerate()):  # it sees that the interrupt was answered
        time.sleep(0.001)


@pytest.mark.parametrize(
    ("precision", "device", "instructions", "is_slow"),
    [("bf16", "cpu", "avx2", True), ("bf16", "cpu", "avx512_bf16", False), ("bf16", "cuda", "avx2", False),
     ("fp32", "cpu", "avx2", False), ("auto", "cpu", "avx2", False), ("fast", "cpu", "avx2", False)],
)  # fmt: skip
def test_a_precision_that_the_processor_lacks_is_told(
    monkeypatch: pytest.MonkeyPatch, precision: Any, device: str, instructions: str, is_slow: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {instructions: True})
    told = _slow(TrainParams(precision=precision), torch.device(device))
    assert [one.startswith("SLOW: this processor has no instructions for precision=bf16") for one in told] == (
        [True] if is_slow else []
    )


@pytest.mark.parametrize(
    ("step", "alone", "least", "told"),
    [
        (1, 5, 6, []),
        (1, 5, 5, ["125 optimiser steps"]),
        (1, 0, 5, []),
        (1, 29, 6, ["6 optimiser steps"]),
        (0, 29, 6, []),
    ],
)
def test_a_later_step_that_leaves_the_student_few_steps_is_told(
    step: int, alone: int, least: int, told: list[str]
) -> None:
    """Of 30 epochs; those in which the teacher learns alone are not the student's."""
    batches = SimpleNamespace(order=Order(count=8, batch=8, seed=0, least=least))
    context = SimpleNamespace(inputs=SimpleNamespace(step=step), params=TrainParams(epochs=30))
    found = _too_short(cast(Any, SimpleNamespace(alone=alone, batches=batches)), cast(Any, context))
    assert [one.removeprefix("SHORT: the student learns for ").partition(",")[0] for one in found] == told


@pytest.mark.parametrize(
    ("precision", "device", "instructions", "wanted"),
    [("fast", "cpu", "avx2", False), ("fast", "cpu", "avx512_f", False), ("fast", "cpu", "avx512_bf16", True),
     ("fast", "cpu", "amx_bf16", True), ("fast", "cuda", "avx2", True), ("auto", "cpu", "amx_bf16", False),
     ("auto", "cuda", "avx2", True), ("bf16", "cpu", "avx2", True), ("fp32", "cuda", "avx2", False)],
)  # fmt: skip
def test_a_precision_that_is_fast_is_bf16_where_there_are_instructions_for_it(
    monkeypatch: pytest.MonkeyPatch, precision: Any, device: str, instructions: str, wanted: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {instructions: True})
    assert is_bf16(TrainParams(precision=precision), device) == wanted
