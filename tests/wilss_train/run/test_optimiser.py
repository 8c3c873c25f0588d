"""Learning rates, and which parameters learn at which."""

import pytest
import torch
from torch import nn

from tests.references import schedules as reference
from wilss_train.data.batch_source import Order
from wilss_train.params import TrainParams
from wilss_train.run.optimiser import Schedule, learning_rates, make_optimiser, poly, set_learning_rates


class Student(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = nn.Linear(2, 3), nn.Linear(3, 1)


class Objective(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.student, self.teacher, self.old = Student(), nn.Linear(3, 2), Student().requires_grad_(False)


def test_poly_falls_from_one_to_nearly_nothing() -> None:
    factors = [poly(step, 100) for step in range(100)]
    assert factors[0] == 1.0
    assert factors == sorted(factors, reverse=True)
    assert factors[50] == pytest.approx(0.5**0.9)
    assert 0 < factors[99] == pytest.approx(0.01**0.9)
    assert [poly(step, 7, power=0.0) for step in range(7)] == [1.0] * 7


def test_warm_up_grows_linearly_and_meets_the_decay() -> None:
    for step in range(20):
        assert poly(step, 20, warmup=4) == pytest.approx(min(1.0, (step + 1) / 4) * poly(step, 20))


@pytest.mark.parametrize("warmup", [0, 1, 4, 9])
@pytest.mark.parametrize("alone", [0, 5, 6])
def test_the_rates_stand_still_while_the_teacher_learns_alone_and_grow_from_the_students_first_step(
    alone: int, warmup: int
) -> None:
    params = TrainParams(power=0.7, warmup=warmup)
    schedule = Schedule(params=params, steps=30, constant=alone)
    expected = reference.linear_growth(reference.poly_after_warm_up(30, alone, 0.7), alone, warmup)
    assert [schedule.factor(step) for step in range(30)] == pytest.approx(expected)
    assert all(0 < schedule.factor(step) <= 1 for step in range(30))
    if warmup > 1:
        assert schedule.factor(alone) == pytest.approx((1 - alone / 30) ** 0.7 / warmup)


@pytest.mark.parametrize("images", [24, 25, 47, 48, 2145])
def test_rates_over_a_list_are_those_of_the_public_code(images: int) -> None:
    """Of a later step of WILSON: 40 epochs, the first five at one rate; step 0 has 30, and none of these."""
    for epochs, alone, peak in ((30, 0, 0.01), (40, 5, 0.001)):
        params, order = TrainParams(epochs=epochs, lr=peak), Order(count=images, batch=24, seed=0)
        steps = epochs * order.steps_per_epoch
        schedule = Schedule(params=params, steps=steps, constant=alone * order.steps_per_epoch)
        rates = [peak * schedule.factor(step) for step in range(steps)]
        assert rates == pytest.approx(reference.rates_of_wilson(images, 24, epochs, alone, peak))


def test_fewer_images_than_a_batch_are_shown_again_where_the_public_code_takes_no_step() -> None:
    assert reference.rates_of_wilson(23, 24, 40, 5, 0.001) == []
    order = Order(count=23, batch=24, seed=0)
    assert order.steps_per_epoch == 1
    assert len({visit.position for visit in order.visits(0)}) == 23


def test_without_a_teacher_alone_it_is_poly_with_growth() -> None:
    schedule = Schedule(params=TrainParams(warmup=4), steps=20)
    assert [schedule.factor(step) for step in range(20)] == [poly(step, 20, warmup=4) for step in range(20)]


def test_rates_in_steps_are_those_of_milestones() -> None:
    """PANet's: times 0.1 after 10,000 and 20,000 of 30,000 steps; here a thousandth as many."""
    schedule = Schedule(params=TrainParams(decay="steps", decay_every=10), steps=30)
    factors = [schedule.factor(step) for step in range(30)]
    assert factors == pytest.approx(reference.at_milestones(30, (10, 20, 30), 0.1))
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    library, rates = torch.optim.lr_scheduler.MultiStepLR(optimiser, [10, 20, 30], gamma=0.1), []
    for _ in range(30):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        library.step()
    assert factors == pytest.approx(rates)


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_the_head_learns_faster_and_what_is_frozen_does_not_learn(kind: str) -> None:
    objective = Objective()
    params = TrainParams(lr=0.1, head_lr=10.0, weight_decay=0.01, optimiser=kind)  # type: ignore[arg-type]
    optimiser = make_optimiser(objective, params)
    groups = {group["name"]: {id(p) for p in group["params"]} for group in optimiser.param_groups}
    assert groups["backbone"] == {id(p) for p in objective.student.backbone.parameters()}
    head = [*objective.student.head.parameters(), *objective.teacher.parameters()]
    assert groups["head"] == {id(p) for p in head}
    assert all(group["weight_decay"] == 0.01 for group in optimiser.param_groups)
    set_learning_rates(optimiser, 0.5)
    assert learning_rates(optimiser) == {"backbone": 0.05, "head": 0.5}
    set_learning_rates(optimiser, 1.0)
    assert learning_rates(optimiser) == {"backbone": 0.1, "head": 1.0}


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_a_step_is_the_formula_of_sgd(momentum: float, nesterov: bool) -> None:
    objective = Objective()
    params = TrainParams(lr=0.1, head_lr=2.0, momentum=momentum, nesterov=nesterov, weight_decay=0.01)
    optimiser = make_optimiser(objective, params)
    before = objective.teacher.weight.detach().double()
    for step in range(3):
        set_learning_rates(optimiser, poly(step, 10))
        objective.teacher.weight.grad = torch.full_like(objective.teacher.weight, 0.3)
        optimiser.step()
    rates = [0.2 * (1 - step / 10) ** 0.9 for step in range(3)]
    after = [
        reference.descended(weight, [0.3] * 3, rates, momentum, 0.01, nesterov) for weight in before.flatten().tolist()
    ]
    torch.testing.assert_close(
        objective.teacher.weight.detach().double().flatten(), torch.tensor(after).double(), rtol=1e-5, atol=1e-6
    )


def test_a_backbone_that_is_frozen_has_no_group() -> None:
    objective = Objective()
    objective.student.backbone.requires_grad_(False)
    assert learning_rates(make_optimiser(objective, TrainParams())).keys() == {"head"}
