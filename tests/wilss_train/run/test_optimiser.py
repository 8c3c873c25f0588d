"""Learning rates, and which parameters learn at which."""

import pytest
import torch
from torch import nn

from wilss_train.params import TrainParams
from wilss_train.run.optimiser import learning_rates, make_optimiser, poly, set_learning_rates


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


def test_a_step_is_the_formula_of_sgd() -> None:
    objective = Objective()
    optimiser = make_optimiser(objective, TrainParams(lr=0.1, head_lr=2.0, momentum=0.9, weight_decay=0.01))
    weight = objective.teacher.weight.detach().double()
    velocity = torch.zeros_like(weight)
    for step in range(3):
        set_learning_rates(optimiser, poly(step, 10))
        objective.teacher.weight.grad = torch.full_like(objective.teacher.weight, 0.3)
        optimiser.step()
        velocity = 0.9 * velocity + 0.3 + 0.01 * weight
        weight = weight - 0.2 * (1 - step / 10) ** 0.9 * velocity
    torch.testing.assert_close(objective.teacher.weight.detach().double(), weight, rtol=1e-5, atol=1e-6)


def test_a_backbone_that_is_frozen_has_no_group() -> None:
    objective = Objective()
    objective.student.backbone.requires_grad_(False)
    assert learning_rates(make_optimiser(objective, TrainParams())).keys() == {"head"}
