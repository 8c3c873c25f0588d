"""One step after another on a data set of seven images: stopped and gone on with, the result is the same to the bit."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from tests.paths import on_disk
from tests.wilss.data import data_on_disk as disk
from tests.wilss_train.logs import untimed_lines
from wilss.data.images import IMAGENET_MEAN, IMAGENET_STD
from wilss.data.manifest import load_manifest
from wilss.data.taxonomy import VOID
from wilss.errors import CheckpointError, ManifestError, ParameterError, StoreError
from wilss.models.encoders.weights import sha256_of
from wilss.models.networks.checkpoint import load_segmenter, read_info
from wilss.models.networks.checkpoint_header import MODEL_FILE
from wilss_masks.make.generate import generate
from wilss_masks.make.options import Options as MaskOptions
from wilss_masks.sources.annotation import AnnotationSource
from wilss_train import cli
from wilss_train.context import EpochState, RunContext
from wilss_train.inputs import RunInputs, _require_outputs, default_out, open_inputs
from wilss_train.memory import MemoryBank
from wilss_train.methods import METHODS
from wilss_train.methods.fmwiss import Fmwiss
from wilss_train.methods.mib import Mib
from wilss_train.methods.plop import Plop
from wilss_train.methods.wilson import Wilson
from wilss_train.params import TrainParams
from wilss_train.results.report.log import LOG_FILE, Progress, read_log
from wilss_train.results.report.page import PAGE_FILE, REPORT_FILE
from wilss_train.run.fit import Stopped
from wilss_train.run.plan import origin_of
from wilss_train.run.settings import open_run, settled, with_input_statistics
from wilss_train.run.train import Options, Summary, _split_of, _tell_overlap, run_training, train
from wilss_train.run_folder import MEMORY

IMAGES = tuple(f"im{i}" for i in range(7))
PARAMS = TrainParams(
    backbone="resnet18", backbone_args={"channels": [8, 8, 8, 8], "layers": [1, 1, 1, 1]}, head_width=8, rates=(1, 2),
    crop=32, batch_size=2, epochs=4, lr=0.01, batch_norm="train", min_area=4, per_class=5, colour=0.1, loss_stride=2,
)  # fmt: skip
QUIET = Options(threads=1, device="cpu", split=None, workers=2)
METHOD = Fmwiss(warmup_epochs=1, paste_probability=0.8, points=3)
STEPS = 12


@dataclass(frozen=True)
class World:
    """A data set with masks of both of its steps, and a run of the first."""

    root: Path

    def inputs(self, step: int, parent: Path | None = None) -> RunInputs:
        parent = self.root / "base" if step and parent is None else parent
        return open_inputs(load_manifest(self.root / "data_manifest.yaml"), self.masks(step), parent, "fmwiss")

    def masks(self, step: int) -> Path:
        return self.root / f"masks/step-{step}.zarr"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("pets")
    disk.voc(root / "data", {name: [1 + i % 2, 3] for i, name in enumerate(IMAGES)})
    for number, name in enumerate(IMAGES):
        size = ((24, 32), (32, 24), (28, 28))[number % 3]
        disk.image(root / f"data/JPEGImages/{name}.jpg", size, seed=number)
        wide = [value for value in (1 + number % 2, 3) for _ in range(7)]
        disk.label(root / f"data/SegmentationClass/{name}.png", [*wide, VOID], size)
    disk.text(root / "data/ImageSets/Segmentation/val.txt", *IMAGES[:3])
    manifest = load_manifest(disk.manifest(root, splits={"train": "train", "val": "val"}))
    world = World(root)
    for step in (0, 1):
        source = AnnotationSource.from_manifest(manifest, step)
        generate(manifest, step=step, source=source, out=world.masks(step), options=MaskOptions(device="cpu"))
    run(world, root / "base", step=0, epochs=1)
    return world


@pytest.fixture(scope="module")
def whole(world: World) -> Path:
    """Step 1 without an interruption."""
    run(world, world.root / "whole")
    return world.root / "whole"


def run(
    world: World, out: Path, *, step: int = 1, options: Options = QUIET, method: Any = METHOD, **changes: Any
) -> Summary:
    return run_training(world.inputs(step), method, replace(PARAMS, **changes), out, options)


def stop_after(count: int) -> Callable[[], bool]:
    asked = iter(range(1, 10**6))
    return lambda: next(asked) >= count


def test_a_run_is_reproducible_and_says_what_it_is(world: World, whole: Path, tmp_path: Path) -> None:
    run(world, tmp_path / "again", options=replace(QUIET, workers=1))
    assert (whole / MODEL_FILE).read_bytes() == (tmp_path / "again" / MODEL_FILE).read_bytes()
    assert untimed_lines(whole / LOG_FILE) == untimed_lines(tmp_path / "again" / LOG_FILE)
    info, base = read_info(whole), read_info(world.root / "base")
    inputs = world.inputs(1)
    assert (info.method, info.step, info.iterations, info.seed) == ("fmwiss", 1, STEPS, 0)
    assert info.parent_digest == base.digest
    assert info.store_digest == inputs.store_digest
    assert base.parent_digest is None
    assert info.params["crop"] == 32
    assert info.params["warmup_epochs"] == 1
    assert info.channel_names == ("background", "cat", "dog", "horse")
    assert load_segmenter(info)(torch.zeros(1, 3, 24, 24)).shape[1] == 4
    assert MemoryBank.open(world.root / "base" / MEMORY).category_ids == (1, 2)
    assert set(MemoryBank.open(whole / MEMORY).category_ids) == {1, 2, 3}
    log = read_log(whole / LOG_FILE)
    assert log.run["images"] == len(IMAGES)
    assert log.ended
    assert [line.step for line in log.steps] == [10, 12]
    assert set(log.steps[-1].losses) == {"new", "old", "dcl", "seg", "total"}


def test_where_the_weights_come_from_is_said(world: World, whole: Path, tmp_path: Path) -> None:
    """In run.json and, where it is nowhere, in the report; a run is resumed whatever is said there."""
    about = {name: json.loads((world.root / name / "run.json").read_text())["about"] for name in ("base", "whole")}
    assert about["base"] == {"network": "resnet18", "weights": "random"}
    assert about["whole"] == {"network": "resnet18", "weights": str(world.root / "base")}
    origin = origin_of(world.inputs(0), METHOD, replace(PARAMS, backbone="tf_efficientnet_lite0"))
    assert "Set backbone_weights to `timm` (the published ones" in origin.warning
    assert "`timm`" not in origin_of(world.inputs(0), METHOD, replace(PARAMS, backbone="wide_resnet38")).warning
    former = json.loads((whole / "run.json").read_text())
    shutil.copytree(whole, tmp_path / "former")
    (tmp_path / "former/run.json").write_text(json.dumps({k: v for k, v in former.items() if k != "about"}))
    assert run(world, tmp_path / "former", options=replace(QUIET, resume=True)).was_complete


def test_another_seed_is_another_network(world: World, whole: Path, tmp_path: Path) -> None:
    run(world, tmp_path / "run", options=replace(QUIET, seed=1))
    assert (whole / MODEL_FILE).read_bytes() != (tmp_path / "run" / MODEL_FILE).read_bytes()


@pytest.mark.few(1)
@pytest.mark.parametrize("after", [2, 11])
def test_stopped_and_gone_on_with_is_uninterrupted(world: World, whole: Path, tmp_path: Path, after: int) -> None:
    out = tmp_path / "run"
    with pytest.raises(Stopped, match=f"stopped at step {after} of {STEPS}"):
        run(world, out, options=replace(QUIET, asked_to_stop=stop_after(after)))
    assert not (out / MODEL_FILE).exists()
    with pytest.raises(CheckpointError, match=r"is not finished; resume it with --resume"):
        run(world, out)
    run(world, out, options=replace(QUIET, resume=True, workers=3))
    assert (whole / MODEL_FILE).read_bytes() == (out / MODEL_FILE).read_bytes()
    assert untimed_lines(whole / LOG_FILE) == untimed_lines(out / LOG_FILE)
    assert MemoryBank.open(whole / MEMORY).digest == MemoryBank.open(out / MEMORY).digest


def test_killed_between_two_states_is_uninterrupted(world: World, whole: Path, tmp_path: Path) -> None:
    """What was logged after the last state is taken back, and said again."""

    class Killed(BaseException):
        pass

    def kill(progress: Progress) -> None:
        raise Killed

    out = tmp_path / "run"
    with pytest.raises(Killed):
        run(world, out, options=replace(QUIET, on_progress=kill), save_steps=7)
    assert [entry.get("step") for entry in untimed_lines(out / LOG_FILE)] == [0, 10]
    run(world, out, options=replace(QUIET, resume=True))  # when to save is no part of what is learnt
    assert (whole / MODEL_FILE).read_bytes() == (out / MODEL_FILE).read_bytes()
    assert untimed_lines(whole / LOG_FILE) == untimed_lines(out / LOG_FILE)


@pytest.mark.few(2)
@pytest.mark.parametrize("name", ["finetune", "distill", "mib", "plop"])
def test_other_methods_run_the_same_way(world: World, tmp_path: Path, name: str) -> None:
    summary = run(world, tmp_path / "run", method=METHODS[name](), epochs=1)
    assert summary.results is not None
    assert (summary.results.info.method, summary.results.info.iterations) == (name, 3)
    assert (summary.results.scores, summary.results.why_not) == (None, "no split was named")


@pytest.mark.few(1)
@pytest.mark.parametrize("name", ["finetune", "distill", "mib", "plop"])
def test_other_methods_go_on_where_they_stopped(world: World, tmp_path: Path, name: str) -> None:
    method = METHODS[name]()
    run(world, tmp_path / "whole", method=method, epochs=2)
    with pytest.raises(Stopped):
        run(world, tmp_path / "run", method=method, epochs=2, options=replace(QUIET, asked_to_stop=stop_after(4)))
    run(world, tmp_path / "run", method=method, epochs=2, options=replace(QUIET, resume=True))
    assert (tmp_path / "whole" / MODEL_FILE).read_bytes() == (tmp_path / "run" / MODEL_FILE).read_bytes()
    assert untimed_lines(tmp_path / "whole" / LOG_FILE) == untimed_lines(tmp_path / "run" / LOG_FILE)


def test_wilson_learns_a_single_class_from_tags_and_is_resumed(world: World, tmp_path: Path) -> None:
    """Its localizer's statistics move, and are part of the state."""
    method = Wilson(warmup_epochs=1)
    run(world, tmp_path / "whole", method=method, epochs=2)
    with pytest.raises(Stopped):
        run(world, tmp_path / "run", method=method, epochs=2, options=replace(QUIET, asked_to_stop=stop_after(4)))
    run(world, tmp_path / "run", method=method, epochs=2, options=replace(QUIET, resume=True))
    assert (tmp_path / "whole" / MODEL_FILE).read_bytes() == (tmp_path / "run" / MODEL_FILE).read_bytes()
    (line,) = read_log(tmp_path / "run" / LOG_FILE).steps
    assert line.losses.keys() == {"tags", "prior", "features", "own", "seg", "total"}


def test_wilson_refuses_a_store_without_tags(world: World, tmp_path: Path) -> None:
    inputs = world.inputs(1)
    inputs.store.attributes["uses_tags"] = False
    context = RunContext(inputs=inputs, params=PARAMS, seed=0)
    with pytest.raises(StoreError, match=r"made without tags.*`wilss-masks generate --step 1`"):
        Wilson().experiment(context)


@pytest.mark.parametrize("chosen", [{"trust": "judged"}, {"least_confidence": 0.5}])
def test_wilson_refuses_to_choose_masks_since_it_learns_from_tags(world: World, chosen: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match="is for methods that learn from masks of a step, and wilson is none"):
        settled(replace(PARAMS, **chosen), Wilson(), world.inputs(1))


def test_plop_warns_of_outputs_that_are_no_softmax(world: World) -> None:
    assert not list(Plop(pod_logits=0).doubts(world.inputs(1)))
    (said,) = Plop().doubts(world.inputs(1))
    assert "was trained by fmwiss, with a sigmoid for each class" in said
    assert "--set pod_logits=0" in said


@pytest.mark.parametrize(("source", "warns"), [("cam", True), ("annotation", False)])
@pytest.mark.parametrize("method", [Mib(), Plop(pod_logits=0)], ids=["mib", "plop"])
def test_methods_for_pixel_labels_warn_of_masks_that_were_guessed_before_anything_is_set_up(
    world: World,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    method: Mib | Plop,
    source: str,
    warns: bool,
) -> None:
    inputs = world.inputs(1)
    inputs.store.attributes["source"] = source
    monkeypatch.setattr("wilss_train.run.settings.open_inputs", lambda *_: inputs)
    open_run(on_disk(inputs.store), manifest=inputs.manifest, method=method, params=PARAMS)
    said = f"made by cam, and {method.name} takes every mask for a pixel label"
    assert (said in caplog.text) == warns
    assert bool(caplog.records) == warns
    assert ("`wilss-masks generate --step 1 --source annotation`" in caplog.text) == warns


@pytest.mark.parametrize(("former", "method"), [("mib", "plop"), ("finetune", "mib"), ("wilson", "distill")])
def test_a_step_starts_from_outputs_that_its_method_reads(world: World, former: str, method: str) -> None:
    _require_outputs(replace(read_info(world.root / "base"), method=former), 1, method)


@pytest.mark.parametrize(
    ("former", "sentence"),
    [
        (
            "mib",
            r"trained by mib, whose outputs are one softmax, and wilson reads.*--method mib or plop, or --from a run",
        ),
        ("pseudoseg", r"trained by pseudoseg, whose outputs are no probabilities.*--source pseudoseg"),
    ],
)
def test_other_outputs_are_refused(world: World, former: str, sentence: str) -> None:
    with pytest.raises(CheckpointError, match=sentence):
        _require_outputs(replace(read_info(world.root / "base"), method=former), 1, "wilson")


@pytest.mark.parametrize(
    ("method", "base", "later"),
    [("fmwiss", "", ""), ("wilson", "", "-wilson"), ("plop", "-mib", "-plop"), ("panet", "-panet", "-panet")],
)
def test_methods_whose_outputs_mean_the_same_share_a_base(world: World, method: str, base: str, later: str) -> None:
    manifest = world.inputs(1).manifest
    folders = [default_out(manifest, step, method).name for step in (0, 1)]
    assert folders == [f"step-0{base}", f"step-1{later}"]
    with pytest.raises(
        CheckpointError, match=f"make it with `wilss-train{f' --method {base[1:]}' if base else ''} --m"
    ):
        open_inputs(manifest, world.masks(1), None, method)


def test_a_finished_run_is_judged_and_left_alone(world: World, tmp_path: Path) -> None:
    out, judged = tmp_path / "run", replace(QUIET, split="val")
    first = run(world, out, options=judged, epochs=2)
    assert not first.was_complete
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    second = run(world, out, options=judged, epochs=2)
    assert second.was_complete
    assert before == {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert first.results is not None
    assert second.results is not None
    assert first.results.scores == second.results.scores
    report = json.loads((out / REPORT_FILE).read_text())
    assert report["scores"] == first.results.scores
    assert report["old_model"] is not None
    assert (out / PAGE_FILE).exists()


def test_without_a_split_val_nothing_is_judged_and_that_is_said_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    inputs = world.inputs(1)
    (data,) = inputs.manifest.data.values()
    data = data.model_copy(update={"splits": {"train": data.splits["train"]}})
    inputs = replace(inputs, manifest=replace(inputs.manifest, data={name: data for name in inputs.manifest.data}))
    assert _split_of(inputs, "val") is None
    assert [record.getMessage().partition("has no split")[2] for record in caplog.records] == [
        " 'val', so the result will not be judged; name a list of images with pixel labels under `splits:` for that."
    ]
    with pytest.raises(ManifestError, match=r"has no split 'test'.*Judge the result on another --split"):
        _split_of(inputs, "test")
    assert _split_of(world.inputs(1), "val") == "val"


def test_images_that_are_trained_on_and_judged_on_are_told(world: World, caplog: pytest.LogCaptureFixture) -> None:
    _tell_overlap(world.inputs(0), "val")
    assert "3 images (im0, im1, im2) of the split 'val' are trained on as well (in main, train)" in caplog.text


def test_a_broken_image_is_logged_once_and_trained_around(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = world.inputs(1)
    bad = tmp_path / "im4.jpg"
    bad.write_bytes(b"no picture")
    records = {**inputs.records, "im4": replace(inputs.records["im4"], path=bad)}
    summary = run_training(
        replace(inputs, records=records), METHOD, replace(PARAMS, min_area=4), tmp_path / "run", QUIET
    )
    log = read_log(tmp_path / "run" / LOG_FILE)
    assert list(summary.failed) == list(log.failed) == ["im4"]
    assert "im4.jpg" in log.failed["im4"]
    assert sum(entry["kind"] == "image" for entry in untimed_lines(tmp_path / "run" / LOG_FILE)) == 1
    assert log.ended


def test_a_frozen_backbone_stays_and_is_resumed_to_the_bit(world: World, tmp_path: Path) -> None:
    """What is kept of views is gone after a stop, and nobody can tell."""
    changes: dict[str, Any] = {"freeze": "backbone", "views": 2}
    run(world, tmp_path / "whole", **changes)
    with pytest.raises(Stopped):
        run(world, tmp_path / "parts", options=replace(QUIET, asked_to_stop=stop_after(5), workers=1), **changes)
    run(world, tmp_path / "parts", options=replace(QUIET, resume=True), **changes)
    assert (tmp_path / "whole" / MODEL_FILE).read_bytes() == (tmp_path / "parts" / MODEL_FILE).read_bytes()
    before, after = (load_segmenter(read_info(out)).backbone for out in (world.root / "base", tmp_path / "whole"))
    for name, value in before.state_dict().items():
        assert torch.equal(value, after.state_dict()[name]), name


def test_other_parameters_are_refused_and_named(world: World, whole: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"started otherwise: params\.lr was 0\.01 and is now 0\.02\. Give"):
        run(world, whole, options=replace(QUIET, resume=True), lr=0.02)
    with pytest.raises(CheckpointError, match=r"method_params\.alpha was 0\.5 and is now 0\.25"):
        run(world, whole, method=replace(METHOD, alpha=0.25))
    with pytest.raises(CheckpointError, match=r"threads was 1 and is now 2"):
        run(world, whole, options=replace(QUIET, threads=2))
    torch.set_num_threads(1)
    with pytest.raises(CheckpointError, match=r"params\.limit was 0 and is now 3"):
        run(world, whole, limit=3)


def test_a_run_of_before_a_parameter_came_is_resumed_as_it_began(world: World, whole: Path, tmp_path: Path) -> None:
    """What such runs did stands in the sentence that refuses another value, so that a reader knows what to set."""
    shutil.copytree(whole, tmp_path / "run")
    told = json.loads((whole / "run.json").read_text())
    for name in ("limit", "nesterov", "decay", "decay_every", "decay_by"):
        del told["params"][name]
    del told["method_params"]["warmup_rate"]
    (tmp_path / "run" / "run.json").write_text(json.dumps(told))
    with pytest.raises(CheckpointError, match=r'warmup_rate was "decaying" and is now "constant"'):
        run(world, tmp_path / "run", options=replace(QUIET, resume=True))
    asked: dict[str, Any] = {
        "method": replace(METHOD, warmup_rate="decaying"), "options": replace(QUIET, resume=True)
    }  # fmt: skip
    with pytest.raises(CheckpointError, match=r"params\.nesterov was false and is now true"):
        run(world, tmp_path / "run", **asked, nesterov=True)
    assert run(world, tmp_path / "run", **asked).was_complete


def test_a_rate_of_a_warm_up_that_there_is_not_decides_nothing(world: World, tmp_path: Path) -> None:
    """At step 0 no teacher learns alone: runs that name such a rate and runs that do not are the same."""
    assert run(world, tmp_path / "run", step=0).results is not None
    told = json.loads((tmp_path / "run" / "run.json").read_text())
    assert "warmup_rate" not in told["method_params"]
    told["method_params"]["warmup_rate"] = "constant"
    (tmp_path / "run" / "run.json").write_text(json.dumps(told))
    for rate in ("constant", "decaying"):
        assert run(world, tmp_path / "run", step=0, method=replace(METHOD, warmup_rate=rate)).was_complete


def test_what_cannot_be_shared_or_normalised_is_refused(world: World, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"every process needs two images at a time"):
        run(world, tmp_path / "run", batch_size=1)
    with pytest.raises(ParameterError, match=r"every process needs two images at a time"):
        run(world, tmp_path / "run", accumulate=2)
    with pytest.raises(ParameterError, match=r"warmup_epochs is \d+ and the run has 1 epochs"):
        run(world, tmp_path / "run", epochs=1)


def test_what_a_step_begins_with_is_checked(world: World, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"step-0\.zarr holds step 0, which starts from no checkpoint"):
        world.inputs(0, parent=world.root / "base")
    with pytest.raises(CheckpointError, match=r"is not there"):
        world.inputs(1, parent=tmp_path)
    inputs = world.inputs(1)
    with pytest.raises(StoreError, match=r"memory\.zarr is not there, and fmwiss pastes old instances"):
        run_training(replace(inputs, memory=None), METHOD, PARAMS, tmp_path / "run", QUIET)


def test_one_call_opens_trains_and_judges(world: World, whole: Path, tmp_path: Path) -> None:
    """`wilss_train.train` does what the pieces do: the same bytes, by instances or by names."""
    manifest = world.root / "data_manifest.yaml"
    asked: dict[str, Any] = {"manifest": manifest, "parent": world.root / "base", "options": QUIET}
    first = train(world.masks(1), method=METHOD, params=PARAMS, out=tmp_path / "instances", **asked)
    assert (first.folder, first.was_complete) == (tmp_path / "instances", False)
    names = {
        **PARAMS.as_json(), "warmup_epochs": 1, "paste_probability": 0.8, "points": 3,
    }  # fmt: skip
    second = train(str(world.masks(1)), params=names, out=str(tmp_path / "names"), **asked)
    assert second.results is not None
    resolved = {
        "backbone_mean": list(IMAGENET_MEAN), "backbone_std": list(IMAGENET_STD), "heads": "step",
        "logit_adjustment": "always",
    }  # fmt: skip
    assert second.results.info.params == {**PARAMS.as_json(), **METHOD.as_json(), **resolved}
    for out in (first.folder, second.folder):
        assert (out / MODEL_FILE).read_bytes() == (whole / MODEL_FILE).read_bytes()


def test_parameters_are_shown_without_the_checkpoint_before_and_wrong_ones_are_refused_first(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--masks", str(world.masks(1)), "--manifest", str(world.root / "data_manifest.yaml")]
    for more, code, said in (
        (["--parameters", "--set", "trust=judged"], 0, "Warning: values that the checkpoint decides are shown as they"),
        (["--parameters", "--set", "trust=foo"], 2, "Error: --set: trust"),
        (["--set", "trust=foo"], 2, "Error: --set: trust"),
        ([], 1, "step 1 starts from the checkpoint of step 0"),
    ):
        with pytest.raises(SystemExit) as end:
            cli.train([*words, *more])
        told = capsys.readouterr()
        assert end.value.code == code
        assert said in told.err
        assert ("trust = judged" in told.out) == (code == 0)
    with pytest.raises(SystemExit):
        cli.train([*words, "--from", str(world.root / "base"), "--parameters"])
    told = capsys.readouterr()
    assert "Warning" not in told.err
    assert "backbone_mean = [0.485" in told.out


def test_defaults_of_one_call(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Folder and parent are in their places, names that nobody has are refused, and nothing is written then."""
    monkeypatch.chdir(tmp_path)
    manifest = load_manifest(world.root / "data_manifest.yaml")
    with pytest.raises(CheckpointError, match=r"step 1 starts from the checkpoint of step 0, and runs/.*/step-0/"):
        train(world.masks(1), manifest=manifest)
    with pytest.raises(ParameterError, match=r"params: there is no parameter 'alhpa'; did you mean alpha\?"):
        train(world.masks(0), manifest=manifest, params={"alhpa": 3})
    with pytest.raises(ParameterError, match=r"there is no method 'fmwis'.*fmwiss"):
        train(world.masks(0), manifest=manifest, method="fmwis")
    with pytest.raises(ParameterError, match=r"^params is a mapping such as .*TrainParams, not \['epochs=1'\]\.$"):
        train(world.masks(0), manifest=manifest, params=["epochs=1"])  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match=r"^options is a wilss_train\.Options, such as Options\(seed=1\), not \{"):
        train(world.masks(0), manifest=manifest, options={"seed": 1})  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
    small = {**PARAMS.as_json(), "epochs": 1}
    caplog.clear()
    summary = train(world.masks(0), manifest=manifest, method="finetune", params=small, options=QUIET)
    assert summary.folder == Path("runs") / manifest.name / "step-0"
    assert (summary.folder / MODEL_FILE).exists()
    assert "RANDOM WEIGHTS: resnet18 starts from random weights" in caplog.text


# -- the input's mean and standard deviation are the backbone's own, from step 0 on

HALF = (0.5, 0.5, 0.5)
HALF_PARAMS = replace(PARAMS, backbone="test_convnext", backbone_args={}, epochs=1)


@pytest.fixture(scope="module")
def half(world: World) -> Path:
    weights = world.root / "net.pth"
    torch.save(timm.create_model("test_convnext").state_dict(), weights)
    params = replace(HALF_PARAMS, backbone_weights=str(weights))
    run_training(world.inputs(0), METHODS["finetune"](), params, world.root / "half", QUIET)
    return world.root / "half"


def test_the_inputs_mean_is_in_checkpoint_run_and_next_step(world: World, half: Path) -> None:
    info = read_info(half)
    assert (info.mean, info.std) == (HALF, HALF)
    assert info.params["backbone_sha256"] == sha256_of(world.root / "net.pth")
    assert json.loads((half / "run.json").read_text())["input"] == {"mean": [0.5] * 3, "std": [0.5] * 3}
    inputs = open_inputs(load_manifest(world.root / "data_manifest.yaml"), world.masks(1), half, "fmwiss")
    run_training(inputs, METHOD, replace(HALF_PARAMS, epochs=2), world.root / "half-1", QUIET)
    assert read_info(world.root / "half-1").mean == HALF


def test_the_inputs_mean_of_a_later_step_is_not_another(world: World, half: Path) -> None:
    inputs = open_inputs(load_manifest(world.root / "data_manifest.yaml"), world.masks(1), half, "fmwiss")
    params = replace(HALF_PARAMS, backbone_mean=(0.4,) * 3, backbone_std=(0.2,) * 3)
    with pytest.raises(ParameterError, match=r"takes images of mean \(0.5, 0.5, 0.5\).*leave them out"):
        run_training(inputs, METHOD, params, world.root / "never", QUIET)


def test_a_doubtful_mean_of_the_input_is_told_once(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """The network's published weights were trained with more than one mean, and a file does not say with which."""
    values = {"backbone": "vit_small_patch16_224", "backbone_weights": "mine.pth"}
    with caplog.at_level("WARNING"):
        asked = open_run(world.masks(0), manifest=world.root / "data_manifest.yaml", method="fmwiss",
                         layers=[("params", values)])  # fmt: skip
        params = settled(asked.params, asked.method, asked.inputs)
        with_input_statistics(params, METHOD, world.inputs(0))
    told = [record.getMessage() for record in caplog.records if "mine.pth does not say" in record.getMessage()]
    assert len(told) == 1
    assert "backbone_mean" in told[0]


def test_the_inputs_mean_of_another_run_is_a_difference(world: World, half: Path) -> None:
    params = replace(HALF_PARAMS, backbone_weights=str(world.root / "net.pth"), backbone_mean=(0.4,) * 3,
                     backbone_std=(0.2,) * 3)  # fmt: skip
    with pytest.raises(CheckpointError, match="input.mean was"):
        run_training(world.inputs(0), METHODS["finetune"](), params, half, replace(QUIET, resume=True))


@pytest.mark.parametrize("method", ["finetune", "distill", "fmwiss"])
def test_the_inputs_mean_reaches_the_network(method: str, world: World, half: Path) -> None:
    inputs = open_inputs(load_manifest(world.root / "data_manifest.yaml"), world.masks(1), half, "fmwiss")
    params = with_input_statistics(HALF_PARAMS, METHODS[method](), inputs)
    context = RunContext(inputs=inputs, params=replace(params, epochs=9), seed=0)
    experiment = METHODS[method]().experiment(context)
    (batch,) = next(iter(experiment.batches.stream(0, 1)))
    student: Any = experiment.objective.student
    seen: list[torch.Tensor] = []
    student.backbone.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    experiment.objective(batch, EpochState(0, 9))
    torch.testing.assert_close(seen[0], batch.images.float() / 127.5 - 1, check_stride=False)
