"""`train`: the second verb as a function call. A mask store in; checkpoint, memory bank and report out."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from wilss.devices import resolve_device
from wilss.errors import ManifestError, ParameterError, StoreError, TrainingError
from wilss.networks.checkpoint import MODEL_FILE, load_segmenter, write_model
from wilss.networks.segmenter import Segmenter, SegmenterSpec, build, grown, load_backbone, set_batch_norm
from wilss.store import writer_lock

from . import runs
from .batches import BatchMaker, Broken
from .beginning import Beginning
from .conclusion import Conclusion, conclude
from .fit import Loop, Progress, Stopped, fit, gathered
from .identity import identity_of, machine_of, weights_path
from .images import MaskedImages
from .memory import MemoryBank, fill
from .methods.base import Method, Setup
from .params import IMAGENET_MEAN, IMAGENET_STD, TrainParams
from .report import LOG_FILE, read_log
from .states import latest_step
from .telling import Teller, run_log
from .tensorboard import Board

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import nn

__all__ = ["Options", "Progress", "Stopped", "Summary", "train"]

_TOO_FEW = (
    "every process needs two images at a time, or batch norm has nothing to take a mean of; raise --batch-size, or "
    "lower accumulate or the number of processes."
)


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
    on_broken: Callable[[Broken], None] = field(default=lambda broken: None)


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
    threads = options.threads or _cores()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(options.deterministic, warn_only=True)
    _require_split(beginning, options.split)
    accelerator = _accelerator(params, options)
    _require_even_share(params, accelerator.num_processes)
    with _alone(accelerator, out):
        if accelerator.is_main_process:
            machine = machine_of(accelerator, threads, deterministic=options.deterministic)
            identity = identity_of(beginning, method, params, options.seed, machine)
            runs.prepare(out, identity, resume=options.resume, overwrite=options.overwrite)
        accelerator.wait_for_everyone()
        was_complete = runs.is_complete(out)
        if not was_complete:
            _learn(beginning, method, params, out, options, accelerator)
        conclusion = None
        if accelerator.is_main_process:
            conclusion = conclude(beginning, out, split=options.split, device=str(accelerator.device))
    return Summary(
        folder=out,
        seconds=time.perf_counter() - started,
        was_complete=was_complete,
        conclusion=conclusion,
        failed=read_log(out / LOG_FILE).failed if conclusion is not None else {},
    )


def _cores() -> int:
    """This process's share of the cores: a launcher says how many processes it has started on this machine."""
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, len(os.sched_getaffinity(0)) // beside)


def _learn(
    beginning: Beginning, method: Method, params: TrainParams, out: Path, options: Options, accelerator: "Accelerator"
) -> None:
    """From the newest state to the checkpoint and the memory bank."""
    if (out / MODEL_FILE).exists():
        return
    setup = _setup(beginning, params, options.seed, accelerator)
    objective = method.objective(setup)
    if params.batch_norm == "synchronised":
        objective = set_batch_norm(objective, params.batch_norm)  # what a method adds to the student, too
    with run_log(out, beginning, params, accelerator) as log:
        broken: dict[str, str] = {}
        maker = _maker(beginning, method, params, options, accelerator, broken)
        loop = Loop(
            params=params,
            states=out / runs.STATES,
            workers=options.workers,
            asked_to_stop=options.asked_to_stop,
            on_start=options.on_start if accelerator.is_main_process else lambda step, steps: None,
            on_progress=Teller(log, broken, _listeners(out, options)),
        )
        _require_pairs(objective, maker, params)
        with _enough_memory():
            steps = fit(objective, maker, accelerator, loop)
        if log is not None:
            log.end(step=steps)  # before the checkpoint, whose being there says that nothing of this is left to do
            _write_results(beginning, method, params, options.seed, out, setup.student, steps)
    accelerator.wait_for_everyone()


def _listeners(out: Path, options: Options) -> list[Callable[[Progress], None]]:
    """Whoever is told of the progress beside the log."""
    if not options.tensorboard:
        return [options.on_progress]
    return [options.on_progress, Board(out / "tensorboard", first=latest_step(out / runs.STATES))]


def _setup(beginning: Beginning, params: TrainParams, seed: int, accelerator: "Accelerator") -> Setup:
    """The networks: at step 0 anew or from a backbone's weights, later grown out of the parent."""
    channels = len(beginning.protocol.seen(beginning.step))
    old = None if beginning.parent is None else load_segmenter(beginning.parent)
    if old is None:
        student = build(_spec(params, channels), seed=seed)
        if params.backbone_weights:
            load_backbone(student, weights_path(params.backbone_weights, beginning))
    else:
        student = grown(old, channels, rows=params.new_rows, seed=seed)
    student = set_batch_norm(student, params.batch_norm)
    for network in (student, old):
        if network is not None:
            network.to(memory_format=torch.channels_last)
    return Setup(
        protocol=beginning.protocol,
        step=beginning.step,
        student=student,
        old=old,
        seed=seed,
        epochs=params.epochs,
        gather=gathered(accelerator),
    )


def _spec(params: TrainParams, channels: int) -> SegmenterSpec:
    return SegmenterSpec(
        backbone=params.backbone,
        args=dict(params.backbone_args),
        output_stride=params.output_stride,
        head_width=params.head_width,
        rates=params.rates,
        num_channels=channels,
    )


def _maker(
    beginning: Beginning,
    method: Method,
    params: TrainParams,
    options: Options,
    accelerator: "Accelerator",
    broken: dict[str, str],
) -> BatchMaker:
    def note(one: Broken) -> None:
        broken[one.image_id] = one.error
        options.on_broken(one)

    images = MaskedImages(
        beginning.store, beginning.records, beginning.protocol, beginning.step, cache_mib=params.cache_mib
    )
    return BatchMaker(
        images,
        beginning.protocol,
        beginning.step,
        params,
        seed=options.seed,
        bank=_bank(beginning, method),
        pasting=method.pasting,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
        on_broken=note,
    )


def _bank(beginning: Beginning, method: Method) -> MemoryBank | None:
    """The parent's memory, where the method pastes from it."""
    if beginning.parent is None or method.pasting is None:
        return None
    if beginning.memory is None:
        raise StoreError(
            f"{beginning.parent.path.parent / runs.MEMORY} is not there, and {method.name} pastes old instances from "
            "it; keep it beside the checkpoint, or paste nothing with --set paste_probability=0."
        )
    bank = MemoryBank.open(beginning.memory)
    bank.require_taxonomy(beginning.protocol.taxonomy)
    return bank


def _write_results(
    beginning: Beginning, method: Method, params: TrainParams, seed: int, out: Path, student: Segmenter, steps: int
) -> None:
    """The memory bank, then the checkpoint, whose being there says that both are."""
    parent = beginning.parent
    fill(
        out / runs.MEMORY,
        store=beginning.store,
        images={image: record.path for image, record in beginning.records.items()},
        protocol=beginning.protocol,
        step=beginning.step,
        parent=None if beginning.memory is None else MemoryBank.open(beginning.memory),
        per_class=params.per_class,
        seed=seed,
        weak=beginning.from_tags,
        min_area=params.min_area,
    )
    facts = {
        "method": method.name,
        "step": beginning.step,
        "mean": list(IMAGENET_MEAN),
        "std": list(IMAGENET_STD),
        "params": {**params.as_json(), **method.parameters()},
        "seed": seed,
        "iterations": steps,
        "parent_digest": None if parent is None else parent.digest,
        "store_digest": beginning.store_digest,
        "manifest_name": beginning.manifest.name,
        "manifest_digest": beginning.manifest.digest,
    }
    with runs.writing_to(out / MODEL_FILE):
        write_model(out / MODEL_FILE, student.state_dict(), spec=student.spec, protocol=beginning.protocol, facts=facts)


def _accelerator(params: TrainParams, options: Options) -> "Accelerator":
    from accelerate import Accelerator, DistributedDataParallelKwargs
    from accelerate.state import AcceleratorState

    device = resolve_device(options.device)
    AcceleratorState._reset_state()  # another run of this process may have asked for another precision
    precision = params.precision if params.precision != "auto" else ("fp32" if device == "cpu" else "bf16")
    return Accelerator(
        mixed_precision="bf16" if precision == "bf16" else "no",
        cpu=device == "cpu",
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True, broadcast_buffers=False)],
    )


def _require_even_share(params: TrainParams, processes: int) -> None:
    if params.batch_size % (processes * params.accumulate):
        raise ParameterError(
            f"batch_size is {params.batch_size}, which {processes} processes and accumulate={params.accumulate} do not "
            "share evenly; make it a multiple of both."
        )
    if params.batch_norm != "frozen" and _share(params, processes) < 2:
        raise ParameterError(_TOO_FEW)


def _share(params: TrainParams, processes: int) -> int:
    """Images that one process sees at a time."""
    return params.batch_size // (processes * params.accumulate)


def _require_pairs(objective: "nn.Module", maker: BatchMaker, params: TrainParams) -> None:
    """A method's own networks, the teacher, may hold batch norm that learns where the student's is frozen."""
    learning = any(isinstance(one, _BatchNorm) and one.training for one in objective.train().modules())
    if learning and _share(params, maker.world) < 2:
        raise ParameterError(_TOO_FEW)


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
    out.parent.mkdir(parents=True, exist_ok=True)
    with writer_lock(out) if accelerator.is_main_process else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def _enough_memory() -> Iterator[None]:
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise TrainingError(
            "the GPU's memory does not suffice; give it less at a time with --set accumulate=2 (the same result from "
            "half the memory), --precision bf16, a smaller --crop or --batch-size, or --set loss_stride=2; what is "
            "saved stays, and --resume goes on where parameters are equal."
        ) from error
