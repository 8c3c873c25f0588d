"""What stands in the files that go out, beside the masks: names, scores, labels, verdicts, images."""

import base64
import io
import json
import zipfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from tests.wilss_masks.exchange.drawn import CLASSES, ring, store_of
from wilss.data.layouts import ImageRecord
from wilss.errors import StoreError
from wilss.store import MaskStore
from wilss_masks.commands.export import command
from wilss_masks.exchange.cvat import export_cvat
from wilss_masks.exchange.fiftyone import export_fiftyone
from wilss_masks.exchange.folders import export_ade20k, export_cityscapes
from wilss_masks.exchange.huggingface import export_huggingface
from wilss_masks.exchange.label_studio import export_label_studio
from wilss_masks.exchange.labelme import export_labelme
from wilss_masks.exchange.naming import CocoNames
from wilss_masks.exchange.panoptic import export_panoptic
from wilss_masks.exchange.pieces import PieceOptions
from wilss_masks.exchange.sam import export_sam
from wilss_masks.stages.region_file import region_file


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> MaskStore:
    folder = tmp_path_factory.mktemp("s")
    images = {"a/1": {1: ring(), 2: np.indices((6, 7))[1] > 5}, "b & <c>": {3: ring()}}
    return store_of(folder / "s.zarr", images, void={"a/1": np.indices((6, 7))[0] == 5})


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory, store: MaskStore) -> CocoNames:
    """Images that are there, as a manifest would name them."""
    folder = tmp_path_factory.mktemp("photos")
    for name in store.image_ids:
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((6, 7, 3), 9, np.uint8)).save(folder / f"{name}.png")
    return CocoNames(file_name=lambda name: f"{name}.png", path=lambda name: folder / f"{name}.png")


def test_the_option_format_is_the_command_of_that_name(store: MaskStore, tmp_path: Path) -> None:
    said = []
    for number, words in enumerate(
        (["cvat", "{s}", "{o}"], ["{s}", "{o}", "--format", "cvat"], ["--format=cvat", "{s}", "{o}"])
    ):
        out = tmp_path / str(number) / "a.xml"
        out.parent.mkdir()
        given = [word.format(s=store.path, o=out) for word in words]
        result = CliRunner().invoke(command, [*given, "--shapes", "polygon"], obj={})
        assert result.exit_code == 0, result.output
        said.append(out.read_bytes())
    assert len(set(said)) == 1
    assert CliRunner().invoke(command, [str(store.path), "x", "--format", "fax"], obj={}).exit_code == 2


def test_cvat_asks_for_a_verdict_on_every_mask_and_knows_void(store: MaskStore, tmp_path: Path) -> None:
    exported = export_cvat(store, tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        root = ElementTree.fromstring(archive.read("annotations.xml"))
    assert [label.findtext("name") for label in root.iter("label")] == [*CLASSES.values(), "void"]
    assert [image.attrib["name"] for image in root.iter("image")] == ["a/1.jpg", "b & <c>.jpg"]
    masks = list(root.iter("mask"))
    assert len(masks) == exported.annotations == 4
    asked = [{one.attrib["name"]: one.text for one in mask} for mask in masks]
    assert asked[0] == {"verdict": "unjudged", "score": "0.9"}
    assert asked[2] == {}
    labels = json.loads((tmp_path / "a.zip.labels.json").read_text(encoding="utf-8"))
    assert [label["name"] for label in labels] == [*CLASSES.values(), "void"]
    assert labels[0]["attributes"][0]["values"] == ["unjudged", "accepted", "rejected"]
    with pytest.raises(StoreError, match=r"neither \.xml nor \.zip"):
        export_cvat(store, tmp_path / "a.txt")


def test_label_studio_sorts_by_the_least_sure_class(store: MaskStore, tmp_path: Path) -> None:
    exported = export_label_studio(store, tmp_path / "t.json", images_at="s3://b/")
    assert exported.notes[1] == "The address of the first image is s3://b/a/1.jpg"
    first, second = json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))
    assert (first["data"]["image"], first["data"]["wilss_image"]) == ("s3://b/a/1.jpg", "a/1")
    assert second["data"]["image"] == "s3://b/b%20%26%20%3Cc%3E.jpg"
    (prediction,) = first["predictions"]
    assert prediction["score"] == 0.8
    assert prediction["model_version"].startswith("wilss fmwiss ")
    assert [result["score"] for result in prediction["result"][:2]] == [0.9, 0.8]
    root = ElementTree.fromstring((tmp_path / "t.json.config.xml").read_text(encoding="utf-8"))
    assert [label.attrib["value"] for label in root.iter("Label")] == [*CLASSES.values(), "void"]
    used = {
        (result["from_name"], result["to_name"])
        for task in (first, second)
        for result in task["predictions"][0]["result"]
    }
    assert used == {("mask", "image")}
    assert root.find("BrushLabels[@name='mask']") is not None


def test_labelme_names_the_image_where_it_lies(store: MaskStore, names: CocoNames, tmp_path: Path) -> None:
    export_labelme(store, tmp_path / "out", names=names)
    for name in store.image_ids:
        content = json.loads((tmp_path / f"out/{name}.json").read_text(encoding="utf-8"))
        found = (tmp_path / f"out/{name}.json").parent / content["imagePath"]
        assert names.path is not None
        assert found.resolve() == names.path(name).resolve()
        areas = [np.array(Image.open(io.BytesIO(base64.b64decode(s["mask"])))).sum() for s in content["shapes"]]
        assert areas == sorted(areas, reverse=True)  # a later shape is painted over an earlier one
    export_labelme(store, tmp_path / "beside")
    assert json.loads((tmp_path / "beside/a/1.json").read_text(encoding="utf-8"))["imagePath"] == "1.jpg"


def test_labelme_has_masks_where_no_polygon_can_hold_a_part(store: MaskStore, tmp_path: Path) -> None:
    exported = export_labelme(store, tmp_path / "out", shapes="polygon")
    content = json.loads((tmp_path / "out/a/1.json").read_text(encoding="utf-8"))
    assert sorted(shape["shape_type"] for shape in content["shapes"]) == ["mask", "polygon", "polygon", "polygon"]
    assert exported.notes == ("2 parts with holes or thin bays are masks, which labelme's polygons cannot hold.",)


def test_fiftyone_knows_values_and_loads_by_a_script(store: MaskStore, names: CocoNames, tmp_path: Path) -> None:
    assert export_fiftyone(store, tmp_path / "out", names=names).notes == (
        f"Load it with: python {tmp_path}/out/load.py",
    )
    assert export_fiftyone(store, tmp_path / "bare").notes[0].startswith(f"Put the images into {tmp_path}/bare/data;")
    compile((tmp_path / "out/load.py").read_text(encoding="utf-8"), "load.py", "exec")
    info = json.loads((tmp_path / "out/metadata.json").read_text(encoding="utf-8"))["info"]
    assert info["mask_targets"]["label"] == {
        **{str(i): n for i, n in CLASSES.items()},
        "4": "of another step",
        "255": "void",
    }
    samples = json.loads((tmp_path / "out/samples.json").read_text(encoding="utf-8"))["samples"]
    assert [Path(sample["filepath"]).is_file() for sample in samples] == [True, True]
    assert [one.get("confidence") for one in samples[0]["masks"]["detections"]] == [0.9, 0.8, None]
    with Image.open(tmp_path / "out/fields/label/a/1.png") as labels:
        assert labels.mode == "L"


def test_parquet_has_the_pictures_themselves(store: MaskStore, names: CocoNames, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    export_huggingface(store, tmp_path / "out", names=names)
    table = pq.read_table(tmp_path / "out/data/train-00000-of-00001.parquet")
    first = table.to_pylist()[0]
    assert names.path is not None
    assert first["image"] == {"bytes": names.path("a/1").read_bytes(), "path": "a/1.png"}
    assert (first["tags"], [round(one, 3) for one in first["confidence"]]) == ([CLASSES[1], CLASSES[2]], [0.9, 0.8])
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == features["mask"] == {"_type": "Image"}


def test_an_image_that_cannot_be_read_is_left_out_of_parquet_and_named(store: MaskStore, tmp_path: Path) -> None:
    names = CocoNames(path=lambda name: tmp_path / f"{name}.png")
    exported = export_huggingface(store, tmp_path / "out", names=names)
    assert exported.images == 0
    assert "is not there" in exported.refused["a/1"]


def test_panoptic_segments_are_the_colours_of_its_png(store: MaskStore, tmp_path: Path) -> None:
    export_panoptic(store, tmp_path / "p.json", options=PieceOptions(instances="connected", min_area=2))
    content = json.loads((tmp_path / "p.json").read_text(encoding="utf-8"))
    for annotation in content["annotations"]:
        with Image.open(tmp_path / "p" / annotation["file_name"]) as picture:
            ids = np.array(picture).astype(int) @ [1, 256, 65536]
        areas = {segment["id"]: segment["area"] for segment in annotation["segments_info"]}
        assert areas == {number: int((ids == number).sum()) for number in np.unique(ids).tolist() if number}
        assert all(area >= 2 for area in areas.values())
    with pytest.raises(StoreError, match=r"is no \.json"):
        export_panoptic(store, tmp_path / "other")
    assert not (tmp_path / "other").exists()
    kinds = {row["name"]: row["isthing"] for row in content["categories"]}
    assert kinds == dict.fromkeys([*CLASSES.values(), "void"], 1)


def test_sam_has_parts_without_classes(store: MaskStore, tmp_path: Path) -> None:
    export_sam(store, tmp_path / "out")
    content = json.loads((tmp_path / "out/a/1.json").read_text(encoding="utf-8"))
    assert content["image"] == {"image_id": 1, "file_name": "a/1.jpg", "height": 6, "width": 7}
    assert [one["area"] for one in content["annotations"]] == [18, 1, 6]
    assert [one["predicted_iou"] for one in content["annotations"]] == [0.9, 0.9, 0.8]
    found = region_file(str(tmp_path / "out"))
    for name in store.image_ids:
        masks = store.read(name).masks
        regions = found.regions(ImageRecord(image_id=name, path=Path(f"{name}.jpg")), (6, 7), (6, 7), 0.0)
        np.testing.assert_array_equal(regions.numpy() >= 0, masks.any(axis=0))


def test_folders_of_cityscapes_and_ade20k(store: MaskStore, tmp_path: Path) -> None:
    export_cityscapes(store, tmp_path / "c")
    export_ade20k(store, tmp_path / "a")
    places = ("c/gtFine/train/a/1_gtFine_labelIds.png", "a/annotations/training/a/1.png")
    one, two = (np.array(Image.open(tmp_path / place)) for place in places)
    np.testing.assert_array_equal(one, two)
    assert set(np.unique(two).tolist()) == {0, 1, 2, 255}
    with Image.open(tmp_path / "c/gtFine/train/a/1_gtFine_color.png") as coloured:
        assert coloured.mode == "RGB"
    rows = (tmp_path / "a/objectInfo.txt").read_text(encoding="utf-8").splitlines()
    assert [row.split("\t")[-1] for row in rows] == ["Name", *CLASSES.values(), "of another step"]


@pytest.mark.parametrize("least", [0, 2])
def test_parts_and_specks(store: MaskStore, tmp_path: Path, least: int) -> None:
    options = PieceOptions(instances="connected", min_area=least)
    exported: Any = export_cvat(store, tmp_path / "a.xml", options=options)
    assert exported.annotations == (6 if least == 0 else 4)


def test_an_image_whose_masks_are_damaged_is_left_out_of_every_form_and_named(tmp_path: Path) -> None:
    store_of(tmp_path / "s.zarr", {f"im{number}": {1: ring()} for number in range(5)})
    (shard,) = (path for path in (tmp_path / "s.zarr/mask/c/1").rglob("*") if path.is_file())
    shard.write_bytes(b"damaged")
    for form, out in {
        "voc": "voc", "cityscapes": "cityscapes", "ade20k": "ade20k", "coco": "coco.json", "panoptic": "panoptic.json",
        "cvat": "cvat.xml", "labelstudio": "tasks.json", "labelme": "labelme", "fiftyone": "fiftyone",
        "huggingface": "dataset", "sam": "sam",
    }.items():  # fmt: skip
        words = [form, str(tmp_path / "s.zarr"), str(tmp_path / out)]
        result = CliRunner().invoke(command, words, catch_exceptions=False)
        assert result.exit_code == 3, form
        assert "Failed: 'im4': " in result.stderr
        assert "the array 'mask' cannot be read" in result.stderr
        assert "of 4 images" in result.stdout
    assert (tmp_path / "voc/ImageSets/Segmentation/train.txt").read_text().split() == ["im0", "im1", "im2", "im3"]
    assert len(json.loads((tmp_path / "coco.json").read_text())["images"]) == 4
