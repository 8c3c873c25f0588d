"""The walk over photographs: its lists and manifests, and that every row's words can be given."""

import itertools
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "workflows/voc-small"))

import few_labels  # noqa: E402
import folds  # noqa: E402
import training  # noqa: E402
import walk  # noqa: E402
from places import ALL, FOLDERS, WEIGHTS, Place  # noqa: E402
from walk import PROTOCOLS, ROWS, _jobs  # noqa: E402

from wilss.data.manifest import load_manifest  # noqa: E402
from wilss_train.commands.train import command  # noqa: E402
from wilss_train.params import from_manifest  # noqa: E402
from wilss_train.results.episodes.evaluate import EpisodeParams  # noqa: E402


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Laid out over folders without a picture."""
    for name in FOLDERS:
        (tmp_path / "VOC2012" / name).mkdir(parents=True)
    made = Place(tmp_path / "results")
    for _ in range(2):
        made.lay_out(tmp_path / "VOC2012", WEIGHTS, (*PROTOCOLS, ALL))
    return made


def test_nothing_is_learnt_from_or_chosen_on_that_is_judged(place: Place) -> None:
    lists = {name: set(ids) for name, ids in place.lists().items()}
    assert [len(lists[name]) for name in ("train_aug", "choosing", "val", "trainval")] == [374, 110, 108, 592]
    assert lists["train_aug"] | lists["choosing"] | lists["val"] == lists["trainval"]


def test_manifests_train_as_manifest_init_says(place: Place) -> None:
    for protocol in (*PROTOCOLS, ALL):
        manifest = load_manifest(place.manifest(protocol))
        assert manifest.name == f"voc-small-{protocol}"
        assert manifest.protocol.num_steps == (1 if protocol == ALL else 2)
        assert {manifest.masks[name]["weights"] for name in ("cam", "panet")} == {WEIGHTS}
        params, _ = from_manifest(manifest.train, step=0, where="train")
        later, _ = from_manifest(manifest.train, step=1, where="train")
        assert (params.backbone_weights, params.freeze, params.mean) == (WEIGHTS, "backbone", (0.5, 0.5, 0.5))
        assert (later.new_rows, later.epoch_steps) == ("random", 30)
    assert (place.folder / "data/JPEGImages").resolve().name == "JPEGImages"


def test_every_row_can_be_trained(place: Place) -> None:
    few = [few_labels.job(place, one, seed) for one in {*few_labels.ROWS, *few_labels.CHOICES} for seed in range(2)]
    jobs = [*_jobs(place, 2, ()), *few]
    assert len(jobs) - len(few) == 2 * len(PROTOCOLS) * (1 + len(ROWS))
    assert len({job.out for job in jobs}) == len(jobs)
    for job in jobs:
        command.make_context("wilss-train", list(job.words), resilient_parsing=True)
        assert job.before
    assert [job.out.name for job in _jobs(place, 1, ("15-5-cam",))] == ["15-5-cam-0"]


def test_figures_are_those_of_the_rows_that_are_trained() -> None:
    kept = json.loads((ROOT / "workflows/voc-small/figures/steps.json").read_text(encoding="utf-8"))["rows"]
    made = {f"{protocol}-{key}": title for protocol in PROTOCOLS for key, title in walk._titles(protocol)}
    assert {row["key"]: row["name"] for row in kept} == made


def test_what_is_measured_becomes_a_table_and_nothing_else_does(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(training, "HERE", tmp_path)
    (tmp_path / "figures").mkdir()
    walk.table.callback.__wrapped__(place, "val")  # type: ignore[union-attr]
    assert not list((tmp_path / "figures").iterdir())
    assert "steps.json stays as it is" in capsys.readouterr().err
    run = place.run("15-5", "cam", 0)
    run.mkdir(parents=True)
    scores = {"mean_iou": 0.5, "iou": {"cat": 0.25, "sofa": 0.75}, "confusion": {"pixels": [[6, 0], [2, 2]]}}
    (run / "eval-val.json").write_text(json.dumps(scores))
    (run / "log.jsonl").write_text('{"timing": {"seconds": 60}}\n{"timing": {"seconds": 90}}\n')
    walk.table.callback.__wrapped__(place, "val")  # type: ignore[union-attr]
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["steps.json"]
    kept = json.loads((tmp_path / "figures/steps.json").read_text())
    (row,) = [row for row in kept["rows"] if row["key"] == "15-5-cam"]
    assert [row[name] for name in kept["columns"]] == [25.0, 75.0, 50.0, 1.5]
    assert kept["measured"]["seeds"] == 1


def test_folds_are_a_mean_once_all_four_are_judged_with_each_seed(place: Place) -> None:
    for seed, fold in itertools.product(range(2), folds.FOLDS):
        assert not folds._row(place, 2, 200, 2, with_bias=True)
        params = EpisodeParams(episodes=200, runs=1, shots=5, support="box", seed=seed)
        file = folds._file(place, 2, folds.Judged(fold, params, with_bias=True))
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps({"mean_iou": {"mean": (fold + seed) / 10}}))
    assert folds._row(place, 2, 200, 1, with_bias=True) == {"box-5": pytest.approx(15.0)}
    (cell,) = folds._row(place, 2, 200, 2, with_bias=True).values()
    assert isinstance(cell, dict)
    assert (cell["mean"], cell["values"]) == (pytest.approx(20.0), [15.0, 25.0])
    assert not folds._row(place, 2, 200, 2, with_bias=False)


@pytest.mark.parametrize("script", [few_labels, folds, walk])
def test_what_needs_pictures_asks_for_them_and_help_does_not(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "Place", lambda: Place(tmp_path / "results"))
    asked, helped = (CliRunner().invoke(script.main, ["run", *more]) for more in ([], ["--help"]))
    assert (asked.exit_code, helped.exit_code) == (2, 0)
    assert "name VOC's folder first, before the command: --voc ~/data/VOC2012" in asked.output


def test_a_folder_that_is_not_voc_is_told(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="has no folder JPEGImages; name the folder VOC2012"):
        Place(tmp_path).lay_out(tmp_path / "other", WEIGHTS, PROTOCOLS)
