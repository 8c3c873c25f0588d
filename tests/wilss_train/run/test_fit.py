"""The loop on a linear student: rates, parts of a batch, reports, states, and what stops it."""

import contextlib
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from wilss.errors import CheckpointError, TrainingError
from wilss_train.context import EpochState
from wilss_train.data.batch_source import Order
from wilss_train.data.batches import SegBatch
from wilss_train.methods.base import frozen
from wilss_train.params import TrainParams
from wilss_train.results.report.log import Progress
from wilss_train.run import long_steps
from wilss_train.run.fit import Loop, Stopped, _Run, fit
from wilss_train.run.optimiser import poly
from wilss_train.run.processes import gathered
from wilss_train.run.states import latest_state, latest_step

COUNT, BATCH = 12, 4
PARAMS = TrainParams(epochs=8, batch_size=BATCH, lr=0.05, head_lr=2.0, crop=4, save_minutes=60)


class Student(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 1, 1)


class Objective(nn.Module):
    """Squares of an image's outputs against the share of its mask; every term is a mean over images."""

    def __init__(self) -> None:
        super().__init__()
        self.student = Student()
        self.elder = frozen(nn.Linear(2, 2))
        self.states: list[EpochState] = []
        self.broken_at = -1

    def forward(self, batch: SegBatch, state: EpochState) -> dict[str, Tensor]:
        self.states.append(state)
        out = self.student.head(self.student.backbone(batch.images.float() / 255).relu()).mean(dim=(1, 2, 3))
        wanted = batch.pseudo.float().mean(dim=(1, 2, 3))
        bad = float("nan") if len(self.states) - 1 == self.broken_at else 1.0
        terms = {"seg": (out - wanted).square().mean() * bad}
        return {**terms, "late": 0.1 * out.square().mean()} if state.epoch else terms


class Maker:
    """Stands in for `SegBatchSource`: images are noise by position."""

    def __init__(self, accumulate: int = 1) -> None:
        self.order, self.image_count = Order(count=COUNT, batch=BATCH, seed=0), COUNT
        self.accumulate = accumulate

    def stream(self, first: int, last: int, *, workers: int = 1) -> Iterator[list[SegBatch]]:
        for step in range(first, last):
            samples = [self.sample(visit.position) for visit in self.order.visits(step)]
            size = BATCH // self.accumulate
            yield [SegBatch.of(samples[start : start + size]) for start in range(0, BATCH, size)]

    def sample(self, position: int) -> SegBatch:
        generator = torch.Generator().manual_seed(position)
        images = torch.randint(0, 256, (1, 3, 4, 4), generator=generator, dtype=torch.uint8)
        empty = torch.zeros(1, 4, 4, dtype=torch.bool)
        pseudo = torch.rand(1, 1, 4, 4, generator=generator) > 0.5
        return SegBatch(
            images=images,
            tags=torch.ones(1, 1, dtype=torch.bool),
            pseudo=pseudo,
            pasted=empty,
            void=empty,
            image_ids=(f"im{position}",),
            seeds=(0,),
        )


@pytest.fixture(scope="module")
def accelerator() -> Accelerator:
    return Accelerator(cpu=True, mixed_precision="no")


def trained(
    accelerator: Accelerator, states: Path, params: TrainParams = PARAMS, **more: Any
) -> tuple[Objective, list[Progress], int]:
    objective, told = Objective(), list[Progress]()
    objective.broken_at = more.pop("broken_at", -1)
    loop = Loop(params=params, states=states, on_progress=told.append, **more)
    steps = fit(objective, Maker(params.accumulate), accelerator, loop)
    return objective, told, steps


def weights(objective: Objective) -> Tensor:
    return torch.cat([p.detach().flatten() for p in objective.student.parameters()])


def stop_after(count: int) -> Any:
    asked = iter(range(1, 10**6))
    return lambda: next(asked) >= count


def test_it_takes_every_step_and_tells_every_tenth(accelerator: Accelerator, tmp_path: Path) -> None:
    objective, told, steps = trained(accelerator, tmp_path)
    assert steps == 24
    assert [progress.step for progress in told] == [10, 20, 24]
    assert {progress.steps for progress in told} == {24}
    assert [state.epoch for state in objective.states] == [step // 3 for step in range(24)]
    last = poly(23, 24)
    assert told[-1].lr == pytest.approx({"backbone": 0.05 * last, "head": 0.1 * last})
    for progress in told:
        terms = {name: value for name, value in progress.losses.items() if name != "total"}
        assert progress.losses["total"] == pytest.approx(sum(terms.values()))
    assert told[-1].losses["seg"] < told[0].losses["seg"]
    assert latest_step(tmp_path) == 24


def test_reports_are_means_of_what_was_lost(accelerator: Accelerator, tmp_path: Path) -> None:
    """By a loop of its own; a term that comes later counts 0 before."""
    _, told, _ = trained(accelerator, tmp_path)
    objective, sums = Objective(), {"seg": 0.0, "late": 0.0}
    optimiser = torch.optim.SGD(
        [{"params": part.parameters(), "lr": 0.0} for part in (objective.student.backbone, objective.student.head)],
        momentum=0.9, weight_decay=1e-4,
    )  # fmt: skip
    for step, (batch,) in enumerate(Maker().stream(0, 10)):
        terms = objective(batch, EpochState(step // 3, 8))
        for group, peak in zip(optimiser.param_groups, (0.05, 0.1), strict=True):
            group["lr"] = peak * (1 - step / 24) ** 0.9
        optimiser.zero_grad()
        sum(terms.values(), torch.zeros(())).backward()
        optimiser.step()
        for name, term in terms.items():
            sums[name] += term.item() / 10
    for name, mean in sums.items():
        assert told[0].losses[name] == pytest.approx(mean, rel=1e-5)


def test_two_half_batches_are_a_whole_one(accelerator: Accelerator, tmp_path: Path) -> None:
    whole, told, _ = trained(accelerator, tmp_path / "a")
    halves, told_halves, _ = trained(accelerator, tmp_path / "b", with_changes(accumulate=2))
    torch.testing.assert_close(weights(whole), weights(halves), rtol=1e-5, atol=1e-6)
    assert not torch.equal(weights(whole), weights(Objective()))
    for first, second in zip(told, told_halves, strict=True):
        assert first.losses == pytest.approx(second.losses, rel=1e-5)


def test_the_rates_stand_still_while_the_student_is_not_trained(accelerator: Accelerator, tmp_path: Path) -> None:
    _, told, _ = trained(accelerator, tmp_path / "a", constant=4)  # epochs of three steps each
    assert told[0].lr == {"backbone": PARAMS.lr, "head": 2 * PARAMS.lr}
    assert told[1].lr["backbone"] == pytest.approx(PARAMS.lr * poly(19, 24))
    _, plain, _ = trained(accelerator, tmp_path / "b")
    assert plain[0].lr["backbone"] == pytest.approx(PARAMS.lr * poly(9, 24))
    assert plain[1].lr == told[1].lr


def with_changes(**changes: Any) -> TrainParams:
    return TrainParams(**{**PARAMS.as_json(), "scale": PARAMS.scale, "rates": (), **changes})


@pytest.mark.few(3)
@pytest.mark.parametrize("kind", ["sgd", "adamw"])
@pytest.mark.parametrize("after", [1, 10, 13, 23])
def test_stopped_and_gone_on_with_is_uninterrupted(
    accelerator: Accelerator, tmp_path: Path, after: int, kind: str
) -> None:
    params = with_changes(optimiser=kind)
    whole, told, _ = trained(accelerator, tmp_path / "a", params)
    before: list[Progress] = []
    loop = Loop(params=params, states=tmp_path / "b", on_progress=before.append, asked_to_stop=stop_after(after))
    with pytest.raises(Stopped, match=f"stopped at step {after} of 24"):
        fit(Objective(), Maker(), accelerator, loop)
    assert latest_step(tmp_path / "b") == after
    begun: list[tuple[int, int]] = []
    again, rest, steps = trained(accelerator, tmp_path / "b", params, on_start=lambda *at: begun.append(at))
    assert steps == 24
    assert begun == [(after, 24)]
    assert torch.equal(weights(whole), weights(again))
    course = [(one.step, one.losses, one.lr) for one in told]
    assert course == [(one.step, one.losses, one.lr) for one in (*before, *rest)]


class Normed(Objective):
    """With statistics of its images, which a forward pass changes."""

    def __init__(self) -> None:
        super().__init__()
        self.student.norm = nn.BatchNorm2d(3)

    def forward(self, batch: SegBatch, state: EpochState) -> dict[str, Tensor]:
        terms = super().forward(batch, state)
        norm: Any = self.student.norm
        return {**terms, "norm": norm(batch.images.float()).mean() * self.student.head.weight.sum()}


class Endless(Normed):
    """Whose fourth step does not end before somebody has left it."""

    left = threading.Event()

    def forward(self, batch: SegBatch, state: EpochState) -> dict[str, Tensor]:
        terms = super().forward(batch, state)
        assert len(self.states) != 4 or self.left.wait(60)
        return terms


def test_left_in_the_middle_of_a_step_is_uninterrupted(
    accelerator: Accelerator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is saved is the state before the step, statistics of batch norm included; the loop waits meanwhile."""
    monkeypatch.setattr(long_steps, "_GRACE", 0.0)
    outcomes: list[Exception] = []

    def leave(outcome: Exception) -> None:
        shutil.copytree(tmp_path / "a", tmp_path / "left")
        outcomes.append(outcome)
        Endless.left.set()

    objective = Endless()
    loop = Loop(params=PARAMS, states=tmp_path / "a", asked_to_stop=lambda: len(objective.states) >= 4, leave=leave)
    with pytest.raises(Stopped):  # since here nobody ends the process
        fit(objective, Maker(), accelerator, loop)
    assert [str(outcome) for outcome in outcomes] == ["stopped at step 3 of 24"]
    assert latest_step(tmp_path / "left") == 3
    again, whole = Normed(), Normed()
    fit(again, Maker(), accelerator, Loop(params=PARAMS, states=tmp_path / "left"))
    fit(whole, Maker(), accelerator, Loop(params=PARAMS, states=tmp_path / "whole"))
    assert len(again.states) == 21
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


@pytest.mark.parametrize("taken", [0, 2])
def test_left_as_soon_as_a_step_begins_is_the_state_before_it(
    accelerator: Accelerator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: int
) -> None:
    """A stop that comes while a state is saved may have the lock before the next step does anything."""

    class Seized(long_steps.LongSteps):
        @contextlib.contextmanager
        def unchanged(self) -> Iterator[None]:
            if len(objective.states) == taken and self._leave is not None:
                self._leave()
            with super().unchanged():
                yield

    class Left(BaseException):
        pass

    def leave(outcome: Exception) -> None:
        raise Left

    monkeypatch.setattr("wilss_train.run.fit.LongSteps", Seized)
    objective = Normed()
    with pytest.raises(Left):
        fit(objective, Maker(), accelerator, Loop(params=PARAMS, states=tmp_path, leave=leave))
    state = latest_state(tmp_path)
    assert state is not None
    assert state.step == taken
    assert int(state.networks["student.norm.num_batches_tracked"]) == taken
    for name, value in state.networks.items():
        assert torch.equal(value, objective.state_dict()[name]), name


def test_only_statistics_that_move_and_are_kept_are_copied(accelerator: Accelerator, tmp_path: Path) -> None:
    objective: Any = Normed()
    objective.elder = frozen(nn.BatchNorm2d(3))
    objective.student.still = nn.BatchNorm2d(3).eval()
    run = _Run(objective, Maker(), accelerator, Loop(params=PARAMS, states=tmp_path))
    copies = run._moving_statistics()
    assert set(copies) == {f"student.norm.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")}
    objective.student.norm.running_mean += 1
    assert torch.equal(copies["student.norm.running_mean"], torch.zeros(3))
    objective.student.norm.eval()
    assert run._moving_statistics() == {}


def test_left_where_nothing_can_be_saved_says_why(
    accelerator: Accelerator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(long_steps, "_GRACE", 0.0)
    Endless.left.clear()
    outcomes: list[Exception] = []
    objective = Endless()
    (tmp_path / "states").write_text("no folder")

    def leave(outcome: Exception) -> None:
        outcomes.append(outcome)
        Endless.left.set()

    asked = lambda: len(objective.states) >= 4  # noqa: E731
    loop = Loop(params=PARAMS, states=tmp_path / "states", asked_to_stop=asked, leave=leave)
    with pytest.raises(CheckpointError):
        fit(objective, Maker(), accelerator, loop)
    assert [type(outcome) for outcome in outcomes] == [CheckpointError]
    assert "cannot be written" in str(outcomes[0])


def test_a_finished_run_takes_no_step_more(accelerator: Accelerator, tmp_path: Path) -> None:
    whole, _, _ = trained(accelerator, tmp_path)
    again, told, steps = trained(accelerator, tmp_path)
    assert (steps, told, again.states) == (24, [], [])
    assert torch.equal(weights(whole), weights(again))


def test_states_are_saved_at_the_steps_that_were_asked_for(accelerator: Accelerator, tmp_path: Path) -> None:
    with pytest.raises(TrainingError):
        trained(accelerator, tmp_path, with_changes(save_steps=4), broken_at=14)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000008", "step-000000012"]


def test_a_loss_that_is_not_finite_keeps_the_last_state(accelerator: Accelerator, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"the loss is nan at step 6 of 24, with the images im\d+, im\d+, im"):
        trained(accelerator, tmp_path, with_changes(save_steps=5), broken_at=6)
    assert latest_step(tmp_path) == 5
    whole, _, _ = trained(accelerator, tmp_path / "whole")
    again, _, _ = trained(accelerator, tmp_path)
    assert torch.equal(weights(whole), weights(again))


def test_clipping_bounds_a_step(accelerator: Accelerator, tmp_path: Path) -> None:
    params = with_changes(clip=1e-3, epochs=1, momentum=0.0, weight_decay=0.0, head_lr=1.0, power=0.0)
    objective, _, steps = trained(accelerator, tmp_path, params)
    assert steps == 3
    moved = (weights(objective) - weights(Objective())).norm()
    assert 0 < moved <= 3 * 1e-3 * 0.05 * 1.01


def test_what_is_frozen_is_in_no_state(accelerator: Accelerator, tmp_path: Path) -> None:
    trained(accelerator, tmp_path, with_changes(epochs=1))
    state = latest_state(tmp_path)
    assert state is not None
    assert all(name.startswith("student.") for name in state.networks)


def test_one_process_gathers_its_own_rows(accelerator: Accelerator) -> None:
    rows = torch.rand(3, 2)
    assert gathered(accelerator)(rows) is rows
