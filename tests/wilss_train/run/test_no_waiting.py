"""Between two reports nothing waits for the device: every method's steps on one that notes what would."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from tests.pretend_device import DEVICE, Record, There, moved, pretending
from tests.wilss_train.methods import test_methods, test_panet, test_pseudoseg, test_unimatch
from wilss.models.devices import Fetched
from wilss.models.networks.segmenter import build, with_head
from wilss_train.data.batch_source import Order
from wilss_train.methods import METHODS
from wilss_train.methods.base import frozen
from wilss_train.methods.distill import Distill
from wilss_train.methods.fmwiss import Fmwiss
from wilss_train.params import TrainParams
from wilss_train.run.fit import Loop, fit
from wilss_train.run.optimiser import make_optimiser

STEPS = 2  # before the first report


class Enough(BaseException):
    """Ends a run before its first report."""


class Source:
    """One batch again and again, in two parts a step."""

    def __init__(self, batch: Any) -> None:
        self.order, self.image_count, self._batch = Order(count=4, batch=4, seed=0), 4, batch

    def stream(self, first: int, last: int, *, workers: int = 1) -> Iterator[Sequence[Any]]:
        for _ in range(first, last):
            yield [self._batch, self._batch]


def accelerator(device: torch.device) -> Accelerator:
    """What the loop uses of accelerate, for a device that accelerate does not know."""
    own: dict[str, Any] = {
        "device": device,
        "num_processes": 1,
        "process_index": 0,
        "is_main_process": True,
        "prepare": lambda *objects: objects,
        "no_sync": lambda module: nullcontext(),
        "backward": lambda loss: loss.backward(),
        "clip_grad_norm_": nn.utils.clip_grad_norm_,
        "reduce": lambda value, how: value,
    }
    return cast(Accelerator, SimpleNamespace(**own))


def by_masks(name: str) -> tuple[nn.Module, Any]:
    method: Any = METHODS[name]()
    return method.objective(*test_methods.setup(1)), test_methods.batch(1, pasted=True)


CASES: dict[str, Callable[[], tuple[nn.Module, Any]]] = {
    **{name: lambda name=name: by_masks(name) for name in test_methods.TERMS},  # type: ignore[misc]
    "first step": lambda: (Fmwiss().objective(*test_methods.setup(0)), test_methods.batch(0)),
    "fmwiss, a frozen backbone": lambda: frozen_backbone(),
    "distill, from heads of their own": lambda: later_heads(),
    "pseudoseg": lambda: (test_pseudoseg.objective(), test_pseudoseg.batch()),
    "pseudoseg, fixmatch": lambda: (test_pseudoseg.objective(target="fixmatch"), test_pseudoseg.batch()),
    "pseudoseg, aligned": lambda: (test_pseudoseg.objective(align=1.0), test_pseudoseg.batch()),
    "unimatch": lambda: (test_unimatch.objective(), test_unimatch.batch()),
    "panet": lambda: (test_panet.objective(), test_panet.batch(2, ways=2)),
}


def frozen_backbone() -> tuple[nn.Module, Any]:
    made = test_methods.setup(1)
    frozen(made.student.backbone)
    return Fmwiss().objective(*made), test_methods.batch(1, pasted=True)


def later_heads() -> tuple[nn.Module, Any]:
    """From a network whose newest class is taken back by pictures."""
    made = test_methods.setup(1)
    assert made.old is not None
    known = made.old.spec.num_channels
    old = with_head(build(test_methods.spec(known - 1), seed=3), made.old, [-2.0])
    return Distill().objective(made.student, old, made.context), test_methods.batch(1, pasted=True)


def losses(case: str, device: torch.device, states: Path, record: Record | None = None) -> dict[str, list[Tensor]]:
    """The terms of the first steps by a run of the real loop; what it waited for up to there is in `record`."""
    objective, batch = CASES[case]()
    if device == DEVICE:
        moved(objective)
    terms: dict[str, list[Tensor]] = {}

    def note(_: Any, __: Any, made: dict[str, Tensor]) -> None:
        for name, value in made.items():
            terms.setdefault(name, []).append(value.detach().clone())

    objective.register_forward_hook(note)

    def stop(step: int) -> None:
        if step == STEPS:
            raise Enough

    loop = Loop(
        params=TrainParams(epochs=30, batch_size=4, accumulate=2, clip=1.0, lr=1e-3), states=states, on_step=stop,
        leave=lambda why: None, after=getattr(objective, "follow", lambda taken: None),
    )  # fmt: skip
    with pytest.raises(Enough):
        fit(objective, Source(batch), accelerator(device), loop)
    return terms


@pytest.mark.few(5)
@pytest.mark.parametrize("case", CASES)
def test_no_step_waits_for_the_device(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pretending(monkeypatch) as record:
        found = losses(case, DEVICE, tmp_path)
    assert record.waits == []
    expected = losses(case, torch.device("cpu"), tmp_path)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert len(values) == 2 * STEPS
        for mine, its in zip(found[name], values, strict=True):
            assert isinstance(mine, There)
            if case.startswith("unimatch") and name == "cons":
                continue  # what it draws on the device, it draws by the device's generator
            assert torch.equal(mine.held, its), name


def test_the_device_notes_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above would find each of these."""
    with pretending(monkeypatch) as record:
        there = torch.rand(3).to(DEVICE, non_blocking=True)
        mask = there > 2
        assert record.waits == []
        waiting: tuple[Callable[[], Any], ...] = (
            lambda: there.sum().item(), lambda: bool(mask.any()), lambda: float(there[0]), lambda: there.cpu(),
            lambda: there.to("cpu"), lambda: mask.nonzero(), lambda: there[mask],
            lambda: there[torch.tensor([0, 1])], lambda: torch.rand(3).to(DEVICE), lambda: torch.zeros(3).copy_(there),
        )  # fmt: skip
        for count, wait in enumerate(waiting, 1):
            wait()
            assert len(record.waits) == count, record.waits
        for read in (there.tolist, there.numpy):
            with pytest.raises(RuntimeError, match="not supported"):
                read()
        with pytest.raises(RuntimeError, match="a GPU refuses"):
            there + torch.rand(3)
        for from_list in (lambda: torch.tensor([1.0], device=DEVICE) + 1, lambda: there[[0, 1]]):
            with pytest.raises(RuntimeError, match="made on the device from a list"):
                from_list()
    assert isinstance(Fetched(torch.ones(2)).numbers(), list)


def test_numbers_are_fetched_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    with pretending(monkeypatch) as record:
        there = torch.arange(3).to(DEVICE, non_blocking=True)
        assert Fetched(there * 2).numbers() == [0, 2, 4]
    assert record.waits == []


def test_adamw_takes_its_steps_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its count of steps is the host's own."""
    objective = test_unimatch.objective()
    moved(objective)
    with pretending(monkeypatch) as record:
        optimiser = make_optimiser(objective, TrainParams(optimiser="adamw"))
        for parameter in objective.student.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimiser.step()
    assert record.waits == []
