"""`train`: the second verb as a function call. A mask store in; checkpoint, memory bank and report out."""

import contextlib
import functools
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

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
from .fit import Loop, fit
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
from .settings import as_noted_now, digest_of_weights, identity_of, machine_of, open_run, settled
from .states import latest_step

_log = logging.getLogger(__name__)

_USUAL_SPLIT = "val"


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a run is run. Only `seed` and, by rounding, `threads` and the device affect what is learnt.

    workers: loader threads. threads: of torch's operations on the CPU, 0 for all cores, shared by the processes of
    a machine. device: auto, cpu or cuda.
    split: the images on which the result is judged, None for none; where there is no `val`, nothing is judged.
    check_digests: read every image or label that the masks were made of, also those whose size and time are as they
    were.
    asked_to_stop: looked at after every optimiser step. running: stands around all of them. leave: see
    `wilss_train.run.fit.Loop`; None waits for every step to end.
    on_ready: called once the run's folder is there, from when on the run can be resumed. on_plan: called with what is
    about to be trained. on_start: called with the step at which the run starts, and how
    many there are. on_phase, on_step: called with what is being done, and with the steps taken. on_progress: called
    every tenth step.
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
    asked_to_stop: Callable[[], bool] = field(default=lambda: False)
    running: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext
    leave: Callable[[Exception], None] | None = None
    on_ready: Callable[[], None] = field(default=lambda: None)
    on_plan: Callable[[RunPlan], None] = field(default=lambda plan: None)
    on_start: Callable[[int, int], None] = field(default=lambda step, steps: None)
    on_phase: Callable[[str], None] = field(default=lambda phase: None)
    on_step: Callable[[int], None] = field(default=lambda step: None)
    on_progress: Callable[[Progress], None] = field(default=lambda progress: None)


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
    params = settled(params, method, inputs)
    threads = options.threads or own_cores()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(options.deterministic, warn_only=True)
    split = _split_of(inputs, options.split)
    accelerator = accelerator_for(params, options.device)
    if accelerator.device.type == "cpu":
        keep_freed_memory()
    require_even_share(params, accelerator.num_processes)
    if accelerator.is_main_process and split is not None:
        _tell_overlap(inputs, split)
    broken: dict[str, str] = {}
    context = _context(inputs, params, options.seed, accelerator, broken)
    experiment = functools.cache(lambda: method.experiment(context))
    with _alone(accelerator, out):
        if accelerator.is_main_process:
            machine = machine_of(accelerator, threads, deterministic=options.deterministic)
            _prepare(context, method, out, options, machine, experiment)
        accelerator.wait_for_everyone()
        was_complete = runs.is_complete(out)
        if not was_complete and not (out / MODEL_FILE).exists():
            _learn(experiment(), context, method, out, options, accelerator, broken)
        experiment.cache_clear()  # its networks make room for those that are judged
        results = None
        if accelerator.is_main_process:
            judged = was_complete or split is None
            options.on_phase("reading the result" if judged else f"judging the result on {split}")
            told = partial(_tell_judged, options, split)
            results = method.judge(inputs, out, split=split, device=str(accelerator.device), progress=told)
    return Summary(
        folder=out,
        seconds=time.perf_counter() - started,
        was_complete=was_complete,
        results=results,
        failed=read_log(out / LOG_FILE).failed if results is not None else {},
    )


def _prepare(
    context: RunContext,
    method: Method,
    out: Path,
    options: Options,
    machine: dict[str, Any],
    experiment: Callable[[], Experiment],
) -> None:
    """Check what is read, and make the run's folder or find the same run there.

    Under the lock, so that whoever finds the folder taken need not wait, and in the first process alone.
    """
    options.on_phase("reading and checking masks, images and weights")
    inputs, params = context.inputs, context.params
    inputs.verify(check_digests=options.check_digests)
    identity = identity_of(inputs, method, params, options.seed, machine)
    if options.overwrite or images_at_a_time(params, context.world) < 2:
        # what would be refused is refused before anything is thrown away, or there
        require_pairs(experiment().objective, params, context.world)
    about = origin_of(inputs, method, params).as_json()
    renew = partial(as_noted_now, wanted=identity, method=method, manifest=inputs.manifest)
    runs.prepare(out, identity, about, renew=renew, resume=options.resume, overwrite=options.overwrite)
    options.on_ready()


def _learn(
    experiment: Experiment,
    context: RunContext,
    method: Method,
    out: Path,
    options: Options,
    accelerator: Accelerator,
    broken: Mapping[str, str],
) -> None:
    """From the newest state to the checkpoint and what comes with it."""
    objective, params = experiment.objective, context.params
    if params.batch_norm == "synchronised":
        objective = set_batch_norm(objective, params.batch_norm)  # what a method adds to the student, too
    require_pairs(objective, params, context.world)
    if accelerator.is_main_process:
        _announce(plan_of(experiment, context, method), options)
    first = latest_step(out / runs.STATES)
    with run_log(out, context, first, images=experiment.batches.image_count) as log:
        listeners = [options.on_progress]
        if options.tensorboard:
            listeners.append(CurveWriter(out / runs.CURVES, first=first))
        loop = Loop(
            params=params,
            states=out / runs.STATES,
            workers=options.workers,
            alone=experiment.alone,
            after=experiment.after,
            asked_to_stop=options.asked_to_stop,
            leave=options.leave,
            on_progress=RunLogger(log, broken, listeners),
            **_listening(options, accelerator),
        )
        with enough_memory(), options.running():
            steps = fit(objective, experiment.batches, accelerator, loop)
        if log is not None:
            options.on_phase("writing the results")
            log.end(step=steps)  # before the checkpoint, whose being there says that nothing of this is left to do
            experiment.write(out, steps, _facts(context, method, steps))
    accelerator.wait_for_everyone()


def _announce(plan: RunPlan, options: Options) -> None:
    if plan.origin.is_random:
        _log.warning(plan.origin.warning)
    options.on_plan(plan)


def _tell_judged(options: Options, split: str | None, done: int, total: int) -> None:
    then = ", drawing the report" if done == total else ""
    options.on_phase(f"judging the result on {split}: {done} of {total} done{then}")


def _listening(options: Options, accelerator: Accelerator) -> dict[str, Any]:
    """Whom the loop tells where it is: the first process alone has somebody who listens."""
    if not accelerator.is_main_process:
        return {}
    return {"on_start": options.on_start, "on_phase": options.on_phase, "on_step": options.on_step}


def _context(
    inputs: RunInputs, params: TrainParams, seed: int, accelerator: Accelerator, broken: dict[str, str]
) -> RunContext:
    """What the method is given; broken images are noted in `broken`."""
    return RunContext(
        inputs=inputs,
        params=params,
        seed=seed,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
        device=accelerator.device,
        gather=gathered(accelerator),
        on_broken=lambda image: broken.update({image.image_id: image.error}),
    )


def _facts(context: RunContext, method: Method, steps: int) -> dict[str, Any]:
    """What the checkpoint says of the run that it came from."""
    inputs = context.inputs
    digest = digest_of_weights(inputs, context.params)
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


@contextlib.contextmanager
def _alone(accelerator: Accelerator, out: Path) -> Iterator[None]:
    """Only one run trains in a folder; the first process holds its lock."""
    with runs.writing_to(out):
        make_folder(out.parent)
    with writer_lock(out) if accelerator.is_main_process else contextlib.nullcontext():
        yield
