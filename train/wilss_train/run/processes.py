"""The processes of a run: their device and precision, their cores, and their even shares of a batch."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from wilss.errors import ParameterError, TrainingError
from wilss.models.devices import has_bf16, resolve_device

from ..context import Gather
from ..params import TrainParams

_TOO_FEW = (
    "every process needs two images at a time, or batch norm has nothing to take a mean of; raise --batch-size, or "
    "lower accumulate or the number of processes."
)


def accelerator_for(params: TrainParams, device: str) -> Accelerator:
    """accelerate's view of device, precision and processes."""
    device = resolve_device(device)
    AcceleratorState._reset_state()  # another run of this process may have asked for another precision
    return Accelerator(
        mixed_precision="bf16" if is_bf16(params, device) else "no",
        cpu=device == "cpu",
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True, broadcast_buffers=True)],
    )


def is_bf16(params: TrainParams, device: str) -> bool:
    """Whether forward passes on a device ("cpu", "cuda", ...) are to be autocast to bf16."""
    wanted = {"fp32": False, "bf16": True, "auto": device != "cpu", "fast": has_bf16(device)}
    return wanted[params.precision]


def require_even_share(params: TrainParams, processes: int) -> None:
    """Refuse a batch that processes and accumulated parts do not share evenly."""
    if params.batch_size % (processes * params.accumulate):
        raise ParameterError(
            f"batch_size is {params.batch_size}, which {processes} processes and accumulate={params.accumulate} do not "
            "share evenly; make it a multiple of both."
        )
    if params.batch_norm != "frozen" and images_at_a_time(params, processes) < 2:
        raise ParameterError(_TOO_FEW)


def images_at_a_time(params: TrainParams, processes: int) -> int:
    """Images that one process sees at a time."""
    return params.batch_size // (processes * params.accumulate)


def require_pairs(objective: nn.Module, params: TrainParams, processes: int) -> None:
    """A method's own networks, the teacher, may hold batch norm that learns where the student's is frozen."""
    learning = any(isinstance(module, _BatchNorm) and module.training for module in objective.train().modules())
    if learning and images_at_a_time(params, processes) < 2:
        raise ParameterError(_TOO_FEW)


@contextlib.contextmanager
def enough_memory() -> Iterator[None]:
    """A GPU whose memory does not suffice is reported in one sentence."""
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise TrainingError(
            "the GPU's memory does not suffice; give it less at a time with --set accumulate=2 (half the memory and "
            "nearly the same result), --precision bf16, a smaller --crop or --batch-size, or --set loss_stride=2; "
            "what is saved stays, and --resume continues where parameters are equal."
        ) from error


def gathered(accelerator: Accelerator) -> Gather:
    """Rows of all processes one below the other, with gradients; every process has as many columns, not rows."""
    if accelerator.num_processes == 1:
        return lambda rows: rows
    return _gather_rows


def _gather_rows(rows: Tensor) -> Tensor:
    import torch.distributed as distributed
    import torch.distributed.nn.functional as with_gradient

    world = distributed.get_world_size()
    counts = [torch.zeros(1, dtype=torch.long, device=rows.device) for _ in range(world)]
    distributed.all_gather(counts, torch.tensor([len(rows)], device=rows.device))
    most = max(int(count) for count in counts)
    padded = torch.cat([rows, rows.new_zeros(most - len(rows), *rows.shape[1:])])
    if rows.requires_grad:
        parts: Any = with_gradient.all_gather(padded)  # type: ignore[no-untyped-call]
    else:
        parts = [torch.empty_like(padded) for _ in range(world)]
        distributed.all_gather(parts, padded)
    return torch.cat([part[: int(count)] for part, count in zip(parts, counts, strict=True)])
