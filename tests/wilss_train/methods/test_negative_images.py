"""Pictures that are known to show none of a step's classes: how many are taken, what they teach, what is decided."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.wilss.data import data_on_disk as disk
from tests.wilss_train.methods.test_on_every_picture import CAT, CLASSES, DOG, HORSE, METHODS, PARAMS, SIZE, Says
from tests.wilss_train.methods.two_steps import QUIET, inputs, make, masks
from wilss.data.manifest import load_manifest
from wilss.errors import ParameterError
from wilss.models.networks.checkpoint import load_segmenter, read_info
from wilss.store import shows_none
from wilss_masks.make.generate import generate
from wilss_masks.make.options import Options as MaskOptions
from wilss_masks.sources.annotation import AnnotationSource
from wilss_train.context import EpochState, RunContext
from wilss_train.data.batches import SegBatch, SegBatchSource
from wilss_train.data.masked_images import MaskedImages
from wilss_train.inputs import RunInputs
from wilss_train.memory import MemoryBank
from wilss_train.methods import METHODS as ALL
from wilss_train.methods.distill import Distill
from wilss_train.methods.finetune import Finetune
from wilss_train.methods.mib import Mib
from wilss_train.methods.segmenter import MaskMethod, networks_of
from wilss_train.methods.step_prior import is_one_sided, on_all_pictures, prior_of, shifts_of
from wilss_train.methods.wilson import Wilson, WilsonObjective
from wilss_train.params import TrainParams
from wilss_train.results.report.log import LOG_FILE, read_log
from wilss_train.run.plan import plan_of
from wilss_train.run.settings import settled
from wilss_train.run.train import run_training

NAMES = CLASSES[:4]
#: Step 1 brings horses, a quarter of six pictures; twelve show none, half of these a cat or a dog, half nothing.
OLD = {f"old{i}": [*(CAT, DOG)[i % 2], *[0] * 24] for i in range(6)}
NEW = {f"new{i}": [*CAT, *[0] * 8, *HORSE] for i in range(6)}
BARE = {f"bare{i}": [0] for i in range(6)}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Masks of both steps, and a base."""
    root = tmp_path_factory.mktemp("pets")
    pictures = {**OLD, **NEW, **BARE}
    disk.voc(root / "data", pictures, classes=NAMES, labels=None)
    for number, (name, columns) in enumerate(pictures.items()):
        disk.image(root / f"data/JPEGImages/{name}.jpg", SIZE, seed=number)
        disk.label(root / f"data/SegmentationClass/{name}.png", columns, SIZE)
    disk.manifest(root, names=list(NAMES), tags={"from": "voc-main", "complete": True})
    make(root, PARAMS)
    return root


@pytest.fixture(scope="module")
def unknowing(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same data, of whose tags nobody says that they are complete."""
    other = tmp_path_factory.mktemp("unknowing") / "pets"
    shutil.copytree(root, other)
    shutil.rmtree(other / "masks")
    disk.manifest(other, names=list(NAMES), tags={"from": "voc-main"})
    manifest = load_manifest(other / "data_manifest.yaml")
    for step in (0, 1):
        source = AnnotationSource.from_manifest(manifest, step)
        generate(manifest, step=step, source=source, out=masks(other, step), options=MaskOptions(device="cpu"))
    return other


def with_images(**changes: Any) -> TrainParams:
    return replace(PARAMS, **changes)


def batches_of(given: RunInputs, params: TrainParams, count: int = 1) -> list[SegBatch]:
    images = MaskedImages(given.store, given.records)
    source = SegBatchSource(images, given.protocol, given.step, params, seed=0)
    return [batch for (batch,) in source.stream(0, count)]


def taken(given: RunInputs, negatives: float) -> int:
    params = with_images(negative_images=negatives)
    return SegBatchSource(MaskedImages(given.store, given.records), given.protocol, 1, params, seed=0).image_count


def test_as_many_are_taken_as_are_asked_for(root: Path) -> None:
    assert TrainParams().negative_images == 1
    assert shows_none(inputs(root).store).sum() == 12
    assert [taken(inputs(root), negatives) for negatives in (0, 0.5, 1, 1.5, 9)] == [6, 9, 12, 15, 18]


def pulled(root: Path, method: MaskMethod, step: int) -> Mapping[str, Tensor]:
    """By image that shows none of the step's classes how far each class's logit is pulled up, [C, 4, 4].

    Of a student that takes any class for likely, beside an old model that is sure of a cat at the left.
    """
    given = inputs(root, step, method=method.name)
    context = RunContext(inputs=given, params=with_images(heads="shared", batch_norm="frozen"), seed=0)
    student, old = networks_of(context)
    objective = method.objective(student, old, context).train()
    found: dict[str, Tensor] = {}
    for batch in batches_of(given, context.params, 3):
        count = len(batch.image_ids)
        told = torch.full((count, 3, 4, 4), -6.0)
        told[:, 1, :, :2] = told[:, 0, :, 2:] = 6.0
        channels = len(given.protocol.seen(step))
        student.classifier = Says(torch.zeros(count, channels, 4, 4))  # type: ignore[assignment]
        if old is not None:
            old.classifier = Says(told)  # type: ignore[assignment]
        torch.stack(list(objective(batch, EpochState(epoch=1, epochs=2)).values())).sum().backward()
        gradient = student.classifier.logits.grad
        assert isinstance(gradient, Tensor)
        is_negative = (~batch.tags.any(dim=1)).tolist()
        rows = zip(batch.image_ids, -gradient, is_negative, strict=True)
        found |= {name: pull for name, pull, is_wanted in rows if is_wanted}
    assert len(found) >= 3
    return found


@pytest.mark.few(3)
@pytest.mark.parametrize("method", METHODS, ids=lambda one: one.name)
def test_no_pixel_of_them_is_taught_as_a_new_class_whatever_a_teacher_says(root: Path, method: MaskMethod) -> None:
    """Old classes and background are what the old model says they are.

    MiB's distillation pulls background and new classes alike where the old model says background, and its
    cross-entropy tells them apart.
    """
    for pull in pulled(root, method, 1).values():
        background, cat, _, horse = pull
        assert (horse < background).all() if isinstance(method, Mib) else horse.max() < 0
        if not isinstance(method, Finetune):
            assert cat[:, :2].min() > 0 > cat[:, 2:].max()
            assert background[:, 2:].min() > 0


@pytest.mark.few(3)
@pytest.mark.parametrize("method", METHODS, ids=lambda one: one.name)
def test_at_step_0_they_are_background(root: Path, method: MaskMethod) -> None:
    for name, (background, *classes) in pulled(root, method, 0).items():
        assert name.startswith("bare")
        assert background.min() > 0
        assert max(one.max() for one in classes) < 0


def test_shares_are_those_of_the_pictures_that_are_trained_on(root: Path) -> None:
    store, given = inputs(root).store, inputs(root)
    for negatives, share in ((0.0, 1.0), (0.5, 2 / 3), (1.0, 0.5), (2.0, 1 / 3)):
        prior = prior_of(given, None, negatives)
        assert (prior.step.item(), prior.lists.item(), prior.area.item()) == (share, 1 / 3, 0.25)
        assert is_one_sided(store, None, negatives) == (negatives < 1)
        assert on_all_pictures(store, negatives) == ({3} if not negatives else frozenset())
    params = with_images(logit_adjustment="always", negative_images=0.5)
    odds = np.log(1 / 12 / (11 / 12)) - np.log(1 / 6 / (5 / 6))
    assert shifts_of(given, params) == {3: pytest.approx(odds)}
    assert shifts_of(given, replace(params, negative_images=2.0)) == {}, "they are as often as on the lists"


@pytest.mark.parametrize(
    ("negatives", "wanted"), [(0.0, ("frozen", "always", "step")), (1.0, ("train", "never", "shared"))]
)
def test_what_is_auto_is_decided_by_these_shares(root: Path, negatives: float, wanted: tuple[str, ...]) -> None:
    found = settled(with_images(negative_images=negatives), Distill(), inputs(root))
    assert (found.batch_norm, found.logit_adjustment, found.heads) == wanted


def test_wilson_needs_no_masks_beside_them(root: Path) -> None:
    """Of a class on all pictures of a step its tags do not say where it is not, and masks have to."""
    for negatives, by_masks in ((0.0, [True]), (1.0, [False])):
        params = with_images(negative_images=negatives, heads="shared", batch_norm="frozen")
        context = RunContext(inputs=inputs(root, method="wilson"), params=params, seed=0)
        objective = Wilson(warmup_epochs=1).objective(*networks_of(context), context)
        assert isinstance(objective, WilsonObjective)
        assert objective._by_masks == by_masks


def test_a_run_that_leaves_them_out_is_the_run_of_a_store_without_them(
    root: Path, unknowing: Path, tmp_path: Path
) -> None:
    """To the bit; and one that takes them is another one."""
    runs = {"out": (root, 0.0), "never": (unknowing, 1.0), "in": (root, 1.0)}
    for name, (folder, negatives) in runs.items():
        run_training(inputs(folder), Distill(), with_images(negative_images=negatives), tmp_path / name, QUIET)
    out, never, within = (load_segmenter(read_info(tmp_path / name)).state_dict() for name in runs)
    assert out.keys() == never.keys()
    assert all(torch.equal(out[name], never[name]) for name in out)
    losses = ([line.losses for line in read_log(tmp_path / name / LOG_FILE).steps] for name in ("out", "never"))
    assert next(losses) == next(losses)
    assert any(name not in within or not torch.equal(out[name], within[name]) for name in out)


def test_memory_is_of_the_pictures_that_were_trained_on(root: Path, tmp_path: Path) -> None:
    params = with_images(limit=5, heads="shared")
    run_training(inputs(root), Distill(), params, tmp_path / "run", QUIET)
    shown = {name for batch in batches_of(inputs(root), params, 5) for name in batch.image_ids}
    bank = MemoryBank.open(tmp_path / "run/memory.zarr")
    kept = {info.image_id for info in bank.instances(3)}
    assert kept == {name for name in shown if name.startswith("new")}


def test_a_run_says_how_many_are_learnt_from(root: Path, unknowing: Path) -> None:
    def told(folder: Path, method: MaskMethod, params: TrainParams) -> list[str]:
        context = RunContext(inputs=inputs(folder), params=settled(params, method, inputs(folder)), seed=0)
        notes = plan_of(method.experiment(context), context, method).notes
        return [note for note in notes if "none of the step's classes" in note]

    (note,) = told(root, Distill(), PARAMS)
    assert note.startswith("6 of 12 pictures that show none of the step's classes are learnt from, beside 6 that do;")
    (note,) = told(root, Distill(), with_images(negative_images=0.0))
    assert note.startswith("0 of 12 pictures")
    assert told(unknowing, Distill(), PARAMS) == []


@pytest.mark.parametrize("name", ["panet", "pseudoseg", "unimatch"])
def test_methods_of_other_lessons_refuse_to_be_told_how_many(root: Path, name: str) -> None:
    with pytest.raises(ParameterError, match=f"negative_images=2 is for methods that learn .* and {name} is none"):
        settled(with_images(negative_images=2.0), ALL[name](), inputs(root, 0))
    settled(PARAMS, ALL[name](), inputs(root, 0))
