"""COCO instances: categories by name, labels drawn from polygons and run lengths, COCO-to-VOC."""

import json
import pickle
import sys
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.wilss.data import data_on_disk as disk
from wilss.data.layouts import ImageRecord, read_label_of
from wilss.data.manifest import Manifest, load_manifest
from wilss.data.taxonomy import COCO, VOC, VOID
from wilss.errors import ImageError, ManifestError

NAMES = ("dog", "zebra", "cat")  # ids 10, 20, 30
ANNOTATIONS: dict[str, list[dict[str, Any]]] = {
    "000001.jpg": [disk.box(1, 2, 6, 5, 10), disk.box(3, 3, 2, 2, 30)],
    "000002.jpg": [disk.box(0, 0, 4, 4, 20)],
    "000003.jpg": [],
}


def load(folder: Path, annotations: Any = None, **changes: Any) -> Manifest:
    disk.coco(folder / "data", "train2017", ANNOTATIONS if annotations is None else annotations, NAMES)
    more = {"splits": None, "steps": [{"classes": [1, 2]}, {"classes": [3]}], **changes}
    return load_manifest(disk.manifest(folder, layout="coco", **more))


def records(manifest: Manifest) -> dict[str, ImageRecord]:
    return {record.image_id: record for record in manifest.listing("main", "train").records}


def drawn(manifest: Manifest, image_id: str = "000001") -> Any:
    return read_label_of(pickle.loads(pickle.dumps(records(manifest)[image_id])))


def test_categories_are_matched_by_name_and_strangers_are_background(tmp_path: Path) -> None:
    manifest = load(tmp_path)
    found = records(manifest)
    assert {name: record.tags for name, record in found.items()} == {"000001": (1, 2), "000002": (), "000003": ()}
    assert found["000001"].path == tmp_path / "data/train2017/000001.jpg"
    assert np.unique(drawn(manifest, "000002")).tolist() == [0]
    warnings = manifest.records(0).warnings
    assert any("1 of its categories (zebra) is no class of pets and counts as background" in w for w in warnings)
    assert any("no class and so no step for 2 images (000002, 000003) of 'train'" in w for w in warnings)


def test_a_file_name_and_a_category_may_be_spelt_with_marks_of_their_own(tmp_path: Path) -> None:
    composed, apart = (unicodedata.normalize(form, "Hündin") for form in ("NFC", "NFD"))
    disk.coco(tmp_path / "data", "train2017", {f"{composed}.jpg": [disk.box(1, 2, 6, 5, 10)]}, (apart,))
    (image,) = (tmp_path / "data/train2017").iterdir()
    image.rename(image.with_name(f"{apart}.jpg"))
    names = ["background", composed]
    spec = disk.manifest(tmp_path, layout="coco", names=names, splits=None, steps=[{"classes": [1]}])
    (record,) = load_manifest(spec).listing("main", "train").records
    assert (record.image_id, record.tags, record.path.name) == (composed, (1,), f"{apart}.jpg")


def test_labels_are_drawn_small_over_large_whatever_their_order(tmp_path: Path) -> None:
    expected = np.zeros(disk.SIZE, np.uint8)
    expected[2:7, 1:7] = 2
    expected[3:5, 3:5] = 1
    for number, order in enumerate(([0, 1], [1, 0])):
        boxes = [ANNOTATIONS["000001.jpg"][i] for i in order]
        manifest = load(tmp_path / str(number), {"000001.jpg": boxes})
        np.testing.assert_array_equal(drawn(manifest), expected)


def test_equal_areas_are_drawn_by_their_ids(tmp_path: Path) -> None:
    boxes = [disk.box(0, 0, 4, 4, 10), disk.box(2, 0, 4, 4, 30)]
    assert drawn(load(tmp_path, {"000001.jpg": boxes}))[0, :6].tolist() == [2, 2, 1, 1, 1, 1]


def test_crowds_are_void_below_every_instance_and_count_as_tags(tmp_path: Path) -> None:
    height, width = disk.SIZE
    counts = [0, height * width]  # all of the image, column by column
    crowd = {
        "category_id": 10, "iscrowd": 1, "area": 1.0, "segmentation": {"size": [height, width], "counts": counts},
    }  # fmt: skip
    manifest = load(tmp_path, {"000001.jpg": [disk.box(0, 0, 2, 2, 30), crowd]}, crowd="void")
    labels = drawn(manifest)
    assert labels[:2, :2].tolist() == [[1, 1], [1, 1]]
    assert (labels == VOID).sum() == height * width - 4
    assert records(manifest)["000001"].tags == (1, 2)


def mask(*pixels: tuple[int, int]) -> dict[str, Any]:
    """Run lengths of single pixels (row, column)."""
    drawn_mask = np.zeros(disk.SIZE, bool)
    for row, column in pixels:
        drawn_mask[row, column] = True
    flat = np.concatenate([[False], drawn_mask.T.ravel(), [not drawn_mask[-1, -1]]])
    ends = np.flatnonzero(flat[1:] != flat[:-1])
    return {"size": list(disk.SIZE), "counts": np.diff(np.concatenate([[0], ends])).tolist()}


def test_a_lone_crowd_is_a_mask_and_one_beside_single_objects_of_its_class_is_void(tmp_path: Path) -> None:
    """What datumaro and supervision write: iscrowd 1 for every mask that is no polygon."""
    crowd = {"category_id": 10, "iscrowd": 1, "segmentation": mask((5, 5), (5, 6))}
    images = {"000001.jpg": [crowd, disk.box(0, 0, 2, 2, 30)], "000002.jpg": [crowd, disk.box(0, 0, 2, 2, 10)]}
    manifest = load(tmp_path, images)
    assert drawn(manifest, "000001")[5, 5:7].tolist() == [2, 2]
    assert drawn(manifest, "000002")[5, 5:7].tolist() == [VOID, VOID]
    (told,) = [warning for warning in manifest.records(0).warnings if "iscrowd" in warning]
    assert "in 1 image (000001) are read as masks" in told
    assert "`crowd: void`" in told


@pytest.mark.parametrize(("crowd", "value"), [("void", VOID), ("mask", 2)])
def test_the_manifest_decides_what_crowds_are(tmp_path: Path, crowd: str, value: int) -> None:
    annotation = {"category_id": 10, "iscrowd": 1, "segmentation": mask((5, 5))}
    manifest = load(tmp_path, {"000001.jpg": [annotation], "000002.jpg": [annotation, disk.box(0, 0, 2, 2, 10)]},
                    crowd=crowd)  # fmt: skip
    assert [drawn(manifest, name)[5, 5] for name in ("000001", "000002")] == [value, value]
    assert not [warning for warning in manifest.records(0).warnings if "iscrowd" in warning]


@pytest.mark.parametrize("area", [{}, {"area": 0}, {"area": 1.0}])
def test_the_drawn_pixels_decide_what_is_large_whatever_the_file_says(tmp_path: Path, area: dict[str, Any]) -> None:
    boxes = [{**disk.box(3, 3, 2, 2, 10), "area": None, **area}, {**disk.box(1, 1, 9, 9, 30), "area": None, **area}]
    assert np.bincount(drawn(load(tmp_path, {"000001.jpg": boxes})).ravel()).tolist() == [192 - 81, 77, 4]


def test_a_list_of_run_lengths_is_their_union(tmp_path: Path) -> None:
    both = [mask((0, 0), (1, 0)), mask((1, 0), (3, 7))]
    labels = drawn(load(tmp_path, {"000001.jpg": [{"category_id": 10, "segmentation": both}]}))
    assert np.argwhere(labels).tolist() == [[0, 0], [1, 0], [3, 7]]


@pytest.mark.parametrize("nested", [True, False])
def test_corners_may_be_pairs(tmp_path: Path, nested: bool) -> None:
    corners = [[1, 2], [7, 2], [7, 7], [1, 7]]
    annotation = {"category_id": 10, "segmentation": [corners] if nested else corners}
    expected = drawn(load(tmp_path / "flat", {"000001.jpg": [disk.box(1, 2, 6, 5, 10)]}))
    np.testing.assert_array_equal(drawn(load(tmp_path / "pairs", {"000001.jpg": [annotation]})), expected)
    assert expected.any()


def test_boxes_without_outlines_are_no_pixel_labels_and_void_beside_others(tmp_path: Path) -> None:
    bare = {"category_id": 10, "bbox": [4, 4, 3, 2], "segmentation": []}
    images = {"000001.jpg": [bare], "000002.jpg": [bare, disk.box(0, 0, 2, 2, 30)], "000003.jpg": []}
    manifest = load(tmp_path / "some", images)
    found = records(manifest)
    assert [found[name].label is None for name in sorted(found)] == [True, False, False]
    assert found["000001"].tags == (2,)
    labels = drawn(manifest, "000002")
    assert labels[4:6, 4:7].tolist() == [[VOID] * 3] * 2
    assert (labels == VOID).sum() == 6
    without = records(load(tmp_path / "none", {"000001.jpg": [bare], "000003.jpg": []}))
    assert all(record.label is None for record in without.values())


def change(folder: Path, edit: Any) -> Manifest:
    """The manifest with its json edited."""
    load(folder)
    path = folder / "data/annotations/instances_train2017.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    return load_manifest(folder / "data_manifest.yaml")


def test_annotations_of_an_image_that_is_listed_twice_are_put_together(tmp_path: Path) -> None:
    def edit(content: Any) -> None:
        content["images"].append({**content["images"][0], "id": 900})
        content["annotations"][1]["image_id"] = 900

    manifest = change(tmp_path, edit)
    assert np.unique(drawn(manifest)).tolist() == [0, 1, 2]
    assert records(manifest)["000001"].tags == (1, 2)


def test_two_files_of_one_stem_are_two_images(tmp_path: Path) -> None:
    def edit(content: Any) -> None:
        content["images"].append({**content["images"][0], "id": 900, "file_name": "000001.png"})
        content["annotations"][1]["image_id"] = 900

    manifest = change(tmp_path, edit)
    disk.image(tmp_path / "data/train2017/000001.png")
    assert np.unique(drawn(manifest, "000001.jpg")).tolist() == [0, 2]
    assert np.unique(drawn(manifest, "000001.png")).tolist() == [0, 1]


@pytest.mark.parametrize("name", ["train2017/000001.jpg", "000001.jpg"])
def test_file_names_may_hold_their_folder(tmp_path: Path, name: str) -> None:
    manifest = change(tmp_path, lambda content: content["images"][0].update(file_name=name))
    assert records(manifest)["000001"].path == tmp_path / "data/train2017/000001.jpg"


def test_a_file_name_from_another_folder_under_the_root_is_found(tmp_path: Path) -> None:
    manifest = change(tmp_path, lambda content: content["images"][0].update(file_name="more/a.jpg"))
    disk.image(tmp_path / "data/more/a.jpg")
    assert records(manifest)["more/a"].problem is None


@pytest.mark.parametrize("size", [("12", "16"), (12.0, 16.0)])
def test_sizes_may_be_numbers_of_any_kind(tmp_path: Path, size: tuple[Any, Any]) -> None:
    manifest = change(tmp_path, lambda content: content["images"][0].update(height=size[0], width=size[1]))
    assert drawn(manifest).shape == disk.SIZE


@pytest.mark.parametrize("height", [None, 0, "high", 12.5, [12]])
def test_a_size_that_is_none_is_told_as_that(tmp_path: Path, height: Any) -> None:
    manifest = change(tmp_path, lambda content: content["images"][0].update(height=height))
    with pytest.raises(ImageError, match=r"json gives 000001 the height .* write both as numbers of pixels"):
        drawn(manifest)


def test_compressed_run_lengths_are_drawn(tmp_path: Path) -> None:
    from pycocotools import mask

    wanted = np.zeros(disk.SIZE, np.uint8)
    wanted[4:9, 2:3] = 1
    encoded = mask.encode(np.asfortranarray(wanted))
    segmentation = {"size": list(disk.SIZE), "counts": encoded["counts"].decode()}
    annotation = {"category_id": 30, "area": 5, "segmentation": segmentation}
    np.testing.assert_array_equal(drawn(load(tmp_path, {"000001.jpg": [annotation]})), wanted)


def test_polygons_of_several_parts_are_one_instance(tmp_path: Path) -> None:
    both = [*disk.box(0, 0, 2, 2, 10)["segmentation"], *disk.box(8, 0, 2, 2, 10)["segmentation"]]
    labels = drawn(load(tmp_path, {"000001.jpg": [{"category_id": 10, "area": 8, "segmentation": both}]}))
    assert np.flatnonzero(labels[0]).tolist() == [0, 1, 8, 9]


@pytest.mark.parametrize("segmentation", [[], [[1, 1, 2, 2]], None])
def test_a_segmentation_of_nothing_draws_nothing(tmp_path: Path, segmentation: Any) -> None:
    annotation = {"category_id": 10, "area": 0, "segmentation": segmentation}
    assert drawn(load(tmp_path, {"000001.jpg": [annotation, disk.box(0, 0, 2, 2, 30)]})).sum() == 4


@pytest.mark.parametrize(
    "segmentation",
    [
        {"size": [3, 3], "counts": [0, 9]},
        {"counts": [1]},
        [["a"] * 6],
        [7],
        {"size": list(disk.SIZE), "counts": None},
        5,
    ],
)
def test_a_segmentation_that_cannot_be_drawn_names_its_annotation(tmp_path: Path, segmentation: Any) -> None:
    manifest = load(tmp_path, {"000001.jpg": [{"category_id": 10, "area": 1, "segmentation": segmentation}]})
    with pytest.raises(ImageError, match=r"json: annotation 1 of 000001 has a segmentation that cannot be drawn"):
        drawn(manifest)


def test_without_pycocotools_a_sentence_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = load(tmp_path)
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(ImageError, match=r"need pycocotools; run `pip install 'wilss\[coco\]'`"):
        drawn(manifest)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "no whole json"),
        ("{", "no whole json"),
        ("[" * 100_000, "no whole json"),
        ("[]", "no list 'images'"),
        ('{"images": [], "categories": []}', "no list 'annotations'"),
        ('{"images": [{"id": 1}], "annotations": [], "categories": []}', "'images' without id or file_name"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1, "name": "gnu"}]}', "none of its categories"),
        (
            '{"images": [], "annotations": [{"category_id": []}], "categories": [{"id": 1, "name": "cat"}]}',
            "annotation 0",
        ),
        (
            '{"images": [], "annotations": [], "categories": [{"id": [], "name": "cat"}]}',
            "'categories' without id or name",
        ),
    ],
)
def test_a_json_that_is_no_coco_is_one_sentence(tmp_path: Path, content: str, told: str) -> None:
    manifest = load(tmp_path)
    disk.text(tmp_path / "data/annotations/instances_train2017.json", content)
    with pytest.raises(ManifestError, match=told):
        manifest.records(0)


def test_faults_of_single_images(tmp_path: Path) -> None:
    manifest = load(tmp_path)
    path = tmp_path / "data/annotations/instances_train2017.json"
    content = json.loads(path.read_text())
    (tmp_path / "data/train2017/000001.jpg").unlink()
    for number, name in enumerate(("../../x.jpg", "/etc/passwd", "000002.jpg")):
        content["images"].append({"id": 900 + number, "file_name": name, "height": 1, "width": 1})
    path.write_text(json.dumps(content))
    found = records(manifest)
    assert "is not there" in str(found["000001"].problem)
    assert "leads out of the data folder" in str(found["../../x"].problem)
    assert "is an absolute path" in str(found["/etc/passwd"].problem)
    assert found["000002"].problem is None
    assert any("names 1 image (000002) more than once" in told for told in manifest.listing("main", "train").warnings)


def test_a_size_that_differs_from_the_image_is_a_sentence(tmp_path: Path) -> None:
    manifest = load(tmp_path)
    disk.image(tmp_path / "data/train2017/000001.jpg", size=(9, 9))
    with pytest.raises(ImageError, match="labels of 000001 are 16 x 12 pixels, the image .* is 9 x 9"):
        drawn(manifest)


def test_a_size_that_no_image_has_is_refused_before_it_is_drawn(tmp_path: Path) -> None:
    manifest = load(tmp_path)
    path = tmp_path / "data/annotations/instances_train2017.json"
    content = json.loads(path.read_text())
    content["images"][0] |= {"height": 10**6, "width": 10**6}
    path.write_text(json.dumps(content))
    with pytest.raises(ImageError, match="says that 000001 is 1000000 x 1000000 pixels; correct it"):
        drawn(manifest)


def test_images_may_be_chosen_by_a_list_beside_the_json(tmp_path: Path) -> None:
    disk.text(tmp_path / "data/split/train.txt", "000002", "000001", "000009")
    split = {"list": "split/train.txt", "annotations": "annotations/instances_train2017.json", "images": "train2017"}
    manifest = load(tmp_path, splits={"train": split})
    found = records(manifest)
    assert list(found) == ["000002", "000001", "000009"]
    assert "is not there" in str(found["000009"].problem)


def test_a_missing_json_says_how_to_name_it(tmp_path: Path) -> None:
    manifest = load(tmp_path, splits={"train": "train2014"})
    with pytest.raises(ManifestError, match=r"instances_train2014\.json is not there; copy it there, or write `splits"):
        manifest.records(0)


def test_coco_to_voc(tmp_path: Path) -> None:
    """Step 0: COCO images of the 60 classes only; step 1: VOC's, its ids and names matched by name."""
    categories = list(COCO.class_names[1:])
    coco = {name: 10 * (categories.index(name) + 1) for name in categories}
    images = {
        "000001.jpg": [disk.box(0, 0, 3, 3, coco["zebra"])],
        "000002.jpg": [disk.box(0, 0, 3, 3, coco["zebra"]), disk.box(5, 5, 3, 3, coco["person"])],
        "000003.jpg": [disk.box(0, 0, 3, 3, coco["tv"])],
    }
    disk.coco(tmp_path / "coco", "train2017", images, categories)
    disk.coco(tmp_path / "coco", "val2017", {"000004.jpg": []}, categories)
    sofa, aeroplane = VOC.class_names.index("sofa"), VOC.class_names.index("aeroplane")
    disk.voc(
        tmp_path / "VOC2012",
        {"v1": (sofa,), "v2": (aeroplane,)},
        split="train_aug",
        main="trainval",
        classes=VOC.class_names,
    )
    disk.text(tmp_path / "VOC2012/ImageSets/Segmentation/val.txt", "v2")
    shipped = Path(__file__).parents[4] / "workflows/coco-voc/data_manifest.yaml"
    text = (
        shipped.read_text()
        .replace("${COCO_ROOT:-./data/coco}", "coco")
        .replace("${VOC_ROOT:-./data/VOC2012}", "VOC2012")
    )
    manifest = load_manifest(disk.text(tmp_path / "data_manifest.yaml", text))
    assert [record.image_id for record in manifest.records(0).records] == ["000001"]
    step = manifest.records(1).records
    assert [(r.image_id, [manifest.taxonomy.name_of(i) for i in r.tags]) for r in step] == [
        ("v1", ["couch"]),
        ("v2", ["airplane"]),
    ]
    assert read_label_of(step[0])[0, 0] == COCO.find("couch")
    assert [record.image_id for record in manifest.evaluation().records] == ["000004", "v2"]
