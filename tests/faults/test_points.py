"""Every write point broken in every way: what is on disk is whole or named, and going on gives the same bytes.

The points are not listed by hand: each scene is played once on a disk that records what is done to it.
"""

import multiprocessing
import random
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.breaking import KINDS, Fault, Kind, Recording, lies_on_disk, watched
from tests.faults.cli import Outcome
from tests.faults.scenes import SCENES, World, draw_world
from wilss.disk import WritePoint
from wilss.store import MaskStore

#: Without these files a run is none the worse; what goes wrong with them is not told.
UNTOLD = {WritePoint.TEXT_CACHE, WritePoint.STATE_PRUNE, WritePoint.STORE_SWEEP}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return draw_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def whole(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Recording, Any]]:
    """What every scene does to the disk and comes to when nothing goes wrong."""
    found = {}
    for name, scene in SCENES.items():
        place = tmp_path_factory.mktemp("whole")
        scene.begin(world, place)
        before = lies_on_disk(place)
        with watched() as seen:
            made = scene.play(world, place, False)
        assert made.code == 0, (name, made.said)
        unseen = lies_on_disk(place) - before - seen.written()
        assert not unseen, f"{name}: written by something that the tests do not see: {sorted(unseen)}"
        found[name] = seen, scene.result(place)
    return found


def test_no_write_outside_the_points(whole: dict[str, tuple[Recording, Any]]) -> None:
    strays = {name: [(one.what, one.path) for one in seen.strays] for name, (seen, _) in whole.items() if seen.strays}
    assert not strays


def test_every_point_is_met(whole: dict[str, tuple[Recording, Any]]) -> None:
    met = {one.point for seen, _ in whole.values() for one in seen.operations}
    assert met - {None} == set(WritePoint)


def _pairs() -> Iterator[Any]:
    """Every point in every way; in the short form a kill and one way more, drawn by name."""
    for point in WritePoint:
        short = ("kill", random.Random(str(point)).choice(KINDS[1:]))
        for kind in KINDS:
            yield pytest.param(point, kind, id=f"{point}-{kind}", marks=() if kind in short else pytest.mark.long)


@pytest.mark.parametrize(("point", "kind"), list(_pairs()))
def test_every_point_broken_in_every_way(
    world: World, whole: dict[str, tuple[Recording, Any]], tmp_path: Path, point: WritePoint, kind: Kind
) -> None:
    """At one operation, drawn by name, in the first scene that has the point."""
    scene, recording = next((name, seen) for name, (seen, _) in whole.items() if point in _points(seen))
    fault = random.Random(f"{point} {kind}").choice(_faults(recording, point, kind))
    break_and_go_on(world, whole, tmp_path, scene, fault)


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SCENES)
def test_every_operation_broken_in_every_way(
    world: World,
    whole: dict[str, tuple[Recording, Any]],
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    kind: Kind,
) -> None:
    """Every operation of every point in every scene: its first, its last and one in the middle."""
    recording = whole[name][0]
    for point in sorted(_points(recording)):
        for fault in _faults(recording, point, kind):
            place = tmp_path_factory.mktemp("broken")
            break_and_go_on(world, whole, place, name, fault)
            shutil.rmtree(place)


def break_and_go_on(
    world: World, whole: dict[str, tuple[Recording, Any]], place: Path, name: str, fault: Fault
) -> None:
    scene = SCENES[name]
    scene.begin(world, place)
    if fault.kind == "kill":
        _killed(world, place, name, fault)
    else:
        with watched(fault) as seen:
            broken = scene.play(world, place, False)
        assert seen.broke, fault
        _told(broken, fault, place)
    if (place / "s.zarr").exists():
        assert not list(MaskStore.open(place / "s.zarr", allow_partial=True).verify()), fault
    again = scene.play(world, place, True)
    assert again.code == 0, (fault, again.said)
    assert scene.result(place) == whole[name][1], fault
    left = [path for path in place.rglob("*") if path.name.endswith((".partial", ".building", ".former", ".discarded"))]
    assert not left, fault


def _told(broken: Outcome, fault: Fault, place: Path) -> None:
    """A sentence that names a file and what to do; only where the result is whole in spite of it is nothing said."""
    assert "Traceback" not in broken.said, (fault, broken.said)
    assert "should not happen" not in broken.said, (fault, broken.said)
    if broken.code == 0:
        assert fault.point in UNTOLD or fault.what in ("fsync", "remove", "write", "open", "link"), (fault, broken.said)
        return
    assert broken.code == 1, (fault, broken.said)
    errors = [line for line in broken.err.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1, (fault, broken.said)
    assert str(place) in errors[0], (fault, errors)
    assert ";" in errors[0], (fault, errors)


def _points(recording: Recording) -> set[WritePoint]:
    return {one.point for one in recording.operations if one.point is not None}


def _faults(recording: Recording, point: WritePoint, kind: Kind) -> list[Fault]:
    """First, last and a middle occurrence of every operation at a point that can break in this way."""
    counts: dict[str, int] = {}
    for one in recording.operations:
        if one.point == point and (kind != "short" or one.what == "write"):
            counts[one.what] = counts.get(one.what, 0) + 1
    if kind == "short" and not counts:  # nothing is written here; a disk that is full of names is as near as it comes
        return _faults(recording, point, "ENOSPC")
    return [
        Fault(point, what, kind, number)
        for what, count in counts.items()
        for number in sorted({0, count // 2, count - 1})
    ]


def _killed(world: World, place: Path, name: str, fault: Fault) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["wilss_train.run.train", "wilss_train.commands.train", "tests.faults.scenes"])
    process = context.Process(target=_play_to_the_kill, args=(world, place, name, fault))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL, (fault, process.exitcode)


def _play_to_the_kill(world: World, place: Path, name: str, fault: Fault) -> None:
    with watched(fault):
        SCENES[name].play(world, place, False)
