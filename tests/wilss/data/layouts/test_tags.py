"""Every source of tags against the same images."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.wilss.data import data_on_disk as disk
from wilss.data.manifest import Manifest, load_manifest
from wilss.errors import ManifestError

IMAGES = {"a": (1,), "b": (2, 3), "c": (3,), "d": ()}


def tags_of(manifest: Manifest) -> dict[str, tuple[int, ...]]:
    return {record.image_id: record.tags for record in manifest.listing("main", "train").records}


def problems_of(manifest: Manifest) -> dict[str, str]:
    records = manifest.listing("main", "train").records
    return {record.image_id: record.problem for record in records if record.problem is not None}


def with_tags(folder: Path, tags: Any, **changes: Any) -> Manifest:
    if not (folder / "data").exists():
        disk.voc(folder / "data", IMAGES)
    return load_manifest(disk.manifest(folder, tags=tags, **changes))


def xml(*names: str, difficult: tuple[str, ...] = (), before: str = "") -> str:
    objects = "".join(
        f"<object><name>{name}</name><part><name>head</name></part>"
        f"<difficult>{int(name in difficult)}</difficult></object>"
        for name in names
    )
    return f"{before}<annotation><source><name>x</name></source>{objects}</annotation>"


def write_annotations(folder: Path) -> None:
    for name, ids in IMAGES.items():
        disk.text(folder / f"data/Annotations/{name}.xml", xml(*(disk.CLASSES[i] for i in ids)))


def write_npy(folder: Path, background: bool) -> None:
    flags = np.array([[i in ids for i in (1, 2, 3)] for ids in IMAGES.values()], np.float32)
    np.save(folder / "tags.npy", np.hstack([np.ones((4, 1)), flags]) if background else flags)


CSV = {
    "pairs": ("a,cat", "b,dog;horse", "c.jpg, horse", "d,"),
    "pairs under a header": ("image,tags", "a,cat", "b,dog; horse", "c,horse", "d,"),
    "pairs in many rows": ("a,cat", "b,dog", "b,horse", "c,horse", "d,"),
    "quoted": ('"a","cat"', '"b","dog;horse"', '"c","horse"', '"d",""'),
    "tabs": ("file\ttags", "a.jpg\tcat", "b.jpg\tdog;horse", "c.jpg\thorse", "d.jpg\t"),
    "semicolons, commas in cells": ("Bild;Tags", "a.jpg;cat", "b.jpg;dog,horse", "c.jpg;horse", "d.jpg;"),
    "bars by path": (
        "JPEGImages/a.jpg|cat",
        "JPEGImages/b.jpg|dog,horse",
        "JPEGImages/c.jpg|horse",
        "JPEGImages/d.jpg|",
    ),
    "lists in quotes": ("a,cat", 'b,"dog, horse"', "c,\"['horse']\"", "d,[]"),
    "several columns": ("image,tag1,tag2,width", "a,cat,,16", "b,dog,horse,16", "c,horse,,16", "d,,,16"),
    "several columns without a header": ("a,cat,", "b,dog,horse", "c,horse,", "d,,"),
    "a program's numbers first": (",image,tags", "0,a.jpg,cat", "1,b.jpg,dog|horse", "2,c.jpg,horse", "3,d.jpg,"),
    "columns of truth": ("image;cat;dog;horse", "a;True;False;False", "b;False;True;True", "c;;;True", "d;;;"),
    "columns": ("image,cat,dog,horse", "a,1,0,0", "b,0,1,1", "c,0,-1,1", "d,0,0,0"),
    "columns, nothing for no": ("id,cat,dog,horse", "a.jpg,1,,", "b.jpg,,1,1", "c.jpg,,,1", "d.jpg,,,"),
}


@pytest.mark.parametrize(
    "kind", ["voc-main", "voc-xml", "masks", "npy", "npy with background", "coco", *(f"csv {k}" for k in CSV)]
)
def test_all_sources_of_tags_agree(tmp_path: Path, kind: str) -> None:
    disk.voc(tmp_path / "data", IMAGES)
    tags: dict[str, Any] = {"from": kind.split()[0]}
    if kind == "voc-xml":
        write_annotations(tmp_path)
    elif kind.startswith("npy"):
        write_npy(tmp_path, background="background" in kind)
        tags["file"] = "tags.npy"
    elif kind.startswith("csv"):
        disk.text(tmp_path / "data/tags.csv", *CSV[kind.removeprefix("csv ")])
    elif kind == "coco":
        images = {f"{k}.jpg": [disk.box(0, 0, 2, 2, 10 * i) for i in ids] for k, ids in IMAGES.items()}
        disk.coco(tmp_path / "data", "x", images, disk.CLASSES[1:])
        tags["file"] = "annotations/instances_x.json"
    manifest = with_tags(tmp_path, tags)
    assert tags_of(manifest) == {name: tuple(ids) for name, ids in IMAGES.items()}
    assert problems_of(manifest) == {}


def test_difficult_objects_are_tags_unless_told_otherwise(tmp_path: Path) -> None:
    disk.voc(tmp_path / "data", IMAGES)
    disk.text(tmp_path / "data/ImageSets/Main/cat_train.txt", "a  0", "b -1", "c  1", "d -1")
    write_annotations(tmp_path)
    disk.text(tmp_path / "data/Annotations/a.xml", xml("cat", difficult=("cat",)))
    assert tags_of(with_tags(tmp_path, "voc-main"))["a"] == (1,)
    assert tags_of(with_tags(tmp_path, {"from": "voc-main", "difficult": False}))["a"] == ()
    assert tags_of(with_tags(tmp_path, {"from": "voc-main", "difficult": False}))["c"] == (1, 3)
    assert tags_of(with_tags(tmp_path, "voc-xml"))["a"] == (1,)
    assert tags_of(with_tags(tmp_path, {"from": "voc-xml", "difficult": False}))["a"] == ()


@pytest.mark.parametrize("parts", [("trainval",), ("train", "val")])
def test_train_aug_takes_its_flags_from_trainval(tmp_path: Path, parts: tuple[str, ...]) -> None:
    """VOC's ImageSets/Main knows no train_aug."""
    disk.voc(tmp_path / "data", IMAGES, split="train_aug", main=parts[0])
    if len(parts) == 2:
        for name in disk.CLASSES[1:]:
            file = tmp_path / f"data/ImageSets/Main/{name}_train.txt"
            rows = file.read_text().splitlines()
            disk.text(file, *rows[:2])
            disk.text(tmp_path / f"data/ImageSets/Main/{name}_val.txt", *rows[2:])
    manifest = with_tags(tmp_path, "voc-main", splits={"train": "train_aug"})
    assert tags_of(manifest) == {name: tuple(ids) for name, ids in IMAGES.items()}


@pytest.mark.parametrize(
    ("line", "told"), [("a 7", "has the line 'a 7'; write an image id and 1, 0 or -1"), ("a", "has the line 'a'")]
)
def test_flags_that_are_none_are_refused(tmp_path: Path, line: str, told: str) -> None:
    disk.voc(tmp_path / "data", IMAGES)
    disk.text(tmp_path / "data/ImageSets/Main/dog_train.txt", line)
    with pytest.raises(ManifestError, match=rf"dog_train\.txt {told}"):
        tags_of(with_tags(tmp_path, "voc-main"))


def test_a_class_without_flags_is_refused(tmp_path: Path) -> None:
    disk.voc(tmp_path / "data", IMAGES)
    (tmp_path / "data/ImageSets/Main/dog_train.txt").unlink()
    with pytest.raises(ManifestError, match=r"yaml, tags: .*dog_train\.txt is not there, nor dog_trainval\.txt; copy"):
        tags_of(with_tags(tmp_path, "voc-main"))


BAD_XML = {
    "an entity": (
        xml("cat", before='<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>'),
        "declares a document type",
    ),
    "a bomb": (xml("cat", before='<!DOCTYPE a [<!ENTITY x "xxxxxxxx">]>'), "declares a document type"),
    "cut off": (xml("cat")[:-20], "cannot be read"),
    "no xml": ("cat", "cannot be read"),
    "empty": ("", "cannot be read"),
    "huge": (xml("cat") + " " * (1 << 20), "larger than 1 MiB"),
}


@pytest.mark.parametrize("name", sorted(BAD_XML))
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_bad_annotation_is_the_problem_of_one_image(tmp_path: Path, name: str, encoding: str) -> None:
    disk.voc(tmp_path / "data", IMAGES)
    write_annotations(tmp_path)
    content, told = BAD_XML[name]
    (tmp_path / "data/Annotations/a.xml").write_bytes(content.encode(encoding))
    (tmp_path / "data/Annotations/c.xml").unlink()
    manifest = with_tags(tmp_path, "voc-xml")
    problems = problems_of(manifest)
    assert sorted(problems) == ["a", "c"]
    assert told in problems["a"]
    assert "a.xml" in problems["a"]
    assert "c.jpg has no tags (from voc-xml)" in problems["c"]
    assert tags_of(manifest)["b"] == (2, 3)


def test_an_annotation_as_voc_writes_it(tmp_path: Path) -> None:
    """Indented, with boxes, and with parts that have names of their own."""
    disk.voc(tmp_path / "data", {"a": (1,)})
    disk.text(
        tmp_path / "data/Annotations/a.xml",
        "<annotation>",
        "  <filename>a.jpg</filename>",
        "  <object>",
        "    <name>dog</name>",
        "    <bndbox><xmin>1</xmin><ymin>2</ymin></bndbox>",
        "    <difficult>0</difficult>",
        "    <part>",
        "      <name>cat</name>",
        "    </part>",
        "  </object>",
        "</annotation>",
    )
    assert tags_of(with_tags(tmp_path, "voc-xml")) == {"a": (2,)}


def test_tags_from_masks_name_the_label_that_cannot_be_read(tmp_path: Path) -> None:
    disk.voc(tmp_path / "data", IMAGES)
    disk.label(tmp_path / "data/SegmentationClass/a.png", (1, 77))
    (tmp_path / "data/SegmentationClass/b.png").write_bytes(b"")
    (tmp_path / "data/SegmentationClass/c.png").unlink()
    problems = problems_of(with_tags(tmp_path, "masks"))
    assert "holds the label 77" in problems["a"]
    assert "is empty" in problems["b"]
    assert "c" not in problems, "a step of pixel labels has it without a label"


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ((), r"tags\.csv is empty; write a row per image"),
        ((",,", ","), r"tags\.csv is empty; write a row per image"),
        (("image,cat,dog,horse", "a,1,0"), "row 2 has 3 cells, the header 4"),
        (("image,cat,dog,horse", "a,1,0,2"), "row 2 has the flag '2' under 'horse'; write 1 or 0 there"),
        (("a,1,0", "b,0,1"), "has columns of 0 and 1 without a header; add a first row of class names"),
        (
            ("id,who,what", "a,cat,dog"),
            r"has the columns id, who, what; say which hold tags: .*columns: \[who\]",
        ),
        ((f"a,{'x' * 200_000}",), "not a table"),
    ],
)
def test_a_csv_that_is_none_is_refused(tmp_path: Path, rows: tuple[str, ...], told: str) -> None:
    disk.voc(tmp_path / "data", IMAGES)
    disk.text(tmp_path / "data/tags.csv", *rows)
    with pytest.raises(ManifestError, match=told):
        tags_of(with_tags(tmp_path, {"from": "csv"}))


def test_a_column_of_no_class_is_the_problem_of_the_images_under_it(tmp_path: Path) -> None:
    disk.voc(tmp_path / "data", IMAGES)
    disk.text(tmp_path / "data/tags.csv", "image,cat,cta", "a,1,0", "b,0,1", "c,1,1", "d,0,0")
    problems = problems_of(with_tags(tmp_path, {"from": "csv"}))
    assert sorted(problems) == ["b", "c"]
    assert "'cta', which is no class of pets; did you mean 'cat'" in problems["b"]


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (np.zeros((4, 5)), r"shape \(4, 5\); it needs a row per image and 3 columns"),
        (np.zeros(4), r"shape \(4,\)"),
        (np.zeros((3, 3)), "has 3 rows, but the list has 4 lines; name the list .* `tags.list`"),
        (np.array([{"a": 1}], dtype=object), r"pickled objects.*np\.save"),
        (np.array([["x", "y", "z"]] * 4), "it needs a row per image"),
    ],
)
def test_an_array_that_holds_no_tags_is_refused(tmp_path: Path, array: Any, told: str) -> None:
    np.save(tmp_path / "tags.npy", array, allow_pickle=True)
    with pytest.raises(ManifestError, match=told):
        tags_of(with_tags(tmp_path, {"from": "npy", "file": "tags.npy"}))


def test_an_array_of_tags_may_follow_another_list_than_the_splits(tmp_path: Path) -> None:
    """WILSON's one-hot labels follow train_aug.txt, whatever indices a step takes from it."""
    disk.voc(tmp_path / "data", IMAGES)
    disk.text(
        tmp_path / "data/splits/train_aug.txt", *[f"/JPEGImages/{n}.jpg /SegmentationClass/{n}.png" for n in IMAGES]
    )
    write_npy(tmp_path, background=False)
    np.save(tmp_path / "i.npy", np.array([2, 0]))
    tags = {"from": "npy", "file": "tags.npy"}
    assert tags_of(with_tags(tmp_path, tags, splits={"train": "i.npy"})) == {"c": (3,), "a": (1,)}
    disk.text(tmp_path / "some.txt", "b", "d")
    manifest = with_tags(tmp_path, {**tags, "list": "train_aug"}, splits={"train": "some.txt"})
    assert tags_of(manifest) == {"b": (2, 3), "d": ()}
    disk.text(tmp_path / "twice.txt", "a", "a", "b", "c")
    with pytest.raises(ManifestError, match="names images twice, so that rows cannot be told apart"):
        tags_of(with_tags(tmp_path, {**tags, "list": "twice.txt"}))


@pytest.mark.parametrize("kind", ["csv", "npy", "coco"])
def test_a_file_of_tags_that_is_not_there_is_one_sentence(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ManifestError, match=r"yaml, tags\.file: none\.x lies neither in .* nor in .*; copy it there"):
        tags_of(with_tags(tmp_path, {"from": kind, "file": "none.x"}))


def test_tags_from_an_array_need_its_name(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="tags from npy need a file; add `file"):
        tags_of(with_tags(tmp_path, "npy"))
