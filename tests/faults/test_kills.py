"""SIGKILL at random moments: whatever dies, going on gives the bytes of an uninterrupted run."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.built_in import manifest_of_few
from tests.drills import forms, turns
from tests.faults.cli import content, wilss_masks
from tests.faults.standin import draw_images, make
from wilss.store import MaskStore

IMAGES = 48
DELAY = 0.03


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_images(tmp_path_factory.mktemp("images"), IMAGES)


@pytest.fixture(scope="module")
def uninterrupted(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    store = tmp_path_factory.mktemp("whole") / "step-0.zarr"
    assert make(folder, store).done == IMAGES
    return content(store)


def start(folder: Path, store: Path, workers: int, delay: float = DELAY) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.faults.standin", str(folder), str(store)]
    options = ["--workers", str(workers), "--delay", str(delay)]
    return subprocess.Popen([*command, *options], start_new_session=True, stderr=subprocess.DEVNULL)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Wait, so that a kill meets a run at work and not an interpreter that still starts."""
    deadline = time.monotonic() + 60
    while not condition() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)


def kill(process: subprocess.Popen[bytes], what: str, draw: random.Random) -> None:
    if what == "worker":
        workers = [
            child
            for child in psutil.Process(process.pid).children(recursive=True)
            if "spawn_main" in " ".join(child.cmdline())
        ]
        if workers:
            draw.choice(workers).kill()
    elif what == "tree":
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()


def one_kill(folder: Path, store: Path, what: str, draw: random.Random) -> None:
    if what == "worker":
        kill_a_worker_at_work(folder, store, draw)
        return
    if what == "worker, then all":
        kill_a_worker_and_then_all(folder, store, draw)
        return
    workers = 1 if what == "coordinator" else 2
    process = start(folder, store, workers, delay=DELAY if workers == 1 else 0.15)
    at_work = workers == 2 and draw.random() < 0.5  # the other half is met while its workers start
    wait_for((lambda: any(store.glob("mask/c/*/*/*/*"))) if at_work else store.exists, process)
    time.sleep(draw.uniform(0, 0.8))
    if process.poll() is None:
        kill(process, what, draw)
    process.wait(timeout=20)


def kill_a_worker_at_work(folder: Path, store: Path, draw: random.Random) -> None:
    """The coordinator must outlive it and finish; it would also do so if the kill came before the first task."""
    process = start(folder, store, workers=2, delay=0.15)
    wait_for(lambda: any(store.glob("mask/c/*/*/*/*")), process)
    time.sleep(draw.uniform(0, 0.8))
    with contextlib.suppress(psutil.NoSuchProcess):  # it was quicker
        kill(process, "worker", draw)
    assert process.wait(timeout=120) == 0


def kill_a_worker_and_then_all(folder: Path, store: Path, draw: random.Random) -> None:
    """The coordinator outlives the worker."""
    process = start(folder, store, workers=2, delay=0.15)
    wait_for(lambda: any(store.glob("mask/c/*/*/*/*")), process)
    kill(process, "worker", draw)
    time.sleep(draw.uniform(0, 0.8))
    assert process.poll() is None
    kill(process, "tree", draw)
    process.wait(timeout=20)


def kill_and_resume(folder: Path, store: Path, what: str, kills: int, seed: int) -> tuple[int, dict[str, bytes]]:
    """Kill `kills` times, each time going on with what is there; returns how often that met an unfinished store."""
    draw = random.Random(seed)
    unfinished = 0
    for _ in range(kills):
        one_kill(folder, store, what, draw)
        done = store.exists() and MaskStore.open(store, allow_partial=True).is_complete
        unfinished += not done
        if done:  # begin again, else the next kill would meet nothing to do
            before = content(store)
            subprocess.run(["rm", "-rf", str(store)], check=True)
            assert before
    summary = make(folder, store)
    assert summary.done == IMAGES
    assert not summary.lost
    return unfinished, content(store)


@pytest.mark.parametrize(
    ("what", "kills", "seed"),
    turns(
        [
            ("coordinator", 5, 0),
            ("coordinator", 3, 0),
            ("coordinator", 5, 1),
            ("coordinator", 7, 2),
            ("worker", 2, 3),
            ("tree", 3, 4),
            ("tree", 3, 5),
        ],
        # a process alone that dies at each of its writes: test_points
        short=[("worker, then all", 1, 4)],
    )
    + forms([("worker", 1, 3), ("tree", 1, 4)], short=[]),
)
def test_killed_and_resumed_gives_the_same_bytes(
    folder: Path, uninterrupted: dict[str, bytes], tmp_path: Path, what: str, kills: int, seed: int
) -> None:
    store = tmp_path / "step-0.zarr"
    unfinished, content = kill_and_resume(folder, store, what, kills, seed)
    assert content == uninterrupted
    if what != "worker":
        assert unfinished, "no kill met the run at work; the test proves nothing"
    assert not list(MaskStore.open(store).verify())


@pytest.mark.long
def test_the_real_thing_killed_and_resumed_gives_the_same_bytes(tmp_path: Path) -> None:
    """The built-in encoders through the command line, killed after the first shard, resumed by two workers."""
    manifest = manifest_of_few(tmp_path, drawn=(40, 4))
    options = (
        "generate",
        "-q",
        "--step",
        1,
        "--manifest",
        manifest,
        "--limit",
        8,
        "--shard-size",
        2,
        "--keep",
        "scores",
    )
    whole, killed = tmp_path / "whole.zarr", tmp_path / "killed.zarr"
    assert wilss_masks(*options, "--out", whole).code == 0
    program = [str(Path(sys.executable).parent / "wilss-masks"), *map(str, options), "--out", str(killed)]
    process = subprocess.Popen(program, start_new_session=True)
    wait_for(lambda: any(killed.glob("mask/c/*/*/*/*")), process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not MaskStore.open(killed, allow_partial=True).is_complete
    assert wilss_masks(*options, "--out", killed, "--workers", 2).code == 0
    assert content(killed) == content(whole)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 130))
@pytest.mark.parametrize("what", ["coordinator", "worker", "tree"])
def test_killed_and_resumed_long_form(
    folder: Path, uninterrupted: dict[str, bytes], tmp_path: Path, what: str, seed: int
) -> None:
    _, content = kill_and_resume(folder, tmp_path / "step-0.zarr", what, 4, seed)
    assert content == uninterrupted


@pytest.mark.long  # with two workers: test_security
@pytest.mark.parametrize("workers", [2, 3])
def test_any_number_of_workers_gives_the_same_bytes(
    folder: Path, uninterrupted: dict[str, bytes], tmp_path: Path, workers: int
) -> None:
    store = tmp_path / "step-0.zarr"
    process = start(folder, store, workers, delay=0.0)
    assert process.wait(timeout=120) == 0
    assert content(store) == uninterrupted


@pytest.mark.wide  # of one process: test_disk; a lock of a dead one is in the way of nobody who goes on after a kill
def test_a_second_writer_is_refused_naming_the_first(folder: Path, tmp_path: Path) -> None:
    store = tmp_path / "step-0.zarr"
    process = start(folder, store, workers=1, delay=1.0)
    try:
        wait_for(store.exists, process)
        with pytest.raises(Exception, match=f"being written by process {process.pid} on "):
            make(folder, store)
    finally:
        process.kill()
        process.wait()
    assert make(folder, store).done == IMAGES, "the lock of a dead process must not stay"
