"""The loop: batches in, optimiser steps, states on disk. It is handed an objective and knows no method by name."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from wilss.errors import TrainingError
from wilss.randomness import seed_for

from ..context import Batch, BatchSource, EpochState
from ..methods.base import is_frozen
from ..params import TrainParams
from ..results.report.log import Progress
from .long_steps import LongSteps
from .loss_watch import LossWatch
from .optimiser import Schedule, learning_rates, make_optimiser, set_learning_rates
from .states import TrainingState, latest_state, save_state

_LOG_EVERY = 10


class Stopped(Exception):  # noqa: N818 - nothing went wrong
    """Somebody asked for the run to stop, and its state is saved."""

    def __init__(self, step: int, steps: int) -> None:
        super().__init__(f"stopped at step {step} of {steps}")
        self.step, self.steps = step, steps


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """Who stops the loop, and who is told where it is.

    asked_to_stop: looked at after every optimiser step.
    leave: called from another thread where a step does not end soon after that, with `Stopped` once the state of the
    step before is saved, or with why it could not be; it ends the process. None waits for the step, as several
    processes always do.
    on_start: called with the step at which the run starts, and how many there are. on_phase: called with what a step is
    at. on_step: called with the steps taken. on_progress: called every tenth step.
    """

    asked_to_stop: Callable[[], bool] = lambda: False
    leave: Callable[[Exception], None] | None = None
    on_start: Callable[[int, int], None] = lambda step, steps: None
    on_phase: Callable[[str], None] = lambda phase: None
    on_step: Callable[[int], None] = lambda step: None
    on_progress: Callable[[Progress], None] = lambda progress: None


@dataclass(frozen=True, kw_only=True)
class Loop(Hooks):
    """What the loop is run with.

    states: the folder of the run's states. workers: loader threads. constant: first epochs in which the rates stand
    still. after: the method's part of every step, see `Experiment`.
    """

    params: TrainParams
    states: Path
    workers: int = 1
    constant: int = 0
    after: Callable[[int], None] = lambda taken: None


def fit(objective: nn.Module, batches: BatchSource, accelerator: Accelerator, loop: Loop) -> int:
    """Train `objective` to the end, from the newest state if there is one; returns the optimiser steps taken in all.

    Raises Stopped when asked to stop (a state is saved then), TrainingError when a loss was not finite (told at the
    next report or state; the last state stays as it is), CheckpointError when no saved state is whole.
    """
    run = _Run(objective, batches, accelerator, loop)
    run.restore()
    run.train()
    return run.step


@dataclass
class _Sums:
    """Loss terms summed up since the last report, in float64 and on the device, so that nothing waits for them."""

    terms: dict[str, Tensor] = field(default_factory=dict)
    count: int = 0

    def add(self, terms: Mapping[str, Tensor]) -> None:
        for name, value in terms.items():
            value = value.detach().double()
            self.terms[name] = self.terms[name] + value if name in self.terms else value
        self.count += 1

    def means(self, mean_over_processes: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """By term, and their total; a term that was not there in all steps counts 0 in the others."""
        names = sorted(self.terms)
        if not names:
            return {}
        stacked = mean_over_processes(torch.stack([self.terms[name] for name in names]) / self.count)
        values = dict(zip(names, stacked.tolist(), strict=True))
        return {**values, "total": float(stacked.sum())}


class _Run:
    """A run at work; `step` optimiser steps are done."""

    def __init__(self, objective: nn.Module, batches: BatchSource, accelerator: Accelerator, loop: Loop) -> None:
        self._batches, self._accelerator, self._loop = batches, accelerator, loop
        self._params = loop.params
        optimiser = make_optimiser(objective, self._params)
        self._objective = objective
        self._wrapped, self._optimiser = accelerator.prepare(objective, optimiser)
        epoch = batches.order.steps_per_epoch
        self.steps = self._params.epochs * epoch
        self._schedule = Schedule(params=self._params, steps=self.steps, constant=loop.constant * epoch)
        self.step = 0
        self._sums = _Sums()
        self._losses = LossWatch(self.steps)
        self._reported = 0.0
        self._leaves = loop.leave is not None and accelerator.num_processes == 1
        self._statistics: dict[str, Tensor] = {}

    def restore(self) -> None:
        """Go on from the newest state, if there is one."""
        state = latest_state(self._loop.states)
        if state is None:
            return
        self._objective.load_state_dict(dict(state.networks), strict=False)
        self._optimiser.load_state_dict(state.optimiser["optimiser"])
        device = self._accelerator.device
        mine = self._accelerator.process_index
        sums = {name: values.reshape(-1)[mine].to(device) for name, values in state.optimiser["sums"].items()}
        self._sums = _Sums(sums, state.optimiser["count"])
        self.step = state.step

    def train(self) -> None:
        """Take the steps that are left."""
        started = last_save = time.perf_counter()
        first = self.step
        self._objective.train()
        self._loop.on_start(first, self.steps)
        stream = iter(self._batches.stream(first, self.steps, workers=self._loop.workers))
        with LongSteps(self._loop.asked_to_stop, self._leave if self._leaves else None) as long_steps:
            while self.step < self.steps:
                epoch = self.step // self._batches.order.steps_per_epoch
                if self._leaves:
                    self._statistics = self._moving_statistics()
                with self._losses.told_first():
                    with long_steps.unchanged():
                        terms = self._gradients(stream, EpochState(epoch, self._params.epochs))
                    self._take(terms)
                if self.step % _LOG_EVERY == 0 or self.step == self.steps:
                    self._report(epoch, started)
                stop, due = self._agreed(self._loop.asked_to_stop(), self._is_due(last_save))
                if stop or due:
                    self.save()
                    last_save = time.perf_counter()
                if stop:
                    raise Stopped(self.step, self.steps)
        if self.step > first or not self.step:
            self.save()

    def save(self) -> None:
        """Write the state; in the first process alone, the others wait. Weights that are not finite are not written."""
        self._save(dict(self._kept()))

    def _save(self, networks: Mapping[str, Tensor]) -> None:
        self._losses.look()
        self._refuse_broken_weights(networks)
        sums = {name: self._accelerator.gather(value[None]).cpu() for name, value in sorted(self._sums.terms.items())}
        if self._accelerator.is_main_process:
            optimiser = {"optimiser": self._optimiser.state_dict(), "sums": sums, "count": self._sums.count}
            save_state(self._loop.states, TrainingState(step=self.step, networks=networks, optimiser=optimiser))
        self._accelerator.wait_for_everyone()

    def _leave(self) -> None:
        """In the middle of a step: save what was before it, and go."""
        outcome: Exception = Stopped(self.step, self.steps)
        try:
            self._save({name: self._statistics.get(name, value) for name, value in self._kept()})
        except Exception as error:  # whatever it is, nobody else would hear of it
            outcome = error
        if self._loop.leave is not None:
            self._loop.leave(outcome)

    def _gradients(self, stream: Iterator[Sequence[Batch]], state: EpochState) -> dict[str, Tensor]:
        """Loss terms of one optimiser step, whose gradients, averaged over its parts, are left with the parameters."""
        self._loop.on_phase("reading images")
        parts = next(stream)
        # what a network draws by itself, dropout, is named too
        torch.manual_seed(seed_for(self._batches.order.seed, "step", self.step, self._accelerator.process_index))
        summed: dict[str, Tensor] = {}
        for number, part in enumerate(parts):
            where = f", part {number + 1} of {len(parts)}" if len(parts) > 1 else ""
            with self._syncing(last=number == len(parts) - 1):
                self._loop.on_phase(f"forward pass{where}")
                terms = self._wrapped(part.to(self._accelerator.device), state)
                total = torch.stack(list(terms.values())).sum() / len(parts)
                self._losses.note(total, self.step, part.image_ids)
                self._loop.on_phase(f"backward pass{where}")
                self._accelerator.backward(total)
            for name, value in terms.items():
                share = value.detach() / len(parts)
                summed[name] = summed[name] + share if name in summed else share
        return summed

    def _take(self, terms: Mapping[str, Tensor]) -> None:
        """One optimiser step along the gradients. terms: of the loss that they are of."""
        set_learning_rates(self._optimiser, self._schedule.factor(self.step))
        if self._params.clip:
            self._accelerator.clip_grad_norm_(self._wrapped.parameters(), self._params.clip)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        self._sums.add(terms)
        self.step += 1
        self._loop.after(self.step)
        self._loop.on_step(self.step)

    def _refuse_broken_weights(self, networks: Mapping[str, Tensor]) -> None:
        """A gradient may be no number where the loss is one; the next loss would tell, but a state comes before it."""
        if not networks:
            return
        are_finite = torch.stack([torch.isfinite(value).all() for value in networks.values()])  # one wait for all
        for name, is_finite in zip(networks, are_finite.tolist(), strict=True):
            if not is_finite:
                raise TrainingError(
                    f"the weights {name} are not finite after step {self.step} of {self.steps}; the last saved state "
                    "is kept. Start again with a lower --lr or --set clip=1, and --overwrite."
                )

    def _kept(self) -> Iterator[tuple[str, Tensor]]:
        """What a state holds: all but frozen networks, which come from where they came from."""
        frozen = tuple(f"{name}." for name, module in self._objective.named_modules() if is_frozen(module))
        yield from (
            (name, value) for name, value in self._objective.state_dict().items() if not name.startswith(frozen)
        )

    def _moving_statistics(self) -> dict[str, Tensor]:
        """Copies of what a forward pass changes of what is kept: the statistics of batch norm that is training."""
        kept = dict(self._kept())
        training = ((name, module) for name, module in self._objective.named_modules() if module.training)
        buffers = (name for prefix, module in training for name, _ in module.named_buffers(prefix, recurse=False))
        return {name: kept[name].clone() for name in buffers if name in kept}

    @contextlib.contextmanager
    def _syncing(self, *, last: bool) -> Iterator[None]:
        """Gradients are brought together over processes once a step, at its last part."""
        with contextlib.nullcontext() if last else self._accelerator.no_sync(self._wrapped):
            yield

    def _report(self, epoch: int, started: float) -> None:
        self._losses.look()
        losses = self._sums.means(lambda value: self._accelerator.reduce(value, "mean"))
        done, self._sums = self._sums.count, _Sums()
        seconds = time.perf_counter() - started
        since, self._reported = seconds - self._reported, seconds
        self._loop.on_progress(
            Progress(
                step=self.step,
                steps=self.steps,
                epoch=epoch,
                losses=losses,
                lr=learning_rates(self._optimiser),
                images_per_second=done * self._params.batch_size / max(since, 1e-9),
                seconds=seconds,
            )
        )

    def _is_due(self, last_save: float) -> bool:
        every = self._params.save_steps
        if every and self.step % every == 0 and self.step < self.steps:
            return True
        return time.perf_counter() - last_save >= 60 * self._params.save_minutes

    def _agreed(self, *mine: bool) -> list[bool]:
        """Each of these, True in all processes where it is in any: they all stop and save at the same step."""
        if self._accelerator.num_processes == 1:
            return list(mine)
        flags = torch.tensor([float(flag) for flag in mine], device=self._accelerator.device)
        return [flag > 0 for flag in self._accelerator.reduce(flags, "sum").tolist()]
