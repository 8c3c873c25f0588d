"""Whole or not there: files, folders, and what a killed writer left; what a user is told when one cannot be written."""

import errno
import os
import uuid
from pathlib import Path
from typing import Any

import pytest

from wilss.disk import (
    AppendedFile,
    built_beside,
    refuse_existing,
    settle,
    sweep_partials,
    sweep_partials_of,
    write_atomically,
    write_output,
    writing,
)
from wilss.errors import CheckpointError, StoreError


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def partial(path: Path) -> Path:
    return path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_atomically(tmp_path / "a/b", b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    def stuck(path: Path, **_: Any) -> None:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            write_atomically(tmp_path / "a/b", b"new")
        assert tree(tmp_path) == {"a/b": b"old"}
        patch.setattr(Path, "unlink", stuck)
        with pytest.raises(OSError, match="No space"):  # the first error is the one that is told
            write_atomically(tmp_path / "a/b", b"new")
    assert sweep_partials(tmp_path) == 1
    assert tree(tmp_path) == {"a/b": b"old"}


def test_only_our_own_left_overs_are_swept(tmp_path: Path) -> None:
    mine = [partial(tmp_path / "a"), partial(tmp_path / "sub/b")]
    theirs = [tmp_path / "data.partial", tmp_path / "a.0123.partial", tmp_path / "a"]
    for path in (*mine, *theirs):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    assert sweep_partials_of(tmp_path / "a") == 1
    assert not mine[0].exists()
    assert sweep_partials(tmp_path) == 1
    assert sorted(tree(tmp_path)) == sorted(path.name for path in theirs)
    assert sweep_partials_of(tmp_path / "nowhere/a") == 0


def test_an_append_goes_on_after_a_short_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow:
        def __init__(self) -> None:
            self.written = b""

        def write(self, data: bytes) -> int:
            self.written += data[:3]
            return min(3, len(data))

    slow = Slow()
    monkeypatch.setattr(Path, "open", lambda *_, **__: slow)
    AppendedFile(tmp_path / "log").append(b"eleven bytes")
    assert slow.written == b"eleven bytes"


def build(path: Path, content: bytes) -> None:
    with built_beside(path) as building:
        building.mkdir()
        (building / "file").write_bytes(content)


def test_a_folder_takes_its_place_whole(tmp_path: Path) -> None:
    build(tmp_path / "new/store", b"one")
    build(tmp_path / "new/store", b"two")
    assert tree(tmp_path) == {"new/store/file": b"two"}


def test_a_folder_that_could_not_be_built_leaves_the_old_one(tmp_path: Path) -> None:
    build(tmp_path / "store", b"one")
    with pytest.raises(TypeError):
        build(tmp_path / "store", None)  # type: ignore[arg-type]
    assert tree(tmp_path) == {"store/file": b"one"}


def test_a_folder_that_cannot_take_its_place_gives_it_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(tmp_path / "store", b"one")
    rename, count = Path.rename, [0]

    def second_fails(path: Path, target: Path) -> Path:
        count[0] += 1
        if count[0] == 2:
            raise OSError(5, "Input/output error")
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", second_fails)
        with pytest.raises(OSError, match="Input/output"):
            build(tmp_path / "store", b"two")
    assert tree(tmp_path) == {"store/file": b"one"}


@pytest.mark.parametrize("left", ["building", "former", "both"])
def test_what_a_kill_left_is_settled(tmp_path: Path, left: str) -> None:
    """Before the renames, between them, and after them."""
    build(tmp_path / "store", b"one")
    if left != "former":
        (tmp_path / "store.building").mkdir()
        (tmp_path / "store.building/file").write_bytes(b"half")
    if left == "both":
        (tmp_path / "store").rename(tmp_path / "store.former")
    if left == "former":
        (tmp_path / "store.former").mkdir()
        (tmp_path / "store.former/file").write_bytes(b"zero")
    settle(tmp_path / "store")
    assert tree(tmp_path) == {"store/file": b"one"}
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


@pytest.mark.parametrize(
    ("code", "then", "sentence"),
    [
        (errno.ENOSPC, "", r"x cannot be written \(No space left on device\); free some space\.$"),
        (errno.EDQUOT, "run again", r"\(Disk quota exceeded\); free some space and run again\.$"),
        (errno.EACCES, "", r"\(Permission denied\); give a path that can be written\.$"),
        (errno.EIO, "run again", r"\(Input/output error\); fix that and run again\.$"),
    ],
)
def test_what_goes_wrong_on_disk_is_one_sentence(code: int, then: str, sentence: str) -> None:
    with pytest.raises(CheckpointError, match=sentence), writing(Path("x"), raises=CheckpointError, then=then):
        raise OSError(code, os.strerror(code))


def test_an_output_replaces_what_is_there_and_removes_what_a_killed_writer_left(tmp_path: Path) -> None:
    left_over = tmp_path / f"out.{'0' * 32}.partial"
    left_over.touch()
    (tmp_path / "out").write_bytes(b"old")
    write_output(tmp_path / "out", b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("out", b"new")]
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match="folder cannot be written"):
        write_output(tmp_path / "folder", b"new")


def test_nothing_is_replaced_unasked(tmp_path: Path) -> None:
    refuse_existing(tmp_path / "new", overwrite=False)
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for path in (tmp_path, tmp_path / "link"):
        refuse_existing(path, overwrite=True)
        with pytest.raises(StoreError, match="exists; give another path, or replace it with --overwrite"):
            refuse_existing(path, overwrite=False)


def test_a_pipe_or_device_is_not_replaced_by_what_is_written(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(StoreError, match=r"pipe cannot be written \(it is neither a file nor a folder\)"):
        write_output(pipe, b"new")
    with pytest.raises(OSError, match="neither a file nor a folder"), built_beside(pipe) as building:
        building.mkdir()
    assert pipe.is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]
