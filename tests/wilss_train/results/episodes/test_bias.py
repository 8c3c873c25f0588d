"""A bias of the background that is fitted on some classes: what an evaluation with it finds, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.wilss.data import data_on_disk as disk
from tests.wilss_train.data.episodes.pictures import Pictures, frozen
from wilss.data.manifest import load_manifest
from wilss.equations.panet import biases
from wilss.errors import ManifestError, ParameterError
from wilss_train.commands.evaluate import command
from wilss_train.results.episodes.bias import fit_bias, trained_images
from wilss_train.results.episodes.evaluate import EpisodeParams, evaluate_episodes

NAMES = {1: "cat", 2: "dog", 3: "horse"}


@pytest.mark.few(1)
@pytest.mark.parametrize(("ways", "shots"), [(1, 1), (2, 2)])
def test_the_fitted_bias_is_the_best_of_all_evaluations(ways: int, shots: int) -> None:
    params, pictures = EpisodeParams(episodes=8, runs=1, ways=ways, shots=shots), Pictures()
    given: Any = pictures
    found = fit_bias(frozen(), given, NAMES, params)

    def mean_iou(bias: float) -> float:
        return evaluate_episodes(frozen(), given, NAMES, replace(params, bias=bias)).mean_ious[0]

    assert found.before == pytest.approx(mean_iou(0.0), abs=1e-3)
    assert found.after == pytest.approx(mean_iou(found.bias), abs=1e-3)
    assert found.after >= max(mean_iou(bias) for bias in biases()[::10].tolist()) - 1e-3
    assert found.after >= found.before
    assert json.loads(json.dumps(found.as_json()))["classes"] == ["cat", "dog", "horse"]


def test_a_bias_that_was_there_before_changes_no_fit() -> None:
    given: Any = Pictures()
    params = EpisodeParams(episodes=4, runs=1)
    assert fit_bias(frozen(), given, NAMES, params) == fit_bias(frozen(), given, NAMES, replace(params, bias=3.0))


def test_an_image_that_cannot_be_read_costs_its_episodes_alone() -> None:
    given: Any = Pictures(broken=frozenset({"im0"}))
    found = fit_bias(frozen(), given, NAMES, EpisodeParams(episodes=12, runs=1))
    assert dict(found.failed) == {"im0": "im0 is damaged."}
    assert found.episodes == 12


def test_classes_that_are_held_out_are_in_no_episode_of_the_fit(tmp_path: Path) -> None:
    disk.voc(tmp_path / "data", {"a": (1,), "b": (1, 2), "c": (2,)})
    manifest = load_manifest(disk.manifest(tmp_path))
    images, names = trained_images(manifest, 0)
    assert set(images.index) == set(names) == set(manifest.protocol.new(0))
    assert not set(names) & set(manifest.protocol.later(0))


def test_without_pixel_labels_the_sentence_says_what_to_give_instead(tmp_path: Path) -> None:
    disk.voc(tmp_path / "data", {"a": (1,), "b": (1, 2)})
    for label in (tmp_path / "data" / "SegmentationClass").glob("*.png"):
        label.unlink()
    manifest = load_manifest(disk.manifest(tmp_path))
    with pytest.raises(ManifestError, match=r"no training image has pixel labels.*--bias 1\.5, or --bias none"):
        trained_images(manifest, 0)


@pytest.mark.parametrize("word", ["best", "nan", "inf", "1,5"])
def test_a_bias_that_is_no_word_and_no_number_is_refused(word: str) -> None:
    result = CliRunner().invoke(command, ["--frozen", "--bias", word])
    assert result.exit_code == 2
    assert f"{word!r} is neither fit nor none nor a number" in " ".join(result.output.split())


def test_a_bias_is_finite() -> None:
    with pytest.raises(ParameterError, match="bias is nan; it must be a finite number"):
        EpisodeParams(bias=float("nan"))
