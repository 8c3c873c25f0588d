"""A step all of whose pictures hold one class: what is decided by itself, said, and put into the checkpoint."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.wilss.data import data_on_disk as disk
from tests.wilss_train.methods.two_steps import QUIET, inputs, make, masks
from wilss.data.manifest import load_manifest
from wilss.errors import ParameterError
from wilss.models.networks.checkpoint import load_segmenter, read_info
from wilss.models.networks.checkpoint_header import MODEL_FILE, read_header
from wilss.store import Status
from wilss_masks.make.generate import generate
from wilss_masks.make.options import Options as MaskOptions
from wilss_masks.sources.annotation import AnnotationSource
from wilss_train.data.trust import Trust
from wilss_train.inputs import open_inputs
from wilss_train.methods import METHODS, step_prior
from wilss_train.methods.distill import Distill
from wilss_train.methods.step_prior import StepPrior, is_one_sided, notes, prior_of, shifts_of, with_step_prior
from wilss_train.params import TrainParams
from wilss_train.run.identity import as_noted_now, identity_of
from wilss_train.run.settings import settled
from wilss_train.run.train import run_training

#: Horse, the one class of step 1, is on two of eight pictures, a quarter of each.
HORSES = ("im2", "im5")
PARAMS = TrainParams(
    backbone="resnet18", backbone_args={"channels": [8, 8, 8, 8], "layers": [1, 1, 1, 1]}, head_width=8, rates=(1, 2),
    crop=16, batch_size=2, epochs=1, lr=0.01, min_area=4, heads="shared",
)  # fmt: skip
SHIFT = np.log(1 / 16 / (15 / 16)) - np.log(1 / 4 / (3 / 4))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pets")
    names = [f"im{i}" for i in range(8)]
    disk.voc(root / "data", {name: [1 + i % 2, *[3] * 4 * (name in HORSES)] for i, name in enumerate(names)})
    disk.manifest(root, tags={"from": "voc-main"})
    make(root, PARAMS)
    return root


def decided(root: Path, step: int = 1, **changes: Any) -> tuple[str, str]:
    found = settled(replace(PARAMS, **changes), Distill(), inputs(root, step))
    return found.batch_norm, found.logit_adjustment


def test_prior_is_counted_from_masks_and_lists(root: Path) -> None:
    prior = prior_of(inputs(root))
    assert (prior.ids, prior.names) == ((3,), ("horse",))
    assert (prior.step.item(), prior.lists.item(), prior.area.item()) == (1.0, 0.25, 0.25)
    assert is_one_sided(inputs(root).store)
    always = replace(PARAMS, logit_adjustment="always")
    assert shifts_of(inputs(root), always) == {3: pytest.approx(SHIFT)}
    assert shifts_of(inputs(root), replace(always, prevalence=0.01))[3] < 2 * SHIFT
    assert shifts_of(inputs(root), replace(always, logit_adjustment="never")) == {}
    assert shifts_of(inputs(root, 0), always) == {}


def test_auto_is_decided_where_a_step_shows_one_class_and_yields_to_what_is_said(root: Path) -> None:
    assert decided(root) == ("frozen", "always")
    assert decided(root, 0) == ("train", "never")
    assert decided(root, batch_norm="train") == ("train", "always")
    assert decided(root, logit_adjustment="never") == ("frozen", "never")
    other = with_step_prior(PARAMS, inputs(root), from_masks=False, own_heads=False)
    assert (other.batch_norm, other.logit_adjustment) == ("train", "never")
    with pytest.raises(ParameterError, match="logit_adjustment=always is for methods that learn a later step from its"):
        settled(replace(PARAMS, logit_adjustment="always"), METHODS["panet"](), inputs(root))


def test_a_step_of_many_classes_is_as_before() -> None:
    def store(tags: list[list[int]]) -> Any:
        made = {
            "tags": np.array(tags, bool),
            "area": np.array(tags) * 4,
            "height": np.full(4, 4),
            "width": np.full(4, 4),
        }
        status = np.full(4, Status.DONE)
        return SimpleNamespace(
            attributes={},
            category_names=tuple("abc"),
            image_ids=tuple("abcd"),
            current_status=lambda: status,
            vector=made.__getitem__,
        )

    many = store([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]])
    assert not is_one_sided(many)
    first = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 0]], bool)  # of the pictures that are trained on
    assert is_one_sided(many, Trust(weights=np.ones((4, 3), np.float32), seed=0, shown=first))
    assert is_one_sided(store([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]]))


def test_classes_of_which_masks_or_lists_know_nothing_are_left_as_they_are() -> None:
    prior = StepPrior(
        ids=(4, 5, 6, 7), names=tuple("abcd"), step=np.array([1.0, 1.0, 0.0, 1.0]), lists=np.array([0.1, 0.1, 0.1, 0]),
        area=np.array([0.2, 0.0, 0.2, 0.2]),
    )  # fmt: skip
    assert prior.shifts(0).keys() == {4}
    assert prior.shifts(0.5).keys() == {4, 7}
    assert replace(prior, lists=prior.step).shifts(0) == {}


def test_shares_of_pixels_are_as_they_are_however_small_and_no_shift_is_infinite() -> None:
    """A class of few pixels on few pictures sinks by the log of how much rarer its pictures are than in its step."""
    prior = StepPrior(
        ids=(4, 5), names=tuple("ab"), step=np.ones(2), lists=np.array([1e-3, 0.25]), area=np.array([2e-5, 1.0])
    )
    rare, everywhere = prior.shifts(0).values()
    assert rare == pytest.approx(np.log(1e-3), abs=1e-4)
    assert everywhere == pytest.approx(np.log(0.25 / 0.75) - np.log(1e6), abs=1e-4)


def test_classes_of_one_softmax_leave_what_is_left_to_the_others() -> None:
    """Two on every picture of a step and a tenth of all; and two whose masks overlap and cover more than all."""
    prior = StepPrior(ids=(4, 5), names=tuple("ab"), step=np.ones(2), lists=np.full(2, 0.1), area=np.full(2, 0.3))
    wanted = np.log(0.03 / 0.3) - np.log(0.94 / 0.4)
    assert prior.shifts(0, is_softmax=True) == {4: pytest.approx(wanted), 5: pytest.approx(wanted)}
    alike = replace(prior, lists=np.array([0.1, 1.0])).shifts(0, is_softmax=True)
    assert alike == {4: pytest.approx(np.log(0.03 / 0.3) - np.log(0.67 / 0.4)), 5: pytest.approx(-np.log(0.67 / 0.4))}
    assert replace(prior, lists=prior.step).shifts(0, is_softmax=True) == {}
    over = replace(prior, area=np.full(2, 0.8)).shifts(0, is_softmax=True)
    assert over[4] == pytest.approx(np.log(0.08 / 0.5) - np.log(0.84 * 1e6), abs=1e-4)


def test_pictures_that_are_not_trained_on_do_not_count(root: Path, tmp_path: Path) -> None:
    """Those tagged with a class that no mask of the store shows."""
    shutil.copytree(root, tmp_path / "root")
    data = tmp_path / "root/data"
    classes = (*disk.CLASSES, "cow")
    pictures = {f"im{i}": [1, *[3] * 4 * (i < 3), *[4] * (i > 2)] for i in range(8)}
    disk.voc(data, pictures, classes=classes)
    for i in range(3, 8):
        disk.label(data / f"SegmentationClass/im{i}.png", [1])
    steps = [{"classes": [1, 2]}, {"classes": [3, 4]}]
    changes = {"tags": {"from": "voc-main"}, "names": list(classes), "steps": steps}
    manifest = load_manifest(disk.manifest(tmp_path / "root", **changes))
    source = AnnotationSource.from_manifest(manifest, 1)
    generate(manifest, step=1, source=source, out=masks(tmp_path, 1), options=MaskOptions(device="cpu"))
    prior = prior_of(open_inputs(manifest, masks(tmp_path, 1), root / "base", "distill"))
    assert prior.names == ("horse", "cow")
    assert prior.step.tolist() == [1.0, 0.0]
    assert prior.shifts(0) == {3: pytest.approx(np.log(3 / 32 / (29 / 32)) - np.log(1 / 4 / (3 / 4)))}


def test_what_is_decided_is_said(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = settled(PARAMS, Distill(), inputs(root))
    adjusted, norm = notes(inputs(root), params)
    assert adjusted == (
        "Logits are adjusted at the end: horse -1.6 (on 100 % of this step's pictures, 25 % of all); "
        "--set logit_adjustment=never leaves them"
    )
    assert norm.startswith("Batch norm keeps its statistics, since")
    assert "10 % of all" in notes(inputs(root), replace(params, prevalence=0.1))[0]
    assert notes(inputs(root), replace(params, batch_norm="train", logit_adjustment="never")) == ()
    assert notes(inputs(root, 0), PARAMS) == ()
    blind = replace(prior_of(inputs(root)), lists=np.ones(1))
    monkeypatch.setattr(step_prior, "prior_of", lambda *given: blind)
    assert "Logits are NOT adjusted: the lists know of no picture without" in notes(inputs(root), params)[0]


def test_a_run_of_before_is_the_same_run_where_nothing_is_adjusted(root: Path) -> None:
    """Runs used to name neither parameter, and batch norm by what it does."""
    plain = settled(replace(PARAMS, logit_adjustment="never"), Distill(), inputs(root))
    for params, differs in ((plain, set()), (replace(plain, logit_adjustment="always"), {"logit_adjustment"})):
        wanted = identity_of(inputs(root), Distill(), params, 0, {})
        noted = {**wanted, "params": {**wanted["params"]}}
        for name in ("logit_adjustment", "prevalence", "heads"):
            del noted["params"][name]
        now = as_noted_now(noted, wanted=wanted, method=Distill(), manifest=inputs(root).manifest)
        assert {name for name, value in wanted["params"].items() if now["params"][name] != value} == differs
    assert wanted["params"]["batch_norm"] == "frozen"


def test_the_checkpoint_alone_knows_of_it(root: Path, tmp_path: Path) -> None:
    """The bias of the new class, and nothing else, differs from a run that is not adjusted; statistics stay."""
    runs = {how: tmp_path / how for how in ("auto", "never")}
    run_training(inputs(root), Distill(), PARAMS, runs["auto"], QUIET)
    run_training(inputs(root), Distill(), replace(PARAMS, logit_adjustment="never"), runs["never"], QUIET)
    adjusted, plain, base = (load_segmenter(read_info(out)).state_dict() for out in (*runs.values(), root / "base"))
    bias = adjusted["classifier.bias"] - plain["classifier.bias"]
    torch.testing.assert_close(bias, torch.tensor([0, 0, 0, SHIFT], dtype=torch.float32), rtol=0, atol=1e-6)
    others = [name for name in plain if name != "classifier.bias"]
    assert all(torch.equal(adjusted[name], plain[name]) for name in others)
    assert all(torch.equal(adjusted[name], base[name]) for name in others if "running_" in name)
    assert read_header(runs["auto"] / MODEL_FILE)["logit_shifts"] == {"horse": pytest.approx(SHIFT)}
    assert "logit_shifts" not in read_header(runs["never"] / MODEL_FILE)
