"""`unimatch`: which terms train what, what the teacher does, and runs that go on where they stopped."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.drills import turns
from tests.wilss_train.data.semi.world import IMAGES, PARAMS, inputs, make
from tests.wilss_train.logs import untimed_lines
from wilss.data.images import IMAGENET_MEAN, IMAGENET_STD, normalise
from wilss.data.manifest import load_manifest
from wilss.errors import CheckpointError, ParameterError
from wilss.models.networks.checkpoint import read_info
from wilss.models.networks.checkpoint_header import MODEL_FILE
from wilss.models.networks.segmenter import build
from wilss.models.networks.spec import SegmenterSpec
from wilss.store import MaskStore
from wilss_masks.make.generate import generate
from wilss_masks.make.options import Options as MaskOptions
from wilss_masks.sources.pseudoseg import PseudosegSource
from wilss_train.context import EpochState
from wilss_train.data.semi.pairs import PairBatch
from wilss_train.methods.mean_teacher import UnimatchObjective
from wilss_train.methods.unimatch import Unimatch
from wilss_train.results.report.log import LOG_FILE, read_log
from wilss_train.run.fit import Stopped
from wilss_train.run.train import Options, Summary, run_training

QUIET = Options(threads=1, device="cpu", split=None, workers=2)
NOW = EpochState(epoch=3, epochs=10)


def batch(known: int = 2, others: int = 3, seed: int = 0) -> PairBatch:
    generator = torch.Generator().manual_seed(seed)

    def pixels(count: int) -> Tensor:
        return torch.randint(0, 256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)

    everywhere = torch.ones(others, 16, 16, dtype=torch.bool)
    boxes = torch.zeros(others, 2, 32, 32, dtype=torch.bool)
    boxes[:, 0, 4:20, 4:20] = True
    return PairBatch(
        images=pixels(known), labels=torch.randint(0, 4, (known, 16, 16), generator=generator, dtype=torch.uint8),
        inside=torch.ones(known, 16, 16, dtype=torch.bool), weak=pixels(others), strong=pixels(others),
        second=pixels(others), boxes=boxes, shown=everywhere, valid=everywhere,
        targets=torch.empty(0, 4, 16, 16, dtype=torch.float16), image_ids=("a",) * (known + others),
    )  # fmt: skip


def objective(**more: Any) -> UnimatchObjective:
    spec = SegmenterSpec(backbone="resnet18", args={"channels": [8, 8, 8, 8]}, head_width=8, num_channels=4)
    return UnimatchObjective(Unimatch(**{"threshold": 0.0, **more}), build(spec, seed=0), PARAMS)


def statistics(made: UnimatchObjective) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in made.student.named_buffers() if "running" in name}


def test_terms_are_finite_and_the_weight_scales_one_of_them() -> None:
    found = []
    for more in ({}, {"unlabelled": 0.5}):
        torch.manual_seed(0)
        found.append(objective(**more)(batch(), NOW))
    whole, half = found
    assert set(whole) == {"sup", "cons"}
    assert all(bool(torch.isfinite(term)) for term in whole.values())
    torch.testing.assert_close(half["cons"], 0.5 * whole["cons"])


def test_the_first_epochs_may_learn_from_labelled_images_alone() -> None:
    made = objective(supervised_epochs=2)
    assert set(made(batch(), EpochState(epoch=1, epochs=9))) == {"sup"}
    assert set(made(batch(), EpochState(epoch=2, epochs=9))) == {"sup", "cons"}


def test_labels_are_the_teachers_of_weak_views_where_it_is_sure() -> None:
    made, given = objective(threshold=0.3), batch()
    labels, sure = made._labels(given)
    with torch.no_grad():
        logits = made.teacher(normalise(given.weak, IMAGENET_MEAN, IMAGENET_STD))
    shares = torch.nn.functional.interpolate(logits, (16, 16), mode="bilinear").softmax(dim=1)
    assert torch.equal(labels, shares.argmax(dim=1))
    assert torch.equal(sure, shares.amax(dim=1) >= 0.3)
    assert objective(threshold=1.0)(given, NOW)["cons"] == 0


def test_a_label_depends_on_no_batch_mate_and_no_gradient_reaches_the_teacher() -> None:
    made, given, other = objective(), batch(), batch(seed=1)
    mixed = replace(given, weak=torch.cat([given.weak[:1], other.weak[1:]]))
    assert torch.equal(made._labels(given)[0][:1], made._labels(mixed)[0][:1])
    made.train()
    assert not any(module.training for module in made.teacher.modules())
    terms = made(given, NOW)
    (terms["sup"] + terms["cons"]).backward()
    assert all(parameter.grad is None for parameter in made.teacher.parameters())
    assert all(parameter.grad is not None for parameter in made.student.parameters())


def test_strong_views_move_no_statistics_and_are_normalised_by_their_own() -> None:
    made, given, other = objective(), batch(), batch(seed=1)
    made.train()
    both, alone = objective().train(), objective(supervised_epochs=9).train()
    both(given, NOW)
    alone(given, NOW)
    assert all(torch.equal(value, statistics(alone)[name]) for name, value in statistics(both).items())
    torch.manual_seed(0)
    first = made(given, NOW)["cons"]
    torch.manual_seed(0)
    second = made(replace(given, images=other.images), NOW)["cons"]
    torch.testing.assert_close(first, second)


def test_the_teacher_follows_and_is_the_student_after_the_first_step() -> None:
    made = objective(average=0.9)
    with torch.no_grad():
        for parameter in made.student.parameters():
            parameter.add_(1.0)
    made.follow(1)
    for mine, its in zip(made.teacher.parameters(), made.student.parameters(), strict=True):
        assert torch.equal(mine, its)
    before = [parameter.clone() for parameter in made.teacher.parameters()]
    with torch.no_grad():
        for parameter in made.student.parameters():
            parameter.add_(1.0)
    made.follow(100)
    for mine, was in zip(made.teacher.parameters(), before, strict=True):
        torch.testing.assert_close(mine, was + 0.1)


def test_half_of_the_channels_are_dropped_in_one_view_and_the_others_in_the_other() -> None:
    made = objective(dropped=1.0)
    seen: list[Tensor] = []
    made.student.body.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    strong = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    made._of_strong(torch.cat([strong, strong]))
    first, second = ((one.flatten(2) != 0).any(dim=2) for one in seen[0].chunk(2))
    assert not (first & second).any()
    assert (first | second).float().mean() > 0.9


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"threshold": 1.5}, r"threshold is 1\.5"),
        ({"average": 1.0}, r"average is 1\.0"),
        ({"jitter": (0.5,)}, r"jitter is \(0\.5,\); it must be four numbers"),
        ({"blur": (2.0, 1.0)}, r"blur is \(2\.0, 1\.0\)"),
        ({"cutmix_area": (0.1, 0.9)}, r"cutmix_area is \(0\.1, 0\.9\)"),
        ({"kept": "both"}, r"kept is 'both'; choose one of teacher, student"),
    ],
)
def test_parameters_without_meaning_are_refused(values: Mapping[str, Any], said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        Unimatch(**values)


# -- runs ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("pets"))


def method(root: Path, **more: Any) -> Unimatch:
    return Unimatch(labelled=str(root / "labelled.txt"), **{"threshold": 0.4, **more})


def run(root: Path, out: Path, *, options: Options = QUIET, made: Unimatch | None = None, **changes: Any) -> Summary:
    return run_training(inputs(root), made or method(root), replace(PARAMS, **changes), out, options)


@pytest.fixture(scope="module")
def whole(root: Path) -> Path:
    """A run without an interruption, judged."""
    run(root, root / "whole", options=replace(QUIET, split="val"))
    return root / "whole"


def contents(out: Path) -> tuple[bytes, list[dict[str, Any]]]:
    return (out / MODEL_FILE).read_bytes(), untimed_lines(out / LOG_FILE)


# elsewhere in the loop, which all methods share: run/test_fit
@pytest.mark.parametrize("after", turns([1, 7, 11], short=[7]))
def test_stopped_and_gone_on_with_is_uninterrupted(root: Path, whole: Path, tmp_path: Path, after: int) -> None:
    asked = iter(range(1, 10**6))
    out = tmp_path / "run"
    with pytest.raises(Stopped):
        run(root, out, options=replace(QUIET, asked_to_stop=lambda: next(asked) >= after))
    run(root, out, options=replace(QUIET, resume=True, workers=3))
    assert contents(out) == contents(whole)


@pytest.mark.wide
def test_a_frozen_backbone_which_is_in_no_state_is_the_same_after_a_stop(root: Path, tmp_path: Path) -> None:
    run(root, tmp_path / "whole", freeze="backbone")
    asked = iter(range(1, 10**6))
    with pytest.raises(Stopped):
        run(root, tmp_path / "run", options=replace(QUIET, asked_to_stop=lambda: next(asked) >= 7), freeze="backbone")
    run(root, tmp_path / "run", options=replace(QUIET, resume=True), freeze="backbone")
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


def test_a_run_says_what_it_is_and_keeps_the_teacher(root: Path, whole: Path, tmp_path: Path) -> None:
    info = read_info(whole)
    assert (info.method, info.step, info.iterations) == ("unimatch", 0, 12)
    assert set(json.loads((whole / "run.json").read_text())["method_inputs"]) == {"labelled"}
    losses = read_log(whole / LOG_FILE).steps[-1].losses
    assert losses.keys() == {"sup", "cons", "total"}
    assert losses["cons"] > 0, "a teacher that is sure of nothing would teach nothing"
    assert json.loads((whole / "report.json").read_text())["scores"]["mean_iou"] > 0
    run(root, tmp_path / "student", made=method(root, kept="student"))
    assert (tmp_path / "student" / MODEL_FILE).read_bytes() != (whole / MODEL_FILE).read_bytes()


def test_its_decoder_labels_the_step_for_others(root: Path, whole: Path, tmp_path: Path) -> None:
    manifest = load_manifest(root / "data_manifest.yaml")
    source = PseudosegSource.from_manifest(manifest, 0, {"checkpoint": str(whole), "kind": "decoder"})
    generate(manifest, step=0, source=source, out=tmp_path / "soft.zarr", options=MaskOptions(device="cpu"))
    assert len(MaskStore.open(tmp_path / "soft.zarr").image_ids) == len(IMAGES)
    with pytest.raises(CheckpointError, match=r"--set kind=decoder"):
        PseudosegSource.from_manifest(manifest, 0, {"checkpoint": str(whole)})
