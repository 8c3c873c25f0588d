"""Disks that are full or forbidden, stores that are in the way or damaged, runs that are stopped."""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.drills import forms, turns
from tests.faults.cli import ENCODERS, IMAGES, command, content, data_set, generate, listing, masks, start, wilss_masks
from tests.faults.full_disk import files_of_at_most
from wilss.store import MaskStore, MaskStoreWriter, writer_lock
from wilss_masks.make import made_with, request
from wilss_masks.make import run as running


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set; every test writes a store of its own."""
    root = data_set(tmp_path_factory.mktemp("data"))
    assert generate(root, "--keep", "scores", out="out/unbroken.zarr").code == 0
    return root


@pytest.fixture(scope="module")
def unbroken(root: Path) -> dict[str, bytes]:
    return content(root / "out/unbroken.zarr")


@pytest.mark.parametrize("size", forms([60, 300, 600, 1200], short=[0, 4000]))
def test_a_disk_that_is_full_from_the_start(root: Path, unbroken: dict[str, bytes], tmp_path: Path, size: int) -> None:
    with files_of_at_most(size):
        made = generate(root, "--keep", "scores", out=f"out/full-{size}.zarr")
    assert made.code == 1, made.said
    assert "cannot be written (" in made.err
    assert "run the same" in made.err
    assert "Traceback" not in made.said
    assert "should not happen" not in made.said
    again = generate(root, "--keep", "scores", out=f"out/full-{size}.zarr")
    assert again.code == 0, again.said
    assert content(root / f"out/full-{size}.zarr") == unbroken


@pytest.fixture(scope="module")
def renames(root: Path) -> int:
    """How many files a whole run renames into their place."""
    count, replace = [0], Path.replace

    def counted(path: Path, target: Path) -> Path:
        count[0] += 1
        return replace(path, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", counted)
        patch.setattr(running, "_COMMIT_SECONDS", 0.0)
        assert generate(root, "--keep", "scores", out="out/counted.zarr").code == 0
    return count[0]


@pytest.fixture(scope="module")
def stages() -> set[int]:
    """How many shards were there when the disk was full, over the test below."""
    return set()


@pytest.mark.parametrize("files", forms([*range(0, 40, 4), -10, -8, -6, -4, -3], short=[0, 16, 28, -12, -6, -2]))
def test_a_disk_that_becomes_full_is_said_and_the_run_goes_on_later(
    root: Path, unbroken: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, stages: set[int], renames: int, files: int
) -> None:
    """zarr's files and ours are written under another name and renamed; after so many of them nothing fits any more.

    files: negative ones count from the last file of a whole run. The last of all holds the stamps beside the store,
    which may be missing.
    """
    store, left, replace = root / f"out/later-{files}.zarr", [files % renames], Path.replace

    def full(path: Path, target: Path) -> Path:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        patch.setattr(running, "_COMMIT_SECONDS", 0.0)  # else shards that come quickly are committed together
        made = generate(root, "--keep", "scores", out=f"out/{store.name}")
    assert made.code == 1, made.said
    assert f"Error: {store} cannot be written (No space left on device); free some space and run the same" in made.err
    assert len(made.err.strip().splitlines()) <= 3  # what there is to do, how far it came, and the error
    assert "Traceback" not in made.said
    stages.add(3 - len(MaskStore.open(store, allow_partial=True).pending_shards()) if store.exists() else -1)
    again = generate(root, "--keep", "scores", out=f"out/{store.name}")
    assert again.code == 0, again.said
    assert content(store) == unbroken


def test_the_disk_was_full_at_every_stage(stages: set[int]) -> None:
    """Else the test before proves less than it says: before the store was there, and with 0, 1, 2 and 3 shards."""
    assert stages == {-1, 0, 1, 2, 3}


FORBIDDEN = {
    "under a file": (lambda root: "clip.json/s.zarr", r"clip.json"),
    "under a store": (lambda root: "out/unbroken.zarr/zarr.json/s.zarr", r"zarr.json"),
}


@pytest.mark.parametrize("where", FORBIDDEN)
def test_a_folder_that_cannot_be_written_is_found_before_the_first_pass(
    root: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    place, word = FORBIDDEN[where]
    never_measured(monkeypatch)
    before = listing(root, but="nothing")
    made = generate(root, out=place(root))
    assert made.code == 1, made.said
    assert word in made.err
    assert "cannot be written (" in made.err
    assert "give another --out, or change its permissions" in made.err
    assert listing(root, but="nothing") == before


@pytest.mark.parametrize("which", ["the folder", "the store in it"])
def test_a_read_only_disk_is_found_before_the_first_pass(
    root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, which: str
) -> None:
    """As root, permissions stop nobody: the error is made here."""
    store = root / "out/readonly.zarr"
    shutil.copytree(root / "out/unbroken.zarr", store, dirs_exist_ok=True)
    unseal(store)
    bad, temporary = store if which == "the store in it" else store.parent, tempfile.TemporaryFile

    def read_only(*args: Any, dir: Path, **options: Any) -> Any:
        if dir == bad:
            raise OSError(30, "Read-only file system")
        return temporary(*args, dir=dir, **options)

    monkeypatch.setattr(tempfile, "TemporaryFile", read_only)
    never_measured(monkeypatch)
    made = generate(root, "--keep", "scores", out="out/readonly.zarr")
    assert made.code == 1
    assert f"Error: {bad} cannot be written (Read-only file system); give another --out" in made.err


def never_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("images were opened first")

    monkeypatch.setattr(request, "make_plan", never)


def unseal(store: Path) -> None:
    """As a store is whose last shard was not committed."""
    opened = MaskStore.open(store)
    MaskStoreWriter(opened).reopen([2], _header(opened))


def _header(opened: MaskStore) -> Any:
    class Header:
        heights, widths = opened.vector("height"), opened.vector("width")
        status = opened.vector("status") * 0

    return Header()


# -- what lies at --out already -----------------------------------------------------------------------------


def foreign_folder(path: Path) -> None:
    path.mkdir(parents=True)
    (path / "thesis.txt").write_text("years of work")


def foreign_file(path: Path) -> None:
    path.write_text("years of work")


def foreign_zarr(path: Path) -> None:
    import zarr

    group = zarr.create_group(path)
    group.create_array("thesis", shape=(3,), dtype="int32", fill_value=0)[...] = 7


def damaged_store(path: Path) -> None:
    path.mkdir()
    (path / "zarr.json").write_text('{"zarr_format": 3, "node_ty')


def newer_store(path: Path) -> None:
    shutil.copytree(path.with_name("unbroken.zarr"), path)
    root = json.loads((path / "zarr.json").read_text())
    root["attributes"]["format_version"] = 99
    (path / "zarr.json").write_text(json.dumps(root))


IN_THE_WAY: list[tuple[str, Callable[[Path], None], str]] = [
    ("folder", foreign_folder, "is not a readable mask store"),
    ("file", foreign_file, "is not a readable mask store"),
    ("zarr", foreign_zarr, "is a zarr group but not a mask store"),
    ("damaged", damaged_store, "is not a readable mask store"),
    ("newer", newer_store, "has format_version 99, this wilss reads up to 1; upgrade wilss to read it"),
]


@pytest.mark.parametrize("options", [(), ("--overwrite",), ("--retry-failed",)], ids=["plain", "overwrite", "retry"])
@pytest.mark.parametrize(("put", "words"), [row[1:] for row in IN_THE_WAY], ids=[row[0] for row in IN_THE_WAY])
def test_what_is_no_store_is_never_thrown_away(
    root: Path, put: Callable[[Path], None], words: str, options: tuple[str, ...]
) -> None:
    path = root / f"out/in-the-way-{put.__name__}-{'-'.join(options)}"
    put(path)
    before = listing(path, but="nothing") if path.is_dir() else path.read_bytes()
    made = generate(root, *options, out=f"out/{path.name}")
    assert made.code == 1, made.said
    assert f"Error: {path}" in made.err
    assert words in made.err
    assert "Traceback" not in made.said
    assert (listing(path, but="nothing") if path.is_dir() else path.read_bytes()) == before


@pytest.mark.parametrize("name", ["info", "verify"])
@pytest.mark.parametrize(("put", "words"), [row[1:] for row in IN_THE_WAY], ids=[row[0] for row in IN_THE_WAY])
def test_what_is_no_store_is_not_read(root: Path, put: Callable[[Path], None], words: str, name: str) -> None:
    path = root / f"out/unread-{put.__name__}-{name}"
    put(path)
    seen = wilss_masks(name, path)
    assert seen.code == 1, seen.said
    assert words in seen.err
    assert "Traceback" not in seen.said


def test_a_finished_store_whose_small_parts_are_damaged_is_not_called_complete(root: Path) -> None:
    """Shards are `verify`'s and the trainer's affair: hashing them would keep a second run waiting."""
    store = root / "out/small.zarr"
    shutil.copytree(root / "out/unbroken.zarr", store)
    chunk = next((store / "category/c").rglob("0"))
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(data)
    again = generate(root, "--keep", "scores", out="out/small.zarr")
    assert again.code == 1
    assert f"Error: {store} is " in again.err
    assert "damaged" in again.err
    assert generate(root, "--keep", "scores", "--overwrite", out="out/small.zarr").code == 0


def test_overwrite_makes_a_store_again_also_through_a_link(root: Path, unbroken: dict[str, bytes]) -> None:
    assert generate(root, "--limit", 3, out="out/real.zarr").code == 0
    (root / "out/link.zarr").symlink_to(root / "out/real.zarr")
    assert generate(root, "--keep", "scores", "--overwrite", out="out/link.zarr").code == 0
    assert content(root / "out/real.zarr") == unbroken
    assert (root / "out/link.zarr").is_symlink()
    assert not list((root / "out").glob("*.discarded"))


def test_a_kill_while_an_old_store_is_thrown_away_blocks_nothing(
    root: Path, unbroken: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert generate(root, out="out/thrown.zarr").code == 0

    class Killed(BaseException):
        pass

    def killed(path: Path, **_: Any) -> None:
        if not str(path).endswith(".former") or not path.exists():
            return
        (path / "zarr.json").unlink()
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", killed)
        with pytest.raises(Killed):
            generate(root, "--overwrite", out="out/thrown.zarr")
    assert generate(root, "--keep", "scores", out="out/thrown.zarr").code == 0
    assert content(root / "out/thrown.zarr") == unbroken
    assert not list((root / "out").glob("thrown*.former"))


DIFFERENT: list[tuple[str, tuple[object, ...], str]] = [
    ("batches", ("--batch-size", 4), "batch_size: 4 asked for, 2 in the store"),
    ("shards", ("--shard-size", 4), "shard_size: 4 asked for, 3 in the store"),
    ("limit", ("--limit", 2), "limit: 2 asked for, null in the store"),
    ("threads", ("--threads", 2), "threads: 2 asked for, 1 in the store"),
    ("parameter", ("--set", "threshold=0.7"), 'parameters.threshold: "0.7" asked for, "0.5" in the store'),
    ("source", ("--source", "annotation"), 'source: "annotation" asked for, "standin" in the store'),
    ("step", ("--step", 0), "step: 0 asked for, 1 in the store"),
]


@pytest.mark.parametrize(("options", "words"), [row[1:] for row in DIFFERENT], ids=[row[0] for row in DIFFERENT])
def test_a_store_made_otherwise_is_refused_with_the_difference(
    root: Path, unbroken: dict[str, bytes], options: tuple[object, ...], words: str
) -> None:
    made = generate(root, *options, out="out/unbroken.zarr")
    assert made.code == 1
    assert f"{root / 'out/unbroken.zarr'} was made with something else:" in made.err
    assert words in made.err
    assert "Give another --out, or make it again with --overwrite" in made.err
    assert content(root / "out/unbroken.zarr") == unbroken


def test_other_weights_and_versions_are_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def made(clip: str) -> Any:
        encoders = {**ENCODERS, "clip": {**ENCODERS["clip"], "pretrained": clip}}  # type: ignore[dict-item]
        data_set(root, encoders=encoders)
        return generate(root, source="fmwiss", out="out/weights.zarr")

    assert made("random:0").code == 0
    other = made("random:1")
    assert other.code == 1
    assert "models.clip.sha256: " in other.err
    data_set(root)
    monkeypatch.setattr(made_with, "version_of", lambda library: "0.0.1" if library == "timm" else "1")
    older = generate(root, out="out/unbroken.zarr")
    assert older.code == 1
    assert 'versions.timm: "0.0.1" asked for' in older.err


def test_a_store_that_holds_nothing_yet_is_begun_again(root: Path) -> None:
    with files_of_at_most(4000):
        assert generate(root, "--keep", "scores", out="out/nothing.zarr").code == 1
    if (root / "out/nothing.zarr").exists():
        assert len(MaskStore.open(root / "out/nothing.zarr", allow_partial=True).pending_shards()) == 3
    assert generate(root, "--batch-size", 4, out="out/nothing.zarr").code == 0


def test_two_at_once(root: Path) -> None:
    path = root / "out/twice.zarr"
    with writer_lock(path):
        made = generate(root, out="out/twice.zarr")
    assert made.code == 1
    assert f"{path} is being written by process {os.getpid()} on " in made.err
    assert "wait until it ends, or give another --out" in made.err
    assert generate(root, out="out/twice.zarr").code == 0


@pytest.mark.parametrize("part", ["mask/c/1/0/0/0", "status/c/0", "image/c/0", "zarr.json", "seeds/zarr.json"])
def test_any_damage_is_found_and_overwrite_fixes_it(root: Path, unbroken: dict[str, bytes], part: str) -> None:
    path = root / "out/damaged.zarr"
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(root / "out/unbroken.zarr", path)
    data = bytearray((path / part).read_bytes())
    place = data.rindex(b"standin") if part == "zarr.json" else len(data) // 2
    data[place] ^= 1
    (path / part).write_bytes(data)
    found = wilss_masks("verify", path)
    assert found.code == 1, found.said
    assert "Traceback" not in found.said
    assert "damaged" in found.said or "cannot be read" in found.said or "not a readable" in found.said
    if "damaged:" in found.out:
        assert "make it again with `wilss-masks generate --overwrite`" in found.err
        assert generate(root, "--keep", "scores", "--overwrite", out="out/damaged.zarr").code == 0
        assert content(path) == unbroken


# -- Ctrl-C and SIGTERM -------------------------------------------------------------------------------------


def at_work(store: Path, process: "subprocess.Popen[str]") -> None:
    """Wait until the first shard is there."""
    deadline = time.monotonic() + 60
    while not any(store.glob("mask/c/*/*/*/*")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.poll() is None, process.communicate()


@pytest.mark.parametrize(
    ("workers", "number", "whom"),
    turns([(1, signal.SIGINT, "process"), (2, signal.SIGINT, "group")], short=[(2, signal.SIGTERM, "process")])
    + forms([(1, signal.SIGTERM, "process")], short=[]),
)
def test_a_stopped_run_says_how_to_go_on_and_leaves_nobody_behind(
    root: Path, unbroken: dict[str, bytes], workers: int, number: int, whom: str
) -> None:
    name = f"out/stopped-{workers}-{number}.zarr"
    options = ("--keep", "scores", "--workers", workers, "--set", "delay=0.7")
    process = start(command(root, *options, out=name))
    at_work(root / name, process)
    family = psutil.Process(process.pid).children(recursive=True)
    assert bool(family) == (workers > 1)
    (os.killpg if whom == "group" else os.kill)(process.pid, number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert re.search(
        r"Stopped\. (\d+ of \d+ images are kept; run the same command again to go on|Nothing was finished yet)", err
    ), err
    assert "Traceback" not in out + err
    assert not psutil.wait_procs(family, timeout=60)[1], "a worker was left behind"
    assert not MaskStore.open(root / name, allow_partial=True).is_complete
    again = generate(root, "--keep", "scores", out=name)
    assert again.code == 0, again.said
    assert content(root / name) == unbroken


def test_the_images_of_the_store_are_those_of_the_list(root: Path) -> None:
    assert list(masks(root / "out/unbroken.zarr")) == list(IMAGES)
