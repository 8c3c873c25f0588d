"""Several writers at once: one wins, the others are refused at once and told by whom, and nothing is lost.

The processes come from a server that has the imports behind it, and ask at the same moment.
"""

import json
import os
import re
import signal
import socket
import time
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from tests.drills import turns
from tests.faults.cli import content
from tests.faults.standin import draw_images, make
from tests.faults.train_cli import Result, forkserver, result, wilss_train, words
from wilss.errors import StoreError, WilssError
from wilss.store import MaskStore, writer_lock

IMAGES = 8
CONTEXT = forkserver()
REFUSED = re.compile(r"is being written by process (\d+) on (\S+); wait until it ends, or give another --out")


@dataclass(frozen=True)
class Ending:
    """How one of several writers ended: what it was told (nothing where it won), and when, by a clock of them all."""

    pid: int
    said: str
    at: float


@dataclass
class Clock:
    """Stands still, but for those who sleep."""

    now: float = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_images(tmp_path_factory.mktemp("images"), IMAGES)


@pytest.fixture(scope="module")
def alone(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The store of a writer without rivals."""
    store = tmp_path_factory.mktemp("alone") / "s.zarr"
    assert make(folder, store).done == IMAGES
    return content(store)


def race(writers: int, write: Any, *given: Any) -> list[Ending]:
    """So many processes call `write(*given)` at the same moment; how each of them ended."""
    start, endings = CONTEXT.Barrier(writers), CONTEXT.SimpleQueue()
    processes = [CONTEXT.Process(target=_take_part, args=(start, endings, write, given)) for _ in range(writers)]
    for process in processes:
        process.start()
    found = [endings.get() for _ in processes]
    for process in processes:
        process.join()
    return found


def _take_part(start: Any, endings: Any, write: Any, given: tuple[Any, ...]) -> None:
    from wilss_train.run import train as training  # noqa: F401  before the start, as for one that is running

    start.wait()
    try:
        said = write(*given)
    except WilssError as error:
        said = str(error)
    endings.put(Ending(os.getpid(), said or "", time.monotonic()))


def make_slowly(folder: Path, store: Path) -> str:
    """Slow enough that the last one asks before the first one is through."""
    summary = make(folder, store, delay=0.15)
    assert not summary.lost
    return "" if summary.made_now else "found it finished"


def one_won(endings: list[Ending]) -> None:
    """And the others were refused by its name while it was at work: nobody waits for it."""
    winners = [ending for ending in endings if not ending.said]
    assert len(winners) == 1, endings
    for ending in endings:
        if ending not in winners:
            named = REFUSED.search(ending.said)
            assert named, ending.said
            assert (int(named[1]), named[2]) == (winners[0].pid, socket.gethostname())
            assert ending.at < winners[0].at


@pytest.mark.parametrize("writers", turns([2, 5], short=[2]))  # five: the lock of a killed process, below
@pytest.mark.parametrize("number", range(1))
def test_one_of_several_writers_of_a_store_wins(
    folder: Path, alone: dict[str, bytes], tmp_path: Path, writers: int, number: int
) -> None:
    store = tmp_path / "s.zarr"
    one_won(race(writers, make_slowly, folder, store))
    assert content(store) == alone
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.zarr", "s.zarr.lock", "s.zarr.stamps"]


@pytest.mark.long
@pytest.mark.parametrize("writers", [2, 5])
@pytest.mark.parametrize("number", range(100, 150))
def test_one_of_several_writers_of_a_store_wins_long_form(
    folder: Path, alone: dict[str, bytes], tmp_path: Path, writers: int, number: int
) -> None:
    test_one_of_several_writers_of_a_store_wins(folder, alone, tmp_path, writers, number)


def hold_until_killed(store: Path, holds: Any) -> None:
    with writer_lock(store):
        holds.set()
        signal.pause()


def killed_holder(store: Path) -> BaseProcess:
    """A process that took the lock and was killed."""
    holds = CONTEXT.Event()
    process = CONTEXT.Process(target=hold_until_killed, args=(store, holds))
    process.start()
    assert holds.wait(60)
    process.kill()
    process.join()
    return process


def test_the_lock_of_a_killed_process_heals_and_its_name_is_never_told(
    folder: Path, alone: dict[str, bytes], tmp_path: Path
) -> None:
    store = tmp_path / "s.zarr"
    dead = killed_holder(store)
    assert json.loads((tmp_path / "s.zarr.owner.json").read_text())["pid"] == dead.pid, "nothing stale is left"
    one_won(race(5, make_slowly, folder, store))
    assert content(store) == alone


def take_and_leave(store: Path, times: int) -> str:
    """Take the lock as often as it is to be had; what was wrong, or nothing."""
    for _ in range(times):
        try:
            with writer_lock(store):
                said = json.loads(store.with_name(f"{store.name}.owner.json").read_text())
                if said["pid"] != os.getpid():
                    return f"{os.getpid()} holds the lock and {said} is told"
        except StoreError as error:
            if not REFUSED.search(str(error)):
                return str(error)
    return ""


def test_the_lock_taken_and_left_a_thousand_times_always_tells_its_holder(tmp_path: Path) -> None:
    endings = race(3, take_and_leave, tmp_path / "s.zarr", 300)
    assert [ending.said for ending in endings] == [""] * 3
    assert not list(tmp_path.iterdir()), "nothing was made"


def test_a_holder_that_was_stopped_before_it_signed_is_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for it, and nobody is told the name that a killed one left."""
    import fcntl

    store = tmp_path / "s.zarr"
    killed_holder(store)
    with (tmp_path / "s.zarr.owner.json").open("r+") as owner, (tmp_path / "s.zarr.lock").open("r+") as lock:
        fcntl.flock(owner, fcntl.LOCK_EX)
        fcntl.flock(lock, fcntl.LOCK_EX)
        clock = Clock()
        monkeypatch.setattr("wilss.disk.lock.time", clock)
        with pytest.raises(StoreError, match="is being written by another process; wait"), writer_lock(store):
            pass
        assert clock.now < 1.0


@pytest.mark.parametrize("ending", ["lock", "owner.json"])
@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("folder", "Is a directory); move away what is in the lock file's place"),
        ("link", "Too many levels of symbolic links); move away what is in the lock file's place"),
        ("read-only", "Permission denied); change the permissions"),
    ],
)
def test_a_lock_file_that_cannot_be_used(tmp_path: Path, ending: str, kind: str, sentence: str) -> None:
    path = tmp_path / f"s.zarr.{ending}"
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path.touch(mode=0o444)
        if os.access(path, os.W_OK):
            pytest.skip("the superuser may write everything")
    with pytest.raises(StoreError) as refused, writer_lock(tmp_path / "s.zarr"):
        pass
    assert sentence in str(refused.value)
    assert str(path) in str(refused.value)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        ("ENOSPC", "No space left on device); free some space"),
        ("ENOLCK", "knows no locks: No locks available); give an --out on another file system"),
    ],
)
def test_a_disk_that_takes_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: str, sentence: str) -> None:
    import errno

    code = getattr(errno, number)

    def failing(*given: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("wilss.disk.lock.os.pwrite" if number == "ENOSPC" else "fcntl.flock", failing)
    with pytest.raises(StoreError) as refused, writer_lock(tmp_path / "s.zarr"):
        pass
    assert sentence in str(refused.value)
    monkeypatch.undo()
    with writer_lock(tmp_path / "s.zarr"):
        pass


def train(root: str, out: str) -> str:
    made = wilss_train(*words(Path(root), out, "--resume"))
    return "" if made.code == 0 else made.err


@pytest.mark.parametrize("writers", [2])
@pytest.mark.parametrize("number", range(1))
def test_one_of_several_trainings_in_a_folder_wins(
    root: Path, uninterrupted: Result, writers: int, number: int
) -> None:
    """The memory bank is written by whoever holds the folder."""
    out = f"race-{writers}-{number}"
    one_won(race(writers, train, str(root), out))
    assert result(root / out) == uninterrupted


@pytest.mark.long
@pytest.mark.parametrize("writers", [2, 5])
@pytest.mark.parametrize("number", range(100, 115))
def test_one_of_several_trainings_in_a_folder_wins_long_form(
    root: Path, uninterrupted: Result, writers: int, number: int
) -> None:
    test_one_of_several_trainings_in_a_folder_wins(root, uninterrupted, writers, number)


def test_a_complete_store_is_left_alone_by_many_at_once(folder: Path, alone: dict[str, bytes], tmp_path: Path) -> None:
    make(folder, tmp_path / "s.zarr")
    endings = race(3, make_slowly, folder, tmp_path / "s.zarr")
    assert [ending.said for ending in endings] == ["found it finished"] * 3
    assert content(tmp_path / "s.zarr") == alone
    assert MaskStore.open(tmp_path / "s.zarr").is_complete
