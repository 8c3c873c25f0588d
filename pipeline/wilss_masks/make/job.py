"""What all shards of a run share: the source, prepared, and the device and threads that its networks compute with."""

import dataclasses
from dataclasses import dataclass

from wilss.disk import Location
from wilss.models.devices import resolve_device
from wilss.process import interrupts_deferred, own_cores
from wilss.store import StoreLayout, StoreParts

from ..sources.base import MaskSource, has_networks
from .options import Options
from .plan import MaskPlan

#: Enough that decoding, which takes longer than the forward passes, does not hold a GPU up.
_BATCHES_ON_A_GPU = 4


@dataclass(frozen=True, kw_only=True)
class Job:
    """What all shards of a run share, and a worker is sent with every task.

    threads: CPU threads of one forward pass; the same in every worker, since rounding may depend on it.
    batches_at_once: in one process, each in a thread. On a CPU they share out the cores, since torch lets go of the
        interpreter while it computes; on a GPU one decodes while another computes.
    parts: where many processes make the store and none commits for all.
    """

    store: Location
    layout: StoreLayout
    source: MaskSource
    device: str
    threads: int
    batches_at_once: int = 1
    parts: StoreParts | None = None


def job_of(
    path: Location, plan: MaskPlan, source: MaskSource, options: Options, parts: StoreParts | None = None
) -> Job:
    """The job of a plan, with its source prepared. Raises what `prepare` raises, and ParameterError for a device."""
    here, device = _devices(options) if has_networks(source) else ("cpu", "cpu")
    if has_networks(source):
        use_threads(options.threads)  # also for what is prepared here: rounding may depend on it
    return Job(
        store=path,
        layout=plan.layout,
        source=_keeping_in(source.prepare(here), path, plan),
        device=device,
        threads=options.threads,
        batches_at_once=_batches_at_once(device, options),
        parts=parts,
    )


def _keeping_in(source: MaskSource, path: Location, plan: MaskPlan) -> MaskSource:
    """The source, with the store that it keeps features in, where it does."""
    return dataclasses.replace(source, keeps_in=path) if plan.layout.features else source  # type: ignore[type-var]


def _devices(options: Options) -> tuple[str, str]:
    """The device in this process, and the one that workers are told."""
    here = resolve_device("auto" if options.cluster.is_elsewhere else options.device)
    return here, options.device if options.cluster.is_elsewhere and options.device != "auto" else here


def use_threads(count: int) -> None:
    """Let torch compute with so many threads in this process."""
    with interrupts_deferred():  # one that comes while torch sets itself up would abort the process
        import torch

    torch.set_num_threads(count)


def _batches_at_once(device: str, options: Options) -> int:
    """Batches at a time in one process: all its cores here, one in each of several workers, a few on a GPU."""
    if device != "cpu":
        return _BATCHES_ON_A_GPU
    if options.cluster.is_elsewhere or options.cluster.workers > 1:
        return 1
    return max(1, own_cores() // options.threads)
