"""A step whose pictures all hold one old class and one new class, and none another one: what is kept and adjusted."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.drills import turns
from tests.wilss.data import data_on_disk as disk
from tests.wilss_train.methods.two_steps import QUIET, inputs, make
from wilss.data.images import normalise, read_image
from wilss.models.networks.checkpoint import load_segmenter, read_info
from wilss.models.networks.checkpoint_header import MODEL_FILE, read_header
from wilss_train.context import EpochState, RunContext
from wilss_train.data.batches import SegBatch, SegBatchSource
from wilss_train.data.masked_images import MaskedImages
from wilss_train.inputs import SOFTMAX, RunInputs
from wilss_train.methods.base import Method
from wilss_train.methods.distill import Distill
from wilss_train.methods.finetune import Finetune
from wilss_train.methods.fmwiss import Fmwiss
from wilss_train.methods.mib import Mib
from wilss_train.methods.plop import Plop
from wilss_train.methods.segmenter import MaskMethod, networks_of
from wilss_train.methods.step_prior import on_all_pictures
from wilss_train.methods.wilson import Wilson
from wilss_train.params import TrainParams
from wilss_train.results.report.log import LOG_FILE, read_log
from wilss_train.run.train import run_training

CLASSES = ("background", "cat", "dog", "horse", "cow", "ant")
SIZE = (32, 32)
CAT, DOG, HORSE, COW = ([identity] * 8 for identity in range(1, 5))
#: Columns of each picture: the step's eight all hold a cat and a horse, every other one a cow, none an ant.
OLD = {f"old{i}": [*CAT, *DOG] for i in range(4)}
NEW = {f"new{i}": [*CAT, *CAT, *HORSE, *COW * (i % 2)] for i in range(8)}
PARAMS = TrainParams(
    backbone="resnet18", backbone_args={"channels": [8, 8, 8, 8], "layers": [1, 1, 1, 1]}, output_stride=8,
    head_width=8, rates=(1, 2), crop=32, scale=(1.0, 1.0), flip=0.0, batch_size=4, epochs=2, lr=0.01, min_area=4,
)  # fmt: skip
METHODS: tuple[MaskMethod, ...] = (
    *(Finetune(), Distill(), Mib(), Plop(pod_logits=0)),
    *(Fmwiss(warmup_epochs=1, paste_probability=0, points=3), Wilson(warmup_epochs=1)),
)
WAYS = [(method, heads) for method in METHODS for heads in ("shared", "step") if heads == "shared" or method.own_heads]
#: Every method, and by `distill` both kinds of heads.
SHORT = [(one, heads) for one, heads in WAYS if isinstance(one, Distill) or (heads == "step") == one.own_heads]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Masks of both steps, and a base."""
    root = tmp_path_factory.mktemp("pets")
    pictures = {**OLD, **NEW}
    disk.voc(root / "data", pictures, classes=CLASSES, labels=None)
    for number, (name, columns) in enumerate(pictures.items()):
        disk.image(root / f"data/JPEGImages/{name}.jpg", SIZE, seed=number)
        disk.label(root / f"data/SegmentationClass/{name}.png", columns, SIZE)
    steps = [{"classes": [1, 2]}, {"classes": [3, 4, 5]}]
    disk.manifest(root, names=list(CLASSES), tags={"from": "voc-main"}, steps=steps)
    make(root, PARAMS)
    return root


class Says(nn.Module):
    """In a classifier's place: the same logits, whatever the picture shows."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, features: Tensor) -> Tensor:
        return self.logits


def pulls(root: Path, method: MaskMethod) -> Mapping[str, Tensor]:
    """How far a batch of the step pulls every class's logit up, by the place of its columns in the picture.

    Of a student that knows nothing, beside an old model that is sure of cats and of background elsewhere.
    """
    given = inputs(root, method=method.name)
    context = RunContext(inputs=given, params=replace(PARAMS, heads="shared", batch_norm="frozen"), seed=0)
    student, old = networks_of(context)
    assert old is not None
    objective = method.objective(student, old, context).train()
    batch = first_batch(given)
    count, cat, background = len(batch.image_ids), 1, 0
    told = torch.full((count, 3, 4, 4), -6.0)
    told[:, cat, :, :2] = told[:, background, :, 2:] = 6.0
    student.classifier, old.classifier = Says(torch.zeros(count, len(CLASSES), 4, 4)), Says(told)  # type: ignore
    torch.stack(list(objective(batch, EpochState(epoch=1, epochs=2)).values())).sum().backward()
    gradient = student.classifier.logits.grad
    assert isinstance(gradient, Tensor)
    by_column = -gradient.sum(dim=(0, 2))  # [C, 4]
    return {"cat": by_column[:, 0], "horse": by_column[:, 2]}


def first_batch(given: RunInputs) -> SegBatch:
    images = MaskedImages(given.store, given.records)
    ((batch,),) = SegBatchSource(images, given.protocol, given.step, PARAMS, seed=0).stream(0, 1)
    assert batch.tags[:, 0].all()
    return batch


@pytest.mark.few(3)
@pytest.mark.parametrize("method", METHODS, ids=lambda one: one.name)
def test_where_every_picture_holds_an_old_class_its_pixels_are_taught_as_that_and_not_as_background(
    root: Path, method: MaskMethod
) -> None:
    pulled = pulls(root, method)
    background, cat, *others = pulled["cat"].tolist()
    if isinstance(method, Finetune):  # nothing keeps what was learnt
        assert background > 0 > cat
    else:
        assert cat > 0 > background
    assert max(others) < 0
    if not isinstance(method, (Fmwiss, Wilson)):  # theirs is the word of a teacher that has learnt nothing yet
        background, _, _, horse, *_ = pulled["horse"].tolist()
        assert horse > max(0, background)


@pytest.mark.few(3)
@pytest.mark.parametrize(("method", "heads"), turns(WAYS, SHORT), ids=lambda one: getattr(one, "name", one))
def test_every_picture_holds_an_old_class(root: Path, tmp_path: Path, method: Method, heads: Any) -> None:
    """And one of the new ones, whose logit is lowered as Bayes' rule says; nothing is done about one on no picture."""
    run_training(inputs(root, method=method.name), method, replace(PARAMS, heads=heads), tmp_path / "run", QUIET)
    assert all(np.isfinite(list(line.losses.values())).all() for line in read_log(tmp_path / "run" / LOG_FILE).steps)
    base, found = (logits(run, root) for run in (root / "base", tmp_path / "run"))
    assert bool(torch.isfinite(found).all())
    assert read_header(tmp_path / "run" / MODEL_FILE)["logit_shifts"] == pytest.approx(shifts(method.name))
    assert on_all_pictures(inputs(root).store) == {3}
    if heads == "step":
        assert torch.equal(found[:, :3].argmax(dim=1), base.argmax(dim=1))


def shifts(method: str) -> dict[str, float]:
    """Of log odds, each class's against all else or, in one softmax, against what both leave; each has a quarter."""
    step, lists = ({"horse": horse / 4, "cow": cow / 4} for horse, cow in ((1, 1 / 2), (8 / 12, 4 / 12)))

    def odds(shares: Mapping[str, float], name: str) -> float:
        return shares[name] / (1 - (sum(shares.values()) if method in SOFTMAX else shares[name]))

    return {name: float(np.log(odds(lists, name) / odds(step, name))) for name in step}


def logits(run: Path, root: Path) -> Tensor:
    """Of the step's pictures, [8, C, h, w]."""
    info = read_info(run)
    images = np.stack([read_image(root / f"data/JPEGImages/{name}.jpg") for name in NEW])
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
    with torch.no_grad():
        found: Tensor = load_segmenter(info).eval()(normalise(pixels, info.mean, info.std))
    return found
