"""`export`: read back by Pillow and by pycocotools, and never outside the folder that was named."""

import json
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.faults.cli import wilss_masks
from tests.wilss.data import data_on_disk as disk
from tests.wilss_masks.stores import (
    CLASS_IDS,
    CLASS_NAMES,
    IMAGES,
    files_of,
    make_annotation_store,
    make_store,
)
from wilss.data.manifest import load_manifest
from wilss.errors import ManifestError, StoreError
from wilss.store import MaskStore, label_map
from wilss_masks import AnnotationSource, generate
from wilss_masks.commands.export import command
from wilss_masks.exchange.coco import export_coco
from wilss_masks.exchange.common import problem_with_id
from wilss_masks.exchange.folders import export_voc
from wilss_masks.exchange.naming import CocoNames, names_of
from wilss_masks.exchange.pieces import PieceOptions
from wilss_masks.review.corrections import Correction
from wilss_masks.review.journal import Journal
from wilss_masks.sources.fmwiss_params import FmwissParams

EXPORTED = [IMAGES[row].image_id for row in (0, 1, 2, 5)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> MaskStore:
    return make_store(tmp_path_factory.mktemp("s") / "step-1.zarr")


def labels_of(store: MaskStore, image_id: str) -> np.ndarray:
    masks = store.read(image_id)
    wanted = list(masks.categories)
    confidence = store.vector("confidence")[store.position(image_id), wanted]
    return label_map(masks.masks, np.array(CLASS_IDS)[wanted], confidence, masks.void)


def test_voc_folders_hold_the_label_maps(tmp_path: Path, store: MaskStore) -> None:
    exported = export_voc(store, tmp_path / "voc")
    assert (exported.images, exported.without_masks) == (4, 2)
    lines = (tmp_path / "voc/ImageSets/Segmentation/train.txt").read_text(encoding="utf-8").splitlines()
    assert lines == EXPORTED
    for name in lines:
        with Image.open(tmp_path / f"voc/SegmentationClass/{name}.png") as image:
            assert image.mode == "P"
            assert (image.getpalette() or [])[45:48] == [192, 128, 128]  # VOC paints person so
            np.testing.assert_array_equal(np.array(image), labels_of(store, name))
    assert (tmp_path / "voc/classes.txt").read_text().splitlines()[15:17] == ["class 15", "pottedplant"]


def test_void_of_an_annotation_store_is_255(tmp_path: Path) -> None:
    export_voc(make_annotation_store(tmp_path / "s.zarr"), tmp_path / "voc")
    with Image.open(tmp_path / "voc/SegmentationClass/2007_000042.png") as image:
        labels = np.array(image)
    np.testing.assert_array_equal(labels, np.where(IMAGES[1].labels == 3, 0, IMAGES[1].labels))


def test_grey_files_have_the_same_ids_and_no_palette(tmp_path: Path, store: MaskStore) -> None:
    export_voc(store, tmp_path / "voc", grey=True)
    for name in EXPORTED:
        with Image.open(tmp_path / f"voc/SegmentationClass/{name}.png") as image:
            assert image.mode == "L"
            np.testing.assert_array_equal(np.array(image), labels_of(store, name))


def test_a_labelmap_says_names_and_colours_as_cvat_does(tmp_path: Path, store: MaskStore) -> None:
    export_voc(store, tmp_path / "masks")
    lines = (tmp_path / "masks/labelmap.txt").read_text().splitlines()
    assert lines[:3] == ["# label:color_rgb:parts:actions", "background:0,0,0::", "class 1:128,0,0::"]
    assert len(lines) == 1 + 21
    export_voc(make_annotation_store(tmp_path / "s.zarr"), tmp_path / "labels")
    assert (tmp_path / "labels/labelmap.txt").read_text().splitlines()[-1] == "void:224,224,192::"


def read_back(folder: Path, layout: str, **more: Any) -> dict[str, Any]:
    """The label maps that our own readers see in what was exported, by the image's file name."""
    names = ["background", *(f"class {i}" for i in range(1, 21))]
    names[16], names[17], names[20] = CLASS_NAMES
    file = disk.manifest(folder, layout=layout, names=names, steps=[{"classes": [16, 17, 20]}], **more)
    records = load_manifest(file).listing("main", "train", lenient=True).records
    return {r.path.stem: r.label.read() for r in records if r.label is not None and r.problem is None}


@pytest.mark.parametrize("instances", ["class", "connected"])
def test_both_exports_are_read_back_as_the_same_labels(tmp_path: Path, instances: Any) -> None:
    """Also where masks overlap and where void is."""
    both = replace(IMAGES[0], boxes={16: (8, 40, 16, 48), 20: (4, 20, 4, 30), 17: (44, 48, 0, 4)})
    store = make_annotation_store(tmp_path / "s.zarr", images=(both, *IMAGES[1:]))
    for drawn in (both, *IMAGES[1:]):
        disk.image(tmp_path / f"data/JPEGImages/{drawn.image_id}.jpg", drawn.size)
    voc = export_voc(store, tmp_path / "data")
    coco = export_coco(store, tmp_path / "data/s.json", options=PieceOptions(instances=instances))
    (tmp_path / "data/labelmap.txt").unlink()  # its names are "class 1" and so on
    splits = {"train": {"annotations": "s.json", "images": "JPEGImages"}}
    by_voc = read_back(tmp_path, "voc", tags="masks")
    by_coco = read_back(tmp_path, "coco", splits=splits)
    assert list(by_voc) == [IMAGES[row].image_id for row in (0, 1, 2, 3, 5)]
    assert by_voc.keys() == by_coco.keys()
    for name, labels in by_voc.items():
        assert {255} < set(np.unique(labels).tolist())
        np.testing.assert_array_equal(by_coco[name], labels)
    assert voc.overlapping == coco.overlapping == 0


def test_overlaps_go_to_the_same_class_in_both_exports(tmp_path: Path) -> None:
    images = (replace(IMAGES[2], boxes={16: (8, 32, 8, 48), 20: (8, 32, 24, 72)}),)
    store = make_store(tmp_path / "s.zarr", images=images, params=FmwissParams(fusion="init", threshold=0.4))
    assert (store.read(0).masks.sum(axis=0) > 1).any()
    voc = export_voc(store, tmp_path / "voc")
    export_coco(store, tmp_path / "s.json")
    export_coco(store, tmp_path / "kept.json", options=PieceOptions(overlaps=True))
    with Image.open(tmp_path / f"voc/SegmentationClass/{images[0].image_id}.png") as image:
        labels = np.array(image)
    content, kept = (json.loads((tmp_path / name).read_text())["annotations"] for name in ("s.json", "kept.json"))
    assert {a["category_id"]: a["area"] for a in content} == {i: int((labels == i).sum()) for i in (16, 20)}
    assert sum(a["area"] for a in kept) == store.read(0).masks.sum() > sum(a["area"] for a in content)
    assert voc.overlapping == 1
    result = CliRunner().invoke(command, ["coco", str(store.path), str(tmp_path / "c.json")], obj={})
    assert "In 1 image masks of two classes overlap; the more confident class has these pixels." in result.stdout


def test_connected_parts_are_annotations_with_the_score_of_their_class(tmp_path: Path) -> None:
    store = make_annotation_store(tmp_path / "s.zarr", images=(replace(IMAGES[0], boxes={16: (8, 40, 60, 64)}),))
    export_coco(store, tmp_path / "s.json", options=PieceOptions(instances="connected"))
    (one, void) = json.loads((tmp_path / "s.json").read_text())["annotations"]
    assert (one["category_id"], one["area"], one["score"], one["iscrowd"]) == (16, 32 * 2, 1.0, 0)
    assert (void["category_id"], void["area"], void["iscrowd"], "score" in void) == (21, 48 * 2, 1, False)
    for instances in ("connected", "class"):
        for least, kept in ((64, 2), (65, 1)):  # void stays whatever its size
            out = tmp_path / f"{instances}-{least}.json"
            export_coco(store, out, options=PieceOptions(instances=instances, min_area=least))
            assert len(json.loads(out.read_text())["annotations"]) == kept


def test_a_class_that_the_json_of_the_data_lacks_takes_no_id_of_another(store: MaskStore, tmp_path: Path) -> None:
    first, *others = zip(store.category_ids, store.category_names, strict=True)
    taken = {identity: (others[0][0] if number == 0 else 900 + number, name)
             for number, (identity, name) in enumerate([first, *others[1:]])}  # fmt: skip
    export_coco(store, tmp_path / "s.json", names=CocoNames(categories=taken, last=950))
    content = json.loads((tmp_path / "s.json").read_text())
    ids = {category["name"]: category["id"] for category in content["categories"]}
    assert len(set(ids.values())) == len(ids)
    assert ids[others[0][1]] == 951


@pytest.mark.parametrize(
    ("more", "told"),
    [((), "annotations of the category `void`"), (("--no-void",), "in no annotation: readers take them for")],
)
def test_where_void_went_is_told(tmp_path: Path, store: MaskStore, more: tuple[str, ...], told: str) -> None:
    labelled = make_annotation_store(tmp_path / "s.zarr")
    for opened, is_told in ((labelled, True), (store, False)):
        out = tmp_path / f"{is_told}.json"
        result = CliRunner().invoke(command, ["coco", str(opened.path), str(out), *more], obj={})
        assert result.exit_code == 0, result.output
        assert (told in result.output) == is_told
        names = {category["name"] for category in json.loads(out.read_text())["categories"]}
        assert ("void" in names) == (is_told and not more)


def test_cocos_own_ids_and_file_names_come_back(tmp_path: Path) -> None:
    """Folders in `file_name`, numbers of images and categories: a/1.jpg and b/1.jpg are two images."""
    images = {"a/1.jpg": [disk.box(1, 2, 3, 4, 10)], "b/1.jpg": [disk.box(0, 0, 4, 4, 30), disk.box(5, 5, 3, 3, 10)]}
    path = disk.coco(tmp_path / "data", "train2017", images, ("dog", "zebra", "cat"))
    manifest = load_manifest(disk.manifest(tmp_path, layout="coco", splits=None, steps=[{"classes": ["dog", "cat"]}]))
    generate(manifest, step=0, source=AnnotationSource.from_manifest(manifest, 0), out=tmp_path / "s.zarr")
    store = MaskStore.open(tmp_path / "s.zarr")
    export_coco(store, tmp_path / "out.json", names=names_of(store, manifest))
    before, after = (json.loads(file.read_text()) for file in (path, tmp_path / "out.json"))
    assert after["images"] == before["images"]
    kept = [{key: a[key] for key in ("image_id", "category_id", "area")} for a in after["annotations"]]
    assert sorted(kept, key=str) == sorted(
        ({key: a[key] for key in ("image_id", "category_id", "area")} for a in before["annotations"]), key=str
    )
    assert sorted((c["id"], c["name"]) for c in after["categories"]) == [(10, "dog"), (30, "cat")]


def test_file_names_keep_the_folders_below_that_of_the_images(tmp_path: Path) -> None:
    disk.voc(tmp_path / "data", {"a/1": (1,), "b/1": (2,)})
    manifest = load_manifest(disk.manifest(tmp_path))
    generate(manifest, step=0, source=AnnotationSource.from_manifest(manifest, 0), out=tmp_path / "s.zarr")
    words = ["coco", tmp_path / "s.zarr", tmp_path / "s.json", "--manifest", tmp_path / "data_manifest.yaml"]
    assert CliRunner().invoke(command, [str(word) for word in words], obj={}).exit_code == 0
    entries = json.loads((tmp_path / "s.json").read_text())["images"]
    assert [entry["file_name"] for entry in entries] == ["a/1.jpg", "b/1.jpg"]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own decoder
def test_coco_is_read_back_by_pycocotools(tmp_path: Path, store: MaskStore) -> None:
    from pycocotools.coco import COCO

    exported = export_coco(store, tmp_path / "s.json")
    coco = COCO(str(tmp_path / "s.json"))
    assert coco.loadCats(coco.getCatIds()) == [
        {"id": i, "name": name} for i, name in zip(CLASS_IDS, CLASS_NAMES, strict=True)
    ]
    assert exported.annotations == len(coco.anns) == 5
    for entry in coco.loadImgs(coco.getImgIds()):
        name = entry["file_name"].removesuffix(".jpg")
        masks = store.read(name)
        assert (entry["height"], entry["width"]) == masks.masks.shape[1:]
        for category, mask in zip(masks.categories, masks.masks, strict=True):
            (found,) = coco.loadAnns(coco.getAnnIds(imgIds=[entry["id"]], catIds=[CLASS_IDS[category]]))
            np.testing.assert_array_equal(coco.annToMask(found).astype(bool), mask)
            rows, columns = np.nonzero(mask)
            x, y = columns.min(), rows.min()
            assert found["bbox"] == [x, y, columns.max() + 1 - x, rows.max() + 1 - y]
            assert found["area"] == mask.sum()
            assert found["iscrowd"] == 0


def test_exports_are_the_same_every_time(tmp_path: Path, store: MaskStore) -> None:
    for n in (1, 5):
        export_voc(store, tmp_path / f"{n}", threads=n)
        export_coco(store, tmp_path / f"{n}.json", threads=n)
    assert files_of(tmp_path / "1") == files_of(tmp_path / "5")
    assert (tmp_path / "1.json").read_bytes() == (tmp_path / "5.json").read_bytes()


def test_cocos_own_numbers_are_kept(tmp_path: Path) -> None:
    images = tuple(replace(drawn, image_id=f"{139 + row}") for row, drawn in enumerate(IMAGES))
    store = make_store(tmp_path / "s.zarr", images=images)
    export_coco(store, tmp_path / "s.json", names=CocoNames(file_name=lambda image_id: f"{int(image_id):012}.jpg"))
    entries = json.loads((tmp_path / "s.json").read_text())["images"]
    assert [entry["id"] for entry in entries] == [139, 140, 141, 144]
    assert entries[0]["file_name"] == "000000000139.jpg"


TRICKS = [
    "../evil",
    "/etc/evil",
    "a/../../evil",
    "a//b",
    "a\\..\\b",
    "c:evil",
    "",
    ".",
    "a/.",
    "a\nb",
    "x" * 300,
    "a\0b",
]


@pytest.mark.parametrize("image_id", TRICKS)
def test_tricks_are_refused(image_id: str) -> None:
    assert problem_with_id(image_id)


@pytest.mark.parametrize("image_id", ["2007_000033", "cats/001", "été", "a.b", "...", "a b", "000000000139"])
def test_plain_names_are_not(image_id: str) -> None:
    assert problem_with_id(image_id) is None


@given(image_id=st.text(max_size=30))
def test_no_id_that_passes_leads_outside(image_id: str) -> None:
    if problem_with_id(image_id) is None:
        assert Path(f"/out/{image_id}.png").resolve().is_relative_to("/out")
        assert Path(f"/out/{image_id}.png").resolve() != Path("/out")


@pytest.mark.parametrize("form", ["voc", "coco"])
def test_an_image_with_a_trick_is_left_out_and_named_with_3(tmp_path: Path, form: str) -> None:
    images = (replace(IMAGES[0], image_id="../../evil"), *IMAGES[1:])
    store = make_store(tmp_path / "in" / "s.zarr", images=images)
    out = tmp_path / "a" / "b" / ("voc" if form == "voc" else "s.json")
    result = CliRunner().invoke(command, [form, str(store.path), str(out)])
    assert result.exit_code == 3
    assert "Failed: '../../evil': the id has an empty part or a dot as a part" in result.stderr
    assert "of 3 images" in result.stdout
    written = {str(f.relative_to(tmp_path)) for f in tmp_path.rglob("*") if f.is_file()}
    assert not any("evil" in name for name in written)
    assert all(name.startswith(("in/", "a/b/")) for name in written)


def test_links_do_not_lead_out(tmp_path: Path, store: MaskStore) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "voc").mkdir()
    (tmp_path / "voc/SegmentationClass").symlink_to(outside)
    with pytest.raises(StoreError, match="through a link"):
        export_voc(store, tmp_path / "voc", overwrite=True)
    assert not any(outside.iterdir())


def test_nothing_is_replaced_unasked(tmp_path: Path, store: MaskStore) -> None:
    last = tmp_path / f"voc/SegmentationClass/{EXPORTED[-1]}.png"
    last.parent.mkdir(parents=True)
    last.write_text("mine")
    with pytest.raises(StoreError, match="exists; give another path, or replace it with --overwrite"):
        export_voc(store, tmp_path / "voc")
    assert list(files_of(tmp_path / "voc").values()) == [b"mine"]
    export_voc(store, tmp_path / "voc", overwrite=True)
    assert last.read_bytes() != b"mine"
    (tmp_path / "s.json").write_text("mine")
    with pytest.raises(StoreError, match="--overwrite"):
        export_coco(store, tmp_path / "s.json")
    export_coco(store, tmp_path / "s.json", overwrite=True)


def test_a_split_with_a_folder_in_it_is_refused(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s.zarr", split="../../train")
    with pytest.raises(StoreError, match=r"the split '\.\./\.\./train'"):
        export_voc(store, tmp_path / "voc")


def test_without_pycocotools_the_extra_is_named(
    tmp_path: Path, store: MaskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    monkeypatch.setitem(sys.modules, "pycocotools.mask", None)
    with pytest.raises(StoreError, match=r"pip install 'wilss\[coco\]'"):
        export_coco(store, tmp_path / "s.json")


@pytest.mark.parametrize("form", ["voc", "cityscapes", "ade20k"])
def test_every_form_takes_a_manifest_and_passes_no_wrong_path_over(tmp_path: Path, store: MaskStore, form: str) -> None:
    disk.voc(tmp_path / "data", {"a": (1,)})
    words = [form, str(store.path), str(tmp_path / "out"), "--manifest"]
    there = [*words, str(disk.manifest(tmp_path))]
    assert CliRunner().invoke(command, there, catch_exceptions=False).exit_code == 0
    with pytest.raises(ManifestError, match=r"any\.yaml is not there"):
        CliRunner().invoke(command, [*words, "any.yaml", "--overwrite"], catch_exceptions=False)


def test_verdicts_that_the_store_does_not_hold_are_told(tmp_path: Path) -> None:
    store = make_store(tmp_path / "b.zarr")

    def warned(form: str) -> str:
        words = [form, str(store.path), str(tmp_path / "out"), "--overwrite"]
        done = CliRunner().invoke(command, words, catch_exceptions=False)
        assert done.exit_code == 0
        return done.stderr

    assert not warned("voc")
    accepted = Correction(
        image_id=IMAGES[0].image_id, category=store.category_ids[0], verdict="accepted", author="Ada", origin="page",
        at=datetime.now(UTC),
    )  # fmt: skip
    journal = Journal.open(store.path)
    event = journal.append(accepted)
    told = f"{tmp_path / 'b.review'} has 1 verdict that this store does not hold; make a store with them by"
    assert told in warned("voc")
    assert "b.review has 1 verdict" in warned("sam")
    journal.undo(event)
    assert not warned("voc")
    journal.append(accepted)
    about = tmp_path / "b.review/review.json"
    about.write_text(about.read_text().replace(store.digest, "0" * 64))
    assert not warned("voc"), "a review of another store"
    about.write_text("{")
    assert "review.json cannot be read" in warned("voc")


def test_the_commands(tmp_path: Path, store: MaskStore) -> None:
    def invoke(*arguments: object) -> Any:
        return CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)

    voc = invoke("voc", store.path, tmp_path / "voc")
    assert voc.exit_code == 0
    assert "4 label maps of 4 images" in voc.stdout
    assert "2 images of the store without masks" in voc.stdout
    coco = invoke("coco", store.path, tmp_path / "s.json")
    assert "5 annotations of 4 images" in coco.stdout
    assert json.loads((tmp_path / "s.json").read_text())["images"][0]["file_name"] == "2007_000033.jpg"
    guessed = "Warning: a store does not know what the files of its images are called: they are named 2007_000033.jpg"
    assert guessed in coco.stderr
    assert "--manifest" in coco.stderr
    assert voc.stderr == ""


def test_an_interrupt_half_way_says_that_overwrite_begins_again(
    tmp_path: Path, store: MaskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wilss.console.running._exit_now", sys.exit)
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert wilss_masks("export", "voc", store.path, whole).code == 0
    with monkeypatch.context() as patch:
        patch.setattr("wilss_masks.exchange.folders._lines", _interrupt)  # after the label maps, before the list
        before = wilss_masks("export", "voc", store.path, out)
    assert (before.code, before.err) == (130, "Interrupted.\n")
    with monkeypatch.context() as patch:
        patch.setattr("wilss_masks.exchange.folders.overlap", _interrupt)
        stopped = wilss_masks("export", "voc", store.path, out)
    assert stopped.code == 130
    assert stopped.err.endswith("Interrupted; the same command with --overwrite begins again.\n")
    assert wilss_masks("export", "voc", store.path, out, "--overwrite").code == 0
    assert files_of(out) == files_of(whole)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
