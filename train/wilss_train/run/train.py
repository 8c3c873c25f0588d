"""`train`: the second verb as a function call. A mask store in; checkpoint, memory bank and report out."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from wilss.disk import make_folder
from wilss.errors import ManifestError
from wilss.models.networks.checkpoint import MODEL_FILE
from wilss.models.networks.segmenter import set_batch_norm
from wilss.store import writer_lock

from .. import run_folder as runs
from ..context import Ground
from ..inputs import Beginning
from ..methods.base import Conclusion, Method
from ..params import IMAGENET_MEAN, IMAGENET_STD, TrainParams
from ..results.report import LOG_FILE, read_log
from .fit import Loop, Progress, Stopped, fit, gathered
from .identity import identity_of, machine_of
from .processes import accelerator_for, enough_memory, own_cores, require_even_share, require_pairs
from .run_logger import Teller, run_log
from .states import latest_step
from .tensorboard import Board

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["Options", "Progress", "Stopped", "Summary", "train"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a run is run. Only `seed` and, by rounding, `threads` and the device touch what is learnt.

    workers: loader threads. threads: of torch's operations on the CPU, 0 for all cores, shared by the processes of
    a machine. device: auto, cpu or cuda.
    split: the images on which the result is judged, None for none.
    """

    seed: int = 0
    resume: bool = False
    overwrite: bool = False
    workers: int = 1
    threads: int = 0
    device: str = "auto"
    deterministic: bool = False
    tensorboard: bool = False
    split: str | None = "val"
    asked_to_stop: Callable[[], bool] = field(default=lambda: False)
    on_start: Callable[[int, int], None] = field(default=lambda step, steps: None)
    on_progress: Callable[[Progress], None] = field(default=lambda progress: None)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What came of a run. conclusion: None in all processes but the first. failed: image id -> why it was left out."""

    folder: Path
    seconds: float
    was_complete: bool
    conclusion: Conclusion | None
    failed: Mapping[str, str]


def train(beginning: Beginning, method: Method, params: TrainParams, out: Path, options: Options) -> Summary:
    """Train one step from its mask store, or go on where an earlier call stopped; a finished run is left alone.

    Raises CheckpointError where `out` holds another run, StoreError where somebody else is training there, Stopped
    when asked to stop, TrainingError for a loss that is not finite and a GPU whose memory does not suffice.
    """
    started = time.perf_counter()
    threads = options.threads or own_cores()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(options.deterministic, warn_only=True)
    _require_split(beginning, options.split)
    accelerator = accelerator_for(params, options.device)
    require_even_share(params, accelerator.num_processes)
    with _alone(accelerator, out):
        if accelerator.is_main_process:
            beginning.verify()  # here, so that whoever finds the folder taken need not wait, and one process reads
            machine = machine_of(accelerator, threads, deterministic=options.deterministic)
            identity = identity_of(beginning, method, params, options.seed, machine)
            if options.overwrite:  # what would be refused is refused before anything is thrown away
                method.course(_ground(beginning, params, options.seed, accelerator, {}))
            runs.prepare(out, identity, resume=options.resume, overwrite=options.overwrite)
        accelerator.wait_for_everyone()
        was_complete = runs.is_complete(out)
        if not was_complete:
            _learn(beginning, method, params, out, options, accelerator)
        conclusion = None
        if accelerator.is_main_process:
            conclusion = method.conclude(beginning, out, split=options.split, device=str(accelerator.device))
    return Summary(
        folder=out,
        seconds=time.perf_counter() - started,
        was_complete=was_complete,
        conclusion=conclusion,
        failed=read_log(out / LOG_FILE).failed if conclusion is not None else {},
    )


def _learn(
    beginning: Beginning, method: Method, params: TrainParams, out: Path, options: Options, accelerator: "Accelerator"
) -> None:
    """From the newest state to the checkpoint and what comes with it."""
    if (out / MODEL_FILE).exists():
        return
    broken: dict[str, str] = {}
    ground = _ground(beginning, params, options.seed, accelerator, broken)
    course = method.course(ground)
    objective = course.objective
    if params.batch_norm == "synchronised":
        objective = set_batch_norm(objective, params.batch_norm)  # what a method adds to the student, too
    require_pairs(objective, params, ground.world)
    with run_log(out, beginning, params, accelerator) as log:
        loop = Loop(
            params=params,
            states=out / runs.STATES,
            workers=options.workers,
            asked_to_stop=options.asked_to_stop,
            on_start=options.on_start if accelerator.is_main_process else lambda step, steps: None,
            on_progress=Teller(log, broken, _listeners(out, options)),
        )
        with enough_memory():
            steps = fit(objective, course.maker, accelerator, loop)
        if log is not None:
            log.end(step=steps)  # before the checkpoint, whose being there says that nothing of this is left to do
            course.write(out, steps, _facts(ground, method, steps))
    accelerator.wait_for_everyone()


def _ground(
    beginning: Beginning, params: TrainParams, seed: int, accelerator: "Accelerator", broken: dict[str, str]
) -> Ground:
    """What the method is given; broken images are noted in `broken`."""
    return Ground(
        beginning=beginning,
        params=params,
        seed=seed,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
        device=accelerator.device,
        gather=gathered(accelerator),
        on_broken=lambda one: broken.update({one.image_id: one.error}),
    )


def _facts(ground: Ground, method: Method, steps: int) -> dict[str, Any]:
    """What the checkpoint says of the run that it came from."""
    beginning = ground.beginning
    return {
        "method": method.name,
        "step": beginning.step,
        "mean": list(IMAGENET_MEAN),
        "std": list(IMAGENET_STD),
        "params": {**ground.params.as_json(), **method.parameters()},
        "seed": ground.seed,
        "iterations": steps,
        "parent_digest": None if beginning.parent is None else beginning.parent.digest,
        "store_digest": beginning.store_digest,
        "manifest_name": beginning.manifest.name,
        "manifest_digest": beginning.manifest.digest,
    }


def _listeners(out: Path, options: Options) -> list[Callable[[Progress], None]]:
    """Whoever is told of the progress beside the log."""
    if not options.tensorboard:
        return [options.on_progress]
    return [options.on_progress, Board(out / runs.CURVES, first=latest_step(out / runs.STATES))]


def _require_split(beginning: Beginning, split: str | None) -> None:
    """A split that is not there is refused before the training, not after it."""
    try:
        if split is not None:
            beginning.manifest.evaluation(split)
    except ManifestError as error:
        raise ManifestError(f"{error} Judge the result on another --split, or on nothing with --split none.") from None


@contextlib.contextmanager
def _alone(accelerator: "Accelerator", out: Path) -> Iterator[None]:
    """Only one run trains in a folder; the first process holds its lock."""
    with runs.writing_to(out):
        make_folder(out.parent)
    with writer_lock(out) if accelerator.is_main_process else contextlib.nullcontext():
        yield
