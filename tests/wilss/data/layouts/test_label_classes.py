"""Which classes label files hold, kept between commands."""

import os
from pathlib import Path

import pytest

from tests.wilss.data import data_on_disk as disk
from wilss.data.layouts import PngLabel
from wilss.data.layouts import tags as reader
from wilss.data.layouts.label_classes import LabelClasses
from wilss.data.layouts.spec import DataSpec
from wilss.data.manifest import load_manifest


def aged(path: Path, seconds: int = 100) -> Path:
    state = path.stat()
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns - seconds * 10**9))
    return path


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataSpec:
    monkeypatch.setenv("WILSS_CACHE", str(tmp_path / "cache"))
    disk.voc(tmp_path / "data", {"a": (1, 3), "b": (2,), "c": ()})
    for path in (tmp_path / "data/SegmentationClass").iterdir():
        aged(path)
    return load_manifest(disk.manifest(tmp_path, tags="masks")).data["main"]


def labels(spec: DataSpec) -> list[PngLabel]:
    return [PngLabel(path=spec.root / f"SegmentationClass/{n}.png", table=spec.label_table) for n in "abc"]


def kept(spec: DataSpec) -> list[list[int]]:
    classes = LabelClasses(spec)
    found = [classes.of(label) for label in labels(spec)]
    classes.save()
    return found


def test_labels_that_are_known_are_not_read_again(spec: DataSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    assert kept(spec) == [[1, 3], [2], []]
    monkeypatch.delattr(PngLabel, "read")
    assert kept(spec) == [[1, 3], [2], []]


def test_a_label_that_was_written_again_is_read_again(spec: DataSpec) -> None:
    kept(spec)
    aged(disk.label(spec.root / "SegmentationClass/a.png", (2,)), 50)
    assert kept(spec) == [[2], [2], []]
    disk.label(spec.root / "SegmentationClass/b.png", (3,))  # just now: it is read, and not kept
    assert kept(spec) == [[2], [3], []]
    disk.label(spec.root / "SegmentationClass/b.png", (1,))
    assert kept(spec) == [[2], [1], []]


def test_what_values_mean_is_part_of_what_is_kept(spec: DataSpec, tmp_path: Path) -> None:
    kept(spec)
    other = load_manifest(disk.manifest(tmp_path, tags="masks", values={3: "dog"})).data["main"]
    assert kept(other) == [[1, 2], [2], []]


@pytest.mark.parametrize("content", [b"", b"no array", b"\x93NUMPY\x01\x00"])
def test_a_damaged_cache_is_as_good_as_none(spec: DataSpec, tmp_path: Path, content: bytes) -> None:
    kept(spec)
    (file,) = (tmp_path / "cache/labels").iterdir()
    file.write_bytes(content)
    assert kept(spec) == [[1, 3], [2], []]
    file.unlink()
    (tmp_path / "cache/labels").rmdir()
    (tmp_path / "cache/labels").write_text("in the way")
    assert kept(spec) == [[1, 3], [2], []]


def test_tags_from_many_masks_are_kept(spec: DataSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_WORTH_KEEPING", 2)
    for _ in range(2):
        records = load_manifest(spec.file).listing("main", "train").records
        assert [record.tags for record in records] == [(1, 3), (2,), ()]
        monkeypatch.delattr(PngLabel, "read", raising=False)
