"""Images that are judged on and trained on are told by file, whatever their ids."""

import shutil
from pathlib import Path

import pytest

from tests.wilss.data import data_on_disk as disk
from wilss.data.manifest import load_manifest, overlap, trained_and_judged


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
    told = trained_and_judged(manifest, "judged", 0)
    assert told is not None
    assert "2 images (b, later/c) of the split 'judged' are trained on as well (in main, train), so that" in told
    after = trained_and_judged(manifest, "judged", 1)
    assert after is not None
    assert "4 images (b, later/x, later/c, later/d)" in after
    assert "(in main, train; main, later)" in after
    only_later = trained_and_judged(manifest, "later", 0, made_from="val")
    assert only_later is None
    (tmp_path / "data/ImageSets/Segmentation/train.txt").unlink()
    assert trained_and_judged(load_manifest(manifest.path), "judged", 0) is None


def test_a_large_json_of_images_elsewhere_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for split in ("train2017", "val2017"):
        disk.coco(tmp_path / "data", split, {"1.jpg": [disk.box(0, 0, 4, 4, 10)]}, ["cat", "dog", "horse"])
    shutil.copy(tmp_path / "data/train2017/1.jpg", tmp_path / "data/val2017/1.jpg")
    path = disk.manifest(tmp_path, layout="coco", splits={"train": "train2017", "val": "val2017"})
    told = trained_and_judged(load_manifest(path), "val", 0)
    assert told is not None
    assert "1 image (1) of the split 'val' is trained on as well (in main, train)" in told
    monkeypatch.setattr(overlap, "_LARGE", 10)
    assert trained_and_judged(load_manifest(path), "val", 0) is None
    known = load_manifest(path)
    known.records(0)  # a run has read it anyhow
    assert trained_and_judged(known, "val", 0) == told
