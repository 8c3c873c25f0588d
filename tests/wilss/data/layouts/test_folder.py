"""A plain folder of images with a csv of tags."""

import os
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from tests.wilss.data import data_on_disk as disk
from wilss.data.layouts import read_label_of
from wilss.data.manifest import Manifest, load_manifest
from wilss.errors import ImageError, ManifestError


def load(folder: Path, **changes: Any) -> Manifest:
    return load_manifest(disk.manifest(folder, layout="folder", **{"splits": None, **changes}))


def photos(data: Path, inside: str = "") -> None:
    for name in ("a.jpg", "sub/b.png", "c.webp"):
        disk.image(data / inside / name)
    disk.text(data / "tags.csv", "a,cat", "sub/b,dog;horse", "c,horse")


@pytest.mark.parametrize("inside", ["", "images"])
def test_every_image_below_the_folder_is_a_split(tmp_path: Path, inside: str) -> None:
    photos(tmp_path / "data", inside)
    disk.label(tmp_path / "data/labels/a.png", (1,))
    disk.text(tmp_path / "data/notes.txt", "not an image")
    disk.image(tmp_path / "data/.hidden.jpg")
    records = load(tmp_path).listing("main", "train").records
    assert [(r.image_id, r.tags, r.problem) for r in sorted(records, key=lambda r: r.image_id)] == [
        ("a", (1,), None),
        ("c", (3,), None),
        ("sub/b", (2, 3), None),
    ]
    (a,) = [record for record in records if record.image_id == "a"]
    assert read_label_of(a)[0, 0] == 1


def test_splits_by_folder_and_by_list(tmp_path: Path) -> None:
    disk.image(tmp_path / "data/train/a.jpg")
    disk.image(tmp_path / "data/val/c.jpg")
    disk.text(tmp_path / "data/few.txt", "train/a.jpg")
    disk.text(tmp_path / "tags.csv", "a,cat", "c,horse", "train/a,cat")
    manifest = load(tmp_path, splits={"train": "train", "val": "val", "few": "few"})
    assert [r.image_id for r in manifest.records(0).records] == ["a"]
    assert [r.image_id for r in manifest.evaluation().records] == ["c"]
    assert [r.image_id for r in manifest.records(0, "few").records] == ["train/a"]


@pytest.mark.parametrize(("on_disk", "in_tables"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_names_that_look_the_same_are_the_same(tmp_path: Path, on_disk: Any, in_tables: Any) -> None:
    image, table = (unicodedata.normalize(form, "Übung/Kätzchen") for form in (on_disk, in_tables))
    disk.image(tmp_path / "data" / f"{image}.JPG")
    disk.label(tmp_path / "data/labels" / f"{table}.png", (1,))
    disk.text(tmp_path / "data/few.txt", table)
    disk.text(tmp_path / "data/tags.csv", f"{table}.jpg,cat")
    manifest = load(tmp_path, splits={"train": "all", "few": "few"})
    for split, image_id in (("train", image), ("few", table)):
        (record,) = manifest.listing("main", split).records
        assert (record.image_id, record.tags, record.problem) == (image_id, (1,), None)
        assert os.path.exists(record.path)
        assert read_label_of(record)[0, 0] == 1


def test_of_two_spellings_each_is_its_own_file(tmp_path: Path) -> None:
    spellings = [unicodedata.normalize(form, "Kätzchen") for form in ("NFC", "NFD")]
    for place, spelling in enumerate(spellings):
        disk.image(tmp_path / "data" / f"{spelling}.jpg")
        disk.label(tmp_path / "data/labels" / f"{spelling}.png", (place + 1,))
    disk.text(tmp_path / "data/tags.csv", *(f"{s},{c}" for s, c in zip(spellings, ("cat", "dog"), strict=True)))
    found = {record.image_id: record for record in load(tmp_path).listing("main", "train").records}
    assert [found[spelling].tags for spelling in spellings] == [(1,), (2,)]
    assert [read_label_of(found[spelling])[0, 0] for spelling in spellings] == [1, 2]


def test_two_images_of_one_name_keep_their_endings(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png"):
        disk.image(tmp_path / "data" / name)
    disk.text(tmp_path / "data/tags.csv", "a,cat")
    found = load(tmp_path).listing("main", "train").records
    assert [record.image_id for record in found] == ["a.jpg", "a.png"]


def test_a_link_that_leads_back_into_the_folder_is_not_followed(tmp_path: Path) -> None:
    photos(tmp_path / "data")
    (tmp_path / "data/sub/loop").symlink_to(tmp_path / "data")
    assert len(load(tmp_path).listing("main", "train").records) == 3


@pytest.mark.parametrize("exists", [True, False])
def test_a_folder_without_images_is_one_sentence(tmp_path: Path, exists: bool) -> None:
    if exists:
        (tmp_path / "data").mkdir()
    with pytest.raises(ManifestError, match=r"yaml, path: .*(holds no image; correct|cannot be listed)"):
        load(tmp_path).records(0)


def test_images_and_labels_may_have_folders_of_any_name(tmp_path: Path) -> None:
    disk.image(tmp_path / "data/pics/a.jpg")
    disk.label(tmp_path / "data/truth/a.png", (2,))
    disk.text(tmp_path / "data/tags.csv", "a.jpg,dog")
    (record,) = load(tmp_path, images="pics/", labels="truth").records(0).records
    assert read_label_of(record)[0, 0] == 2


def test_a_file_name_that_is_not_utf8_is_refused_alone(tmp_path: Path) -> None:
    photos(tmp_path / "data")
    os.rename(tmp_path / "data/c.webp", os.fsencode(tmp_path / "data") + b"/c\xe9.webp")
    records = load(tmp_path).records(0).records
    problems = {record.image_id: record.problem for record in records}
    assert problems["a"] is None
    (told,) = (problem for problem in problems.values() if problem is not None)
    assert "is not UTF-8" in told
    assert all(name.encode("utf-8") for name in (*problems, told))


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    for name in ("train/cat/1.jpg", "train/dog/deep/1.jpg", "train/2.jpg", "val/cat/1.jpg"):
        disk.image(tmp_path / "data" / name)
    disk.label(tmp_path / "data/labels/cat/1.png", (1,))
    manifest = load(tmp_path, splits={"train": "train", "val": "val"}, tags="folders")
    records = {record.image_id: record for record in manifest.listing("main", "train").records}
    assert {name: record.tags for name, record in records.items()} == {"cat/1": (1,), "dog/deep/1": (2,), "2": ()}
    assert "lies in no folder of a class" in str(records["2"].problem)
    assert read_label_of(records["cat/1"])[0, 0] == 1


def test_labels_may_be_tiff_or_bmp_and_an_image_is_none_of_itself(tmp_path: Path) -> None:
    for name, value in (("a.tif", 1), ("b.BMP", 2), ("c.tiff", 3)):
        disk.image(tmp_path / f"data/images/{Path(name).stem}.tif")
        disk.label(tmp_path / f"data/labels/{name}", (value,))
    disk.image(tmp_path / "data/images/d.tif")
    disk.text(tmp_path / "data/tags.csv", "a,cat", "b,dog", "c,horse", "d,cat")
    records = load(tmp_path).listing("main", "train").records
    assert [r.label and read_label_of(r)[0, 0] for r in records] == [1, 2, 3, None]
    assert [r.label for r in load(tmp_path, labels="images").listing("main", "train").records] == [None] * 4


def test_labels_may_have_a_folder_for_each_split(tmp_path: Path) -> None:
    for split, value in (("train", 1), ("val", 2)):
        disk.image(tmp_path / f"data/img_dir/{split}/x/a.png")
        disk.label(tmp_path / f"data/ann_dir/{split}/x/a.png", (value,))
    disk.text(tmp_path / "data/val.txt", "x/a")
    splits = {
        "train": {"images": "img_dir/train", "labels": "ann_dir/train/"},
        "val": {"list": "val", "images": "img_dir/val", "labels": "ann_dir/val"},
    }
    manifest = load(tmp_path, splits=splits, tags="masks")
    for split, value in (("train", 1), ("val", 2)):
        (record,) = manifest.listing("main", split).records
        assert (record.image_id, record.tags) == ("x/a", (value,))
        assert read_label_of(record)[0, 0] == value


def test_a_row_of_another_splits_image_of_the_same_name_is_not_taken(tmp_path: Path) -> None:
    for name in ("train/1.jpg", "val/1.jpg"):
        disk.image(tmp_path / "data" / name)
    disk.text(tmp_path / "data/tags.csv", "train/1.jpg,cat", "val/1.jpg,dog")
    manifest = load(tmp_path, splits={"train": "train", "val": "val"})
    assert [record.tags for record in manifest.listing("main", "train").records] == [(1,)]
    assert [record.tags for record in manifest.listing("main", "val").records] == [(2,)]


def test_a_row_that_may_mean_two_images_is_the_problem_of_both(tmp_path: Path) -> None:
    for name in ("x/1.jpg", "y/1.jpg", "y/2.jpg"):
        disk.image(tmp_path / "data" / name)
    disk.text(tmp_path / "data/tags.csv", "1.jpg,cat", "2.jpg,dog")
    records = load(tmp_path).listing("main", "train").records
    assert [(record.tags, record.problem is None) for record in records] == [((), False), ((), False), ((2,), True)]
    assert "has a row of '1.jpg', which may mean 2 images (x/1, y/1); write its path there." in str(records[0].problem)


def test_a_table_of_several_folders_gives_an_image_no_tags_of_its_namesakes(tmp_path: Path) -> None:
    for name in ("1.jpg", "2.jpg"):
        disk.image(tmp_path / "cam01" / name)
    rows = ("in/cam01/1.jpg,cat", "in/cam02/1.jpg,dog", "in/cam02/2.jpg,dog", "cam03/cam02/1.jpg,horse")
    disk.text(tmp_path / "tags.csv", *rows)
    records = load(tmp_path, path="cam01").listing("main", "train").records
    assert [(record.image_id, record.tags) for record in records] == [("1", (1,)), ("2", ())]
    (tmp_path / "here").symlink_to("cam01")
    assert [record.tags for record in load(tmp_path, path="here").listing("main", "train").records] == [(1,), ()]
    disk.text(
        tmp_path / "tags.csv", *rows, "2.jpg,horse"
    )  # a row that begins in the data folder goes before all others
    assert [record.tags for record in load(tmp_path, path="cam01").listing("main", "train").records] == [(), (3,)]


def test_a_table_of_several_folders_of_which_none_is_the_data_folder_is_refused(tmp_path: Path) -> None:
    for name in ("1.jpg", "2.jpg"):
        disk.image(tmp_path / "data" / name)
    disk.text(tmp_path / "tags.csv", "in/cam01/1.jpg,cat", "in/cam02/2.jpg,dog")
    # photographs of several folders that were put into one: no name repeats
    assert [record.tags for record in load(tmp_path).listing("main", "train").records] == [(1,), (2,)]
    disk.text(tmp_path / "tags.csv", "in/cam01/1.jpg,cat", "in/cam02/2.jpg,dog", "in/cam02/1.jpg,dog")
    with pytest.raises(ManifestError, match=r"rows of 'in/cam01/1\.jpg' and 'in/cam02/1\.jpg', and 1 below .*data may"):
        load(tmp_path).listing("main", "train")


def test_a_label_file_is_taken_from_the_row_of_the_data_folder(tmp_path: Path) -> None:
    disk.image(tmp_path / "cam01/1.jpg")
    for folder, value in (("cam01", 1), ("cam02", 2)):
        disk.label(tmp_path / f"cam01/truth/{folder}.png", (value,))
    disk.text(tmp_path / "tags.csv", "image,tags,mask", "in/cam01/1.jpg,cat,cam01.png", "in/cam02/1.jpg,dog,cam02.png")
    tags = {"from": "csv", "mask": "mask"}
    (record,) = load(tmp_path, path="cam01", labels="truth", tags=tags).listing("main", "train").records
    assert read_label_of(record)[0, 0] == 1


def test_a_column_names_the_label_files(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d", "e"):
        disk.image(tmp_path / f"data/pics/{name}.jpg")
    disk.label(tmp_path / "data/truth/1.png", (1,))
    disk.label(tmp_path / "data/labels/b.png", (3,))
    rows = ("a,cat,truth/1.png", "b,cat,", "c,cat,truth/none.png", "d,cat,../1.png", "e,cat,/home/me/1.png")
    disk.text(tmp_path / "data/tags.csv", "image,tags,mask", *rows)
    tags = {"from": "csv", "mask": "mask"}
    records = load(tmp_path, images="pics", labels="truth", tags=tags).listing("main", "train").records
    assert read_label_of(records[0])[0, 0] == 1
    assert records[1].label is None  # its row names none, whatever lies in the folder
    with pytest.raises(ImageError, match=r"truth/none\.png is not there; copy it there"):
        read_label_of(records[2])
    assert "the label file '../1.png' of" in str(records[3].problem)
    assert "is an absolute path; name files inside" in str(records[4].problem)
