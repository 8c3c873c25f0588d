"""Where `manifest init --layout coco` finds json files, and the images that they name."""

import json
from pathlib import Path

import pytest

from tests.wilss.data import data_on_disk as disk
from wilss.data.layouts import read_label_of
from wilss.data.manifest import load_manifest
from wilss.errors import ManifestError
from wilss_masks.manifest_tools.init import doubts_of, init_manifest


def coco(root: Path, file: str, images: str, *names: str) -> None:
    """A json of images that lie in a folder of their own."""
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    for name in names:
        disk.image(root / images / name)
    rows = [{"id": number, "file_name": name, "height": 12, "width": 16} for number, name in enumerate(names)]
    drawn = [{"id": n, "image_id": n, "category_id": 7, "bbox": [0, 0, 4, 4], "segmentation": [[0, 0, 4, 0, 4, 4]]}
             for n in range(len(names))]  # fmt: skip
    content = {"images": rows, "annotations": drawn, "categories": [{"id": 7, "name": "cat"}]}
    (root / file).write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("file", "images"),
    [
        ("{}.json", "{}"), ("instances_{}.json", "images/{}"), ("{}/_annotations.coco.json", "{}"),
        ("labels/{}2017.json", "pictures/{} pictures"), ("annotations/{}.json", "images"),
    ],
)  # fmt: skip
def test_json_files_lie_anywhere(tmp_path: Path, file: str, images: str) -> None:
    root = tmp_path / "data"
    for split in ("train", "valid"):
        coco(root, file.format(split), images.format(split), f"{split}1.jpg", f"{split}2.jpg")
    (root / "package.json").write_text('{"name": "no annotations"}')
    text = init_manifest("coco", root, tmp_path / "m.yaml")
    manifest = load_manifest(disk.text(tmp_path / "m.yaml", text))
    for split, name in (("train", "train"), ("val", "valid")):
        records = manifest.listing("main", split, lenient=True).records
        assert [(record.image_id, record.problem) for record in records] == [(f"{name}1", None), (f"{name}2", None)]
        assert all(record.path.is_file() and record.tags == (1,) for record in records)


def test_one_json_of_any_name_is_train(tmp_path: Path) -> None:
    coco(tmp_path, "result.json", ".", "a.jpg")
    manifest = load_manifest(disk.text(tmp_path / "m.yaml", init_manifest("coco", tmp_path, tmp_path / "m.yaml")))
    assert [record.problem for record in manifest.records(0).records] == [None]


def with_categories(path: Path, *more: str) -> None:
    """Name more categories, and make the first annotation one of the first of them."""
    content = json.loads(path.read_text())
    content["categories"] += [{"id": number, "name": name} for number, name in enumerate(more, start=8)]
    content["annotations"][0]["category_id"] = 8
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(("word", "label"), [("void", 255), ("ignore", 255), ("background", 0)])
def test_a_category_that_stands_for_void_or_background_is_no_class(tmp_path: Path, word: str, label: int) -> None:
    coco(tmp_path, "train.json", ".", "a.jpg", "b.jpg")
    with_categories(tmp_path / "train.json", word)
    manifest = load_manifest(disk.text(tmp_path / "m.yaml", init_manifest("coco", tmp_path, tmp_path / "m.yaml")))
    assert manifest.data["main"].taxonomy.class_names == ("background", "cat")
    listing = manifest.listing("main", "train", lenient=True)
    assert [record.tags for record in listing.records] == [(), (1,)]
    assert [int(read_label_of(record)[1, 3]) for record in listing.records] == [label, 1]


def test_a_word_that_may_be_a_class_is_taken_for_one_and_doubted(tmp_path: Path) -> None:
    coco(tmp_path, "train.json", ".", "a.jpg")
    with_categories(tmp_path / "train.json", "unknown")
    text = init_manifest("coco", tmp_path, tmp_path / "m.yaml")
    assert "\n  2: unknown\n" in text
    (doubt,) = (doubt for doubt in doubts_of(text) if "'unknown'" in doubt)
    assert "leave it out of `names` and `steps`" in doubt


def test_categories_of_void_alone_are_refused(tmp_path: Path) -> None:
    coco(tmp_path, "train.json", ".", "a.jpg")
    content = json.loads((tmp_path / "train.json").read_text())
    (tmp_path / "train.json").write_text(json.dumps({**content, "categories": [{"id": 7, "name": "void"}]}))
    with pytest.raises(ManifestError, match=r"train\.json has no category but for void and background; add"):
        init_manifest("coco", tmp_path, tmp_path / "m.yaml")


def test_two_files_of_one_split_are_asked_about(tmp_path: Path) -> None:
    coco(tmp_path, "a/train.json", "a", "1.jpg")
    coco(tmp_path, "b/train.json", "b", "2.jpg")
    with pytest.raises(ManifestError, match=r"a/train\.json and .*b/train\.json are both COCO files of 'train'; move"):
        init_manifest("coco", tmp_path, tmp_path / "m.yaml")
