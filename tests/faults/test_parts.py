"""Many independent processes on one store, without a coordinator: killed, started at once, on machines that differ.

The processes come from a server that has the imports behind it. Whatever dies, the store has the bytes of one that a
single process made; where machines make other bytes of the same image, every shard is wholly of one of them.
"""

import os
import random
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.drills import turns
from tests.faults.cli import content
from tests.faults.standin import StandInManifest, StandInSource, draw_images
from tests.faults.train_cli import forkserver
from wilss.disk import Location
from wilss.store import ImageContent, MaskStore
from wilss_masks.make.generate import generate
from wilss_masks.make.options import Options, Part
from wilss_masks.sources.base import ImageTask

IMAGES = 64
CONTEXT = forkserver()


@dataclass(frozen=True, kw_only=True)
class OnMachine(StandInSource):
    """As another model of GPU may do: the same but for some pixels at the border of a mask. machine: 0 or 1."""

    machine: int = 0

    def _one(self, task: ImageTask, pixels: Any) -> ImageContent:
        made = super()._one(task, pixels)
        masks = {position: mask.copy() for position, mask in made.planes["mask"].items()}
        for mask in masks.values():
            mask[0, :4] ^= bool(self.machine)
        area = {position: int(mask.sum()) for position, mask in masks.items()}
        return ImageContent(**{**vars(made), "planes": {**made.planes, "mask": masks}, "area": area})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_images(tmp_path_factory.mktemp("images"), IMAGES)


@pytest.fixture(scope="module")
def alone(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The stores of single processes on each of the two machines."""
    return on_each_machine(folder, tmp_path_factory.mktemp("alone"))


def on_each_machine(folder: Path, root: Path) -> list[Path]:
    for machine in (0, 1):
        make_part(folder, root / f"{machine}.zarr", None, machine=machine)
    return [root / "0.zarr", root / "1.zarr"]


def make_part(folder: Path, store: Location, part: Part | None, delay: float = 0.0, machine: int = 0) -> None:
    """Make a part of a store in this process, a shard being two images; fails where anything is not made."""
    summary = generate(
        StandInManifest(folder=folder),  # type: ignore[arg-type]
        step=0,
        source=OnMachine(delay=delay, machine=machine),
        out=store,
        options=Options(shard_size=2, batch_size=2, device="cpu", keep_scores=True, part=part),
    )
    assert not summary.lost
    assert summary.done == len(list(folder.glob("*.png")))


@dataclass
class Running:
    """A process at work on a part; due: when it is killed, if it lives until then."""

    part: Part
    process: BaseProcess
    due: float | None


def make_with_kills(folder: Path, store: Location, *, count: int, at_once: int, seed: int, machines: int) -> int:
    """Let `count` parts make a store, `at_once` of them at a time, and kill every other process; how many died.

    A part that was killed is started again, as an array job does it.
    """
    draw = random.Random(seed)
    waiting = [Part(index, count) for index in range(1, count + 1)]
    draw.shuffle(waiting)
    running: list[Running] = []
    died = 0
    while waiting or running:
        while waiting and len(running) < at_once:
            running.append(_start(folder, store, waiting.pop(), draw, machines))
        time.sleep(0.005)
        for one in running:
            if one.due is not None and time.monotonic() > one.due:
                one.process.kill()
        ended = [one for one in running if not one.process.is_alive()]
        running = [one for one in running if one not in ended]
        for one in ended:
            one.process.join()
            assert one.process.exitcode in (0, -signal.SIGKILL)
            if one.process.exitcode:
                died += 1
                waiting.insert(draw.randrange(len(waiting) + 1), one.part)
    return died


def _start(folder: Path, store: Location, part: Part, draw: random.Random, machines: int) -> Running:
    delay, machine = draw.uniform(0, 0.1), draw.randrange(machines)
    due = time.monotonic() + draw.uniform(0, 0.7) if draw.random() < 0.5 else None
    process = _process(make_part, folder, store, part, delay, machine)
    process.start()
    return Running(part, process, due)


def _process(function: Callable[..., None], *arguments: Any) -> BaseProcess:
    """One that has today's environment: of the server that it is forked off it would have that of earlier tests."""
    return CONTEXT.Process(target=_as_here, args=(dict(os.environ), function, arguments))


def _as_here(environment: Mapping[str, str], function: Callable[..., None], arguments: Sequence[Any]) -> None:
    os.environ.update(environment)
    function(*arguments)


def nothing_beside(store: Path) -> None:
    """Nothing of the parts is left: neither receipts nor what killed processes had begun."""
    assert sorted(path.name for path in store.parent.iterdir()) == [store.name, f"{store.name}.lock"]
    assert not list(store.rglob("*.partial"))


#: How many parts, and the seed of their kills.
KILLS = [(8, 0), *((64, seed) for seed in range(5))]
KILLS_SHORT = KILLS[:1]
AT_ONCE, AT_ONCE_SHORT = [(8, 0), *((16, number) for number in range(100))], [(8, 0)]


@pytest.mark.long  # the short form is that of machines that differ
@pytest.mark.parametrize(("count", "seed"), KILLS)
def test_parts_that_are_killed(folder: Path, alone: list[Path], tmp_path: Path, count: int, seed: int) -> None:
    store = tmp_path / "s.zarr"
    make_with_kills(folder, store, count=count, at_once=4, seed=seed, machines=1)
    assert content(store) == content(alone[0])
    nothing_beside(store)


@pytest.mark.parametrize(("count", "seed"), turns(KILLS, short=KILLS_SHORT))
def test_parts_on_machines_that_differ(folder: Path, alone: list[Path], tmp_path: Path, count: int, seed: int) -> None:
    store = tmp_path / "s.zarr"
    make_with_kills(folder, store, count=count, at_once=4, seed=seed, machines=2)
    wholly_of_one(store, alone)
    nothing_beside(store)


def wholly_of_one(path: Location, alone: Sequence[Path]) -> None:
    """Every shard of the store at `path`, files and vectors, is that of one of the stores of single machines."""
    store, others = MaskStore.open(path), [MaskStore.open(other) for other in alone]
    assert not list(store.verify())
    for shard in range(store.layout.num_shards):
        receipt = store.receipt(shard)
        (same,) = [other for other in others if other.receipt(shard).digest == receipt.digest]
        assert (same.receipt(shard).area == receipt.area).all()
        row = store.layout.rows(shard)[0]
        assert np.array_equal(store.read(row).masks, same.read(row).masks)


@pytest.mark.parametrize(("writers", "number"), turns(AT_ONCE, short=AT_ONCE_SHORT))
def test_parts_that_start_at_once_make_one_store(
    folder: Path, alone: list[Path], tmp_path: Path, writers: int, number: int
) -> None:
    store = tmp_path / "s.zarr"
    all_at_once(folder, store, writers)
    assert content(store) == content(alone[0])
    nothing_beside(store)


def all_at_once(folder: Path, store: Location, writers: int) -> None:
    """So many parts begin at the same moment, and all of them end well."""
    barrier = CONTEXT.Barrier(writers)
    processes = [_process(_together, barrier, folder, store, Part(index, writers)) for index in range(1, writers + 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert {process.exitcode for process in processes} == {0}


def _together(barrier: Any, folder: Path, store: Location, part: Part) -> None:
    barrier.wait()
    make_part(folder, store, part)
