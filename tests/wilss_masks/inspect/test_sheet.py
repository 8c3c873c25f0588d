"""`sheet`: heat, seeds and masks lie over the pixels that they stand for; and what is chosen."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from tests.paths import on_disk
from tests.wilss_masks.stores import (
    CLASS_NAMES,
    IMAGES,
    FakeManifest,
    make_annotation_store,
    make_manifest,
    make_store,
)
from wilss.errors import StoreError
from wilss.store import MaskStore
from wilss_masks.commands.sheet import command
from wilss_masks.inspect import drawing
from wilss_masks.inspect.maps_shown import maps_shown
from wilss_masks.inspect.page import draw_page
from wilss_masks.inspect.sheet import choose, collect, order_for, rows_of
from wilss_masks.sources.fmwiss_params import FmwissParams

GREY = np.full((160, 200, 3), 100, np.uint8)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> MaskStore:
    return make_store(tmp_path_factory.mktemp("s") / "step-1.zarr")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make_manifest(tmp_path_factory.mktemp("images"))


def test_a_hot_patch_is_hot_over_its_own_pixels() -> None:
    """Patch (1, 3) of 4 x 5 on 160 x 200 pixels covers rows 40 to 80 and columns 120 to 160."""
    score = np.zeros((4, 5), np.float16)
    score[1, 3] = 1
    drawn = drawing.heat(GREY, score, 0.5, "viridis").astype(int)
    warmth = np.abs(drawn - drawn[0, 0]).sum(axis=2)
    centre = np.argwhere((drawn == drawn[60, 140]).all(axis=2)).mean(axis=0)
    np.testing.assert_allclose(centre, [59.5, 139.5], atol=0.5)
    white = np.argwhere((drawn == 255).all(axis=2))
    np.testing.assert_allclose(white.mean(axis=0), [59.5, 139.5], atol=0.01)
    assert (white.min(axis=0) == [40, 120]).all()
    assert (white.max(axis=0) == [79, 159]).all()
    assert warmth[:19].sum() == warmth[:, :99].sum() == warmth[101:].sum() == warmth[:, 181:].sum() == 0


def test_seeds_stand_at_the_centres_of_their_patches() -> None:
    drawn = drawing.with_dots(GREY, np.array([[1, 3], [3, 0], [1, 3]]), (4, 5), radius=3)
    white = np.argwhere((drawn == 255).all(axis=2))
    first, second = white[white[:, 1] > 100], white[white[:, 1] < 100]
    np.testing.assert_allclose(first.mean(axis=0), [59.5, 139.5], atol=0.01)
    np.testing.assert_allclose(second.mean(axis=0), [139.5, 19.5], atol=0.01)


def test_a_mask_is_filled_and_outlined_inside_and_no_further() -> None:
    mask = np.zeros((160, 200), bool)
    mask[40:80, 100:] = True
    drawn = drawing.overlay(GREY, mask, (255, 0, 0), line=3)
    assert (drawn[60, 150] == [165, 58, 58]).all()
    assert (drawn[40:43, 150] == [255, 0, 0]).all()
    assert (drawn[60, 199] == [165, 58, 58]).all(), "no line along the frame"
    np.testing.assert_array_equal(drawn[~mask & (np.arange(160)[:, None] < 38)], 100)


def test_masks_grow_and_shrink_to_the_panel() -> None:
    mask = np.zeros((10, 20), bool)
    mask[2:6, 10:] = True
    np.testing.assert_array_equal(drawing.resized_mask(mask, (10, 20)), mask)
    large = drawing.resized_mask(mask, (100, 200))
    assert abs(int(large.sum()) - 100 * mask.sum()) < 200
    assert large[25:55, 105:].all()
    assert not large[:19].any()


def test_the_worst_come_first(store: MaskStore) -> None:
    agreement = store.vector("agreement")
    shown = choose(store, "agreement", 3)
    assert [agreement[pair] for pair in shown] == sorted(agreement[~np.isnan(agreement)])[:3]
    assert len(choose(store, "confidence", 100)) == 5
    assert choose(store, "spread", 2) == [(0, 0), (5, 2)]
    assert rows_of(store, ["été", "2007_000033"]) == [(2, 0), (2, 2), (0, 0)]


def test_without_a_diagnostic_rows_are_spread(tmp_path: Path) -> None:
    annotated = make_annotation_store(tmp_path / "s.zarr")
    assert order_for(annotated, "agreement") == "spread"
    assert order_for(annotated, "confidence") == "confidence"
    assert choose(annotated, "agreement", 2) == choose(annotated, "spread", 2) == [(0, 0), (5, 2)]


def test_maps_are_headed_by_what_they_are(tmp_path: Path) -> None:
    """By source and placing: no seeds where none were drawn, no outline where nothing is cut."""

    def shown(**values: Any) -> tuple[str, ...]:
        found = maps_shown(make_store(tmp_path / f"{len(list(tmp_path.iterdir()))}.zarr", **values))
        heads = [one for one in (found.score, found.attention) if one is not None]
        return tuple(f"{one.heading}: {one.note}{'' if one.is_cut else ' (not cut)'}" for one in heads)

    def of_fmwiss(**values: Any) -> tuple[str, ...]:
        return shown(params=FmwissParams(**values))

    def of_cam(**values: Any) -> tuple[str, ...]:
        return shown(source="cam", parameters={"cut": 0.5, **values})

    drawn = "Seed attention: outline: M_seeds, dots: seeds"
    spread = "Spread map: of all patches; outline: its cut"
    assert of_fmwiss() == ("CLIP score: outline: M_init", drawn)
    assert of_fmwiss(fusion="seeds") == ("CLIP score: outline: M_init", drawn)  # where seeds come from
    assert of_fmwiss(placing="soft") == ("CLIP score: outline: M_init", spread)
    assert of_fmwiss(placing="soft", fusion="seeds") == ("CLIP score: the weight of patches (not cut)", spread)
    assert of_fmwiss(score="gradcam")[0] == "CLIP Grad-CAM: outline: M_init"
    assert of_cam(affinity_from="none") == ("Activation map: outline: its cut",)
    assert of_cam(affinity_from="own") == ("Activation map:  (not cut)", "Spread map: outline: its cut")
    assert of_cam(affinity_from="own", patches=True)[1] == "Learnt patches: against background; outline: its cut"
    assert shown(source="bank", keep=False) == ("Score: probability; outline: 0.5",)
    assert shown(source="sam3", keep=False) == ("SAM 3 score: outline: the cut of a tag alone",)


def test_a_sheet_of_another_source_has_its_columns_and_says_no_agreement(tmp_path: Path) -> None:
    manifest: Any = make_manifest(tmp_path / "images")
    cam = make_store(tmp_path / "cam.zarr", source="cam", parameters={"cut": 0.5, "affinity_from": "own"})
    assert order_for(cam, "agreement") == "confidence"
    sheet = collect(cam, manifest, [(0, 0)])
    (row,) = sheet.rows
    assert math.isnan(row.agreement)
    assert not row.fell_back
    assert row.soft is not None
    assert row.soft.score_cut == math.inf
    assert row.soft.attention_cut == 0.5
    plain = make_store(tmp_path / "plain.zarr", source="cam", parameters={"cut": 0.5, "affinity_from": "none"})
    once = collect(plain, manifest, [(0, 0)])
    assert draw_page(sheet).width - draw_page(once).width == 280 + 10
    assert once.rows[0].soft is not None
    assert once.rows[0].soft.score_cut == 0.5


def test_rows_know_what_they_show(store: MaskStore, manifest: FakeManifest) -> None:
    sheet = collect(store, manifest, [(2, 0), (2, 2)])  # type: ignore[arg-type]
    first, second = sheet.rows
    assert (first.name, second.name) == (CLASS_NAMES[0], CLASS_NAMES[2])
    assert first.soft is not None
    assert first.soft.score.shape == (5, 10)
    assert first.soft.attention is not None
    assert first.soft.attention.shape == (10, 20)
    assert first.fell_back
    labels, mask = IMAGES[2].labels, first.mask & (IMAGES[2].labels != 255)
    assert first.iou == pytest.approx((mask & (labels == 16)).sum() / (mask | (labels == 16)).sum())
    assert first.share == pytest.approx(first.mask.mean())


def test_the_page_holds_every_panel_in_an_equal_cell(store: MaskStore, manifest: FakeManifest) -> None:
    """Median shape 1.175 becomes 1.15: cells of 322 x 280, where the 64 x 40 image is 322 x 201, top left."""
    sheet = collect(store, manifest, [(0, 0), (1, 1)])  # type: ignore[arg-type]
    five, three = (draw_page(replace(sheet, rows=rows)) for rows in (sheet.rows, without_soft(sheet.rows)))
    assert five.width - three.width == 2 * (280 + 10)
    left, top = 28 + 208 + 10, five.height - 28 - 322
    inked = np.argwhere((np.array(five)[top:, left : left + 280] != 255).any(axis=2))
    np.testing.assert_array_equal(inked.min(axis=0), [0, 0])
    np.testing.assert_array_equal(inked.max(axis=0), [321, 200])


def without_soft(rows: Any) -> Any:
    return tuple(replace(row, soft=None) for row in rows)


def test_columns_without_content_are_left_out(tmp_path: Path) -> None:
    blind = make_manifest(tmp_path / "images", labelled=False)
    bare, annotated = make_store(tmp_path / "a.zarr", keep=False), make_annotation_store(tmp_path / "b.zarr")
    widths = [
        draw_page(collect(made, blind, choose(made, "agreement", 2)), 100).width  # type: ignore[arg-type]
        for made in (bare, annotated)
    ]
    assert widths[0] == widths[1] == draw_page(collect(bare, blind, [(0, 0)]), 100).width  # type: ignore[arg-type]


def test_what_cannot_be_shown_is_named(store: MaskStore, manifest: FakeManifest, tmp_path: Path) -> None:
    gone = replace(manifest.records_[0], path=tmp_path / "gone.png")
    other = tmp_path / "other.png"
    Image.new("RGB", (9, 9)).save(other)
    changed = replace(manifest.records_[1], path=other)
    now: Any = replace(manifest, records_=(gone, changed, *manifest.records_[2:]))
    sheet = collect(store, now, choose(store, "spread", 5))
    assert set(sheet.failed) == {"2007_000033", "2007_000042"}
    assert "9 x 9 pixels, the masks made of it 40 x 64" in sheet.failed["2007_000042"]
    with pytest.raises(StoreError, match="none of the chosen images"):
        collect(store, now, [(0, 0)])
    with pytest.raises(StoreError, match="truncated; copy it again"):
        rows_of(store, ["2007_000061"])
    with pytest.raises(StoreError, match="has no image 'nobody'"):
        rows_of(store, ["nobody"])


def test_thin_images_and_long_names_fit(tmp_path: Path) -> None:
    images = (
        replace(
            IMAGES[0],
            image_id="a/very long folder name/" + "x" * 60,
            size=(16, 400),
            boxes={16: (0, 8, 0, 40)},
        ),
        replace(IMAGES[1], size=(400, 16), boxes={17: (0, 40, 0, 8)}),
    )
    manifest: Any = make_manifest(tmp_path / "images", images)
    store = make_annotation_store(tmp_path / "s.zarr", images)
    page = draw_page(collect(store, manifest, choose(store, "agreement", 2)))
    assert page.width == 2 * 28 + 208 + 3 * 290


def test_the_command(store: MaskStore, manifest: FakeManifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wilss.data.manifest.load_manifest", lambda path: manifest)

    def invoke(*arguments: object) -> Any:
        return CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)

    result = invoke(store.path)
    assert result.exit_code == 0
    assert "step-1.png: 5 rows, worst agreement first" in result.stdout
    beside = on_disk(store).with_suffix(".png")
    with Image.open(beside) as image:
        assert image.mode == "RGB"
    again = invoke(store.path, "--out", tmp_path / "x" / "again.png")
    assert again.exit_code == 0
    assert (tmp_path / "x" / "again.png").read_bytes() == beside.read_bytes()
    assert "3 rows, by id" in invoke(store.path, "--images", "été,2007_000033", "--out", tmp_path / "a.png").stdout
    assert "2 rows, evenly spread" in invoke(store.path, "--spread", "--count", 2, "--out", tmp_path / "b.png").stdout
    assert invoke(store.path, "--out", tmp_path / "a.jpg").exit_code == 2
