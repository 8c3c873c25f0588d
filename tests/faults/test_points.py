"""Every kind of write broken in every way: what is on disk is whole or named, and resuming gives the same bytes.

Each scene is played once on a disk that records what is done to it; those operations are broken afterwards.
"""

import random
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.breaking import KINDS_OF_WRITE, WAYS, Fault, Recording, Way, lies_on_disk, watched
from tests.faults.cli import Outcome
from tests.faults.scenes import SCENES, World, draw_world
from tests.faults.train_cli import forkserver
from wilss.store import MaskStore

#: Without these files a run is none the worse; what goes wrong with them is not told.
UNTOLD = {"text cache", "state.prune", "sweep", "store.stamps"}


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
        with watched(place) as seen:
            made = scene.play(world, place, False)
        assert made.code == 0, (name, made.said)
        unseen = lies_on_disk(place) - before - seen.written()
        assert not unseen, f"{name}: written by something that the tests do not see: {sorted(unseen)}"
        found[name] = seen, scene.result(place)
    return found


def test_every_write_is_of_a_known_kind_and_goes_by_the_disk_package(whole: dict[str, tuple[Recording, Any]]) -> None:
    strays = {name: [(one.what, one.path) for one in seen.strays] for name, (seen, _) in whole.items() if seen.strays}
    assert not strays


def test_a_write_past_the_disk_package_is_found(tmp_path: Path) -> None:
    with watched(tmp_path) as seen:
        (tmp_path / "scores.json").write_text("{}")
        (tmp_path / "s.zarr.building").mkdir()
    assert {(stray.what, stray.path) for stray in seen.strays} == {
        ("open", str(tmp_path / "scores.json")),
        ("write", str(tmp_path / "scores.json")),
    }


def test_every_kind_is_met(whole: dict[str, tuple[Recording, Any]]) -> None:
    met = {one.kind for seen, _ in whole.values() for one in seen.operations}
    assert met - {None} == set(KINDS_OF_WRITE)


#: Kinds that are broken in a scene besides the first that has them: there, others write them.
_ALSO_IN = (
    ("store.vectors", "generate what failed"),
    ("store.building", "generate more"),
    ("store.building", "fuse"),
    ("store.building", "generate a part"),
    ("store.vectors", "generate a part"),
    ("store.seal", "generate a part"),
)
#: The scenes of these that `make test-wide` breaks.
_WIDE = {"generate what failed", "generate more", "fuse"}

#: Kinds that `make test` breaks in another way as well, `make test-wide` the others.
BROKEN_TWICE = {
    *("lock", "folder of results", "parts.receipt", "store.building", "store.shard", "store.vectors", "store.seal"),
    *("review", "result", "export"),
}

#: Kinds that `make test-wide` breaks by a kill alone, too: each is written by the same code as one that breaks in two
#: ways. That is a file under another name (`result`, `manifest`), a folder built beside (`state`, `export`), lines at
#: the end of a file (`run.log`), files that are removed (`state.prune`), a receipt.
KILLED_ALONE = {
    *("run.identity", "run.done", "checkpoint", "labeller", "report"),
    *("memory", "run.curves", "run.clear", "parts.file"),
}


def _breaks() -> Iterator[Any]:
    """Every kind of write in every way; in the short forms a kill, and of most kinds one way more, drawn by name."""
    for kind, scene in (*((kind, None) for kind in KINDS_OF_WRITE), *_ALSO_IN):
        name = kind if scene is None else f"{kind} in {scene}"
        wide = {"kill"} if scene or kind in KILLED_ALONE else {"kill", random.Random(name).choice(WAYS[1:])}
        short = wide & {"kill"} if kind not in BROKEN_TWICE else wide
        for way in WAYS:
            mark = () if way in short and scene not in _WIDE else pytest.mark.wide if way in wide else pytest.mark.long
            yield pytest.param(kind, scene, way, id=f"{name}-{way}", marks=mark)


def test_every_way_is_in_the_short_form() -> None:
    """Besides a kill, in the kinds that are broken in two ways."""
    short = [one.values for one in _breaks() if not one.marks]
    assert {way for _, _, way in short} == set(WAYS)
    assert {kind for kind, _, way in short if way == "kill"} == set(KINDS_OF_WRITE)


@pytest.mark.parametrize(("kind", "scene", "way"), list(_breaks()))
def test_every_kind_broken_in_every_way(
    world: World, whole: dict[str, tuple[Recording, Any]], tmp_path: Path, kind: str, scene: str | None, way: Way
) -> None:
    """At one operation, drawn by name, in one scene: the first that has it, where none is named."""
    scene = scene or next(name for name, (seen, _) in whole.items() if kind in _kinds(seen))
    fault = random.Random(f"{kind} {way}").choice(_faults(whole[scene][0], kind, way))
    break_and_go_on(world, whole, tmp_path, scene, fault)


@pytest.mark.long
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", SCENES)
def test_every_operation_broken_in_every_way(
    world: World,
    whole: dict[str, tuple[Recording, Any]],
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    way: Way,
) -> None:
    """Every operation of every kind of write in every scene: its first, its last and one in the middle."""
    recording = whole[name][0]
    for kind in sorted(_kinds(recording)):
        for fault in _faults(recording, kind, way):
            place = tmp_path_factory.mktemp("broken")
            break_and_go_on(world, whole, place, name, fault)
            shutil.rmtree(place)


def break_and_go_on(
    world: World, whole: dict[str, tuple[Recording, Any]], place: Path, name: str, fault: Fault
) -> None:
    scene = SCENES[name]
    scene.begin(world, place)
    if fault.way == "kill":
        _killed(world, place, name, fault)
    else:
        with watched(place, fault) as seen:
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
        assert fault.kind in UNTOLD or fault.what in ("fsync", "remove", "write", "open", "link"), (fault, broken.said)
        return
    assert broken.code == 1, (fault, broken.said)
    errors = [line for line in broken.err.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1, (fault, broken.said)
    assert str(place) in errors[0], (fault, errors)
    assert ";" in errors[0], (fault, errors)


def _kinds(recording: Recording) -> set[str]:
    return {one.kind for one in recording.operations if one.kind is not None}


def _faults(recording: Recording, kind: str, way: Way) -> list[Fault]:
    """First, last and a middle occurrence of every operation of a kind of write that can break in this way."""
    counts: dict[str, int] = {}
    for one in recording.operations:
        if one.kind == kind and (way != "short" or one.what == "write"):
            counts[one.what] = counts.get(one.what, 0) + 1
    if way == "short" and not counts:  # nothing is written here; a disk that is full of names is as near as it comes
        return _faults(recording, kind, "ENOSPC")
    return [
        Fault(kind, what, way, number)
        for what, count in counts.items()
        for number in sorted({0, count // 2, count - 1})
    ]


def _killed(world: World, place: Path, name: str, fault: Fault) -> None:
    process = forkserver().Process(target=_play_to_the_kill, args=(world, place, name, fault))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL, (fault, process.exitcode)


def _play_to_the_kill(world: World, place: Path, name: str, fault: Fault) -> None:
    with watched(place, fault):
        SCENES[name].play(world, place, False)
