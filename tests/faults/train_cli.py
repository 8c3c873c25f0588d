"""`wilss-train` on a small data set: in this process for its words, in a forked one to be killed, or as itself.

A forked process comes from a server that has torch imported, so that it is at work in a moment and not in seconds.
"""

import contextlib
import functools
import io
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.faults.cli import ROOT, Outcome, wilss_masks
from tests.wilss.data import data_on_disk as disk
from tests.wilss_train.logs import untimed_lines
from wilss.models.networks.checkpoint_header import MODEL_FILE
from wilss_train import cli
from wilss_train.memory import MemoryBank
from wilss_train.results.report.log import LOG_FILE
from wilss_train.run_folder import MEMORY, STATES

IMAGES = tuple(f"im{i:02}" for i in range(14))
VAL = ("val0", "val1")
SIZE = (32, 40)
#: Three optimiser steps an epoch, and a state after every second: most states lie in the middle of an epoch.
TRAIN: dict[str, Any] = {
    "backbone": "resnet18",
    "backbone_args": {"channels": [8, 8, 8, 8], "layers": [1, 1, 1, 1]},
    "crop": 32,
    "head_width": 8,
    "rates": [1, 2],
    "batch_size": 4,
    "precision": "fp32",
    "epochs": 6,
    "min_area": 4,
    "save_steps": 2,
    "fmwiss": {"warmup_epochs": 2},
    "base": {"epochs": 2},
}
STEPS = 18


def data_set(root: Path, **changes: Any) -> Path:
    """Images in VOC's layout with their labels and image tags: cat or dog at step 0, with a horse at step 1."""
    disk.voc(root / "data", {name: [1 + i % 2, 3] for i, name in enumerate(IMAGES)})
    disk.voc(root / "data", {name: [1, 3] for name in VAL}, split="val")
    for number, name in enumerate((*IMAGES, *VAL)):
        _picture(root / "data", name, number)
    for path in (root / "data").rglob("*.*"):  # else a first look at files of so late a time would be written down
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 1000))
    disk.manifest(root, **{"splits": {"train": "train", "val": "val"}, "train": TRAIN, **changes})
    return root


def make_masks(root: Path, step: int, *words: object) -> Path:
    """The store of a step, from pixel labels."""
    store = root / f"masks/step-{step}.zarr"
    fixed = ("--manifest", root / "data_manifest.yaml", "--source", "annotation", "--device", "cpu", "--shard-size", 4)
    made = wilss_masks("generate", "--step", step, "--out", store, *fixed, *words)
    assert made.code == 0, made.said
    return store


def walk(root: Path, **changes: Any) -> Path:
    """The data set with both stores and the run of step 0."""
    data_set(root, **changes)
    make_masks(root, 0)
    make_masks(root, 1)
    made = wilss_train(*words(root, "base", step=0))
    assert made.code == 0, made.said
    return root


def words(root: Path, out: str, *more: object, step: int = 1) -> list[str]:
    """The words of a run of `step` into `root`/`out`."""
    fixed = ["--masks", root / f"masks/step-{step}.zarr", "--manifest", root / "data_manifest.yaml"]
    given = [*fixed, "--out", root / out, "--device", "cpu", "--threads", 1, "--split", "none"]
    return [str(word) for word in [*given, *(["--from", root / "base"] if step else []), *more]]


def wilss_train(*given: object) -> Outcome:
    """`wilss-train given...` in this process."""
    out, err = io.StringIO(), io.StringIO()
    code: Any = None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.train([str(word) for word in given])
        except SystemExit as end:
            code = end.code
    return Outcome(int(code or 0), out.getvalue(), err.getvalue())


def program(given: Sequence[str], launcher: Sequence[str] = ("-m",)) -> list[str]:
    """`wilss-train given...` as the command of a process."""
    return [sys.executable, *launcher, "wilss_train", *given]


def forkserver() -> ForkServerContext:
    """Processes that have torch imported. One list for all drills: the server is that of the first who asks."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["tests.quick", "wilss_train.run.train", "wilss_train.commands.train", "tests.faults.scenes",
         "tests.faults.test_parts", "tests.faults.test_races", "tests.faults.test_readers", "tests.faults.preloaded"]
    )  # fmt: skip
    return context


def forked(
    given: Sequence[str],
    *,
    says: Path,
    die_at_rename: int = 0,
    env: Mapping[str, str] | None = None,
    before: Callable[[], None] | None = None,
) -> BaseProcess:
    """`wilss-train given...` in a process that has its imports behind it, and is started.

    says: the file for standard output and error. die_at_rename: it kills itself before the file or folder of this
    number (from 1) gets its name. before: called first of all.
    """  # fmt: skip
    process = forkserver().Process(target=_train, args=(list(given), says, die_at_rename, dict(env or {}), before))
    process.start()
    return process


@dataclass(frozen=True)
class Result:
    """All of a run that must not depend on how it came about."""

    model: bytes
    memory: str
    log: list[dict[str, Any]]


def result(run: Path) -> Result:
    """What a finished run left."""
    bank = MemoryBank.open(run / MEMORY)
    bank.verify()
    return Result((run / MODEL_FILE).read_bytes(), bank.digest, course_of(run))


def course_of(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's log, without their times."""
    return untimed_lines(run / LOG_FILE)


def states(run: Path) -> list[int]:
    """The steps of the states that a run has on disk."""
    return sorted(int(path.name.removeprefix("step-")) for path in (run / STATES).glob("step-?????????"))


def _picture(data: Path, name: str, number: int) -> None:
    """A noisy image in which every class has a colour, and its label."""
    draw = np.random.default_rng(number)
    labels = np.zeros(SIZE, np.uint8)
    labels[4 : 14 + number % 5, 3:18] = 1 + number % 2
    labels[12:28, 20 : 30 + number % 7] = 3
    labels[30:, :] = 255
    colours = np.array([[90, 90, 90], [200, 60, 60], [60, 200, 60], [60, 60, 200]])
    pixels = colours[np.where(labels == 255, 0, labels)] + draw.integers(-40, 40, (*SIZE, 3))
    Image.fromarray(pixels.astype(np.uint8)).save(data / f"JPEGImages/{name}.jpg")
    Image.fromarray(labels).save(data / f"SegmentationClass/{name}.png")


def _train(given: list[str], says: Path, die_at: int, env: dict[str, str], before: Callable[[], None] | None) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(ROOT)
    os.environ.update(env)
    with says.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        if die_at:
            _die_at(die_at)
        if before is not None:
            before()
        cli.train(given)


def _die_at(number: int) -> None:
    count = [0]

    def dying(rename: Callable[..., Path]) -> Callable[..., Path]:
        @functools.wraps(rename)
        def call(path: Path, target: Path) -> Path:
            count[0] += 1
            if count[0] == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return rename(path, target)

        return call

    Path.rename, Path.replace = dying(Path.rename), dying(Path.replace)  # type: ignore[method-assign, assignment]
