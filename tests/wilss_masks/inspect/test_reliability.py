"""`evaluate --reliability` against loops over pixels, and where there is nothing to calibrate."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from tests.references import calibration as slow
from tests.wilss_masks.stores import (
    CLASS_IDS,
    FAILED,
    IMAGES,
    UNTAGGED,
    FakeManifest,
    make_annotation_store,
    make_manifest,
    make_store,
)
from wilss.equations import calibration
from wilss.errors import StoreError
from wilss.store import LabelMaps, MaskStore
from wilss_masks.commands.evaluate import command
from wilss_masks.inspect.evaluate import evaluate
from wilss_masks.inspect.kept_scores import KeptReader
from wilss_masks.inspect.reliability import SureMaps, Tally, counted
from wilss_masks.sources.fmwiss_params import FmwissParams
from wilss_masks.sources.sam3 import Sam3Params
from wilss_masks.sources.sam3_proposer import evidence_of as sam3_evidence
from wilss_masks.stages.unsure import sureness_of

SEEDS = FmwissParams(fusion="seeds", keep="std", keep_amount=0.5)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> MaskStore:
    return make_store(tmp_path_factory.mktemp("s") / "step-1.zarr", params=SEEDS)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> FakeManifest:
    return make_manifest(tmp_path_factory.mktemp("images"))


def pixels_of(store: MaskStore) -> Iterator[tuple[float, int, int]]:
    """Sureness, true label and label of every pixel that counts, as ids of the step or 0."""
    maps, labels = SureMaps(store), LabelMaps(store)
    for row, drawn in enumerate(IMAGES):
        if row not in (FAILED, UNTAGGED):
            label = labels(row, void=False)
            sure = maps(row, label)
            for place in np.ndindex(drawn.size):
                true = int(drawn.labels[place])
                if true != 255:
                    yield float(sure[place]), true if true in CLASS_IDS else 0, int(label[place])


def test_pixels_are_counted_one_by_one(store: MaskStore, manifest: FakeManifest) -> None:
    found = evaluate(store, manifest, reliability=True)  # type: ignore[arg-type]
    assert found.reliability is not None
    pixels = list(pixels_of(store))
    sure, true, label = (list(part) for part in zip(*pixels, strict=True))
    assert int(found.reliability.joint.sum()) == len(pixels)
    right = [a == b for a, b in zip(true, label, strict=True)]
    assert found.reliability.error == pytest.approx(slow.expected_error(sure, right, calibration.SHOWN), abs=1e-6)
    own = [place for place, one in enumerate(label) if one == CLASS_IDS[0]]
    expected = slow.expected_error([sure[i] for i in own], [right[i] for i in own], calibration.SHOWN)
    assert calibration.expected_error(found.reliability.sums(1)) == pytest.approx(expected, abs=1e-6)
    np.testing.assert_array_equal(found.reliability.joint.sum(axis=0), found.scores["stored"].matrix)


def test_the_sureness_is_that_of_the_evidence(store: MaskStore) -> None:
    """One tag: attention over its cut against 1, by hand on the patch grid's own centres."""
    labels = LabelMaps(store)(0)
    sure = SureMaps(store)(0, labels)
    inside = labels == CLASS_IDS[0]
    assert inside.any()
    assert sure[inside].min() >= 0.5 - 1e-6
    assert sure[~inside].min() >= 0.5 - 1e-6
    wrong = SureMaps(store)(0, np.where(inside, 0, CLASS_IDS[0]).astype(np.uint8))
    np.testing.assert_allclose(sure + wrong, 1, atol=1e-6)  # a contest of two


def test_what_void_leaves(store: MaskStore, manifest: FakeManifest) -> None:
    found = evaluate(store, manifest, reliability=True).reliability  # type: ignore[arg-type]
    assert found is not None
    pixels = list(pixels_of(store))
    for kept in found.kept():
        left = [(true, label) for sure, true, label in pixels if sure >= kept.below]
        assert kept.share == pytest.approx(len(left) / len(pixels))
        hits, union = (
            sum(CLASS_IDS[1] in pair and (not both or pair[0] == pair[1]) for pair in left) for both in (True, False)
        )
        if union:
            assert kept.scores.iou[2] == pytest.approx(hits / union)
    assert next(found.kept()).share == 1


def test_threads_and_the_order_of_images_change_nothing(store: MaskStore, manifest: FakeManifest) -> None:
    one, many = (evaluate(store, manifest, reliability=True, threads=n).reliability for n in (1, 8))  # type: ignore[arg-type]
    assert one is not None
    assert many is not None
    np.testing.assert_array_equal(one.joint, many.joint)
    np.testing.assert_allclose(one.confidence, many.confidence)


def test_void_of_either_side_and_other_classes() -> None:
    sure = np.array([[0.9, 0.8, 0.7, 0.6]], np.float32)
    truth, labels = np.array([[5, 255, 9, 7]], np.uint8), np.array([[5, 5, 7, 255]], np.uint8)
    tally = Tally(3, is_calibrated=False)
    tally.add(counted(sure, truth, labels, (5, 7)))
    whole = tally.whole(("background", "five", "seven"))
    assert whole.joint.sum(axis=0).tolist() == [[0, 0, 1], [0, 1, 0], [0, 0, 0]]  # 9 is background here
    assert whole.void == 1
    nothing = Tally(3, is_calibrated=False)
    nothing.add(counted(sure[:, :0], truth[:, :0], labels[:, :0], (5, 7)))
    empty = nothing.whole(whole.names)
    assert np.isnan(empty.error)
    assert list(empty.kept()) == []
    assert empty.as_json()["ece"] is None


def test_scores_alone_are_probabilities(tmp_path: Path) -> None:
    """As of panet and pseudoseg: what no class has is the background's."""
    full = make_store(tmp_path / "s.zarr", params=SEEDS)
    scores = SureMaps(full)
    scores._params = None
    labels = np.full(IMAGES[0].size, CLASS_IDS[0], np.uint8)
    from wilss.data.images import to_pixels

    score = to_pixels(scores._reader.scores(0).float(), *IMAGES[0].size)[0].numpy()
    np.testing.assert_allclose(scores(0, labels), score, atol=1e-5)


def test_scores_of_sam3_are_those_of_its_own_rule(tmp_path: Path) -> None:
    """Not probabilities: what decides is how far a tag leads, as where it makes pixels void."""
    full = make_store(tmp_path / "s.zarr", params=SEEDS)
    sure = SureMaps(full)
    sure._params, sure._sam3 = None, Sam3Params(threshold=0.3)
    labels = torch.zeros(IMAGES[2].size, dtype=torch.uint8)
    evidence = sam3_evidence(KeptReader(full).scores(2), IMAGES[2].size, Sam3Params(threshold=0.3))
    np.testing.assert_array_equal(sure(2, labels.numpy()), sureness_of(evidence, labels).numpy())


@pytest.mark.parametrize(
    ("kind", "sentence"), [("bare", "--source fmwiss --keep scores"), ("labels", "no more of a pixel")]
)
def test_where_there_is_nothing_to_calibrate(tmp_path: Path, manifest: FakeManifest, kind: str, sentence: str) -> None:
    made = make_store(tmp_path / "s.zarr", keep=False) if kind == "bare" else make_annotation_store(tmp_path / "s.zarr")
    with pytest.raises(StoreError, match=sentence):
        evaluate(made, manifest, reliability=True)  # type: ignore[arg-type]


def test_the_command(store: MaskStore, manifest: FakeManifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wilss.data.manifest.load_manifest", lambda path: manifest)

    def invoke(*arguments: Any) -> Any:
        return CliRunner().invoke(command, [str(a) for a in (store.path, *arguments)], catch_exceptions=False)

    shown = invoke("--reliability").stdout
    assert "not calibrated), and what share of them is right" in shown
    tables = shown.split("\n\n")[-3:]
    assert [row.split()[0] for row in tables[0].splitlines()[2:6]] == [
        "background",
        "pottedplant",
        "sheep",
        "tvmonitor",
    ]
    assert tables[2].splitlines()[2].split()[:3] == ["0", "100.0", "100.0"]
    picture = tmp_path / "r.png"
    told = json.loads(invoke("--diagram", picture, "--json", "-").stdout)["reliability"]
    assert told["calibrated"] is False
    assert 0 < told["ece"] < 1
    assert sum(bin_["pixels"] for bin_ in told["bins"]) == told["pixels"]
    assert told["void_below"][0]["kept"] == 1
    assert Image.open(io.BytesIO(picture.read_bytes())).size == (1080, 480)
    refused = CliRunner().invoke(command, [str(store.path), "--diagram", str(tmp_path / "r.jpg")])
    assert refused.exit_code == 2
    assert "does not end in .png" in refused.stderr


def test_a_calibrated_store_says_so(store: MaskStore, manifest: FakeManifest) -> None:
    found = evaluate(store, manifest, reliability=True).reliability  # type: ignore[arg-type]
    assert found is not None
    curve = calibration.isotonic(found.sums())
    maps, labels = SureMaps(store), LabelMaps(store)(0)
    plain = maps(0, labels)
    maps.curve = curve
    np.testing.assert_allclose(maps(0, labels), calibration.calibrated(plain, curve))
