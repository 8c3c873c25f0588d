"""Images that are judged on and trained on are told by file, whatever their ids."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.wilss.data import data_on_disk as disk
from wilss.data import copies
from wilss.data.manifest import Manifest, load_manifest, overlap, told_overlap
from wilss.errors import UnreachableError


def test_an_image_is_known_by_its_file_or_a_copy_of_it_and_not_by_its_name(tmp_path: Path) -> None:
    disk.voc(tmp_path / "data", {"a": (1,), "b": (2,), "c": (1,), "d": (2,)})
    for number, name in enumerate("xcd"):
        disk.image(tmp_path / f"data/later/{name}.jpg", seed=10 + number)
    shutil.copy(tmp_path / "data/JPEGImages/c.jpg", tmp_path / "data/later/c.jpg")
    disk.text(tmp_path / "data/later.txt", *(f"later/{name}.jpg SegmentationClass/{name}.png" for name in "xcd"))
    disk.text(tmp_path / "data/ImageSets/Segmentation/val.txt", "b")
    steps = [{"classes": [1, 2]}, {"classes": [3], "split": "later"}]
    evaluation = {"judged": [{"split": "val"}, {"split": "later"}]}
    splits = {"train": "train", "val": "val", "later": "later.txt"}
    manifest = load_manifest(disk.manifest(tmp_path, splits=splits, steps=steps, evaluation=evaluation))
    told = told_overlap(manifest, "judged", 0)
    assert told is not None
    assert "2 images (b, later/c) of the split 'judged' stand in the list of main, train as well, so that" in told
    after = told_overlap(manifest, "judged", 1)
    assert after is not None
    assert "4 images (b, later/x, later/c, later/d)" in after
    assert "in the list of main, train; main, later as well" in after
    only_later = told_overlap(manifest, "later", 0, made_from="val")
    assert only_later is None
    (tmp_path / "data/ImageSets/Segmentation/train.txt").unlink()
    assert told_overlap(load_manifest(manifest.path), "judged", 0) is None


def test_a_large_json_of_images_elsewhere_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for split in ("train2017", "val2017"):
        disk.coco(tmp_path / "data", split, {"1.jpg": [disk.box(0, 0, 4, 4, 10)]}, ["cat", "dog", "horse"])
    shutil.copy(tmp_path / "data/train2017/1.jpg", tmp_path / "data/val2017/1.jpg")
    path = disk.manifest(tmp_path, layout="coco", splits={"train": "train2017", "val": "val2017"})
    told = told_overlap(load_manifest(path), "val", 0)
    assert told is not None
    assert "1 image (1) of the split 'val' stands in the list of main, train as well" in told
    monkeypatch.setattr(overlap, "_LARGE", 10)
    assert told_overlap(load_manifest(path), "val", 0) is None
    known = load_manifest(path)
    known.records(0)  # a run has read it anyhow
    again = told_overlap(known, "val", 0)
    assert again is not None
    assert "1 image (1) of the split 'val' is trained on as well (in main, train), so that" in again


def test_an_image_that_no_step_takes_is_not_called_trained_on(tmp_path: Path) -> None:
    disk.voc(tmp_path / "data", {"a": (1,), "b": (2,), "c": (3,)})
    disk.text(tmp_path / "data/ImageSets/Segmentation/val.txt", "b", "c")
    path = disk.manifest(tmp_path, splits={"train": "train", "val": "val"})
    unread = told_overlap(load_manifest(path), "val", 0)
    assert unread is not None
    assert "2 images (b, c) of the split 'val' stand in the list of main, train as well" in unread
    known = load_manifest(path)
    known.records(0)
    admitted, both = told_overlap(known, "val", 0), told_overlap(known, "val", 1)
    assert admitted is not None
    assert "1 image (b) of the split 'val' is trained on as well (in main, train)" in admitted
    assert both is not None
    assert "2 images (b, c) of the split 'val' are trained on as well (in main, train)" in both
    of_few = load_manifest(disk.manifest(
        tmp_path, splits={"train": "train", "val": "val"},
        steps=[{"classes": [1, 2]}, {"classes": [3], "supervision": "shots"}],
    ))  # fmt: skip
    of_few.records(0)
    few = told_overlap(of_few, "val", 1)
    assert few is not None
    assert "2 images (b, c) of the split 'val' stand in the list" in few


def test_a_selection_is_trained_on_as_it_is(tmp_path: Path) -> None:
    disk.voc(tmp_path / "data", {"a": (1,), "b": (2,), "c": (3,)})
    disk.text(tmp_path / "data/ImageSets/Segmentation/val.txt", "c")
    np.save(tmp_path / "data/chosen.npy", np.array([0, 2]))
    splits = {"train": {"list": "chosen.npy", "into": "train"}, "val": "val"}
    told = told_overlap(load_manifest(disk.manifest(tmp_path, splits=splits)), "val", 0)
    assert told is not None
    assert "1 image (c) of the split 'val' is trained on as well" in told


def counted(monkeypatch: pytest.MonkeyPatch, name: str) -> Counter[Path]:
    """How often a function of files is called with each."""
    calls, function = Counter[Path](), getattr(copies, name)

    def counting(path: Path) -> object:
        calls[path] += 1
        return function(path)

    monkeypatch.setattr(copies, name, counting)
    return calls


def test_of_many_files_of_one_name_each_is_looked_at_and_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 30
    for number in range(count):
        for folder in ("learnt", "judged"):
            file = tmp_path / f"data/{folder}/case{number:02d}/image.png"
            file.parent.mkdir(parents=True)
            longer = "more" if (folder, number) == ("learnt", 7) else ""
            file.write_bytes(f"{folder[: number % 3]:>8}{number:02d}{longer}".encode())
    splits = {"train": "learnt", "val": "judged"}
    path = disk.manifest(tmp_path, layout="folder", splits=splits)
    seen, read = (counted(monkeypatch, name) for name in ("_size_of", "digest_of_file"))
    told = told_overlap(load_manifest(path), "val", 0)
    assert told is not None
    assert f"{count // 3} images" in told
    assert len(seen) == 2 * count
    assert len(read) == 2 * count - 1
    assert {*seen.values(), *read.values()} == {1}


def test_a_server_that_does_not_answer_for_what_was_trained_on_stops_nobody_who_judges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.voc(tmp_path / "data", {"a": (1,), "b": (2,)})
    disk.text(tmp_path / "data/ImageSets/Segmentation/val.txt", "b")
    manifest = load_manifest(disk.manifest(tmp_path, splits={"train": "train", "val": "val"}))
    listing = Manifest.listing

    def unreachable(self: Manifest, data: str, split: str, *, lenient: bool | None = False) -> object:
        if split == "train":
            raise UnreachableError("s3://bucket does not answer")
        return listing(self, data, split, lenient=lenient)

    monkeypatch.setattr(Manifest, "listing", unreachable)
    assert told_overlap(manifest, "val", 0) is None
