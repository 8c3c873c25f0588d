"""The log: whole lines only, and the same lines after a kill as without one."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wilss_train.logs import untimed_lines
from tests.wilss_train.results.report.reports import write_step
from wilss.errors import CheckpointError
from wilss_train.results.report.log import LOG_FILE, Progress, TrainingLog, plain, read_log

STEPS = 40


def run(path: Path, first: int, last: int, *, state: int = 0, ends: bool = False) -> None:
    """What a run writes from step `first` to `last`, going on from the state of `state`."""
    with TrainingLog.open(path, keep_steps_up_to=state) as log:
        log.start({"seed": 0, "images": 100})
        log.image("broken", "broken.jpg is cut off; copy it again.", step=1)
        for step in range(first, last + 1):
            write_step(log, step, STEPS, np.random.default_rng(step))
            if step == 25:
                log.image("late", "late.jpg is cut off; copy it again.", step=25)
        if ends:
            log.end(step=last)


def whole(folder: Path) -> Path:
    run(folder / LOG_FILE, 1, STEPS, ends=True)
    return folder / LOG_FILE


@settings(max_examples=30, deadline=None)
@given(killed=st.integers(1, STEPS), torn=st.integers(0, 400), data=st.data())
def test_a_killed_run_writes_the_log_of_one_that_was_not(
    tmp_path_factory: pytest.TempPathFactory, killed: int, torn: int, data: st.DataObject
) -> None:
    """Killed after any step, with any part of its last line on disk, and gone on from any earlier state."""
    state = data.draw(st.integers(0, killed))
    expected, path = whole(tmp_path_factory.mktemp("whole")), tmp_path_factory.mktemp("killed") / LOG_FILE
    run(path, 1, killed)
    following = b'{"kind":"step","step":' + str(killed + 1).encode() + b',"losses":{"new":' + b"1" * 400
    path.write_bytes(path.read_bytes() + following[:torn])
    run(path, state + 1, STEPS, state=state, ends=True)
    assert untimed_lines(path) == untimed_lines(expected)
    assert [set(json.loads(line)) for line in path.read_text().splitlines()] == [
        set(json.loads(line)) for line in expected.read_text().splitlines()
    ]


def test_every_line_is_on_disk_at_once(tmp_path: Path) -> None:
    with TrainingLog.open(tmp_path / LOG_FILE) as log:
        for step in (1, 2, 3):
            write_step(log, step, 3, np.random.default_rng(0))
            assert [line.step for line in read_log(log.path).steps] == list(range(1, step + 1))
        log.sync()


def test_a_finished_log_that_is_kept_whole_keeps_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / LOG_FILE
    run(path, 1, STEPS)
    before = path.read_bytes()
    TrainingLog.open(path, keep_steps_up_to=STEPS).close()
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == [LOG_FILE]


def test_step_0_begins_anew(tmp_path: Path) -> None:
    path = whole(tmp_path)
    with TrainingLog.open(path) as log:
        assert path.read_bytes() == b""
        log.start({"seed": 1})
    assert read_log(path).run == {"seed": 1}


def test_what_the_reader_finds(tmp_path: Path) -> None:
    log = read_log(whole(tmp_path))
    assert log.run == {"seed": 0, "images": 100}
    assert [line.step for line in log.steps] == list(range(1, STEPS + 1))
    assert set(log.steps[0].losses) == {"new", "dcl", "old", "seg", "total"}
    assert set(log.steps[0].lr) == {"backbone", "head"}
    assert list(log.failed) == ["broken", "late"]
    assert log.ended


def test_seconds_go_on_over_restarts(tmp_path: Path) -> None:
    """Killed at step 3, gone on from the state of step 2: 2 of the first process, 1 of the second."""
    path = tmp_path / LOG_FILE
    line: dict[str, Any] = {"steps": 4, "epoch": 0, "losses": {"total": 1.0}, "lr": {}}
    with TrainingLog.open(path) as log:
        for step, seconds in ((1, 1.0), (2, 2.0), (3, 3.5)):
            log.step(Progress(step=step, seconds=seconds, images_per_second=10.0, **line))
    with TrainingLog.open(path, keep_steps_up_to=2) as log:
        log.step(Progress(step=3, seconds=1.0, images_per_second=40.0, **line))
    found = read_log(path)
    assert [one.seconds for one in found.steps] == [1.0, 2.0, 3.0]
    assert found.seconds == 3.0
    assert found.images_per_second == pytest.approx((1 * 10 + 1 * 10 + 1 * 40) / 3)


def test_a_loss_that_is_not_finite_is_null_in_the_file_and_nan_to_the_reader(tmp_path: Path) -> None:
    path = tmp_path / LOG_FILE
    with TrainingLog.open(path) as log:
        losses = {"a": float("inf")}
        log.step(Progress(step=1, steps=1, epoch=0, losses=losses, lr={"a": 1.0}, seconds=1, images_per_second=1))
    assert json.loads(path.read_text())["losses"] == {"a": None}
    assert math.isnan(read_log(path).steps[0].losses["a"])


@pytest.mark.parametrize("tail", [b'{"kind":"st', b"\0" * 64, b"\0" * 64 + b"\n", b'{"kind":"step"}', b"[]\n"])
def test_a_torn_end_is_no_error(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / LOG_FILE
    run(path, 1, 5)
    path.write_bytes(path.read_bytes() + tail)
    assert len(read_log(path).steps) == 5
    run(path, 6, 8, state=5)
    assert [line.step for line in read_log(path).steps] == list(range(1, 9))


def test_damage_in_the_middle_is_refused_with_its_line(tmp_path: Path) -> None:
    path = whole(tmp_path)
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([*lines[:4], b"garbage", *lines[5:]]))
    for use in (lambda: read_log(path), lambda: TrainingLog.open(path, keep_steps_up_to=9)):
        with pytest.raises(CheckpointError, match="line 5 cannot be read"):
            use()


def test_a_step_line_that_lacks_something_is_refused(tmp_path: Path) -> None:
    path = tmp_path / LOG_FILE
    path.write_text('{"kind":"step","step":1}\n')
    with pytest.raises(CheckpointError, match="is damaged"):
        read_log(path)


def test_a_missing_log_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"log\.jsonl is not there"):
        read_log(tmp_path / LOG_FILE)


def test_names_that_are_no_text_survive(tmp_path: Path) -> None:
    """A file name with odd bytes reaches Python as a lone surrogate."""
    path, name = tmp_path / LOG_FILE, "bild_\udcfc\n\u2028.jpg"
    with TrainingLog.open(path) as log:
        log.image(name, "it is broken.", step=0)
    assert list(read_log(path).failed) == [name]


def test_plain_says_what_json_can_say() -> None:
    value = {"a": (1, 2.5), "b": {3, 1}, "c": Path("x"), 4: float("nan"), "d": np.float32(0.5), "e": np.arange(2)}
    assert plain(value) == {"a": [1, 2.5], "b": [1, 3], "c": "x", "4": None, "d": 0.5, "e": [0, 1]}
