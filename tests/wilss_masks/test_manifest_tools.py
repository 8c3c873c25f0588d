"""manifest init, check and lock, as functions and as commands."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from tests.wilss.data import data_on_disk as disk
from wilss.data.manifest import load_manifest
from wilss.data.taxonomy import COCO, VOC
from wilss.errors import EncoderError, ManifestError, WeightsError
from wilss_masks.commands.manifest import command
from wilss_masks.manifest_tools.check import CheckReport, check_manifest
from wilss_masks.manifest_tools.init import init_manifest, save_manifest
from wilss_masks.manifest_tools.lock import lock_manifest

IMAGES = {"a": (1,), "b": (2, 3), "c": (3,), "d": (1, 2)}


def run(*words: object) -> Result:
    return CliRunner().invoke(command, [str(word) for word in words], obj={})


def table(report: CheckReport, part: str) -> dict[str, tuple[int, int | None]]:
    (counts,) = [counts for counts in report.counts if counts.part == part]
    return {name: (tagged, labelled) for _, name, tagged, labelled in counts.classes}


RANDOM = {
    "clip": {"library": "open_clip", "model": "ViT-B-32", "pretrained": "random:0"},
    "vit": {"library": "timm", "model": "vit_tiny_patch16_224", "pretrained": "random:0"},
}


def pets(folder: Path, **changes: Any) -> Path:
    disk.voc(folder / "data", IMAGES)
    disk.text(folder / "data/ImageSets/Segmentation/val.txt", "a", "c")
    return disk.manifest(folder, splits={"train": "train", "val": "val"}, **changes)


# -- check --------------------------------------------------------------------------------------------------


def test_check_counts_tags_and_labels_of_every_step(tmp_path: Path) -> None:
    report = check_manifest(load_manifest(pets(tmp_path)))
    assert report.findings == ()
    assert [(counts.part, counts.supervision, counts.images) for counts in report.counts] == [
        ("step 0", "pixel", 3),
        ("step 1", "tags", 2),
        ("val", "", 2),
    ]
    assert table(report, "step 0") == {"cat": (2, 2), "dog": (2, 2)}
    assert table(report, "step 1") == {"horse": (2, 2)}
    assert table(report, "val") == {"cat": (1, 1), "dog": (0, 0), "horse": (1, 1)}
    assert report.images == 4


def test_check_without_labels_reads_none(tmp_path: Path) -> None:
    file = pets(tmp_path)
    (tmp_path / "data/SegmentationClass/a.png").write_bytes(b"")
    report = check_manifest(load_manifest(file), labels=False)
    assert report.findings == ()
    assert table(report, "step 0") == {"cat": (2, None), "dog": (2, None)}


def test_check_finds_every_bad_image_once_and_goes_on(tmp_path: Path) -> None:
    file = pets(tmp_path)
    data = tmp_path / "data"
    disk.text(data / "ImageSets/Segmentation/train.txt", *IMAGES, "none", "../x", "a", "new")
    disk.image(data / "JPEGImages/new.jpg")
    disk.label(data / "SegmentationClass/a.png", (1, 99))
    disk.label(data / "SegmentationClass/b.png", (2,), size=(3, 3))
    (data / "JPEGImages/c.jpg").write_bytes(b"\xff\xd8\xff")
    (data / "SegmentationClass/d.png").unlink()
    report = check_manifest(load_manifest(file))
    told = {finding.image_id: finding.sentence for finding in report.findings}
    assert sorted(told) == ["../x", "a", "b", "c", "new", "none"]
    assert len(report.findings) == 6
    assert "label 99" in told["a"]
    assert "3 x 3 pixels" in told["b"]
    assert "is damaged" in told["c"]
    assert any("step 0: 1 image (d) have no pixel labels" in warning for warning in report.warnings)
    assert "has no tags" in told["new"]
    assert any("names 1 image (a) more than once" in warning for warning in report.warnings)


def test_a_pixel_step_without_any_label_is_unusable(tmp_path: Path) -> None:
    file = pets(tmp_path)
    for path in (tmp_path / "data/SegmentationClass").iterdir():
        path.unlink()
    report = check_manifest(load_manifest(file))
    assert {finding.image_id for finding in report.findings} == {"a", "b", "d"}
    told = {finding.image_id: finding.sentence for finding in report.findings}
    assert f"a.jpg has no label at {tmp_path / 'data/SegmentationClass/a.png'}; add it, or leave the image" in told["a"]
    assert "val: none of its 2 images has pixel labels, so that nothing is judged on it." in report.warnings


def test_the_check_command_prints_tables_and_says_by_its_exit_code_what_is_wrong(tmp_path: Path) -> None:
    file = pets(tmp_path, encoders=RANDOM)
    good = run("check", "--manifest", file)
    assert good.exit_code == 0
    assert "step 1: 2 images, supervision: tags" in good.output
    assert "4 images, none of them unusable; of each the header alone was read, --images decodes all.\n" in good.output
    (tmp_path / "data/JPEGImages/a.jpg").unlink()
    bad = run("check", "--manifest", file)
    assert bad.exit_code == 3
    assert "step 0, a: " in bad.output
    assert "is not there; copy it there" in bad.output
    assert "1 of them unusable; of each the header" in bad.output
    assert "1 of them unusable.\n" in run("check", "--images", "--manifest", file).output
    parsed = json.loads(CliRunner().invoke(command, ["check", "--manifest", str(file), "--json"], obj={}).stdout)
    assert [finding["image_id"] for finding in parsed["findings"]] == ["a"]
    file.write_text("name: [")
    assert isinstance(run("check", "--manifest", file).exception, ManifestError)


# -- init ---------------------------------------------------------------------------------------------------


def written(layout: str, root: Path, out: Path, **options: Any) -> Path:
    save_manifest(init_manifest(layout, root, out, **options), out)
    return out


def test_init_for_voc_itself(tmp_path: Path) -> None:
    images = {"x": tuple(range(1, 8)), "y": tuple(range(8, 21))}
    root = disk.voc(tmp_path / "VOCdevkit/VOC2012", images, split="train", main="trainval", classes=VOC.class_names)
    disk.text(root / "ImageSets/Segmentation/train_aug.txt", "x", "y")
    disk.text(root / "ImageSets/Segmentation/val.txt", "x")
    manifest = load_manifest(written("voc", root, tmp_path / "data_manifest.yaml"))
    assert manifest.taxonomy is VOC
    assert manifest.protocol.name == "15-5"
    assert manifest.prompts[20] == ("tv monitor", "television")
    assert {k: v.list for k, v in manifest.data["main"].splits.items()} == {"train": "train_aug", "val": "val"}
    assert [record.tags for record in manifest.records(0).records] == list(images.values())
    text = init_manifest("voc", root, tmp_path / "other.yaml", protocol="10-10", setting="disjoint")
    chosen = load_manifest(disk.text(tmp_path / "other.yaml", text))
    assert (chosen.protocol.name, chosen.protocol.setting) == ("10-10", "disjoint")


def test_init_for_voc_without_labels_makes_one_step_of_tags(tmp_path: Path) -> None:
    images = {"x": tuple(range(1, 8)), "y": tuple(range(8, 21))}
    root = disk.voc(tmp_path / "VOC2012", images, classes=VOC.class_names, labels=None)
    (root / "Annotations").mkdir()
    manifest = load_manifest(written("voc", root, tmp_path / "data_manifest.yaml"))
    assert manifest.taxonomy is VOC
    assert manifest.protocol.steps == (tuple(range(1, 21)),)
    assert manifest.supervision(0) == "tags"


def test_an_empty_folder_of_annotations_is_no_source_of_tags(tmp_path: Path) -> None:
    root = disk.voc(tmp_path / "data", IMAGES)
    for file in (root / "ImageSets/Main").iterdir():
        file.unlink()
    (root / "Annotations").mkdir()
    manifest = load_manifest(written("voc", root, tmp_path / "data_manifest.yaml"))
    assert manifest.data["main"].tags.kind == "masks"
    assert "as CamVid's 11 is, write `void: [3]`" in (tmp_path / "data_manifest.yaml").read_text()


def test_init_numbers_classes_as_the_labels_do(tmp_path: Path) -> None:
    """In ImageSets/Main there are only names; which value is whose follows from who comes with whom."""
    names = ("background", "zebra", "ant", "on")
    root = disk.voc(tmp_path / "My Data", IMAGES, classes=names)
    manifest = load_manifest(written("voc", root, tmp_path / "data_manifest.yaml"))
    assert manifest.taxonomy.class_names == names
    assert manifest.name == "my-data"
    assert manifest.protocol.steps == ((1, 2), (3,))
    assert check_manifest(manifest).findings == ()


@pytest.mark.parametrize("source", ["annotations", "labels", "class file"])
def test_init_without_image_sets_main(tmp_path: Path, source: str) -> None:
    root = disk.voc(tmp_path / "data", IMAGES)
    for file in (root / "ImageSets/Main").iterdir():
        file.unlink()
    if source == "annotations":
        for name, ids in IMAGES.items():
            objects = "".join(f"<object><name>{disk.CLASSES[i]}</name></object>" for i in ids)
            disk.text(root / f"Annotations/{name}.xml", f"<annotation>{objects}</annotation>")
        disk.text(root / "Annotations/more.xml", "<annotation><object><name>Dog</name></object></annotation>")
    if source == "class file":
        disk.text(root / "classes.txt", *disk.CLASSES)
    manifest = load_manifest(written("voc", root, tmp_path / "data_manifest.yaml"))
    expected = ("background", "class 1", "class 2", "class 3") if source == "labels" else disk.CLASSES
    assert manifest.taxonomy.class_names == expected
    assert {r.image_id: r.tags for r in manifest.listing("main", "train").records} == IMAGES


def test_init_without_labels_makes_one_step_of_tags(tmp_path: Path) -> None:
    root = disk.voc(tmp_path / "data", IMAGES, labels=None)
    manifest = load_manifest(written("voc", root, tmp_path / "data_manifest.yaml"))
    assert manifest.protocol.steps == ((1, 2, 3),)
    assert manifest.supervision(0) == "tags"


def test_init_for_coco(tmp_path: Path) -> None:
    disk.coco(tmp_path / "coco", "train2017", {"1.jpg": [disk.box(0, 0, 2, 2, 10)]}, COCO.class_names[1:])
    disk.coco(tmp_path / "coco", "val2017", {"2.jpg": []}, COCO.class_names[1:])
    manifest = load_manifest(written("coco", tmp_path / "coco", tmp_path / "data_manifest.yaml", protocol="coco-voc"))
    assert manifest.taxonomy is COCO
    assert [record.tags for record in manifest.records(1).records] == [(1,)]
    assert [record.image_id for record in manifest.evaluation().records] == ["2"]


def test_a_protocol_of_other_classes_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    disk.image(tmp_path / "photos/a.jpg")
    disk.text(tmp_path / "photos/tags.csv", "a.jpg,dog")
    done = run("init", "--layout", "folder", tmp_path / "photos", "--protocol", "15-5", "--out", tmp_path / "m.yaml")
    assert "--protocol 15-5 is for 20 classes" in str(done.exception)
    assert "has 1; leave it out" in str(done.exception)
    assert not (tmp_path / "m.yaml").exists()


def test_init_for_a_folder(tmp_path: Path) -> None:
    for name in ("a", "b"):
        disk.image(tmp_path / f"photos/{name}.jpg")
    disk.text(tmp_path / "photos/tags.csv", "image,tags", "a.jpg,yes;cat", "b.jpg,null")
    manifest = load_manifest(written("folder", tmp_path / "photos", tmp_path / "data_manifest.yaml"))
    assert manifest.taxonomy.class_names == ("background", "cat", "null", "yes")
    assert [record.problem for record in manifest.records(0).records] == [None, None]


@pytest.mark.parametrize(
    ("layout", "told"),
    [
        ("voc", "no folder JPEGImages"),
        ("coco", "no annotations/instances.*nor another json with images"),
        ("folder", r"holds no image; name the folder that holds the data"),
    ],
)
def test_init_on_other_data_is_one_sentence(tmp_path: Path, layout: str, told: str) -> None:
    with pytest.raises(ManifestError, match=told):
        init_manifest(layout, tmp_path, tmp_path / "m.yaml")
    with pytest.raises(ManifestError, match="is not a folder"):
        init_manifest(layout, tmp_path / "none", tmp_path / "m.yaml")


def test_the_init_command_keeps_an_existing_file(tmp_path: Path) -> None:
    disk.voc(tmp_path / "data", IMAGES)
    out = tmp_path / "m.yaml"
    first = run("init", "--layout", "voc", tmp_path / "data", "--out", out)
    assert first.exit_code == 0, first.output
    assert "3 classes in 2 steps." in first.output
    out.write_text("mine")
    assert isinstance(run("init", tmp_path / "data", "--out", out).exception, ManifestError)
    assert out.read_text() == "mine"
    assert run("init", tmp_path / "data", "--out", out, "--force").exit_code == 0
    assert load_manifest(out).name == "data"
    assert run("init", "--layout", "vok", tmp_path / "data").exit_code == 2


def test_init_names_the_bits_that_images_seem_to_have_and_writes_none(tmp_path: Path) -> None:
    for number, name in enumerate("abc"):
        (tmp_path / "data/images").mkdir(parents=True, exist_ok=True)
        pixels = np.linspace(0, 1000 * (number + 1), 192).astype(np.uint16).reshape(disk.SIZE)
        Image.fromarray(pixels).save(tmp_path / f"data/images/{name}.png")
    disk.text(tmp_path / "data/tags.csv", "a,cat", "b,dog", "c,cat")
    written = run("init", tmp_path / "data", "--layout", "folder", "--out", tmp_path / "m.yaml")
    assert written.exit_code == 0
    assert "hold no value above 3000 and come out dark" in written.stderr
    assert "if they are of 12 bits, write `bits: 12` beside `layout` in the manifest" in written.stderr
    assert "bits:" not in (tmp_path / "m.yaml").read_text()
    (tmp_path / "m.yaml").write_text(f"{(tmp_path / 'm.yaml').read_text()}bits: 12\n")
    assert not [told for told in check_manifest(load_manifest(tmp_path / "m.yaml")).warnings if "16-bit" in told]


# -- lock ---------------------------------------------------------------------------------------------------


def test_lock_keeps_lists_and_local_weights(tmp_path: Path) -> None:
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"weights")
    vit = {"library": "timm", "model": "vit_tiny_patch16_224.augreg_in21k", "file": "w.safetensors"}
    clip = {"library": "open_clip", "model": "ViT-B-32", "pretrained": "random"}
    file = pets(tmp_path, encoders={"clip": clip, "vit": vit})
    report = lock_manifest(load_manifest(file, check_lock=False))
    assert report.weights == {"vit": hashlib.sha256(b"weights").hexdigest()}
    assert report.warnings == ()
    assert load_manifest(file).encoders.vit.sha256 == report.weights["vit"]
    weights.unlink()
    with pytest.raises(WeightsError, match="does not exist"):
        lock_manifest(load_manifest(file, check_lock=False))
    lists = lock_manifest(load_manifest(file, check_lock=False), weights=False)
    assert sorted(lists.lists) == ["splits.train", "splits.val", "tags.train", "tags.val"]


def test_hub_weights_that_cannot_be_had_are_left_for_their_first_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(spec: object) -> str:
        raise WeightsError("offline; pass `file:`.")

    monkeypatch.setattr("wilss.models.encoders.weights.digest_of", refuse)
    report = lock_manifest(load_manifest(pets(tmp_path), check_lock=False))
    assert report.weights == {}
    assert [warning.split(" is not locked yet")[0] for warning in report.warnings] == ["encoders.clip", "encoders.vit"]


def test_an_encoder_that_cannot_be_used_is_not_locked(tmp_path: Path) -> None:
    coca = {"library": "open_clip", "model": "coca_ViT-B-32", "pretrained": "laion2b_s13b_b90k"}
    with pytest.raises(EncoderError, match=r"encoders\.clip: coca_ViT-B-32 has an attentional pool"):
        lock_manifest(load_manifest(pets(tmp_path, encoders={"clip": coca}), check_lock=False))


def test_the_lock_command_and_a_change_after_it(tmp_path: Path) -> None:
    file = pets(tmp_path, encoders=RANDOM)
    done = run("lock", "--manifest", file, "--no-weights")
    assert done.exit_code == 0
    assert "splits.train" in done.output
    disk.text(tmp_path / "data/ImageSets/Segmentation/train.txt", "a")
    error = run("check", "--manifest", file).exception
    assert isinstance(error, ManifestError)
    assert "lock" in str(error)
    assert run("lock", "--manifest", file, "--no-weights").exit_code == 0
    assert run("check", "--manifest", file).exit_code == 0


def test_a_table_shows_where_labels_and_tags_part(tmp_path: Path) -> None:
    """The way to notice names in the wrong order: tagged and labelled differ."""
    manifest = load_manifest(pets(tmp_path, names=["background", "dog", "cat", "horse"]))
    assert table(check_manifest(manifest), "step 0") == {"dog": (2, 2), "cat": (2, 2)}
    np.testing.assert_equal(len(check_manifest(manifest).findings), 0)
