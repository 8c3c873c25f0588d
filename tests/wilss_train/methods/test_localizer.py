"""WILSON's localizer, and what its objective does with it."""

from dataclasses import replace

import pytest
import torch

from tests.wilss_train.methods.test_methods import FIRST, LAST, batch, graded, having, setup, spec, started
from wilss.errors import ParameterError
from wilss.models.networks.segmenter import build
from wilss_train.methods.localizer import Localizer
from wilss_train.methods.wilson import Wilson


def test_it_is_three_convolutions_on_the_students_features() -> None:
    student = build(spec(5), seed=0)
    localizer = Localizer.like(student, seed=1)
    shapes = [tuple(p.shape) for name, p in localizer.named_parameters() if p.ndim == 4]
    width, depth = student.spec.head_width, student.feature_dim
    assert shapes == [(width, depth, 3, 3), (width, width, 3, 3), (5, width, 1, 1)]
    assert localizer(torch.rand(2, depth, 3, 4)).shape == (2, 5, 3, 4)


def test_its_weights_depend_on_the_seed_alone() -> None:
    student, state = build(spec(5), seed=0), torch.get_rng_state()
    first, again, other = (Localizer.like(student, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["0.weight"], other["0.weight"])


def test_settled_scores_change_nothing_and_use_what_was_gathered() -> None:
    localizer, features = Localizer(4, 3, 5).train(), torch.rand(2, 4, 3, 3)
    before = {name: value.clone() for name, value in localizer.state_dict().items()}
    settled = localizer.settled(features)
    assert all(torch.equal(value, before[name]) for name, value in localizer.state_dict().items())
    assert localizer.training
    assert not settled.requires_grad
    assert not torch.allclose(settled, localizer(features))
    assert torch.equal(localizer.settled(features), localizer.eval()(features))


def test_during_the_warm_up_the_students_head_is_not_trained() -> None:
    objective = started(Wilson(warmup_epochs=2).objective(*setup(1)))
    terms = objective(batch(1), FIRST)
    assert terms.keys() == {"tags", "prior", "features"}
    assert having(graded(objective, terms), "localizer.", "student.backbone.")


def test_the_localizer_can_be_kept_from_the_backbone() -> None:
    objective = started(Wilson(localizer_gradient=False).objective(*setup(1)))
    terms = objective(batch(1), LAST)
    lessons = {name: terms[name] for name in ("tags", "prior", "own")}
    assert having(graded(objective, lessons), "localizer.")


def test_the_student_is_not_asked_to_please_the_localizer() -> None:
    objective = started(Wilson().objective(*setup(1)))
    assert having(graded(objective, {"seg": objective(batch(1), LAST)["seg"]}), "student.")


def test_in_a_step_of_several_classes_masks_are_not_looked_at_and_tags_are() -> None:
    given, without = batch(1), batch(1)
    without.pseudo.zero_()
    tagless = replace(batch(1), tags=torch.zeros(2, 2, dtype=torch.bool))
    first, second, third = (started(Wilson().objective(*setup(1)))(one, LAST) for one in (given, without, tagless))
    assert all(torch.equal(first[term], second[term]) for term in first)
    assert not torch.equal(first["tags"], third["tags"])
    assert not torch.equal(first["seg"], third["seg"])


def test_parts_can_be_left_out() -> None:
    terms = started(Wilson(own_labels=0.0, features=0.0).objective(*setup(1)))(batch(1), LAST)
    assert terms.keys() == {"tags", "prior", "seg"}


@pytest.mark.parametrize(("step", "alike"), [(1, 1), (2, 2)])
def test_in_a_step_of_one_class_what_lies_outside_its_masks_is_without_it(step: int, alike: int) -> None:
    methods = Wilson(), Wilson(negatives="images"), Wilson(negatives="masks")
    found = [started(method.objective(*setup(step)))(batch(step), LAST)["tags"].item() for method in methods]
    assert found[0] == found[alike]
    assert found[2] > found[1]


def test_of_a_class_on_every_picture_what_lies_outside_its_masks_is_without_it() -> None:
    """Tags say nothing of where it is not; of the step's other classes they do."""
    everywhere = batch(1)
    everywhere.pseudo[:, 1] = True  # outside of which nothing is
    found = started(Wilson().objective(*setup(1, [[1, 0], [1, 1]])))(batch(1), LAST)["tags"]
    both = started(Wilson().objective(*setup(1, [[1, 1], [1, 1]])))(batch(1), LAST)["tags"]
    by_masks = started(Wilson(negatives="masks").objective(*setup(1)))
    by_images = started(Wilson(negatives="images").objective(*setup(1, [[1, 1], [1, 1]])))
    assert torch.equal(found, by_masks(everywhere, LAST)["tags"])
    assert torch.equal(both, by_masks(batch(1), LAST)["tags"])
    assert both > found > by_images(batch(1), LAST)["tags"]


def test_a_warm_up_without_end_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"has 40 epochs.*at most 39: --set warmup_epochs=39\."):
        Wilson(warmup_epochs=40).objective(*setup(1))
    assert (Wilson().epochs_alone(0), Wilson().epochs_alone(1)) == (0, 5)
