"""`wilss-masks tune` on few of the built-in pictures: what it scores is what `generate` writes."""

import shutil
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from tests.built_in import manifest_of_few
from wilss.data.manifest import Manifest, load_manifest
from wilss.data.supports.drawing import draw_supports, save_supports
from wilss.errors import ManifestError
from wilss.store import LabelMaps, MaskStore
from wilss_masks.commands.evaluate import command as evaluate_command
from wilss_masks.commands.tune import command
from wilss_masks.inspect.evaluate import evaluate
from wilss_masks.inspect.reliability import SureMaps, Tally, counted
from wilss_masks.make.generate import generate
from wilss_masks.make.options import Options
from wilss_masks.make.request import plan_for
from wilss_masks.sources import FmwissSource
from wilss_masks.sources.fmwiss_params import FmwissParams
from wilss_masks.sources.fmwiss_proposer import FmwissProposer
from wilss_masks.tuning import calibrating
from wilss_masks.tuning import levers as lever_module
from wilss_masks.tuning import search as search_module
from wilss_masks.tuning import settings as grid
from wilss_masks.tuning import tune as tune_module
from wilss_masks.tuning.levers import levers
from wilss_masks.tuning.masks import SettingMasks, masks_of
from wilss_masks.tuning.sample import _listed, draw_sample
from wilss_masks.tuning.scratch import Scratch
from wilss_masks.tuning.settings import Setting, as_in_the_paper, changes, settings
from wilss_masks.tuning.tune import Tuning, tune

MASKS = {"fmwiss": {"clip_size": 0, "vit_size": 96, "templates": "plain", "threshold": 0.9}}


@pytest.fixture(scope="module", autouse=True)
def short_search() -> Iterator[None]:
    """A small grid, whose settings are thinned out after a part of the images."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grid, "THRESHOLDS", (0.4,))
        patch.setattr(grid, "KEEPS", (("std", 1.0), ("locations", 0.2)))
        patch.setattr(grid, "DRAWS", (2,))
        patch.setattr(lever_module, "POWERS", (2.0,))
        patch.setattr(lever_module, "CUTS", (1.0,))
        patch.setattr(lever_module, "BALANCES", ("none", "sinkhorn"))
        patch.setattr(lever_module, "REGION_SIZES", (100,))
        patch.setattr(calibrating, "LEAST_IMAGES", 2)
        patch.setattr(search_module, "FIRST_IMAGES", 5)
        patch.setattr(search_module, "KEPT_SETTINGS", 20)
        patch.setattr(search_module, "REFINED", 1)
        patch.setattr(search_module, "_LEAST_TO_HALVE", 4)
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("few")
    manifest_of_few(folder, drawn=(24, 2), masks=MASKS)
    load_manifest(folder).draw()
    return folder


@pytest.fixture(scope="module")
def manifest(place: Path) -> Manifest:
    return load_manifest(place)


@pytest.fixture(scope="module")
def search(place: Path) -> tuple[Tuning, str]:
    """One search by the command, and what it says of it."""
    told: list[tuple[int, int]] = []
    found: list[Tuning] = []

    def watched(*given: Any, judged: Callable[[int, int], None], **more: Any) -> Tuning:
        def counted(done: int, total: int) -> None:
            told.append((done, total))
            judged(done, total)

        found.append(tune(*given, judged=counted, **more))
        return found[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tune_module, "tune", watched)
        said = run(place).stdout
    assert [done for done, _ in told] == sorted(done for done, _ in told), "a search never goes back"
    assert all(done <= total for done, total in told)
    assert told[-1][0] == told[-1][1]
    return found[0], said


@pytest.fixture(scope="module")
def tuning(search: tuple[Tuning, str]) -> Tuning:
    return search[0]


def run(place: Path, *words: str, **more: Any) -> Result:
    """The command, on few rows and in a scratch of its own where none is named."""
    manifest = more.pop("manifest", place / "data_manifest.yaml")
    base = ["--step", "1", "--manifest", str(manifest), "--scratch", str(place / "scratch"), "--rows", "2"]
    return CliRunner().invoke(command, [*base, "--cell", "80", "--out", str(place / "sheet.png"), *words], **more)


@pytest.fixture(scope="module")
def said(search: tuple[Tuning, str]) -> str:
    return search[1]


@pytest.fixture
def tiny_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """One way to score and no levers, where it does not matter what is found."""
    monkeypatch.setattr(grid, "BACKGROUNDS", ("minmax",))
    monkeypatch.setattr(tune_module, "levers", lambda words: ())


def some_settings(tuning: Tuning) -> list[FmwissParams]:
    """The best, the present one, and as few more as show every mode, fusion, affinity and set of words."""
    ranked = [one.setting.params for one in tuning.found.ranked if one.setting.params is not None]
    chosen = [params for params in (tuning.best.setting.params, tuning.present.setting.params) if params is not None]
    seen = {kind for params in chosen for kind in kinds_of(params)}
    while (more := max(ranked, key=lambda params: len(kinds_of(params) - seen))) and kinds_of(more) - seen:
        chosen.append(more)
        seen |= kinds_of(more)
    return list(dict.fromkeys(chosen))


def kinds_of(params: FmwissParams) -> set[tuple[str, Any]]:
    """What a setting shows, by the names of its parameters."""
    names = ("background", "fusion", "affinity", "keep", "words", "draws", "placing", "balance", "classes",
             "boundaries", "regions")  # fmt: skip
    return {(name, getattr(params, name)) for name in names}


@pytest.mark.parametrize("settings_tried", [slice(0, 2), pytest.param(slice(2, None), marks=pytest.mark.wide)])
def test_a_setting_is_scored_by_the_masks_that_generate_writes(
    tuning: Tuning, manifest: Manifest, tmp_path: Path, settings_tried: slice
) -> None:
    """Byte for byte, and by the very mean that `evaluate` reports."""
    scores = {one.setting.params: one for one in tuning.found.ranked if one.setting.params is not None}
    chosen = some_settings(tuning)
    assert len(chosen) >= 5
    for number, params in enumerate(chosen[settings_tried]):
        source = FmwissSource.from_manifest(manifest, 1, changes(tuning.present.setting.params or params, params))
        assert source.params == params
        out = tmp_path / f"{number}.zarr"
        generate(manifest, step=1, source=source, out=out)
        store = MaskStore.open(out)
        seen = 0
        for batch in range(len(tuning.scratch.batches)):
            for one in tuning.scratch.read(batch):
                masks = masks_of(tuning.sources[params.words], params, one).fused.numpy()
                stored = store.read(store.position(one.task.record.image_id), one.task.categories).masks
                np.testing.assert_array_equal(masks, stored)
                seen += 1
        assert seen == store.layout.num_images
        judged = evaluate(store, manifest).scores["stored"].mean_iou_classes
        assert scores[params].score == pytest.approx(judged, abs=1e-12)


@pytest.mark.parametrize("present", [{"placing": "soft"}, {"affinity": "kk", "balance": "sinkhorn"}])
def test_a_setting_has_its_own_masks_whatever_the_present_one_is(
    manifest: Manifest, tmp_path: Path, present: dict[str, Any]
) -> None:
    """Those of the paper's steps were once made with the present placing and affinity, and scored by that."""
    sample = draw_sample(manifest, 1, count=2)
    source = FmwissSource.from_manifest(manifest, 1, present).prepare("cpu")
    paper, words = as_in_the_paper(source.params), source.params.words
    plan = plan_for(manifest, 1, source, sample.records, Options())
    scratch = Scratch(tmp_path / "scratch", plan, {words: source}, "cpu", 1)
    scratch.see(lambda done, total: None)
    makes = SettingMasks([Setting(params=source.params), Setting(params=paper)], {words: source}, again=False)
    images = [seen for number in range(len(scratch.batches)) for seen in scratch.read(number)]
    assert images
    for seen in images:
        made = dict(makes.of(seen))
        for place, params in enumerate((source.params, paper)):
            assert (made[place].masks == masks_of(source, params, seen).fused).all()
    assert any((made[0].masks != made[1].masks).any() for made in (dict(makes.of(seen)) for seen in images))


def test_the_best_comes_first_and_all_controls_are_there(tuning: Tuning) -> None:
    ranked = tuning.found.ranked
    assert [one.score for one in ranked] == sorted((one.score for one in ranked), reverse=True)
    assert {one.setting.control for one in ranked} == {"", "present", "init", "seeds", "whole"}
    whole = next(one for one in ranked if one.setting.control == "whole")
    assert whole.share == 1.0
    assert whole.score < tuning.present.score < tuning.best.score
    assert tuning.best.setting.params is not None


def test_what_to_expect_of_other_images_is_said(tuning: Tuning, said: str) -> None:
    chosen, present = tuning.found.crosswise
    assert 0 < chosen < 1
    assert 0 < present < 1
    assert f"judged on the other: {100 * chosen:.1f}; the present setting there: {100 * present:.1f}." in said
    assert f"{tuning.found.judged} images of 5 classes are few" in said
    assert "area: how much of its image a mask covers in the mean" in said
    assert ("That is no better" in said) == (chosen <= present)


def test_levers_are_pulled_one_after_the_other_and_told(tuning: Tuning, said: str) -> None:
    steps = tuning.found.steps
    assert [step.name for step in steps[2:]] == [lever.name for lever in levers(tuple(tuning.sources))]
    scores = [step.score for step in steps]
    assert scores == sorted(scores)
    assert scores[-1] == tuning.best.score
    assert sum(step.tried for step in steps) == tuning.found.tried
    tried = {one.setting.params.placing for one in tuning.found.ranked if one.setting.params is not None}
    assert tried == {"drawn", "soft"}
    assert "searched, one after the other" in said
    assert all(step.name in said for step in steps)


def test_how_sure_the_best_masks_are_is_learnt_on_one_half_and_told_on_the_other(
    place: Path, manifest: Manifest, tuning: Tuning, tmp_path: Path
) -> None:
    found, params = tuning.calibration, tuning.best.setting.params
    assert found is not None
    assert params is not None
    assert sum(found.images) == tuning.found.judged
    assert found.after.error < found.before.error
    assert found.before.joint.sum() == found.after.joint.sum()
    np.testing.assert_array_equal(found.before.joint.sum(axis=0), found.after.joint.sum(axis=0))
    curve = found.curve
    source = FmwissSource.from_manifest(manifest, 1, {**changes(tuning.present.setting.params or params, params),
                                                      "calibration": curve})  # fmt: skip
    told = [tuning.sample.records[place].image_id for place in tuning.sample.order[1::2]]
    keep = Options(keep_scores=True)
    whole = MaskStore.open(generate(manifest, step=1, source=source, out=tmp_path / "s.zarr", options=keep).store)
    rows = [whole.position(name) for name in told]
    tally, sure = Tally(6, is_calibrated=True), SureMaps(whole)
    for row, name in zip(rows, told, strict=True):
        (record,) = (record for record in tuning.sample.records if record.image_id == name)
        labels = LabelMaps(whole)(row)
        assert record.label is not None
        tally.add(counted(sure(row, labels), record.label.read(), labels, whole.category_ids))
    assert tally.whole(found.after.names).error == pytest.approx(found.after.error, abs=0.01)  # by bins, or by pixels


def test_settings_whose_masks_are_equal_are_tried_once() -> None:
    present = FmwissParams()
    found = settings(present, ["own"])
    assert len({one.params for one in found}) == len(found)
    alone = settings(FmwissParams(fusion="seeds"), ["own"])
    assert [one.control for one in alone][:4] == ["present", "init", "seeds", "whole"]
    assert len({one.params for one in alone}) == len(alone) - 1, "M_seeds alone is the present setting"
    assert sum(one.params is not None and one.params.fusion == "init" for one in found) == 3 * 2
    with_words = settings(present, ["own", "package"])
    assert not [one for one in with_words if one.params and one.params.background == "minmax"
                and one.params.words == "package"]  # fmt: skip


def test_a_sample_is_drawn_by_name(manifest: Manifest) -> None:
    few, more = draw_sample(manifest, 1, count=3), draw_sample(manifest, 1, count=6)
    assert {r.image_id for r in few.records} < {r.image_id for r in more.records}
    assert [r.image_id for r in more.records] == sorted(r.image_id for r in more.records)
    assert draw_sample(manifest, 1, count=3, seed=1).records != few.records
    assert "wilss-train and wilss-eval as well" in draw_sample(manifest, 1, split="val").warnings[-1]


def test_without_labels_it_guesses_and_says_so(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place, tmp_path / "bare")
    shutil.rmtree(tmp_path / "bare/shapes/SegmentationClass")
    (tmp_path / "bare/shapes/SegmentationClass").mkdir()
    found = run(tmp_path / "bare")
    assert found.exit_code == 0, found.output
    assert "judged by guesses, since nothing is labelled" in found.stdout
    assert "which says little of how right a mask is" in found.stdout
    assert "mIoU" not in found.stdout
    rows = [line for line in found.stdout.splitlines() if "seeds" in line and "," in line]
    assert [float(row.split()[-5]) for row in rows if "control" not in row] == sorted(
        (float(row.split()[-5]) for row in rows if "control" not in row), reverse=True
    )
    refused = run(tmp_path / "bare", "--write")
    assert refused.exit_code == 2
    assert "a guess is not written" in refused.stderr


@pytest.mark.usefixtures("tiny_search")
def test_supports_judge_their_own_class_alone(place: Path, manifest: Manifest) -> None:
    save_supports(draw_supports(manifest, 1, 1), "mask", place / "supports", seed=0)
    sample = draw_sample(manifest, 1, supports=place / "supports")
    assert sample.kind == "supports"
    assert {len(truth.classes) for record in sample.records for truth in sample.truths(record)} == {1}
    found = run(place, "--supports", str(place / "supports"))
    assert found.exit_code == 0, found.output
    assert "judged by supports" in found.stdout


def test_a_list_names_its_typos(place: Path, manifest: Manifest, tmp_path: Path) -> None:
    name = draw_sample(manifest, 1).records[0].image_id
    (tmp_path / "list.txt").write_text(f"{name}\n{name}x\n", encoding="utf-8")
    with pytest.raises(ManifestError, match=rf"'{name}x' is no image with a tag of step 1; did you mean '{name}'"):
        draw_sample(manifest, 1, labelled=tmp_path / "list.txt")
    (tmp_path / "list.txt").write_text(f"{name}\n", encoding="utf-8")
    assert [r.image_id for r in draw_sample(manifest, 1, labelled=tmp_path / "list.txt").records] == [name]
    (tmp_path / "list.txt").write_text(f"{name}.jpg\nimages/{name}.jpg\n", encoding="utf-8")
    with pytest.raises(ManifestError, match=rf"'images/{name}.jpg' is no image with a tag of step 1"):
        draw_sample(manifest, 1, labelled=tmp_path / "list.txt")
    (tmp_path / "list.txt").write_text(f"{name}.jpg\nJPEGImages/{name}.jpg\n", encoding="utf-8")
    assert [r.image_id for r in draw_sample(manifest, 1, labelled=tmp_path / "list.txt").records] == [name]
    many = [record.image_id for record in draw_sample(manifest, 1).records[:3]]
    (tmp_path / "list.txt").write_text("\n".join(many), encoding="utf-8")
    assert len(draw_sample(manifest, 1, labelled=tmp_path / "list.txt", count=2).records) == 3


def test_a_list_may_spell_names_otherwise(manifest: Manifest, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("dög\nb\ndög\n", encoding="utf-8")
    apart, record = unicodedata.normalize("NFD", "dög"), draw_sample(manifest, 1).records[0]
    tagged = {image_id: replace(record, image_id=image_id) for image_id in (apart, "b")}
    assert [found.image_id for found in _listed(tmp_path / "list.txt", tagged, 1)] == [apart, "b"]


@pytest.mark.wide
@pytest.mark.usefixtures("tiny_search")
def test_an_image_that_is_broken_costs_itself(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place, tmp_path / "broken")
    name = draw_sample(load_manifest(tmp_path / "broken"), 1).records[1].image_id
    picture = tmp_path / f"broken/shapes/JPEGImages/{name}.jpg"
    picture.write_bytes(picture.read_bytes()[:2000])
    found = run(tmp_path / "broken")
    assert found.exit_code == 3
    assert f"Failed: {name}" in found.output
    assert name not in (tmp_path / "broken/data_manifest.tuned.txt").read_text(encoding="utf-8")


def test_an_image_of_which_a_network_gives_nan_costs_itself(
    tuning: Tuning, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, first = FmwissProposer.forward, tuning.scratch.batches[0]

    def diverged(self: FmwissProposer, loaded: Any) -> Any:
        told: Any
        told, blocks = forward(self, loaded)
        told[-1, :, 0] = float("nan")
        return told, blocks

    monkeypatch.setattr(FmwissProposer, "forward", diverged)
    scratch = tuning.scratch
    monkeypatch.setattr(scratch, "batches", [first])
    monkeypatch.setattr(scratch, "_files", [tmp_path / f"{'0' * 16}.npz"])
    monkeypatch.setattr(scratch, "folder", tmp_path)
    scratch.see(lambda done, total: None)
    last = first[-1].record
    assert [*scratch.failed] == [last.image_id]
    assert f"{last.path}: the networks gave NaN or infinity for it (in tags." in scratch.failed[last.image_id]
    assert [one.task for one in scratch.read(0)] == [*first[:-1]]


@pytest.mark.usefixtures("tiny_search")
def test_a_run_that_was_stopped_resumes(place: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, asked = place / "stopped", list[int]()
    folder.mkdir()
    (folder / "features.npz").write_bytes(b"somebody's own")
    forward = FmwissProposer.forward

    def counted(self: FmwissProposer, loaded: Any) -> Any:
        asked.append(len(loaded))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return forward(self, loaded)

    monkeypatch.setattr(FmwissProposer, "forward", counted)
    sample = draw_sample(manifest, 1)
    with pytest.raises(KeyboardInterrupt):
        tune(manifest, 1, sample, folder=folder)
    again = tune(manifest, 1, sample, folder=folder)
    assert len(again.scratch.batches) > 2
    assert len(asked) == 1 + len(again.scratch.batches)
    assert (folder / "features.npz").read_bytes() == b"somebody's own"
    third = tune(manifest, 1, sample, folder=folder)
    assert len(asked) == 1 + len(again.scratch.batches)
    assert [one.score for one in third.found.ranked] == [one.score for one in again.found.ranked]


@pytest.mark.usefixtures("tiny_search")
def test_what_was_chosen_is_written_and_its_images_are_left_out(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place, tmp_path / "own")
    own = tmp_path / "own"
    names = [r.image_id for r in draw_sample(load_manifest(own), 1, count=4).records]
    found = run(own, "--images", "4", "--write")
    assert found.exit_code == 0, found.output
    changed = load_manifest(own)
    assert changed.chosen_on == own / "data_manifest.tuned.txt"
    assert changed.chosen_on.read_text(encoding="utf-8").split() == names
    source = FmwissSource.from_manifest(changed, 1)
    assert source.params != FmwissSource.from_manifest(load_manifest(place), 1).params
    summary = generate(changed, step=1, source=source, out=tmp_path / "s.zarr")
    judged = evaluate(MaskStore.open(summary.store), changed)
    assert judged.counted == summary.images - 4
    assert judged.left_out == {"images that masks.fmwiss was chosen on (data_manifest.tuned.txt)": 4}
    assert run(own, "--images", "3").exit_code == 0  # looks for something else, and writes nothing into the manifest
    assert changed.chosen_on.read_text(encoding="utf-8").split() == names
    changed.chosen_on.write_text("\n".join(MaskStore.open(summary.store).image_ids), encoding="utf-8")
    said = CliRunner().invoke(evaluate_command, [str(summary.store), "--manifest", str(own / "data_manifest.yaml")])
    assert "all images that can be judged are images that masks.fmwiss was chosen on" in said.stderr
    changed.chosen_on.unlink()
    (missing,) = evaluate(MaskStore.open(summary.store), changed).warnings
    assert "nobody knows which images" in missing


def test_an_impossible_parameter_is_refused_before_the_networks(place: Path) -> None:
    found = run(place, "--set", "treshold=0.5")
    assert "did you mean threshold" in str(found.exception)
    found = run(place, "--set", "regions=patches")
    assert "tune makes no regions: patches, which take networks; search without them" in str(found.exception)
