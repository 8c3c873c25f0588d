"""`train`: the second verb as a function call. A mask store in; checkpoint, memory bank and report out."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from wilss.data.images import ALL_BITS
from wilss.data.manifest import Manifest, told_overlap
from wilss.disk import Location, make_folder
from wilss.errors import ManifestError, ParameterError
from wilss.models.networks.checkpoint_header import MODEL_FILE
from wilss.models.networks.norms import set_batch_norm
from wilss.process import keep_freed_memory, own_cores
from wilss.store import writer_lock

from .. import run_folder as runs
from ..context import Experiment, RunContext
from ..inputs import RunInputs
from ..methods import Method
from ..params import TrainParams
from ..results.judge import RunResults
from ..results.report.log import LOG_FILE, Progress, read_log
from .fit import Hooks, Loop, fit
from .identity import as_noted_now, digest_of_weights, identity_of, machine_of
from .plan import RunPlan, origin_of, plan_of
from .processes import (
    accelerator_for,
    enough_memory,
    gathered,
    images_at_a_time,
    require_even_share,
    require_pairs,
)
from .run_logger import CurveWriter, RunLogger, run_log
from .settings import open_run, settled
from .states import latest_step

_log = logging.getLogger(__name__)

_USUAL_SPLIT = "val"


@dataclass(frozen=True, kw_only=True)
class Options(Hooks):
    """How a run is run. Only `seed` and, by rounding, `threads` and the device affect what is learnt.

    workers: loader threads. threads: of torch's operations on the CPU, 0 for all cores, shared by the processes of
    a machine. device: auto, cpu or cuda.
    split: the images on which the result is judged, None for none; where there is no `val`, nothing is judged.
    check_digests: read every image or label that the masks were made of, also those whose size and time are as they
    were.
    running: stands around all optimiser steps. on_ready: called once the run's folder is there, from when on the run
    can be resumed. on_plan: called with what is about to be trained. on_phase: also called with what is done before and
    after the loop. The rest of that kind is the loop's, see `wilss_train.run.fit.Hooks`.
    """

    seed: int = 0
    resume: bool = False
    overwrite: bool = False
    workers: int = 1
    threads: int = 0
    device: str = "auto"
    deterministic: bool = False
    tensorboard: bool = False
    split: str | None = _USUAL_SPLIT
    check_digests: bool = False
    running: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext
    on_ready: Callable[[], None] = lambda: None
    on_plan: Callable[[RunPlan], None] = lambda plan: None


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What came of a run. results: None in all processes but the first. failed: image id -> why it was left out."""

    folder: Path
    seconds: float
    was_complete: bool
    results: RunResults | None
    failed: Mapping[str, str]


def train(
    masks: Location | str,
    *,
    manifest: Manifest | Path | str = "data_manifest.yaml",
    method: Method | str = "fmwiss",
    out: Path | str | None = None,
    parent: Path | str | None = None,
    params: TrainParams | Mapping[str, Any] | None = None,
    options: Options | None = None,
) -> Summary:
    """Train one step from its mask store, or resume where an earlier call stopped; a finished run is left alone.

    masks: the store; it says which classes, step and images. manifest: of the data that it was made from.
    method: a name (fmwiss, finetune, distill, wilson, mib, plop, pseudoseg, unimatch, panet), whose parameters come
        from the manifest, or an instance with its own.
    out: the run's folder, None for runs/<manifest>/step-<t>. parent: the run of the step before, None for its own
        default folder.
    params: all of the run's parameters; or some by name, of the run or its method, over the manifest's.
    Raises a WilssError for what is missing, damaged or does not belong together, Stopped when asked to stop.
    """
    _require_kinds(params, options)
    whole = params if isinstance(params, TrainParams) else None
    layers = [("params", params)] if isinstance(params, Mapping) else []
    asked = open_run(masks, manifest=manifest, method=method, out=out, parent=parent, params=whole, layers=layers)
    return run_training(*asked, options or Options())


def _require_kinds(params: object, options: object) -> None:
    """ParameterError for what is neither; parameters that nobody looks at would be the manifest's in silence."""
    kinds = {
        "params": (params, (TrainParams, Mapping), "a mapping such as {'epochs': 3}, or a wilss_train.TrainParams"),
        "options": (options, (Options,), "a wilss_train.Options, such as Options(seed=1)"),
    }
    for name, (value, taken, wanted) in kinds.items():
        if value is not None and not isinstance(value, taken):
            raise ParameterError(f"{name} is {wanted}, not {value!r}.")


def run_training(inputs: RunInputs, method: Method, params: TrainParams, out: Path, options: Options) -> Summary:
    """What `train` does once it is known what is asked for.

    Raises CheckpointError where `out` holds another run, StoreError where somebody else is training there, Stopped
    when asked to stop, TrainingError for a loss that is not finite and a GPU whose memory does not suffice.
    """
    started = time.perf_counter()
    process = _Process(inputs, method, params, out, options)
    with process.alone():
        process.prepare()
        was_complete = runs.is_complete(out)
        if not was_complete and not (out / MODEL_FILE).exists():
            process.learn()
        results = process.judge(was_complete=was_complete)
    return Summary(
        folder=out,
        seconds=time.perf_counter() - started,
        was_complete=was_complete,
        results=results,
        failed=read_log(out / LOG_FILE).failed if results is not None else {},
    )


class _Process:
    """One process of a run: its method and context, and the steps of `run_training`, in their order."""

    def __init__(self, inputs: RunInputs, method: Method, params: TrainParams, out: Path, options: Options) -> None:
        self._method, self._out, self._options = method, out, options
        params = settled(params, method, inputs)
        self._threads = options.threads or own_cores()
        torch.set_num_threads(self._threads)
        torch.use_deterministic_algorithms(options.deterministic, warn_only=True)
        self._split = _split_of(inputs, options.split)
        accelerator = self._accelerator = accelerator_for(params, options.device)
        if accelerator.device.type == "cpu":
            keep_freed_memory()
        require_even_share(params, accelerator.num_processes)
        if accelerator.is_main_process and self._split is not None:
            _tell_overlap(inputs, self._split)
        self._broken: dict[str, str] = {}
        self._context = RunContext(
            inputs=inputs,
            params=params,
            seed=options.seed,
            rank=accelerator.process_index,
            world=accelerator.num_processes,
            device=accelerator.device,
            gather=gathered(accelerator),
            on_broken=lambda image: self._broken.update({image.image_id: image.error}),
        )

    @cached_property
    def _experiment(self) -> Experiment:
        return self._method.experiment(self._context)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Only one run trains in a folder; the first process holds its lock."""
        with runs.writing_to(self._out):
            make_folder(self._out.parent)
        with writer_lock(self._out) if self._accelerator.is_main_process else contextlib.nullcontext():
            yield

    def prepare(self) -> None:
        """Check what is read, and make the run's folder or find the same run there.

        Under the lock, so that whoever finds the folder taken need not wait, and in the first process alone.
        """
        if self._accelerator.is_main_process:
            self._options.on_phase("reading and checking masks, images and weights")
            self._context.inputs.verify(check_digests=self._options.check_digests)
            self._prepare_folder()
            self._options.on_ready()
        self._accelerator.wait_for_everyone()

    def _prepare_folder(self) -> None:
        method, options, inputs, params = self._method, self._options, self._context.inputs, self._context.params
        machine = machine_of(self._accelerator, self._threads, deterministic=options.deterministic)
        identity = identity_of(inputs, method, params, options.seed, machine)
        if options.overwrite or images_at_a_time(params, self._context.world) < 2:
            # what would be refused is refused before anything is thrown away, or there
            require_pairs(self._experiment.objective, params, self._context.world)
        about = origin_of(inputs, method, params).as_json()
        renew = partial(as_noted_now, wanted=identity, method=method, manifest=inputs.manifest)
        runs.prepare(self._out, identity, about, renew=renew, resume=options.resume, overwrite=options.overwrite)

    def learn(self) -> None:
        """From the newest state to the checkpoint and what comes with it."""
        experiment, context, out, options = self._experiment, self._context, self._out, self._options
        objective, params = experiment.objective, context.params
        if params.batch_norm == "synchronised":
            objective = set_batch_norm(objective, params.batch_norm)  # what a method adds to the student, too
        require_pairs(objective, params, context.world)
        if self._accelerator.is_main_process:
            _announce(plan_of(experiment, context, self._method), options)
        first = latest_step(out / runs.STATES)
        with run_log(out, context, first, images=experiment.batches.image_count) as log:
            listeners = [options.on_progress]
            if options.tensorboard:
                listeners.append(CurveWriter(out / runs.CURVES, first=first))
            loop = self._loop(RunLogger(log, self._broken, listeners))
            with enough_memory(), options.running():
                steps = fit(objective, experiment.batches, self._accelerator, loop)
            if log is not None:
                options.on_phase("writing the results")
                log.end(step=steps)  # before the checkpoint, whose being there says that nothing of this is left to do
                experiment.write(out, steps, _facts(context, self._method, steps))
        self._accelerator.wait_for_everyone()

    def _loop(self, on_progress: Callable[[Progress], None]) -> Loop:
        """What the loop is run with; the first process alone has somebody who listens to where it is."""
        options, experiment = self._options, self._experiment
        heard: Hooks = options if self._accelerator.is_main_process else Hooks()
        return Loop(
            params=self._context.params,
            states=self._out / runs.STATES,
            workers=options.workers,
            constant=experiment.constant,
            after=experiment.after,
            asked_to_stop=options.asked_to_stop,
            leave=options.leave,
            on_progress=on_progress,
            on_start=heard.on_start,
            on_phase=heard.on_phase,
            on_step=heard.on_step,
        )

    def judge(self, *, was_complete: bool) -> RunResults | None:
        """What the method says of its result, in the first process alone."""
        vars(self).pop("_experiment", None)  # its networks make room for those that are judged
        if not self._accelerator.is_main_process:
            return None
        split, options = self._split, self._options
        judged = was_complete or split is None
        options.on_phase("reading the result" if judged else f"judging the result on {split}")
        told, device = partial(_tell_judged, options, split), str(self._accelerator.device)
        return self._method.judge(self._context.inputs, self._out, split=split, device=device, progress=told)


def _announce(plan: RunPlan, options: Options) -> None:
    if plan.origin.is_random:
        _log.warning(plan.origin.warning)
    options.on_plan(plan)


def _tell_judged(options: Options, split: str | None, done: int, total: int) -> None:
    then = ", drawing the report" if done == total else ""
    options.on_phase(f"judging the result on {split}: {done} of {total} done{then}")


def _facts(context: RunContext, method: Method, steps: int) -> dict[str, Any]:
    """What the checkpoint says of the run that it came from."""
    inputs = context.inputs
    digest = digest_of_weights(inputs, context.params)
    bits = inputs.bits
    return {
        "method": method.name,
        "step": inputs.step,
        "mean": list(context.params.mean),
        "std": list(context.params.std),
        "params": {**context.params.as_json(), **method.as_json(), "backbone_sha256": digest or ""},
        "seed": context.seed,
        "iterations": steps,
        "parent_digest": None if inputs.parent is None else inputs.parent.digest,
        "store_digest": inputs.store_digest,
        "manifest_name": inputs.manifest.name,
        "manifest_digest": inputs.manifest.digest,
        **({} if bits == ALL_BITS else {"bits": bits}),
    }


def _split_of(inputs: RunInputs, split: str | None) -> str | None:
    """The split to judge on; None, with a warning, where it is the usual one and the manifest has none.

    Another one that is not there is refused before the training, not after it.
    """
    if split == _USUAL_SPLIT and split not in inputs.manifest.judged_on:
        _log.warning(
            f"{inputs.manifest.path} has no split {split!r}, so the result will not be judged; name a list of images "
            "with pixel labels under `splits:` for that."
        )
        return None
    try:
        if split is not None:
            inputs.manifest.evaluation(split)
    except ManifestError as error:
        raise ManifestError(f"{error} Judge the result on another --split, or on nothing with --split none.") from None
    return split


def _tell_overlap(inputs: RunInputs, split: str) -> None:
    """Warn of images that the result will be judged on and that it learns from."""
    made_from = str(inputs.store.attributes.get("split", "train"))
    if (overlap := told_overlap(inputs.manifest, split, inputs.step, made_from=made_from)) is not None:
        _log.warning(overlap)
