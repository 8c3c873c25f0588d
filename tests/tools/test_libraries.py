"""The real tools' libraries read what we write, and we read what they write: `make test-tools`.

They stand in an environment of their own, whose Python WILSS_TOOLS_PYTHON names; `libraries.py` runs there.
"""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.tools.written import WRITTEN, Masks, masks_of, shapes_of
from tests.wilss.data.annotations.masks import HARD
from tests.wilss_masks.exchange.drawn import CLASSES, ring, store_of
from wilss.store import LabelMaps, MaskStore
from wilss_masks.exchange.coco import export_coco
from wilss_masks.exchange.cvat import export_cvat
from wilss_masks.exchange.fiftyone import export_fiftyone
from wilss_masks.exchange.folders import export_ade20k, export_cityscapes, export_voc
from wilss_masks.exchange.huggingface import export_huggingface
from wilss_masks.exchange.label_studio import export_label_studio
from wilss_masks.exchange.labelme import export_labelme
from wilss_masks.exchange.naming import CocoNames
from wilss_masks.exchange.panoptic import export_panoptic
from wilss_masks.exchange.pieces import PieceOptions
from wilss_masks.exchange.sam import export_sam

pytestmark = pytest.mark.tools

SCRIPT = Path(__file__).with_name("libraries.py")
PNG = CocoNames(file_name=lambda image_id: f"{image_id}.png")
OVERLAPS = PieceOptions(overlaps=True)


def run(*words: object, out: Path) -> Masks:
    """What `libraries.py` says, in the Python of the tools: masks by "image<TAB>class"."""
    python = os.environ.get("WILSS_TOOLS_PYTHON")
    assert python, "set WILSS_TOOLS_PYTHON to the Python of the tools, as `make test-tools` does"
    done = subprocess.run(
        [python, str(SCRIPT), *map(str, words), str(out)], capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return masks_of(out)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> MaskStore:
    """Hard masks on images in folders and with names of other scripts; overlaps in the last."""
    names = ["1", "a/1", "b/1", "a.b", "été", "猫", "2007_000033", "f/g/3", "last"]
    images = {name: {1: mask, 2: ~mask} for name, mask in zip(names, HARD.values(), strict=False)}
    images["overlap"] = {1: ring(), 2: np.ones((6, 7), bool)}
    return store_of(tmp_path_factory.mktemp("s") / "s.zarr", images)


def wanted(store: MaskStore, *, overlaps: bool, by_number: bool = False) -> Masks:
    found = {}
    for name in store.image_ids:
        masks, labels = LabelMaps(store).with_masks(name)
        for category, mask in zip(masks.categories, masks.masks, strict=True):
            identity = store.category_ids[category]
            label = str(identity) if by_number else CLASSES[identity]
            found[f"{name}\t{label}"] = mask if overlaps else labels == identity
    return {key: mask for key, mask in found.items() if mask.any()}


def assert_same(found: Masks, expected: Masks) -> None:
    assert found.keys() == expected.keys()
    for key, mask in expected.items():
        np.testing.assert_array_equal(found[key], mask, err_msg=key)


def pictures(store: MaskStore, folder: Path) -> None:
    """Empty images of the store's sizes."""
    for name, high, wide in zip(store.image_ids, store.vector("height"), store.vector("width"), strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((int(high), int(wide), 3), np.uint8)).save(folder / f"{name}.png")


def test_datumaro_reads_cvat_xml(store: MaskStore, tmp_path: Path) -> None:
    for shapes in ("mask", "polygon"):
        place = tmp_path / shapes
        place.mkdir()
        pictures(store, place / "images")
        export_cvat(store, place / "train.xml", names=PNG, shapes=shapes, options=OVERLAPS)
        assert_same(run("read", "cvat", place, out=tmp_path / "o.npz"), wanted(store, overlaps=True))


def test_cvat_sdk_reads_masks(store: MaskStore, tmp_path: Path) -> None:
    export_cvat(store, tmp_path / "a.xml", names=PNG, options=OVERLAPS)
    assert_same(run("read", "cvat_sdk", tmp_path / "a.xml", out=tmp_path / "o.npz"), wanted(store, overlaps=True))


def test_label_studio_decodes_brushes_and_accepts_the_predictions(store: MaskStore, tmp_path: Path) -> None:
    export_label_studio(store, tmp_path / "a.json", names=PNG, options=OVERLAPS)
    assert_same(run("read", "labelstudio", tmp_path / "a.json", out=tmp_path / "o.npz"), wanted(store, overlaps=True))


def test_labelme_draws_the_same_pixels(store: MaskStore, tmp_path: Path) -> None:
    for shapes in ("mask", "polygon"):
        export_labelme(store, tmp_path / shapes, names=PNG, shapes=shapes, options=OVERLAPS)
        assert_same(run("read", "labelme", tmp_path / shapes, out=tmp_path / "o.npz"), wanted(store, overlaps=True))


@pytest.mark.parametrize("instances", ["class", "connected"])
def test_coco_is_read_by_three_libraries(store: MaskStore, tmp_path: Path, instances: Any) -> None:
    place = tmp_path / "annotations/instances_train.json"
    export_coco(store, place, names=PNG, options=PieceOptions(instances=instances, overlaps=True))
    expected = wanted(store, overlaps=True)
    assert_same(run("read", "pycocotools", place, out=tmp_path / "o.npz"), expected)
    pictures(store, tmp_path / "images/train")
    assert_same(run("read", "coco_datumaro", tmp_path, out=tmp_path / "o.npz"), expected)
    pictures(store, place.parent / "images")
    assert_same(run("read", "supervision", place, out=tmp_path / "o.npz"), expected)


def test_panoptic_is_read_by_datumaro(store: MaskStore, tmp_path: Path) -> None:
    export_panoptic(store, tmp_path / "annotations/panoptic_train.json", names=PNG)
    pictures(store, tmp_path / "images/train")
    assert_same(run("read", "panoptic", tmp_path, out=tmp_path / "o.npz"), wanted(store, overlaps=False))


def test_fiftyone_imports_masks_by_path(store: MaskStore, tmp_path: Path) -> None:
    export_fiftyone(store, tmp_path / "fo", names=PNG, options=OVERLAPS)
    assert_same(run("read", "fiftyone", tmp_path / "fo", out=tmp_path / "o.npz"), wanted(store, overlaps=True))


def test_datasets_loads_parquet(store: MaskStore, tmp_path: Path) -> None:
    pictures(store, tmp_path / "images")
    names = CocoNames(file_name=PNG.file_name, path=lambda image_id: tmp_path / f"images/{image_id}.png")
    export_huggingface(store, tmp_path / "hf", names=names)
    found = run("read", "datasets", tmp_path / "hf", out=tmp_path / "o.npz")
    assert_same(found, wanted(store, overlaps=False, by_number=True))


def test_datumaro_reads_voc_with_the_right_names(store: MaskStore, tmp_path: Path) -> None:
    export_voc(store, tmp_path / "voc")
    assert_same(run("read", "voc", tmp_path / "voc", out=tmp_path / "o.npz"), wanted(store, overlaps=False))


@pytest.mark.parametrize("write", [export_cityscapes, export_ade20k])
def test_opencv_reads_grey_folders(store: MaskStore, tmp_path: Path, write: Callable[..., Any]) -> None:
    write(store, tmp_path / "g")
    found = run("read", "grey", tmp_path / "g", out=tmp_path / "o.npz")
    assert_same(found, wanted(store, overlaps=False, by_number=True))


def test_pycocotools_reads_masks_without_classes(store: MaskStore, tmp_path: Path) -> None:
    export_sam(store, tmp_path / "sam", names=PNG)
    found = run("read", "sam", tmp_path / "sam", out=tmp_path / "o.npz")
    together: dict[str, np.ndarray] = {}
    for key, mask in wanted(store, overlaps=True).items():
        name = key.partition("\t")[0] + "\t"
        together[name] = together.get(name, np.zeros_like(mask)) | mask
    assert_same(found, together)


# -- what they write ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [form for form in WRITTEN if form != "supervision"])
def test_what_a_library_writes_is_read_to_the_pixel(form: str, tmp_path: Path) -> None:
    given = WRITTEN[form] if form == "datasets" else WRITTEN[form].partition("/")[0]
    expected = run("write", form, tmp_path / given, out=tmp_path / "o.npz")
    assert_same(shapes_of(tmp_path / WRITTEN[form]), expected)


def test_supervisions_own_polygons_lose_two_edges(tmp_path: Path) -> None:
    """Masks without holes and parts become polygons there, through pixels: the last row and column go."""
    expected = run("write", "supervision", tmp_path / "supervision", out=tmp_path / "o.npz")
    found = shapes_of(tmp_path / WRITTEN["supervision"])
    lost = {key: int((mask ^ found[key]).sum()) for key, mask in expected.items()}
    assert lost == {"a\tcat": 0, "a\tdog": 0, "b\tdog": 0, "c\tcat": 19}
