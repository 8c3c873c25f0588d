"""What lies in the data and a layout does not read is told by init and check, with what to do."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.wilss.data import data_on_disk as disk
from wilss.data import copies
from wilss.data.manifest import load_manifest
from wilss.digests import digest_of_file
from wilss.errors import ManifestError
from wilss_masks.commands.manifest import command
from wilss_masks.manifest_tools.check import check_manifest
from wilss_masks.manifest_tools.folder_survey import survey_folder
from wilss_masks.manifest_tools.init import init_manifest
from wilss_masks.manifest_tools.unread import unread_annotations, unread_of

LABELME = json.dumps({"version": "5.4.1", "shapes": [], "imagePath": "1.jpg", "imageHeight": 12, "imageWidth": 16})

TASKS = json.dumps([{"id": 1, "data": {"image": "1.jpg"}, "annotations": [{"result": []}]}])
PREDICTED = json.dumps([{"data": {"image": "1.jpg"}, "predictions": []}])


def run_init(folder: Path, *arguments: str) -> Any:
    return CliRunner().invoke(command, ["init", *arguments, "--device", "cpu", "--out", str(folder / "m.yaml")])


def test_labelme_files_beside_the_images_are_told_and_so_are_folders_as_classes(tmp_path: Path) -> None:
    for name in ("a/1", "a/2", "b/3"):
        disk.image(tmp_path / "data" / f"{name}.jpg")
        disk.text(tmp_path / "data" / f"{name}.json", LABELME)
    disk.text(tmp_path / "data/a/0.json", "{}")  # of something else
    done = run_init(tmp_path, "--layout", "folder", str(tmp_path / "data"))
    assert done.exit_code == 0
    assert (
        "3 files of annotations in labelme's form (a/1.json, a/2.json, ...), which --layout folder does not"
        in done.output
    )
    assert "the names of the folders are the classes; images of each: a 2, b 1." in done.output
    warnings = check_manifest(load_manifest(tmp_path / "m.yaml"), weights=False).warnings
    assert sum("labelme's form" in warning for warning in warnings) == 1
    text = (tmp_path / "m.yaml").read_text() + "\nsupports: {0: data/a}\n"
    assert list(unread_of(load_manifest(disk.text(tmp_path / "m.yaml", text)))) == []


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        (
            "result.json",
            json.dumps({"images": [], "annotations": [], "categories": []}),
            "COCO's form .* --layout coco",
        ),
        ("tasks.json", TASKS, "Label Studio's form .* export them as COCO"),
        ("predicted.json", PREDICTED, "Label Studio's form .* export them as COCO"),
        ("samples.json", json.dumps({"samples": [{"filepath": "data/1.jpg"}]}), "FiftyOne's form .* export them as"),
        ("annotations.xml", "<?xml version='1.0'?>\n<annotations>", "CVAT's form .*Segmentation mask"),
        ("xml/1.xml", "<annotation>", r"VOC's form \(xml/1\.xml\).*--layout voc"),
        ("txt/1.txt", "0 0.5 0.5 0.1 0.2\n", "YOLO's form .*COCO json"),
    ],
)
def test_each_form_has_its_remedy_also_where_there_are_no_tags(
    tmp_path: Path, name: str, content: str, told: str
) -> None:
    disk.image(tmp_path / "1.jpg")
    disk.text(tmp_path / name, content)
    (sentence,) = unread_annotations(tmp_path)
    done = run_init(tmp_path, "--layout", "folder", str(tmp_path))
    assert done.exit_code != 0
    assert sentence in str(done.exception)
    with pytest.raises(Exception, match=f"has no tags.csv; .*with `supervision: shots` and `supports:` .*{told}"):
        init_manifest("folder", tmp_path, tmp_path / "m.yaml", device="cpu")


def test_an_image_in_the_folders_of_two_classes_is_told_and_a_cameras_own_names_are_not(tmp_path: Path) -> None:
    for seed, name in enumerate(("cat/1", "dog/1", "cat/IMG_1")):
        disk.image(tmp_path / "data" / f"{name}.png", seed=seed % 2)
    (tmp_path / "data/cat/1.png").write_bytes((tmp_path / "data/dog/1.png").read_bytes())
    disk.image(tmp_path / "data/dog/IMG_1.png", size=(20, 20))
    done = run_init(tmp_path, "--layout", "folder", str(tmp_path / "data"))
    (sentence,) = unread_of(load_manifest(tmp_path / "m.yaml"))
    assert "holds 1 image in the folders of several classes (cat/1, dog/1): each copy is" in sentence
    assert sentence in done.output


def test_pictures_that_are_numbered_from_one_in_each_folder_are_no_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BMPs of one size in pixels are of one size in bytes; each is read once, the one of a name of its own never."""
    for seed, name in enumerate(("cat/1", "cat/2", "dog/1", "dog/2", "eel/1", "eel/3")):
        disk.image(tmp_path / "data" / f"{name}.bmp", seed=seed)
    shutil.copy(tmp_path / "data/cat/2.bmp", tmp_path / "data/eel/2.bmp")
    disk.image(tmp_path / "data/dog/2.bmp", seed=9)
    assert len({path.stat().st_size for path in tmp_path.rglob("*.bmp")}) == 1
    run_init(tmp_path, "--layout", "folder", str(tmp_path / "data"))
    read: list[str] = []

    def digest(path: Path) -> str:
        read.append(path.relative_to(tmp_path / "data").as_posix())
        return digest_of_file(path)

    monkeypatch.setattr(copies, "digest_of_file", digest)
    (sentence,) = unread_of(load_manifest(tmp_path / "m.yaml"))
    assert "holds 1 image in the folders of several classes (cat/2, eel/2): each copy" in sentence
    assert sorted(read) == [f"{folder}/{number}.bmp" for folder in ("cat", "dog", "eel") for number in (1, 2)]
    (tmp_path / "data/eel/2.bmp").unlink()
    assert list(unread_of(load_manifest(tmp_path / "m.yaml"))) == []


def test_pictures_of_formats_that_are_not_read_are_told(tmp_path: Path) -> None:
    disk.image(tmp_path / "data/a.jpg")
    disk.text(tmp_path / "data/tags.csv", "a,cat")
    for name in ("IMG_1.HEIC", "sub/b.gif", ".thumbs/c.gif", "note.txt"):
        disk.text(tmp_path / "data" / name, "x")
    run_init(tmp_path, "--layout", "folder", str(tmp_path / "data"))
    (sentence,) = unread_of(load_manifest(tmp_path / "m.yaml"))
    assert "data holds 2 pictures of formats that are not read (IMG_1.HEIC, sub/b.gif), left out of all st" in sentence


def test_lists_notes_and_damaged_files_are_nobodys_annotations(tmp_path: Path) -> None:
    disk.image(tmp_path / "1.jpg")
    disk.text(tmp_path / "train.txt", "1", "2007_000032 1")
    disk.text(tmp_path / "damaged/notes.json", "{")
    for number, content in enumerate(("[]", '["cat", "dog"]', '[{"photographer": "x"}]', '[{"data": 1}]')):
        disk.text(tmp_path / f"list{number}" / "notes.json", content)
    for number, samples in enumerate(("3", "[]", "[3]", '{"1": {}}')):
        disk.text(tmp_path / f"samples{number}" / "notes.json", f'{{"samples": {samples}}}')
    for number, line in enumerate(("1 2 3 4 5", "1 0.5 0.5 0.1 -0.2", "1 0.5 0.5 0.1 1.5", "1 . . . .")):
        disk.text(tmp_path / f"numbers{number}" / "1.txt", line)
    disk.text(tmp_path / ".cache/a.json", LABELME)
    disk.text(tmp_path / "config.xml", "<config/>")
    assert list(unread_annotations(tmp_path)) == []


@pytest.mark.parametrize("is_drawn", [True, False], ids=["with a validation split", "without"])
def test_images_that_no_coco_json_lists_are_told(tmp_path: Path, is_drawn: bool) -> None:
    annotations = {f"{number}.jpg": [disk.box(1, 1, 4, 4, 10 * (number % 2 + 1))] for number in range(6)}
    disk.coco(tmp_path / "data", "train2017", annotations, ("cat", "dog"))
    share = ("--val", "0.4" if is_drawn else "0")
    done = run_init(tmp_path, "--layout", "coco", str(tmp_path / "data"), *share)
    assert done.exit_code == 0
    assert "of this manifest lists" not in done.output
    disk.image(tmp_path / "data/train2017/new.jpg")
    disk.image(tmp_path / "data/other/7.jpg")
    (sentence,) = unread_of(load_manifest(tmp_path / "m.yaml"))
    assert "train2017 holds 1 image (new.jpg) that no split of this manifest lists, left out of all steps" in sentence


def test_images_of_a_json_that_is_no_split_are_not_said_to_be_in_none(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        disk.coco(tmp_path / "data", split, {f"{split}{n}.jpg": [disk.box(1, 1, 4, 4, 10)] for n in (1, 2)}, ("cat",))
        shutil.copytree(tmp_path / "data" / split, tmp_path / "data/images", dirs_exist_ok=True)
        shutil.rmtree(tmp_path / "data" / split)
    run_init(tmp_path, "--layout", "coco", str(tmp_path / "data"))
    with_splits(tmp_path / "m.yaml", "{train: train, val: val}")
    (sentence,) = unread_of(load_manifest(tmp_path / "m.yaml"))
    assert (
        "(test1.jpg, test2.jpg) that no split of this manifest lists, left out of all steps; leave those of" in sentence
    )


def test_images_in_folders_below_that_only_the_list_leaves_out_are_not_told(tmp_path: Path) -> None:
    annotations = {f"{folder}/{n}.jpg": [disk.box(1, 1, 4, 4, 10)] for folder in "ab" for n in range(5)}
    disk.coco(tmp_path / "data", "train2017", annotations, ("cat",))
    done = run_init(tmp_path, "--layout", "coco", str(tmp_path / "data"), "--val", "0")
    assert done.exit_code == 0
    disk.text(tmp_path / "data/few.txt", "a/0", "b/1", "b/2")
    json_of = "annotations: annotations/instances_train2017.json"
    with_splits(tmp_path / "m.yaml", f"{{train: {{images: train2017, {json_of}, list: few.txt}}}}")
    assert len(load_manifest(tmp_path / "m.yaml").listing("main", "train").records) == 3
    assert list(unread_of(load_manifest(tmp_path / "m.yaml"))) == []
    disk.image(tmp_path / "data/train2017/b/9.jpg")
    (sentence,) = unread_of(load_manifest(tmp_path / "m.yaml"))
    assert "train2017/b holds 1 image (9.jpg) that no split" in sentence


def with_splits(manifest: Path, splits: str) -> None:
    text, count = re.subn("^splits: .*$", f"splits: {splits}", manifest.read_text(), flags=re.MULTILINE)
    assert count == 1
    manifest.write_text(text)


def test_a_manifest_that_is_there_is_told_before_anything_is_looked_through(tmp_path: Path) -> None:
    disk.text(tmp_path / "m.yaml", "mine")
    (tmp_path / "data").mkdir()
    done = run_init(tmp_path, "--layout", "coco", str(tmp_path / "data"))
    assert "m.yaml exists; pass --force" in str(done.exception)


def test_labels_that_jpeg_has_changed_are_told(tmp_path: Path) -> None:
    for name in ("1", "2"):
        disk.image(tmp_path / f"data/{name}.jpg")
        disk.image(tmp_path / f"data/labels/{name}.jpg")
    told = r"holds 2 files called as labels of images \(labels/1\.jpg, labels/2\.jpg\), which are not read: JPEG"
    with pytest.raises(ManifestError, match=rf"has no tags\.csv; .*{told}"):
        survey_folder(tmp_path / "data")
    disk.label(tmp_path / "data/labels/1.png", (1,))
    steps = [{"classes": [1, 2, 3], "supervision": "pixel"}]
    manifest = load_manifest(disk.manifest(tmp_path, layout="folder", splits={"train": ""}, tags="masks", steps=steps))
    (sentence,) = unread_of(manifest)
    assert "holds 1 file called as labels of images (labels/2.jpg), which are not read" in sentence


def test_links_to_folders_are_told(tmp_path: Path) -> None:
    disk.image(tmp_path / "data/1.jpg")
    disk.image(tmp_path / "elsewhere/2.jpg")
    (tmp_path / "data/more").symlink_to("../elsewhere")
    (tmp_path / "data/labels").symlink_to("../elsewhere")  # which is looked into
    disk.text(tmp_path / "data/tags.csv", "1,cat")
    file = disk.manifest(tmp_path, layout="folder", splits={"train": ""}, steps=[{"classes": [1, 2, 3]}])
    (sentence,) = unread_of(load_manifest(file))
    assert "data holds a link to a folder (more), into which nobody looks; put the images themselves there." in sentence


def test_photographs_in_the_folder_of_labels_and_links_on_the_way_to_images_are_not_told(tmp_path: Path) -> None:
    disk.image(tmp_path / "elsewhere/pets/1.jpg")
    disk.image(tmp_path / "elsewhere/pets/2.jpg")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/more").symlink_to("../elsewhere")
    steps = [{"classes": [1, 2, 3], "supervision": "pixel"}]
    places = {"images": "more/pets", "labels": "more/pets", "splits": {"train": ""}}
    file = disk.manifest(tmp_path, layout="folder", tags="masks", steps=steps, **places)
    manifest = load_manifest(file)
    assert [record.image_id for record in manifest.listing("main", "train").records] == ["1", "2"]
    assert not [*unread_of(manifest)]
