"""What the parts about learning share: a step's inputs on the built-in data, and its loop with a stop-watch."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch
from measure import interleaved
from torch import nn

import wilss
from wilss_train.context import BatchSource, EpochState, Experiment, RunContext
from wilss_train.data.batches import SegBatch
from wilss_train.inputs import RunInputs, open_inputs
from wilss_train.methods import METHODS, Method
from wilss_train.params import TrainParams, from_manifest
from wilss_train.run.fit import Loop, fit
from wilss_train.run.optimiser import make_optimiser, poly, set_learning_rates
from wilss_train.run.processes import accelerator_for, gathered, is_bf16

CORES = len(os.sched_getaffinity(0))
MANIFEST = Path("data_manifest.yaml")
_BIN = Path(sys.executable).parent


@cache
def folder_of(scratch: Path) -> Path:
    """Stores of both steps and the parent of step 1, which saw every image once; what is there stays as it is."""
    folder = scratch / "learning"
    for step in (0, 1):
        _command("wilss-masks", "generate", "--step", step, "--out", folder / f"step-{step}.zarr")
    once = ("--epochs", 1, "--split", "none", "--out", folder / "step-0", "--resume")
    _command("wilss-train", "--masks", folder / "step-0.zarr", *once)
    return folder


def _command(name: str, *words: object) -> None:
    told = ("--manifest", MANIFEST, "-q")
    subprocess.run([_BIN / name, *map(str, (*words, *told))], check=True, capture_output=True)


@dataclass(frozen=True, kw_only=True)
class Learning:
    """Step 1 by fmwiss with the manifest's own train section, for a few epochs.

    All of them lie behind the warm-up: teacher and student learn both, as in nearly all of a run.
    """

    folder: Path
    epochs: int
    device: str = "cpu"

    @cached_property
    def inputs(self) -> RunInputs:
        """Checked, as `wilss-train` does."""
        return open_inputs(wilss.load_manifest(MANIFEST), self.folder / "step-1.zarr", self.folder / "step-0", "fmwiss")

    @cached_property
    def params(self) -> TrainParams:
        """The manifest's."""
        params, _ = from_manifest(self.inputs.manifest.train, step=1, where=str(MANIFEST))
        return replace(params, epochs=self.epochs)

    @property
    def method(self) -> Method:
        """Without warm-up."""
        return METHODS["fmwiss"](warmup_epochs=0)  # type: ignore[call-arg]

    def accelerator(self) -> Any:
        """With the manifest's precision; the only process, or one of those that torchrun started."""
        return accelerator_for(self.params, self.device)

    def experiment(self, accelerator: Any) -> Experiment:
        """Networks and losses as they are before the first step; real images and masks, with nothing in the cache."""
        return self.method.experiment(
            RunContext(
                inputs=self.inputs,
                params=self.params,
                seed=0,
                rank=accelerator.process_index,
                world=accelerator.num_processes,
                gather=gathered(accelerator),
            )
        )

    def batches(self) -> list[SegBatch]:
        """All batches of the run, in memory."""
        source = self.experiment(self.accelerator()).batches
        return [part for parts in source.stream(0, self.params.epochs * source.order.steps_per_epoch) for part in parts]


@dataclass(frozen=True, kw_only=True)
class Timing:
    """A run of the loop.

    seconds: from the start of the loader to the end of the last step; cpu: of the processor. waited: of them, for the
    loader. saved: for the state that comes after. rate: images/s without the first ten steps.
    """

    images: int
    seconds: float
    cpu: float
    waited: float
    saved: float
    rate: float


class Watched:
    """A batch source, and the seconds that the loop waited for it."""

    def __init__(self, source: BatchSource) -> None:
        self.order, self.image_count, self.waited = source.order, source.image_count, 0.0
        self._source = source

    def stream(self, first: int, last: int, *, workers: int = 1) -> Iterator[Sequence[Any]]:
        """The source's."""
        batches = self._source.stream(first, last, workers=workers)
        while True:
            asked = time.perf_counter()
            parts = next(batches, None)
            self.waited += time.perf_counter() - asked
            if parts is None:
                return
            yield parts


def trained(run: Learning) -> Timing:
    """`wilss_train.run.fit` with loader and store, from an empty cache."""
    accelerator = run.accelerator()
    experiment = run.experiment(accelerator)
    source = Watched(experiment.batches)
    told: list[tuple[int, float, float]] = []

    def note(step: int) -> None:
        told.append((step, time.perf_counter(), time.process_time()))

    with tempfile.TemporaryDirectory(dir=run.folder) as states:
        loop = Loop(
            params=run.params,
            states=Path(states),
            on_start=lambda step, steps: note(step),
            on_progress=lambda progress: note(progress.step),
        )
        steps = fit(experiment.objective, source, accelerator, loop)
        saved = time.perf_counter() - told[-1][1]
    (_, started, before), (tenth, warm, _), (last, ended, after) = told[0], told[1], told[-1]
    batch = run.params.batch_size
    rate = batch * (last - tenth) / (ended - warm) if last > tenth else batch * steps / (ended - started)
    return Timing(
        images=batch * steps, seconds=ended - started, cpu=after - before, waited=source.waited, saved=saved, rate=rate
    )


def bare(run: Learning, batches: list[SegBatch]) -> float:
    """Seconds of a loop as one writes it first: the same objective, optimiser and rates, batches in memory."""
    params, objective = run.params, run.experiment(run.accelerator()).objective.to(run.device)
    optimiser = make_optimiser(objective, params)
    objective.train()
    started = time.perf_counter()
    for step, batch in enumerate(batches):
        set_learning_rates(optimiser, poly(step, len(batches), power=params.power, warmup=params.warmup))
        with torch.autocast(run.device, torch.bfloat16, enabled=is_bf16(params, run.device)):
            terms = objective(batch.to(run.device), EpochState(step * params.epochs // len(batches), params.epochs))
        sum(terms.values()).backward()
        if params.clip:
            nn.utils.clip_grad_norm_(objective.parameters(), params.clip)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    if run.device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def over_bare(run: Learning, repeats: int) -> tuple[dict[str, list[float]], list[Timing]]:
    """Seconds of trainer and bare loop side by side, from the same weights, on the same batches in the same order."""
    torch.set_num_threads(CORES)
    batches = run.batches()
    timings: list[Timing] = []

    def trainer() -> float:
        timings.append(trained(run))
        return timings[-1].seconds

    taken = interleaved({"trainer": trainer, "bare": lambda: bare(run, batches)}, repeats, clock=_own)
    return taken, timings[-repeats:]


def _own(action: Callable[[], object]) -> float:
    """The clock of an action that has timed itself."""
    return float(action())  # type: ignore[arg-type]
