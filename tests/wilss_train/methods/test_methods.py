"""What every method of the table keeps to: its terms, and what its losses train."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from wilss.data.protocol import StepProtocol
from wilss.data.taxonomy import VOID, Taxonomy
from wilss.errors import ParameterError
from wilss.models.networks.norms import set_batch_norm
from wilss.models.networks.segmenter import Segmenter, build, grown
from wilss.models.networks.spec import SegmenterSpec
from wilss.params import with_values
from wilss.store import Status
from wilss_train.context import EpochState, RunContext
from wilss_train.data.batches import SegBatch
from wilss_train.inputs import RunInputs
from wilss_train.methods import METHODS
from wilss_train.methods.base import frozen
from wilss_train.methods.features import FeatureSource
from wilss_train.methods.finetune import label_targets
from wilss_train.methods.fmwiss import Fmwiss
from wilss_train.methods.segmenter import MaskMethod
from wilss_train.params import TrainParams

NAMES = ("background", "cat", "dog", "horse", "cow", "ant")
TAXONOMY = Taxonomy(name="pets", class_names=NAMES)
#: A step of two classes, one of two more, and one of a single class.
PROTOCOL = StepProtocol(name="2-2-1", taxonomy=TAXONOMY, steps=((2, 1), (4, 5), (3,)))
SIDE = 32
LAST, FIRST = EpochState(epoch=9, epochs=10), EpochState(epoch=0, epochs=10)
TERMS = {
    "fmwiss": {"new", "old", "dcl", "seg"},
    "distill": {"new", "old"},
    "finetune": {"seg"},
    "wilson": {"tags", "prior", "features", "own", "seg"},
    "mib": {"seg", "old"},
    "plop": {"seg", "pod"},
}
#: What a method trains beside the student.
BESIDE = {"fmwiss": ("teacher.",), "wilson": ("localizer.",)}


def spec(channels: int) -> SegmenterSpec:
    return SegmenterSpec(backbone="resnet18", args={"channels": [8, 8, 8, 8]}, head_width=8, num_channels=channels)


class Setup(NamedTuple):
    """What an objective is built from."""

    student: Segmenter
    old: Segmenter | None
    context: RunContext


def store(step: int, holds: Sequence[Sequence[int]] | None = None) -> Any:
    """As much of a store as a method asks for. holds: which new classes each picture holds; None for one each."""
    new = PROTOCOL.new(step)
    tags = np.eye(len(new), dtype=bool) if holds is None else np.array(holds, bool)
    vectors = {"tags": tags, "area": tags * 4, "height": np.full(len(tags), 4), "width": np.full(len(tags), 4)}
    return SimpleNamespace(
        attributes={}, category_ids=new, category_names=tuple(NAMES[identity] for identity in new),
        image_ids=tuple(map(str, range(len(tags)))), current_status=lambda: np.full(len(tags), Status.DONE),
        vector=vectors.__getitem__,
    )  # fmt: skip


def setup(step: int, holds: Sequence[Sequence[int]] | None = None) -> Setup:
    """Networks whose statistics stay, so that a forward pass changes nothing. holds: see `store`."""
    seen = len(PROTOCOL.seen(step))
    old = build(spec(len(PROTOCOL.seen(step - 1))), seed=0) if step else None
    student = build(spec(seen), seed=1) if old is None else grown(old, seen, rows="random", seed=1)
    inputs = cast(RunInputs, SimpleNamespace(protocol=PROTOCOL, step=step, store=store(step, holds)))
    return Setup(set_batch_norm(student, "frozen"), old, RunContext(inputs=inputs, params=TrainParams(), seed=2))


def batch(step: int, *, pasted: bool = False, seed: int = 0) -> SegBatch:
    generator = torch.Generator().manual_seed(seed)
    classes = len(PROTOCOL.new(step))
    pseudo = torch.zeros(2, classes, SIDE, SIDE, dtype=torch.bool)
    for place in range(classes):
        pseudo[:, place, 4 : 14 + 2 * place, 4 + 12 * place : 14 + 12 * place] = True
    lies = torch.full((2, SIDE, SIDE), VOID, dtype=torch.uint8)
    if pasted:
        lies[0, 20:28, 2:12] = 1
    void = torch.zeros(2, SIDE, SIDE, dtype=torch.bool)
    void[:, -3:] = True
    images = torch.randint(0, 256, (2, 3, SIDE, SIDE), dtype=torch.uint8, generator=generator)
    tags = pseudo.any(dim=-1).any(dim=-1)
    return SegBatch(images=images, tags=tags, pseudo=pseudo, pasted=lies, void=void, image_ids=("a", "b"), seeds=(1, 2))


def started(objective: nn.Module) -> nn.Module:
    return objective.train()


def graded(objective: nn.Module, terms: Mapping[str, Tensor]) -> set[str]:
    """Names of the parameters that the terms have a gradient for that is not 0."""
    objective.zero_grad(set_to_none=True)
    torch.stack(list(terms.values())).sum().backward()
    return {name for name, p in objective.named_parameters() if p.grad is not None and bool(p.grad.any())}


def method(name: str) -> Any:
    return METHODS[name]()


def having(names: set[str], *starts: str) -> bool:
    """Whether all begin with one of `starts`, and each of them begins some."""
    return all(name.startswith(starts) for name in names) and all(any(n.startswith(s) for n in names) for s in starts)


@pytest.mark.few(6)
@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("name", TERMS)
def test_terms_are_finite_scalars_that_train_what_is_not_frozen(name: str, step: int) -> None:
    made = setup(step)
    objective = started(method(name).objective(*made))
    before = None if made.old is None else {k: v.clone() for k, v in made.old.state_dict().items()}
    terms = objective(batch(step, pasted=True), LAST)
    assert terms.keys() == TERMS[name]
    assert all(term.shape == () and term.isfinite() and term >= 0 for term in terms.values())
    assert terms["old" if "old" in terms else "seg"] > 0
    trained = graded(objective, terms)
    assert having(trained, "student.backbone.", "student.", *BESIDE.get(name, ()))
    assert "student.classifier.weight" in trained
    if name != "finetune":
        assert made.old is not None
        assert before is not None
        assert not any(p.requires_grad for p in made.old.parameters())
        assert not any(module.training for module in made.old.modules())
        assert all(torch.equal(value, before[key]) for key, value in made.old.state_dict().items())


@pytest.mark.parametrize("name", [name for name in TERMS if name != "plop"])
def test_a_frozen_backbone_looks_at_a_view_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made, looks = setup(1), list[int]()
    assert made.old is not None
    frozen(made.student.backbone)
    forward = made.student.backbone.forward

    def look(images: Tensor) -> Tensor:
        looks.append(len(images))
        return forward(images)

    monkeypatch.setattr(made.student.backbone, "forward", look)
    monkeypatch.setattr(made.old.backbone, "forward", None)  # its features are the student's
    objective = started(method(name).objective(*made))
    shown, named = batch(1, pasted=True), replace(batch(1, pasted=True), views=(7, 8))
    once, first, again = (objective(one, LAST) for one in (shown, named, named))
    assert looks == [2, 1, 1]
    if name != "wilson":  # whose localizer has moved its statistics
        assert all(torch.equal(first[term], again[term]) for term in first)
    for term in once:
        torch.testing.assert_close(first[term], once[term], rtol=1e-4, atol=1e-5)
    objective(replace(named, views=(8, 9)), LAST)
    assert looks == [2, 1, 1, 1]
    assert not any(part.startswith("student.backbone.") for part in graded(objective, again))


def test_features_beyond_the_cache_are_computed_again() -> None:
    student = build(spec(3), seed=0)
    frozen(student.backbone)
    source = FeatureSource(student, replace(TrainParams(), cache_mib=0))
    named = replace(batch(1), views=(7, 8))
    assert torch.equal(source.of(named), FeatureSource(student, TrainParams()).of(named))
    assert not source._kept


@pytest.mark.parametrize("name", TERMS)
def test_step_0_has_the_labels_alone(name: str) -> None:
    objective = started(method(name).objective(*setup(0)))
    terms = objective(batch(0), FIRST)
    assert terms.keys() == {"seg"}
    assert having(graded(objective, terms), "student.")
    assert not [key for key in objective.state_dict() if not key.startswith("student.")]


@pytest.mark.few(3)
@pytest.mark.parametrize("name", TERMS)
def test_equal_setups_give_equal_losses(name: str) -> None:
    found = [started(method(name).objective(*setup(1)))(batch(1, pasted=True), LAST) for _ in range(2)]
    assert all(torch.equal(found[0][term], found[1][term]) for term in found[0])


@pytest.mark.few(3)
@pytest.mark.parametrize("name", TERMS)
def test_void_pixels_teach_nothing(name: str) -> None:
    """Masks, pasted labels under void: the losses do not see them."""
    shown, hidden = batch(1), batch(1)
    hidden.pseudo[:, :, -3:] = True
    first, second = (started(method(name).objective(*setup(1)))(one, LAST) for one in (shown, hidden))
    assert all(torch.equal(first[term], second[term]) for term in first)


@pytest.mark.parametrize("name", TERMS)
def test_a_batch_without_any_mask_has_finite_gradients(name: str) -> None:
    empty = batch(1)
    empty.pseudo.zero_()
    empty.void.fill_(True)
    objective = started(method(name).objective(*setup(1)))
    terms = objective(empty, LAST)
    assert all(term.item() == 0.0 for term in terms.values())
    torch.stack(list(terms.values())).sum().backward()
    grads = [p.grad for p in objective.parameters() if p.grad is not None]
    assert all(bool(grad.isfinite().all()) for grad in grads)


def test_the_warm_up_trains_the_teacher_alone() -> None:
    made = setup(1)
    method = Fmwiss(warmup_epochs=2)
    objective = started(method.objective(*made))
    before = {key: value.clone() for key, value in made.student.state_dict().items()}
    optimiser = torch.optim.SGD([p for p in objective.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1)
    for epoch in (0, 1):
        terms = objective(batch(1, pasted=True, seed=epoch), EpochState(epoch=epoch, epochs=5))
        assert terms.keys() == {"new", "old", "dcl"}
        assert having(graded(objective, terms), "teacher.")
        assert all(p.grad is None for p in made.student.parameters())
        optimiser.step()
    assert all(torch.equal(value, before[key]) for key, value in made.student.state_dict().items())
    terms = objective(batch(1), EpochState(epoch=2, epochs=5))
    assert terms.keys() == {"new", "old", "dcl", "seg"}
    assert having(graded(objective, terms), "teacher.", "student.")


def test_the_rates_stand_still_in_the_warm_up_of_a_step_with_a_teacher() -> None:
    assert [Fmwiss().epochs_constant(step) for step in (0, 1, 4)] == [0, 5, 5]
    assert Fmwiss(teacher=False).epochs_constant(1) == 0
    falling = Fmwiss(warmup_rate="decaying")
    assert (falling.epochs_constant(1), falling.epochs_alone(1)) == (0, 5)  # the student waits all the same
    assert cast(MaskMethod, method("distill")).epochs_constant(1) == 0
    assert Fmwiss.before()["warmup_rate"] == "decaying"


def test_a_contrastive_loss_within_parts_of_a_batch_is_told(caplog: pytest.LogCaptureFixture) -> None:
    made = setup(1)
    parts = made._replace(context=replace(made.context, params=TrainParams(accumulate=2)))
    Fmwiss(contrastive=0.0).objective(*parts)
    Fmwiss().objective(*made)
    assert not caplog.text
    Fmwiss().objective(*parts)
    assert "accumulate=2: the contrastive loss compares points within a part of a batch" in caplog.text


@pytest.mark.parametrize("pasted", [False, True])
def test_without_its_teacher_fmwiss_is_distill(pasted: bool) -> None:
    given = batch(1, pasted=pasted)
    first = started(Fmwiss(teacher=False).objective(*setup(1)))(given, FIRST)
    second = started(method("distill").objective(*setup(1)))(given, FIRST)
    assert first.keys() == second.keys() == {"new", "old"}
    assert all(torch.equal(first[term], second[term]) for term in first)


def test_without_the_contrastive_loss_there_is_no_term_of_it() -> None:
    terms = started(Fmwiss(contrastive=0.0).objective(*setup(1)))(batch(1), LAST)
    assert terms.keys() == {"new", "old", "seg"}
    weights = (0.1, 0.4)
    one, four = (started(Fmwiss(contrastive=w).objective(*setup(1)))(batch(1), LAST)["dcl"] for w in weights)
    torch.testing.assert_close(4 * one, four)


def test_the_teacher_can_be_kept_from_the_backbone() -> None:
    objective = started(Fmwiss(teacher_gradient=False).objective(*setup(1)))
    terms = objective(batch(1), LAST)
    assert having(graded(objective, {name: term for name, term in terms.items() if name != "seg"}), "teacher.")


def test_the_student_is_not_asked_to_please_the_teacher() -> None:
    """L_seg has no gradient for the teacher, which makes its targets."""
    objective = started(Fmwiss().objective(*setup(1)))
    assert having(graded(objective, {"seg": objective(batch(1), LAST)["seg"]}), "student.")


def test_labels_are_the_masks_and_background_elsewhere() -> None:
    masks = torch.zeros(1, 2, 2, 3, dtype=torch.bool)
    masks[0, 0, 0, :2] = masks[0, 1, 0, 1:] = True
    found = label_targets(masks, PROTOCOL.new_channels(1), len(PROTOCOL.seen(1)))
    assert found[0].tolist() == [
        [[0, 0, 0], [1, 1, 1]],
        [[0, 0, 0], [0, 0, 0]],
        [[0, 0, 0], [0, 0, 0]],
        [[1, 1, 0], [0, 0, 0]],
        [[0, 1, 1], [0, 0, 0]],
    ]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"alpha": 1.5}, "alpha is 1.5; it must be between 0 and 1"),
        ({"beta": -0.1}, "beta is -0.1"),
        ({"temperature": 0.0}, "temperature is 0.0; it must be above 0"),
        ({"points": 0}, "points is 0"),
        ({"warmup_epochs": -1}, "warmup_epochs is -1"),
        ({"paste_probability": 2.0}, "probability is 2.0"),
        ({"paste_scale": (2.0, 1.0)}, "two numbers above 0, the smaller first"),
        ({"paste_scale": ()}, r"paste_scale is \(\); it must be two numbers"),
        ({"paste_scale": (0.5, 9.0, 1.0)}, r"paste_scale is .* two numbers"),
        ({"name": "other"}, "no parameter 'name'"),
    ],
)
def test_wrong_parameters_are_refused(values: Mapping[str, Any], sentence: str) -> None:
    with pytest.raises(ParameterError, match=sentence):
        with_values(Fmwiss(), values, where="--set")


def test_what_is_pasted_is_what_was_asked_for() -> None:
    assert Fmwiss(paste_probability=0.0).pasting is None
    pasting = Fmwiss(paste_scale=(0.6, 0.9), paste_flip=0.2, paste_per_image=3).pasting
    assert pasting is not None
    assert (pasting.probability, pasting.scale, pasting.flip, pasting.per_image) == (0.5, (0.6, 0.9), 0.2, 3)
    assert all(method(name).pasting is None for name in TERMS if name != "fmwiss")


@pytest.mark.parametrize("name", TERMS)
def test_parameters_are_told_by_name(name: str) -> None:
    made = METHODS[name]()
    assert made.name == name
    assert with_values(made, made.as_json(), where="json") == made
