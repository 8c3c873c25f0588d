"""From lists on disk to the records of a step: the VOC layout, and every fault of a single image."""

import logging
import os
import pickle
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.faults.cli import wilss_masks
from tests.wilss.data import data_on_disk as disk
from wilss.data.layouts import ImageRecord, Selection, read_label_of
from wilss.data.manifest import Manifest, load_manifest
from wilss.errors import ImageError, ManifestError, ProtocolError

IMAGES = {"a": (1,), "b": (2, 3), "c": (3,), "d": (1, 2), "e": ()}


def pets(folder: Path, **changes: Any) -> Manifest:
    disk.voc(folder / "data", IMAGES)
    return load_manifest(disk.manifest(folder, **changes))


def ids(selection: Selection) -> list[str]:
    return [record.image_id for record in selection.records]


def only(selection: Selection, image_id: str) -> ImageRecord:
    (found,) = [record for record in selection.records if record.image_id == image_id]
    return found


def test_a_step_gets_the_images_that_its_protocol_admits(tmp_path: Path) -> None:
    overlap = pets(tmp_path)
    assert ids(overlap.records(0)) == ["a", "b", "d"]
    assert ids(overlap.records(1)) == ["b", "c"]
    disjoint = load_manifest(disk.manifest(tmp_path, setting="disjoint"))
    assert ids(disjoint.records(0)) == ["a", "d"]
    assert ids(disjoint.records(1)) == ["b", "c"]


def test_where_labels_are_the_tags_an_image_without_one_belongs_to_steps_of_pixel_labels(tmp_path: Path) -> None:
    """Few labels beside many images: the others are there to be learnt from, and no faults."""
    disk.voc(tmp_path / "data", IMAGES)
    (tmp_path / "data/SegmentationClass/c.png").unlink()
    manifest = load_manifest(disk.manifest(tmp_path, tags="masks"))
    labelled, tagged = manifest.records(0), manifest.records(1)
    assert ids(labelled) == ["a", "b", "c", "d"]
    assert [record.problem for record in labelled.records] == [None] * 4
    (warning,) = labelled.warnings
    assert "no class and so no step for 1 image (e) of 'train'" in warning
    assert ids(tagged) == ["b", "c"]
    assert "c.jpg has no tags (from masks)" in str(only(tagged, "c").problem)
    made = wilss_masks("generate", "--step", 0, "--manifest", manifest.path, "--out", tmp_path / "s.zarr")
    assert (made.code, "3 done, 0 failed, 0 skipped (no tag of this step), 1 without" in made.out) == (0, True)


def test_a_record_knows_all_tags_and_reads_its_label(tmp_path: Path) -> None:
    record = only(pets(tmp_path).records(1), "b")
    assert record.tags == (2, 3)
    assert record.path == tmp_path / "data/JPEGImages/b.jpg"
    assert record.problem is None
    again = pickle.loads(pickle.dumps(record))
    assert again == record
    labels = read_label_of(again)
    assert labels.shape == disk.SIZE
    assert labels[0, :3].tolist() == [2, 3, 0]


def test_an_image_that_holds_nothing_is_told_once(tmp_path: Path) -> None:
    (warning,) = pets(tmp_path).records(0).warnings
    assert "no class and so no step for 1 image (e) of 'train'; tag them, take them off the list, or, if" in warning
    assert warning.endswith("write `complete: true` under `tags`.")
    (warning,) = pets(tmp_path, tags="masks").records(0).warnings
    assert "1 image (e) of 'train': their labels show background alone, and such images are not trained on;" in warning


def test_a_step_that_there_is_not(tmp_path: Path) -> None:
    manifest = pets(tmp_path)
    for call in (manifest.records, manifest.supervision):
        with pytest.raises(ProtocolError, match="no step 2"):
            call(2)


def test_evaluation_takes_every_image_and_asks_for_no_tags(tmp_path: Path) -> None:
    manifest = pets(tmp_path, splits={"train": "train", "val": "val"})
    disk.text(tmp_path / "data/ImageSets/Segmentation/val.txt", "a", "e", "none")
    for file in (tmp_path / "data/ImageSets/Main").iterdir():
        file.unlink()
    selection = manifest.evaluation()
    assert ids(selection) == ["a", "e", "none"]
    assert [record.problem is None for record in selection.records] == [True, True, False]
    with pytest.raises(ManifestError, match="no split 'test'; there are train, val"):
        manifest.evaluation("test")


def test_a_split_that_the_manifest_has_not(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"main has no split 'trane'; did you mean 'train'; add it"):
        pets(tmp_path).records(0, "trane")


def test_steps_and_evaluation_may_have_data_of_their_own(tmp_path: Path) -> None:
    disk.voc(tmp_path / "data", {"a": (1,), "b": (2,)})
    disk.voc(tmp_path / "new", {"x": (2,), "a": (3,)}, classes=("background", "dog", "horse", "pony"), split="extra")
    names = ["background", "zebra", "HORSE", "cat"]  # label values and tags of `new` in its own order
    for name in ("zebra", "HORSE", "cat"):
        rows = ["x  1", "a -1"] if name == "HORSE" else ["x -1", "a  1" if name == "cat" else "a -1"]
        disk.text(tmp_path / f"new/ImageSets/Main/{name}_extra.txt", *rows)
    manifest = load_manifest(
        disk.manifest(
            tmp_path,
            names=["background", "cat", "dog", "horse", "zebra"],
            steps=[{"classes": [1, 2, 4]}, {"classes": [3], "data": "new", "split": "extra"}],
            data={"new": {"path": "new", "names": names, "splits": {"extra": "extra"}}},
            evaluation={"both": ["main", {"data": "new", "split": "extra"}]},
            splits={"train": "train", "both": "train"},
        )
    )
    (record,) = manifest.records(1).records
    assert (record.image_id, record.tags, record.path.parts[-3]) == ("x", (3,), "new")
    assert record.label is not None
    assert record.label.read()[0, :2].tolist() == [3, 0]
    assert ids(manifest.evaluation("both")) == ["a", "b", "x", "new/a"]
    other = only(manifest.evaluation("both"), "new/a")
    assert other.label is not None
    assert other.label.read()[0, 0] == 1


def test_own_names_that_are_no_classes_are_refused(tmp_path: Path) -> None:
    disk.voc(tmp_path / "new", {"x": (1,)}, classes=("background", "hrose"))
    data = {"new": {"path": "new", "names": ["background", "hrose"], "splits": {"train": "train"}}}
    file = disk.manifest(tmp_path, data=data, steps=[{"classes": [1], "data": "new"}])
    with pytest.raises(ManifestError, match=r"data\.new\.names\.1: 'hrose' is not a class.*did you mean 'horse'"):
        load_manifest(file).records(0)


# -- faults of single images --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("none", r"JPEGImages/none is named in .*train\.txt, but is not there; copy it there"),
        ("../../secret", "which leads out of the data folder; name files inside"),
        ("x/../../secret", "leads out of the data folder"),
        ("..\\secret", "leads out of the data folder"),
        ("/etc/passwd", "is an absolute path"),
        ("~/secret", "is an absolute path"),
        ("C:\\secret", "is an absolute path"),
        ("a\x07b", "holds control characters"),
        ("/JPEGImages/../../x.jpg /SegmentationClass/x.png", "leads out of the data folder"),
        ("/JPEGImages/a.jpg /../../x.png", "leads out of the data folder"),
        ("folder", "is not there"),
        ("x" * 400, "is not there"),
    ],
)
def test_a_bad_line_is_the_problem_of_one_record(tmp_path: Path, line: str, told: str) -> None:
    manifest = pets(tmp_path)
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (tmp_path / "data/JPEGImages/folder.jpg").mkdir()
    disk.text(tmp_path / "data/ImageSets/Segmentation/train.txt", line, *IMAGES)
    for step in (0, 1):
        selection = manifest.records(step) if step == 0 else load_manifest(manifest.path).records(step)
        bad, *good = selection.records
        assert bad.problem is not None
        assert re.search(told, bad.problem)
        assert bad.problem.endswith(".")
        assert bad.label is None
        assert bad.image_id.isprintable()
        assert all(record.problem is None for record in good)
        assert len(good) >= 2


def test_an_image_listed_twice_is_used_once_and_told(tmp_path: Path) -> None:
    manifest = pets(tmp_path)
    disk.text(
        tmp_path / "data/ImageSets/Segmentation/train.txt", "a", "b", "a", "a.jpg",
        "/JPEGImages/b.jpg /SegmentationClass/b.png", "d",
    )  # fmt: skip
    selection = manifest.records(0)
    assert ids(selection) == ["a", "b", "d"]
    assert any("names 2 images (a, b) more than once; each is used once." in told for told in selection.warnings)


def test_an_image_without_tags_is_the_problem_of_one_record(tmp_path: Path) -> None:
    manifest = pets(tmp_path)
    disk.image(tmp_path / "data/JPEGImages/new.jpg")
    disk.text(tmp_path / "data/ImageSets/Segmentation/train.txt", *IMAGES, "new")
    for step in (0, 1):
        problem = only(manifest.records(step), "new").problem
        assert problem is not None
        assert "new.jpg has no tags (from voc-main); add them" in problem


def test_tags_outside_the_taxonomy_are_the_problem_of_one_record(tmp_path: Path) -> None:
    pets(tmp_path)
    disk.text(tmp_path / "data/tags.csv", "a,cat", "b,dog;hrose", "c,zebra", "d,dog")
    manifest = load_manifest(disk.manifest(tmp_path, tags={"from": "csv"}))
    problem = only(manifest.records(0), "b").problem
    assert problem is not None
    assert "tagged 'hrose', which is no class of pets; did you mean 'horse'" in problem
    assert only(manifest.records(0), "c").problem is not None
    assert only(manifest.records(1), "c").problem is not None
    assert only(manifest.records(0), "d").problem is None
    ignoring = load_manifest(disk.manifest(tmp_path, tags={"from": "csv", "ignore": ["hrose", "zebra"]})).records(0)
    assert [record.image_id for record in ignoring.records if record.problem is None] == ["a", "b", "d"]


def test_void_stays_void(tmp_path: Path) -> None:
    manifest = pets(tmp_path)
    disk.label(tmp_path / "data/SegmentationClass/a.png", (1, 255, 0))
    assert read_label_of(only(manifest.records(0), "a"))[0, :3].tolist() == [1, 255, 0]


def test_a_list_may_name_the_labels_and_the_manifest_overrules_it(tmp_path: Path) -> None:
    pets(tmp_path)
    disk.label(tmp_path / "data/Mine/a.png", (2,))
    disk.text(tmp_path / "data/ImageSets/Segmentation/train.txt", "/JPEGImages/a.jpg /Mine/a.png")
    for labels, value in ((None, 2), ("SegmentationClass", 1)):
        record = only(load_manifest(disk.manifest(tmp_path, labels=labels)).records(0), "a")
        assert read_label_of(record)[0, 0] == value


def test_a_label_outside_the_taxonomy_names_its_values(tmp_path: Path) -> None:
    manifest = pets(tmp_path)
    disk.label(tmp_path / "data/SegmentationClass/a.png", (1, 7, 9, 255))
    label = only(manifest.records(0), "a").label
    assert label is not None
    with pytest.raises(ImageError) as error:
        label.read()
    assert str(error.value).endswith(
        "a.png holds the labels 7, 9, which are no classes of the manifest; name them in `names`, or say what they are "
        "beside `layout`: `void: [7, 9]`, or `values: {7: NAME, 9: NAME}`."
    )


def test_one_label_outside_the_taxonomy_is_one(tmp_path: Path) -> None:
    manifest = pets(tmp_path)
    disk.label(tmp_path / "data/SegmentationClass/a.png", (1, 9))
    with pytest.raises(ImageError, match=r"holds the label 9, which is no class of the manifest; name it .*\[9\]"):
        read_label_of(only(manifest.records(0), "a"))


def test_a_label_of_another_size_than_its_image_is_a_sentence(tmp_path: Path) -> None:
    manifest = pets(tmp_path)
    disk.label(tmp_path / "data/SegmentationClass/a.png", (1,), size=(16, 12))
    with pytest.raises(ImageError, match=r"labels of a are 12 x 16 pixels, the image .*a\.jpg is 16 x 12; they must"):
        read_label_of(only(manifest.records(0), "a"))


def test_labels_fit_the_upright_image(tmp_path: Path) -> None:
    manifest = pets(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(tmp_path / "data/JPEGImages/a.jpg") as picture:
        picture.load()
    picture.save(tmp_path / "data/JPEGImages/a.jpg", exif=exif)
    disk.label(tmp_path / "data/SegmentationClass/a.png", (1,), size=(16, 12))
    assert read_label_of(only(manifest.records(0), "a")).shape == (16, 12)


def test_an_image_without_a_label_can_be_used_all_the_same(tmp_path: Path) -> None:
    manifest = pets(tmp_path)
    (tmp_path / "data/SegmentationClass/a.png").unlink()
    record = only(manifest.records(0), "a")
    assert (record.label, record.problem) == (None, None)
    with pytest.raises(ImageError, match="has no pixel labels"):
        read_label_of(record)


# -- lists --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "end"),
    [("utf-8", "\r\n"), ("utf-8", "\r"), ("utf-8-sig", "\n"), ("utf-16", "\r\n"), ("utf-8", "  \n\n")],
)
def test_a_list_may_come_from_any_system(tmp_path: Path, encoding: str, end: str) -> None:
    manifest = pets(tmp_path)
    disk.text(tmp_path / "data/ImageSets/Segmentation/train.txt", *IMAGES, encoding=encoding, end=end)
    assert ids(manifest.records(0)) == ["a", "b", "d"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("a\nk\xe4se\n".encode("latin-1"), r"train\.txt is not UTF-8 text \(byte 3 .*iconv"),
        (b"a\x00b\n", "is a binary file"),
        (b"\n \n", "names no image"),
    ],
)
def test_a_list_that_is_no_list_is_one_sentence(tmp_path: Path, content: bytes, told: str) -> None:
    manifest = pets(tmp_path)
    (tmp_path / "data/ImageSets/Segmentation/train.txt").write_bytes(content)
    with pytest.raises(ManifestError, match=told):
        manifest.records(0)


def test_names_in_any_script_and_with_spaces_are_fine(tmp_path: Path) -> None:
    disk.voc(tmp_path / "data", {"käse ü": (1,), "日本/写真 1": (1,), "v1.2": (2,)})
    selection = load_manifest(disk.manifest(tmp_path)).records(0)
    assert ids(selection) == ["käse ü", "日本/写真 1", "v1.2"]
    assert all(record.problem is None and record.label is not None for record in selection.records)


def test_endings_in_capitals_and_other_formats_are_found(tmp_path: Path) -> None:
    pets(tmp_path)
    folder = tmp_path / "data/JPEGImages"
    (folder / "a.jpg").rename(folder / "a.JPG")
    disk.image(folder / "b.webp")
    (folder / "b.jpg").unlink()
    selection = load_manifest(disk.manifest(tmp_path)).records(0)
    assert [record.path.name for record in selection.records] == ["a.JPG", "b.webp", "d.jpg"]


def test_lists_by_path_from_the_manifest_or_the_root(tmp_path: Path) -> None:
    pets(tmp_path)
    disk.text(tmp_path / "lists/mine.txt", "a")
    disk.text(tmp_path / "data/theirs.txt", "d")
    splits = {"train": "lists/mine.txt", "more": "theirs.txt"}
    manifest = load_manifest(disk.manifest(tmp_path, splits=splits, tags="masks"))
    assert ids(manifest.records(0)) == ["a"]
    assert ids(manifest.records(0, "more")) == ["d"]


def test_a_missing_list_or_data_folder_is_one_sentence(tmp_path: Path) -> None:
    manifest = pets(tmp_path, splits={"train": "trian"})
    with pytest.raises(ManifestError, match=r"the list 'trian' is not there \(looked for .*/trian\.txt"):
        manifest.records(0)
    with pytest.raises(ManifestError, match="data folder .*nowhere is not there; copy or link"):
        load_manifest(disk.manifest(tmp_path, path="nowhere")).records(0)


# -- links --------------------------------------------------------------------------------------------------


def test_linked_folders_and_images_work(tmp_path: Path) -> None:
    disk.voc(tmp_path / "real", IMAGES)
    (tmp_path / "data").mkdir()
    for name in ("ImageSets", "SegmentationClass"):
        (tmp_path / "data" / name).symlink_to(tmp_path / "real" / name)
    (tmp_path / "data/JPEGImages").mkdir()
    for name in IMAGES:
        (tmp_path / f"data/JPEGImages/{name}.jpg").symlink_to(tmp_path / f"real/JPEGImages/{name}.jpg")
    selection = load_manifest(disk.manifest(tmp_path)).records(0)
    assert [read_label_of(record).shape for record in selection.records] == [disk.SIZE] * 3
    (tmp_path / "linked").symlink_to(tmp_path / "real")
    assert len(load_manifest(disk.manifest(tmp_path, path="linked")).records(0).records) == 3


def test_a_link_loop_is_a_sentence(tmp_path: Path) -> None:
    manifest = pets(tmp_path)
    image = tmp_path / "data/JPEGImages/a.jpg"
    image.unlink()
    image.symlink_to(image)
    record = only(manifest.records(0), "a")
    with pytest.raises(ImageError, match="leads back to itself"):
        read_label_of(record)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(ManifestError, match=r"data folder .*loop cannot be opened .*; check its links"):
        load_manifest(disk.manifest(tmp_path, path="loop")).records(0)


# -- the field's lists --------------------------------------------------------------------------------------


def test_wilsons_index_arrays_select_exactly_its_images(tmp_path: Path) -> None:
    """WILSON joins the root and the line without its first slash, and takes the lines at the array's indices."""
    root = disk.voc(
        tmp_path / "data", {name: (1,) for name in "abcdefgh"}, labels="SegmentationClassAug", main="trainval"
    )
    lines = [f"/JPEGImages/{name}.jpg /SegmentationClassAug/{name}.png" for name in "abcdefgh"]
    disk.text(root / "splits/train_aug.txt", *lines)
    indices = np.array([6, 0, 3], np.int64)
    (root / "splits/15-5").mkdir()
    np.save(root / "splits/15-5/train-1.npy", indices)
    splits = {"train": "train_aug", "wilson-1": "splits/15-5/train-1.npy"}
    steps = [{"classes": [1, 2]}, {"classes": [3], "split": "wilson-1"}]
    manifest = load_manifest(disk.manifest(tmp_path, splits=splits, steps=steps))
    expected = [os.path.join(root, lines[i].split(" ")[0][1:]) for i in indices]
    selection = manifest.records(1)
    assert [str(record.path) for record in selection.records] == expected
    assert [record.label.path.name for record in selection.records] == ["g.png", "a.png", "d.png"]  # type: ignore[union-attr]
    assert ids(manifest.records(0)) == list("abcdefgh")


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (np.array([0, 5]), "has the index 5, but .* has 5 lines"),
        (np.array([-1]), "has the index -1"),
        (np.array([0.0]), "float64 of shape"),
        (np.array([[0]]), r"shape \(1, 1\)"),
        (np.array([{}], dtype=object), "pickled objects, which could run code"),
        (np.array([], np.int64), "names no image"),
    ],
)
def test_an_array_that_is_no_row_of_indices_is_refused(tmp_path: Path, array: Any, told: str) -> None:
    pets(tmp_path)
    np.save(tmp_path / "i.npy", array, allow_pickle=True)
    splits = {"train": {"list": "i.npy", "into": "train"}}
    with pytest.raises(ManifestError, match=told):
        load_manifest(disk.manifest(tmp_path, splits=splits)).records(0)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"nonsense"])
def test_a_damaged_npy_is_refused(tmp_path: Path, content: bytes) -> None:
    pets(tmp_path)
    (tmp_path / "i.npy").write_bytes(content)
    splits = {"train": {"list": "i.npy", "into": "train"}}
    with pytest.raises(ManifestError, match=r"i\.npy"):
        load_manifest(disk.manifest(tmp_path, splits=splits)).records(0)


def test_labels_prefer_the_augmented_ones_unless_told_otherwise(tmp_path: Path) -> None:
    pets(tmp_path)
    disk.label(tmp_path / "data/SegmentationClassAug/a.png", (2,))
    found = {}
    for labels in (None, "SegmentationClass", "SegmentationClassAug"):
        record = only(load_manifest(disk.manifest(tmp_path, labels=labels)).records(0), "a")
        found[labels] = None if record.label is None else record.label.read()[0, 0]
    assert found == {None: 2, "SegmentationClass": 1, "SegmentationClassAug": 2}
    record = only(load_manifest(disk.manifest(tmp_path, labels="SegmentationClassAug")).records(0), "b")
    assert record.label is None


# -- built-in data, digest, speed ---------------------------------------------------------------------------


def test_the_built_in_data_is_drawn_when_it_is_missing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from wilss.data.shapes import CLASS_NAMES

    file = disk.manifest(
        tmp_path,
        names=list(CLASS_NAMES),
        steps=None,
        protocol="15-5",
        generate={"with": "shapes", "train": 12, "val": 3, "seed": 1},
        splits={"train": "train", "val": "val"},
    )
    with caplog.at_level(logging.INFO, "wilss"):
        manifest = load_manifest(file)
        assert not (tmp_path / "data").exists()
        selection = manifest.records(0)
    assert [record.getMessage() for record in caplog.records] == [f"drawing 15 pictures into {tmp_path}/data (once)"]
    assert len(manifest.evaluation().records) == 3
    for record in selection.records:
        holds = set(np.unique(read_label_of(record)).tolist()) - {0, 255}
        assert holds == set(record.tags)
    caplog.clear()
    assert len(load_manifest(file).records(0).records) == len(selection.records)
    assert not caplog.records


def test_the_digest_follows_the_data_and_nothing_else(tmp_path: Path) -> None:
    def digest(**changes: Any) -> str:
        return load_manifest(disk.manifest(tmp_path, **changes)).digest

    first = pets(tmp_path).digest
    vit = {"vit": {"library": "timm", "model": "vit_tiny_patch16_224"}}
    assert digest(encoders=vit, masks={"fmwiss": {"seeds": 3}}, title="x", name="y") == first
    assert digest(setting="disjoint") != first
    assert digest(tags="masks") != first
    assert digest(steps=[{"classes": [1]}, {"classes": [2, 3]}]) != first
    assert digest(names=["background", "cat", "dog", "pony"]) != first
    (tmp_path / "data").rename(tmp_path / "moved")
    assert digest(path="moved") == first
    disk.text(tmp_path / "moved/ImageSets/Segmentation/train.txt", "a", "b")
    assert digest(path="moved") != first


def noting(call: Callable[..., Any], seen: list[str]) -> Callable[..., Any]:
    def noted(path: Any, *args: Any, **options: Any) -> Any:
        seen.append(str(path))
        return call(path, *args, **options)

    return noted


def test_images_are_listed_without_a_look_at_any_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No image is opened and no file is looked for by itself: folders are listed, however many lie in them."""
    names = [f"2012_{i:06d}" for i in range(300)]
    root = tmp_path / "data"
    for folder in ("JPEGImages", "SegmentationClass"):
        (root / folder).mkdir(parents=True)
    for name in names:
        (root / f"JPEGImages/{name}.jpg").touch()
        (root / f"SegmentationClass/{name}.png").touch()
    disk.text(root / "ImageSets/Segmentation/train.txt", *names)
    for identity in (1, 2, 3):
        rows = [f"{name} {1 if i % 3 + 1 == identity else -1:2d}" for i, name in enumerate(names)]
        disk.text(root / f"ImageSets/Main/{disk.CLASSES[identity]}_train.txt", *rows)
    manifest = load_manifest(disk.manifest(tmp_path))
    seen: list[str] = []
    for name in ("os.stat", "os.lstat", "os.access", "os.open", "io.open", "builtins.open"):
        module, function = name.split(".")
        monkeypatch.setattr(name, noting(getattr(sys.modules[module], function), seen))
    assert len(manifest.records(0).records) == 200
    assert seen, "the lists are read"
    assert not [name for name in names if any(name in path for path in seen)]
