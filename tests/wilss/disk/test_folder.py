"""`Folder` and where it lies: what `wilss.store` asks of a disk, or of a bucket."""

import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from wilss.disk import Folder, ObjectUrl, folder_at, location_of, resolved
from wilss.errors import ParameterError


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return folder_at(tmp_path / "step-1.zarr")


def test_files_are_written_read_listed_and_removed(folder: Folder) -> None:
    assert not folder.exists()
    folder.write("mask/c/0/0", b"0123456789")
    folder.write("zarr.json", b"{}")
    assert folder.exists()
    assert folder.exists("zarr.json")
    assert not folder.exists("mask")  # no file
    assert sorted(folder.files()) == [("mask/c/0/0", 10), ("zarr.json", 2)]
    assert list(folder.files("mask/c")) == [("mask/c/0/0", 10)]
    with folder.open("mask/c/0/0") as file:
        folder.write("mask/c/0/0", b"another")
        assert (file.size, file.read(2, 3), file.read(8, 9)) == (10, b"234", b"89")
    folder.remove("mask/c/0/0")
    folder.remove("mask/c/0/0")
    with pytest.raises(FileNotFoundError):
        folder.read("mask/c/0/0")


def test_a_signature_tells_of_a_file_that_was_replaced(folder: Folder) -> None:
    assert folder.signature("status/c/0") is None
    folder.write("status/c/0", b"same")
    before = folder.signature("status/c/0")
    assert folder.signature("status/c/0") == before
    folder.write("status/c/0", b"also")
    assert folder.signature("status/c/0") != before


def test_of_many_that_create_a_file_one_is_told_that_it_did(folder: Folder) -> None:
    with ThreadPoolExecutor(8) as pool:
        for turn in range(10):
            names = [f"{turn}/{who}".encode() for who in range(8)]
            told = list(pool.map(lambda data, turn=turn: folder.create(f"parts/{turn}.json", data), names))
            assert told.count(True) == 1
            assert folder.read(f"parts/{turn}.json") == names[told.index(True)]
    assert sorted(name for name, _ in folder.files()) == [
        f"parts/{turn}.json" for turn in range(10)
    ]  # and nothing else


def test_another_folder_takes_the_place_of_one(folder: Folder) -> None:
    folder.write("old", b"")
    with folder.built_beside() as building:
        building.write("new", b"1")
        assert folder.exists("old")
    assert list(folder.files()) == [("new", 1)]


def test_a_url_stays_whole_and_a_path_is_a_path() -> None:
    url = location_of("s3://masks/voc//step-1.zarr/")
    assert url == ObjectUrl("s3", "masks", "voc/step-1.zarr")
    assert str(url) == "s3://masks/voc/step-1.zarr"
    assert (url.name, str(url.parent), str(url.with_name("b")), str(url / "c/d")) == (
        "step-1.zarr", "s3://masks/voc", "s3://masks/voc/b", "s3://masks/voc/step-1.zarr/c/d",
    )  # fmt: skip
    assert pickle.loads(pickle.dumps(url)) == url == resolved(url) == location_of(url)
    assert location_of(Path("s3://masks/voc/step-1.zarr")) == url
    assert location_of("masks/step-1.zarr") == Path("masks/step-1.zarr")
    assert location_of("C:/masks") == Path("C:/masks")
    for root in ("/", b"/"):
        with os.scandir(root) as entries:
            entry: Any = next(entries)
        assert location_of(entry) == Path(os.fsdecode(entry.path))
    others: tuple[Any, ...] = (None, ["a.zarr"], {})
    for other in others:
        with pytest.raises(ParameterError, match=rf"a path or a URL, not a {type(other).__name__}; name where it lies"):
            location_of(other)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            "s3://AKIA:hidden@masks/step-1.zarr",
            r"^s3://masks/step-1\.zarr was given with more than bucket and name.*environment",
        ),
        ("s3://masks/step-1.zarr?X-Amz-Signature=hidden", r"^s3://masks/step-1\.zarr was given with more"),
        ("ftp://masks/step-1.zarr", r"ftp://masks/step-1.zarr is of a kind that is not known \(s3, gs, az are\)"),
        ("s3://masks", "names no place in a bucket; write e.g. s3://BUCKET/NAME"),
        ("s3:///step-1.zarr", "names no place in a bucket"),
        ("s3://masks/../step-1.zarr", "names no place in a bucket"),
    ],
)
def test_urls_that_are_refused_in_a_sentence_without_their_secrets(text: str, why: str) -> None:
    with pytest.raises(ParameterError, match=why) as refused:
        location_of(text)
    assert "hidden" not in str(refused.value)
    assert "AKIA" not in str(refused.value)
