"""Files that many write at once: the first one wins, whole, and nothing of the others is left."""

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from wilss.disk import LocalFolder, SharedFolder
from wilss.disk.files import create_if_absent, write_into
from wilss.disk.shared import (
    LocalSharedFolder,
    SharedObjects,
    build_once,
    discard,
    left_of,
    move_in,
    sweep_shared,
    upload_once,
)

MANY = 16


def test_one_of_many_creates(tmp_path: Path) -> None:
    with ThreadPoolExecutor(MANY) as pool:
        won = list(pool.map(lambda i: create_if_absent(tmp_path / "a", f"{i}".encode() * 1000), range(MANY)))
    assert won.count(True) == 1
    assert (tmp_path / "a").read_bytes() == f"{won.index(True)}".encode() * 1000
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_an_answer_that_was_lost_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def twice(source: Path, target: Path) -> None:
        """As over NFS: the server links, its answer is lost, and it is asked again."""
        link(source, target)
        raise FileExistsError(errno.EEXIST, "File exists")

    monkeypatch.setattr(os, "link", twice)
    assert create_if_absent(tmp_path / "a", b"mine")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_nothing_is_written_where_the_folder_is_gone(tmp_path: Path) -> None:
    for write in (write_into, create_if_absent):
        with pytest.raises(FileNotFoundError):
            write(tmp_path / "gone/a", b"x")
    assert not list(tmp_path.iterdir())


def test_a_file_moves_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    assert move_in(tmp_path / "a", tmp_path / "in/b")
    assert not move_in(tmp_path / "a", tmp_path / "in/b")
    assert not move_in(tmp_path / "a", tmp_path / "other/b")
    assert (tmp_path / "in/b").read_bytes() == b"x"
    assert not (tmp_path / "other").exists()


def test_one_of_many_builds(tmp_path: Path) -> None:
    def build(number: int) -> bool:
        def fill(folder: Path) -> None:
            folder.mkdir()
            (folder / "number").write_text(str(number))

        return build_once(tmp_path / "s", fill)

    with ThreadPoolExecutor(MANY) as pool:
        won = list(pool.map(build, range(MANY)))
    assert won.count(True) == 1
    assert (tmp_path / "s/number").read_text() == str(won.index(True))
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_what_kills_left_is_swept(tmp_path: Path) -> None:
    keep = [tmp_path / name for name in ("s", "s.building", "s.mine.building", f"t.{'0' * 32}.building")]
    left = [tmp_path / name for name in (f"s.{'0' * 32}.building", f"s.parts.{'a' * 32}.former")]
    for folder in (*keep, *left):
        folder.mkdir()
    assert sorted(left_of(tmp_path / "s")) == sorted(left)
    sweep_shared(tmp_path / "s")
    assert sorted(tmp_path.iterdir()) == sorted(keep)


@pytest.fixture(params=["on disk", "in a bucket"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> SharedFolder:
    """A bucket's keys are files here: what it promises is the same."""
    place = tmp_path / "shared"
    return LocalSharedFolder(place) if request.param == "on disk" else SharedObjects(LocalFolder(place))


def test_a_shared_folder(shared: SharedFolder, tmp_path: Path) -> None:
    assert (shared.is_begun(), shared.names()) == (False, [])
    shared.begin()
    shared.begin()
    assert shared.is_begun()
    assert [shared.create("a", data) for data in (b"first", b"second")] == [True, False]
    shared.write("b", b"old")
    shared.write("b", b"new")
    assert (shared.read("a"), shared.read("b")) == (b"first", b"new")
    assert {"a", "b"} <= set(shared.names())
    target = LocalFolder(tmp_path / "target")
    assert [shared.move("b", target, "in/c") for _ in range(2)] == [True, False]
    assert target.read("in/c") == b"new"
    shared.remove("a")
    assert not any(map(shared.has, "ab"))
    shared.discard()
    shared.discard()
    assert (shared.is_begun(), shared.names()) == (False, [])


def test_of_many_that_build_in_a_bucket_all_build_the_same(tmp_path: Path) -> None:
    folder, beside = LocalFolder(tmp_path / "s"), SharedObjects(LocalFolder(tmp_path / "s.parts"))

    def build(number: int) -> bool:
        def fill(built: Path) -> None:
            LocalFolder(built).write("values/0", f"{number}".encode())
            LocalFolder(built).write("root", f"of {number}".encode())

        return upload_once(folder, fill, "root", beside)

    with ThreadPoolExecutor(MANY) as pool:
        mine = list(pool.map(build, [number % 2 for number in range(MANY)]))
    won = mine[1::2].count(True) > 0
    assert mine == [(number % 2 == 1) is won for number in range(MANY)]
    assert folder.read("values/0") == f"{int(won)}".encode()
    assert folder.read("root") == f"of {int(won)}".encode()


def test_a_folder_is_discarded_once(tmp_path: Path) -> None:
    (tmp_path / "s/sub").mkdir(parents=True)
    discard(tmp_path / "s")
    discard(tmp_path / "s")
    assert not list(tmp_path.iterdir())
