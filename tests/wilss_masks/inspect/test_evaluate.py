"""`evaluate` against loops over pixels, and the command that shows it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tests.wilss_masks.stores import (
    CLASS_IDS,
    CLASS_NAMES,
    FAILED,
    IMAGES,
    UNTAGGED,
    FakeLabel,
    FakeManifest,
    make_annotation_store,
    make_manifest,
    make_store,
)
from wilss.errors import ManifestError, StoreError
from wilss.store import MaskStore, Status
from wilss_masks.commands.evaluate import command
from wilss_masks.inspect.evaluate import evaluate
from wilss_masks.sources.fmwiss_params import FmwissParams


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> MaskStore:
    return make_store(tmp_path_factory.mktemp("s") / "step-1.zarr")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> FakeManifest:
    return make_manifest(tmp_path_factory.mktemp("images"))


def channel(identity: int) -> int:
    return 1 + CLASS_IDS.index(identity) if identity in CLASS_IDS else 0


def slow_matrix(store: MaskStore) -> np.ndarray:
    """Pixel by pixel, from the store's planes; the more confident mask wins."""
    matrix = np.zeros((4, 4), int)
    confidence = store.vector("confidence")
    for row, drawn in enumerate(IMAGES):
        if row in (FAILED, UNTAGGED):
            continue
        planes = [store.plane("mask", row, c) for c in range(3)]
        for y in range(drawn.size[0]):
            for x in range(drawn.size[1]):
                claims = [(confidence[row, c], -c) for c in range(3) if planes[c][y, x]]
                true = int(drawn.labels[y, x])
                if true != 255:
                    matrix[channel(true), 1 - max(claims)[1] if claims else 0] += 1
    return matrix


def test_the_store_is_judged_pixel_by_pixel(store: MaskStore, manifest: FakeManifest) -> None:
    found = evaluate(store, manifest)  # type: ignore[arg-type]
    np.testing.assert_array_equal(found.scores["stored"].matrix, slow_matrix(store))
    assert found.counted == 4
    assert not found.failed
    assert found.left_out == {"failed when the masks were made": 1, "without a tag of this step": 1}
    assert manifest.asked[-1] == (1, "train")
    assert 0.5 < found.scores["stored"].mean_iou < 1


def test_threads_do_not_change_a_count(store: MaskStore, manifest: FakeManifest) -> None:
    one, many = (evaluate(store, manifest, threads=n, ablation=True) for n in (1, 8))  # type: ignore[arg-type]
    for name, scores in one.scores.items():
        np.testing.assert_array_equal(scores.matrix, many.scores[name].matrix)


@pytest.mark.parametrize("fusion", ["init", "seeds", "intersection", "union"])
def test_the_ablations_row_of_the_stores_own_fusion_is_the_store(
    tmp_path: Path, manifest: FakeManifest, fusion: Any
) -> None:
    store = make_store(tmp_path / "s.zarr", params=FmwissParams(fusion=fusion))
    found = evaluate(store, manifest, ablation=True)  # type: ignore[arg-type]
    np.testing.assert_array_equal(found.scores[fusion].matrix, found.scores["stored"].matrix)
    assert list(found.scores) == ["stored", "init", "seeds", "intersection", "union"]


def test_an_image_that_is_known_to_show_none_is_background_however_maps_are_fused(
    tmp_path: Path, manifest: FakeManifest
) -> None:
    """And says nothing of how sure maps are, since it has none; it is not counted where it is not known."""
    known, unknown = (make_store(tmp_path / f"{bare.name}.zarr", bare=bare) for bare in (Status.DONE, Status.UNTAGGED))
    found, before = (evaluate(one, manifest, ablation=True, reliability=True) for one in (known, unknown))  # type: ignore[arg-type]
    assert (found.counted, found.without, before.counted, before.without) == (5, 1, 4, 0)
    pixels = int((IMAGES[UNTAGGED].labels != 255).sum())
    for name, scores in found.scores.items():
        added = scores.matrix - before.scores[name].matrix
        assert added[0, 0] == added.sum() == pixels
    assert found.reliability is not None
    assert before.reliability is not None
    assert np.array_equal(found.reliability.joint, before.reliability.joint)


def test_annotations_are_right_everywhere(tmp_path: Path, manifest: FakeManifest) -> None:
    found = evaluate(make_annotation_store(tmp_path / "s.zarr"), manifest)  # type: ignore[arg-type]
    assert found.scores["stored"].mean_iou == 1
    assert found.counted == 5
    assert "was made from pixel labels (annotation): the figures say whether these are still the labels" in str(
        found.warnings
    )


def test_a_label_of_another_size_or_none_is_named(store: MaskStore, manifest: FakeManifest) -> None:
    bad = FakeLabel(labels=np.zeros((3, 4), np.uint8))
    records = (
        replace(manifest.records_[0], label=bad),
        replace(manifest.records_[1], label=None),
        *manifest.records_[2:],
    )
    found = evaluate(store, replace(manifest, records_=records))  # type: ignore[arg-type]
    assert found.counted == 2
    assert found.left_out["without pixel labels"] == 1
    assert "4 x 3 pixels, its masks 64 x 48; fix" in found.failed["2007_000033"]


def test_what_does_not_belong_together_is_refused(tmp_path: Path, store: MaskStore, manifest: FakeManifest) -> None:
    with pytest.raises(StoreError, match=r"made from other data than .* pass the manifest it was made from"):
        evaluate(store, replace(manifest, digest="f" * 64))  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="no record of '2007_000068'"):
        evaluate(store, replace(manifest, records_=manifest.records_[:-1]))  # type: ignore[arg-type]
    unlabelled = make_manifest(tmp_path / "images", labelled=False)
    with pytest.raises(ManifestError, match="no pixel labels"):
        evaluate(store, unlabelled)  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="--keep scores"):
        evaluate(make_store(tmp_path / "bare.zarr", keep=False), manifest, ablation=True)  # type: ignore[arg-type]


@pytest.fixture
def invoke(manifest: FakeManifest, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("wilss.data.manifest.load_manifest", lambda path: manifest)
    return lambda *arguments: CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)


def test_the_table_is_aligned_and_short(store: MaskStore, invoke: Any) -> None:
    result = invoke(store.path, "--ablation")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert "4 images counted, 0 failed, 2 left out" in lines[1]
    table = lines[lines.index("") + 1 :]
    assert [row.split()[0] for row in table[2:6]] == ["background", *CLASS_NAMES]
    assert table[0].split() == ["%", "IoU", "precision", "recall"]
    assert len({len(row) for row in table[1:6]}) == 1
    assert any(row.startswith("M_init") for row in table)
    assert any(row.startswith("mean without background") for row in table)


def test_json_has_stable_keys_and_goes_to_stdout_or_a_file(store: MaskStore, invoke: Any, tmp_path: Path) -> None:
    file = tmp_path / "scores.json"
    assert invoke(store.path, "--json", file).exit_code == 0
    text = invoke(store.path, "--json", "-").stdout
    told = json.loads(text)
    assert json.loads(file.read_text()) == told
    assert list(told) == [
        "manifest", "protocol", "setting", "step", "split", "source", "parameters", "manifest_sha256",
        "images", "mean_iou", "mean_iou_without_background", "iou", "precision", "recall", "confusion",
    ]  # fmt: skip
    assert told["images"]["counted"] == 4
    np.testing.assert_array_equal(told["confusion"]["pixels"], slow_matrix(store))
    assert "ablation" in json.loads(invoke(store.path, "--json", "-", "--ablation").stdout)


def test_an_unfinished_store_needs_a_word(tmp_path: Path, invoke: Any) -> None:
    path = make_store(tmp_path / "s.zarr", finish=False).path
    with pytest.raises(StoreError, match="--allow-partial"):
        invoke(path)
    assert "1 not made yet" in invoke(path, "--allow-partial").stdout


def test_failures_end_in_3(store: MaskStore, manifest: FakeManifest, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = replace(manifest.records_[0], label=FakeLabel(labels=np.zeros((3, 4), np.uint8)))
    monkeypatch.setattr(
        "wilss.data.manifest.load_manifest", lambda path: replace(manifest, records_=(bad, *manifest.records_[1:]))
    )
    result = CliRunner().invoke(command, [str(store.path)])
    assert result.exit_code == 3
    assert "Failed: 2007_000033" in result.stderr


def test_supports_whose_masks_are_what_a_person_drew_are_left_out(tmp_path: Path, manifest: FakeManifest) -> None:
    kept: dict[str, Any] = {"source": "panet", "parameters": {"keep_masks": True}}
    names = [IMAGES[0].image_id, IMAGES[FAILED].image_id]
    found = evaluate(make_store(tmp_path / "few.zarr", keep=False, own_masks=names, **kept), manifest)  # type: ignore[arg-type]
    assert found.counted == 3
    assert found.left_out["supports, whose masks are what a person drew"] == 1
    everyone = [drawn.image_id for drawn in IMAGES]
    found = evaluate(make_store(tmp_path / "all.zarr", keep=False, own_masks=everyone, **kept), manifest)  # type: ignore[arg-type]
    assert found.counted == 4
    assert "all images that can be judged are supports" in found.warnings[0]
    found = evaluate(make_store(tmp_path / "old.zarr", keep=False, **kept), manifest)  # type: ignore[arg-type]
    assert "made by an older wilss, which did not note the supports" in found.warnings[0]
