"""`sheet --stages`: what it shows is what the chain made, and an image that is gone costs its own row."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from tests.wilss_masks.stores import CLASS_IDS, IMAGES, FakeManifest, make_manifest, make_store
from wilss.drawing import class_colours
from wilss.errors import StoreError
from wilss.store import LabelMaps, MaskStore
from wilss_masks.commands.sheet import command
from wilss_masks.inspect.drawing import label_overlay
from wilss_masks.inspect.fuse import fuse
from wilss_masks.inspect.stages_page import draw_stages_page
from wilss_masks.inspect.stages_sheet import collect_stages
from wilss_masks.sources.fmwiss_params import FmwissParams

VALUES: dict[str, Any] = {"classes": "compete", "boundaries": "guided", "guided_radius": 2, "unsure": 0.55}
SHOWN = [0, 2]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> FakeManifest:
    return make_manifest(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, manifest: Any) -> MaskStore:
    folder = tmp_path_factory.mktemp("s")
    return fuse(make_store(folder / "plain.zarr"), folder / "step-1.zarr", VALUES, manifest=manifest)


def test_the_steps_lead_to_the_stored_masks(store: MaskStore, manifest: Any) -> None:
    sheet = collect_stages(store, manifest, SHOWN)
    assert not sheet.failed
    for place, row in zip(SHOWN, sheet.rows, strict=True):
        assert list(row.steps) == ["compete", "guided"]
        stored = LabelMaps(store)(place)
        np.testing.assert_array_equal(row.labels, stored)
        np.testing.assert_array_equal(row.steps["guided"][stored != 255], stored[stored != 255])
        np.testing.assert_array_equal(stored == 255, row.sureness < 0.55)
        cut = row.steps["compete"] > 0
        np.testing.assert_array_equal(cut, row.evidence > 1)
        assert set(row.names) == set(IMAGES[place].boxes)


def test_how_near_a_step_is_to_the_label(store: MaskStore, manifest: Any) -> None:
    (row,) = collect_stages(store, manifest, [0]).rows
    labels, found = IMAGES[0].labels, row.steps["compete"]
    known, truth, mask = labels != 255, labels == CLASS_IDS[0], found == CLASS_IDS[0]
    assert row.iou(found) == pytest.approx((truth & mask & known).sum() / ((truth | mask) & known).sum())
    assert row.iou(labels) == 1
    assert row.truth is not None
    assert 3 not in row.truth  # of another step


def test_a_page_has_a_row_per_image_and_a_column_per_stage(store: MaskStore, manifest: Any) -> None:
    sheet = collect_stages(store, manifest, SHOWN)
    one, two = draw_stages_page(collect_stages(store, manifest, [0]), 100), draw_stages_page(sheet, 100)
    assert one.width == two.width > 8 * 100  # image, score, evidence, two steps, sureness, masks, label
    assert two.height > one.height
    plain = draw_stages_page(collect_stages(make_fused(store, manifest), manifest, [0]), 100)
    assert one.width - plain.width == 2 * (100 + 10)


def make_fused(store: MaskStore, manifest: Any) -> MaskStore:
    values = {"classes": "overlap", "boundaries": "none", "unsure": 0.0}
    return fuse(store, store.path.with_name("back.zarr"), values, manifest=manifest)


def test_labels_are_drawn_in_the_colours_of_their_classes() -> None:
    base = np.full((20, 40, 3), 100, np.uint8)
    labels = np.zeros((10, 20), np.uint8)
    labels[2:8, 2:9], labels[2:8, 11:18] = 16, 255
    drawn = label_overlay(base, labels)
    assert drawn[10, 10].tolist() == (0.42 * class_colours()[16] + 0.58 * 100).round().astype(np.uint8).tolist()
    assert drawn[10, 30].tolist() == [round(0.35 * 100 + 0.65 * 255)] * 3
    assert drawn[0, 0].tolist() == [100] * 3
    assert drawn[4, 10].tolist() == class_colours()[16].tolist()  # the edge


def test_an_image_that_is_gone_costs_its_row(store: MaskStore, tmp_path: Path) -> None:
    manifest: Any = make_manifest(tmp_path / "images")
    manifest.records_[0].path.unlink()
    sheet = collect_stages(store, manifest, SHOWN)
    assert [row.image_id for row in sheet.rows] == [IMAGES[2].image_id]
    assert str(manifest.records_[0].path) in sheet.failed[IMAGES[0].image_id]
    with pytest.raises(StoreError, match="none of the chosen images of .* can be shown"):
        collect_stages(store, manifest, [0])
    with pytest.raises(StoreError, match="--keep scores"):
        collect_stages(make_store(tmp_path / "s.zarr", keep=False), manifest, SHOWN)


def test_regions_that_only_networks_make_are_refused(tmp_path: Path, manifest: Any) -> None:
    store = make_store(tmp_path / "s.zarr")
    store.attributes["parameters"]["regions"] = "patches"
    with pytest.raises(StoreError, match="regions: patches, which only networks make.* leave out --stages"):
        collect_stages(store, manifest, SHOWN)


def test_the_command(store: MaskStore, manifest: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wilss.data.manifest.load_manifest", lambda path: manifest)
    out = tmp_path / "stages.png"
    arguments = [str(store.path), "--stages", "--out", str(out), "--images", "été", "--cell", "260"]
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert "1 row, by id" in result.stdout  # of two classes
    with Image.open(out) as picture:
        assert picture.width > 8 * 260


def test_without_a_stage_there_is_still_a_sheet(tmp_path: Path, manifest: Any) -> None:
    store = make_store(tmp_path / "s.zarr", params=FmwissParams(fusion="seeds"))
    (row,) = collect_stages(store, manifest, [0]).rows
    assert row.steps == {}
    assert (row.labels != 255).all()
