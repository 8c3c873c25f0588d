"""Every form out and in again: no pixel is lost but where the table of the page says so."""

import itertools
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.paths import on_disk
from tests.wilss.data.annotations.masks import HARD
from tests.wilss_masks.exchange.drawn import CLASSES, blank_like, ring, store_of
from tests.wilss_masks.stores import files_of
from wilss.data.taxonomy import VOID
from wilss.errors import StoreError
from wilss.store import LabelMaps, MaskStore
from wilss_masks.exchange import read
from wilss_masks.exchange.coco import export_coco
from wilss_masks.exchange.common import Exported
from wilss_masks.exchange.cvat import export_cvat
from wilss_masks.exchange.fiftyone import export_fiftyone
from wilss_masks.exchange.folders import export_ade20k, export_cityscapes, export_voc
from wilss_masks.exchange.huggingface import export_huggingface
from wilss_masks.exchange.label_studio import export_label_studio
from wilss_masks.exchange.labelme import export_labelme
from wilss_masks.exchange.panoptic import export_panoptic
from wilss_masks.exchange.pieces import PieceOptions

OVERLAPS = PieceOptions(overlaps=True)
PARTS = PieceOptions(overlaps=True, instances="connected")


@dataclass(frozen=True)
class Way:
    """How a store is written; the name that it gets; and whether overlaps are kept."""

    write: Callable[..., Exported]
    name: str
    keeps_overlaps: bool


def way(write: Callable[..., Exported], name: str, **options: Any) -> Way:
    def written(store: MaskStore, out: Path, **more: Any) -> Exported:
        return write(store, out, **options, **more)

    return Way(written, name, options.get("options", PieceOptions()).overlaps)


WAYS = {
    "cvat masks": way(export_cvat, "a.xml", options=OVERLAPS),
    "cvat polygons": way(export_cvat, "a.zip", shapes="polygon", options=OVERLAPS),
    "cvat parts": way(export_cvat, "a.xml", options=PARTS),
    "label studio polygons": way(export_label_studio, "a.json", shapes="polygon", options=OVERLAPS),
    "label studio brushes": way(export_label_studio, "a.json", options=OVERLAPS),
    "labelme masks": way(export_labelme, "a", options=OVERLAPS),
    "labelme polygons": way(export_labelme, "a", shapes="polygon", options=PARTS),
    "coco": way(export_coco, "a.json", options=OVERLAPS),
    "coco parts": way(export_coco, "a.json", options=PARTS),
    "coco resolved": way(export_coco, "a.json"),
    "panoptic": way(export_panoptic, "a.json"),
    "fiftyone": way(export_fiftyone, "a", options=OVERLAPS),
    "huggingface": way(export_huggingface, "a"),
    "voc": way(export_voc, "a"),
    "voc grey": way(export_voc, "a", grey=True),
    "cityscapes": way(export_cityscapes, "a"),
    "ade20k": way(export_ade20k, "a"),
}

NAMES = ("1", "a/1", "b/1", "a.b.c", "été & <b>'\"", "猫/x y#%?", "2007_000033", "folder/with.dots/3")


def annotated(path: Path) -> None:
    """Predictions as Label Studio gives them back once somebody has submitted them."""
    if path.name == "a.json" and path.read_text(encoding="utf-8").startswith("[{"):
        text = path.read_text(encoding="utf-8").replace('"predictions":', '"annotations":')
        path.write_text(text, encoding="utf-8")


def expected(store: MaskStore, keeps_overlaps: bool) -> dict[tuple[str, int], np.ndarray]:
    """The masks that are to come back, by image and class; void too."""
    found = {}
    for name in store.image_ids:
        masks, labels = LabelMaps(store).with_masks(name)
        for category, mask in zip(masks.categories, masks.masks, strict=True):
            identity = store.category_ids[category]
            found[name, identity] = mask if keeps_overlaps else labels == identity
        found[name, VOID] = labels == VOID
    return {key: mask for key, mask in found.items() if mask.any()}


def came_back(form: Way, store: MaskStore, blank: MaskStore, folder: Path) -> dict[tuple[str, int], np.ndarray]:
    """What a blank store is corrected to."""
    form.write(store, folder / form.name)
    annotated(folder / form.name)
    reading = read(folder / form.name, blank)
    found = {}
    for correction in reading:
        assert correction.verdict == "corrected"
        assert correction.mask is not None
        found[correction.image_id, correction.category] = correction.mask
    assert not reading.problems
    return found


def assert_same(found: Mapping[Any, np.ndarray], wanted: Mapping[Any, np.ndarray], form: str) -> None:
    assert found.keys() == wanted.keys(), form
    for key, mask in wanted.items():
        np.testing.assert_array_equal(found[key], mask, err_msg=f"{form}: {key}")


@st.composite
def contents(draw: st.DrawFn) -> tuple[dict[str, dict[int, np.ndarray]], dict[str, np.ndarray]]:
    """Images of several sizes with up to three masks that may overlap, and void."""
    images, voids = {}, {}
    for name in draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True)):
        size = draw(st.tuples(st.integers(1, 8), st.integers(1, 8)))
        classes = draw(st.lists(st.sampled_from(list(CLASSES)), min_size=1, max_size=3, unique=True))
        images[name] = {identity: draw(arrays(np.bool_, size)) for identity in sorted(classes)}
        voids[name] = draw(arrays(np.bool_, size, elements=st.sampled_from([False, False, True])))
    return images, voids


@settings(max_examples=3, deadline=None)
@given(content=contents())
def test_any_masks_come_back(content: Any) -> None:
    images, voids = content
    with tempfile.TemporaryDirectory() as folder:
        store = store_of(Path(folder) / "s.zarr", images, void=voids)
        blank = blank_like(Path(folder) / "blank.zarr", store)
        for name, form in WAYS.items():
            found = came_back(form, store, blank, Path(folder) / name)
            assert_same(found, expected(store, form.keeps_overlaps), name)


@pytest.fixture(scope="module")
def hard_store(tmp_path_factory: pytest.TempPathFactory) -> MaskStore:
    """Hard masks, names and overlaps, with and without void."""
    names = itertools.chain(NAMES, (f"more/{number}" for number in itertools.count()))
    images = {next(names): {1: mask, 3: ~mask} for mask in HARD.values()}
    images["a/1"] = {1: ring(), 2: np.ones((6, 7), bool), 3: ~ring()}
    voids = {"a/1": np.eye(6, 7, dtype=bool)}
    return store_of(tmp_path_factory.mktemp("hard") / "s.zarr", images, void=voids)


@pytest.fixture(scope="module")
def blank_store(hard_store: MaskStore) -> MaskStore:
    return blank_like(on_disk(hard_store).parent / "blank.zarr", hard_store)


@pytest.mark.few(6)
@pytest.mark.parametrize("form", WAYS)
def test_hard_masks_come_back(form: str, hard_store: MaskStore, blank_store: MaskStore, tmp_path: Path) -> None:
    found = came_back(WAYS[form], hard_store, blank_store, tmp_path)
    assert_same(found, expected(hard_store, WAYS[form].keeps_overlaps), form)


@pytest.mark.few(6)
@pytest.mark.parametrize("form", WAYS)
def test_a_store_is_not_corrected_by_what_it_wrote_itself(form: str, hard_store: MaskStore, tmp_path: Path) -> None:
    """Also where masks overlap and the form has one class a pixel."""
    out = tmp_path / WAYS[form].name
    WAYS[form].write(hard_store, out)
    annotated(out)
    reading = read(out, hard_store)
    said = {correction.verdict for correction in reading}
    assert said == ({"accepted"} if form.startswith("label studio") else set())
    assert not reading.problems


@pytest.mark.few(6)
@pytest.mark.parametrize("form", WAYS)
def test_the_same_bytes_with_any_number_of_threads_and_nothing_is_written_over(
    form: str, hard_store: MaskStore, tmp_path: Path
) -> None:
    out = tmp_path / WAYS[form].name
    WAYS[form].write(hard_store, out, threads=1)
    before = files_of(tmp_path)
    with pytest.raises(StoreError, match="--overwrite"):
        WAYS[form].write(hard_store, out)
    assert files_of(tmp_path) == before
    WAYS[form].write(hard_store, out, overwrite=True, threads=4)
    assert files_of(tmp_path) == before


@pytest.mark.parametrize("form", [form for form in WAYS if WAYS[form].name == "a"])
def test_links_do_not_lead_out(form: str, hard_store: MaskStore, tmp_path: Path) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    WAYS[form].write(hard_store, out)
    elsewhere.mkdir()
    last = sorted(path for path in out.rglob("*") if path.is_dir())[-1]
    for file in last.rglob("*"):
        file.unlink()
    last.rmdir()
    last.symlink_to(elsewhere)
    with pytest.raises(StoreError, match="link"):
        WAYS[form].write(hard_store, out, overwrite=True)
    assert not list(elsewhere.iterdir())
