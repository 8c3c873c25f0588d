"""`export`: read back by Pillow and by pycocotools, and never outside the folder that was named."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.wilss_masks.stores import (
    CLASS_IDS,
    CLASS_NAMES,
    IMAGES,
    files_of,
    make_annotation_store,
    make_manifest,
    make_store,
)
from wilss.errors import StoreError
from wilss.store import MaskStore, label_map
from wilss_masks.commands.export import command
from wilss_masks.inspect.export import export_coco, export_voc, problem_with_id

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
    assert (tmp_path / "voc/classes.txt").read_text().splitlines()[16] == "class 16"


def test_void_of_an_annotation_store_is_255(tmp_path: Path) -> None:
    export_voc(make_annotation_store(tmp_path / "s.zarr"), tmp_path / "voc")
    with Image.open(tmp_path / "voc/SegmentationClass/2007_000042.png") as image:
        labels = np.array(image)
    np.testing.assert_array_equal(labels, np.where(IMAGES[1].labels == 3, 0, IMAGES[1].labels))


def test_void_that_coco_cannot_hold_is_told(tmp_path: Path, store: MaskStore) -> None:
    labelled = make_annotation_store(tmp_path / "s.zarr")
    for opened, told in ((labelled, True), (store, False)):
        result = CliRunner().invoke(command, ["coco", str(opened.path), str(tmp_path / f"{told}.json")], obj={})
        assert result.exit_code == 0, result.output
        assert ("`wilss-masks export voc` keeps them" in result.output) == told


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
    export_coco(store, tmp_path / "s.json", file_name=lambda image_id: f"{int(image_id):012}.jpg")
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


def test_the_commands(tmp_path: Path, store: MaskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest: Any = make_manifest(tmp_path / "images")
    monkeypatch.setattr("wilss.data.manifest.load_manifest", lambda path: manifest)

    def invoke(*arguments: object) -> Any:
        return CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)

    voc = invoke("voc", store.path, tmp_path / "voc")
    assert voc.exit_code == 0
    assert "4 label maps of 4 images" in voc.stdout
    assert "2 images of the store have no masks" in voc.stdout
    coco = invoke("coco", store.path, tmp_path / "s.json", "--manifest", "m.yaml")
    assert "5 annotations of 4 images" in coco.stdout
    assert json.loads((tmp_path / "s.json").read_text())["images"][0]["file_name"] == "2007_000033.png"
