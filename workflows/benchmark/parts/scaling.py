"""Overlap and scaling without a GPU: workers whose device sleeps as long as one would compute.

Every worker has a device of so many images/s, to which batches queue up, and really decodes, encodes and writes. The
rate is taken between the first commits of all workers and the last ones, so that the start of processes is a row of
its own. The coordinator's processor time is this process's, and by thread: the one that commits, Dask's event loop
with the scheduler, zarr's.
"""

import os
import resource
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from measure import Figure, figure

from wilss_masks import generate
from wilss_masks.make import job
from wilss_masks.make.cluster import ClusterOptions

from .common import options, row
from .standin import SleepingSource, linked_manifest

WORKERS = (1, 2, 4, 8)
#: Images/s of a device, images of a shard, images for every worker, rounds. Shards come by themselves at first, and few
#: at a time in the end; a run of seconds is little else.
CASES = ((100.0, 32, 1920, 3), (100.0, 128, 3072, 1), (1000.0, 32, 1536, 1), (1000.0, 128, 2048, 1))
LANES = 4  # as on a GPU: wilss_masks.make.job
APART = 0.01  # seconds between two commits; shards that are committed together come closer
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(kw_only=True)
class Watch:
    """Commits as they come: when, how many images there were, and what this process had used by then."""

    times: list[float] = field(default_factory=list)
    done: list[int] = field(default_factory=list)
    used: list[float] = field(default_factory=list)
    threads: list[dict[str, float]] = field(default_factory=list)

    def __call__(self, done: int, total: int) -> None:
        """After a commit; first before any."""
        now = time.perf_counter()
        apart = not self.times or now - self.times[-1] > APART
        self.threads.append(by_thread() if apart else self.threads[-1])
        self.times.append(now)
        self.done.append(done)
        spent = resource.getrusage(resource.RUSAGE_SELF)
        self.used.append(spent.ru_utime + spent.ru_stime)


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run: images/s when all workers are at work, its start in seconds, and the coordinator's part of a core."""

    workers: int
    rate: float
    start: float
    share: float
    threads: dict[str, float]
    per_shard_ms: float


def measure(scratch: Path, quick: bool) -> list[dict[str, Any]]:
    """Devices of 100 images/s, and of 1,000 to see where it breaks."""
    workers, cases = ((1, 2), ((100.0, 32, 192, 1),)) if quick else (WORKERS, CASES)
    rows = []
    for rate, shard, each, repeats in cases:
        found: dict[int, list[Run]] = {count: [] for count in workers}
        for _ in range(repeats):
            for count, runs in found.items():
                runs.append(run_of(scratch, count, rate, shard, each * count))
        rows += _rows(found, rate, shard)
    return rows


def run_of(scratch: Path, workers: int, rate: float, shard: int, images: int) -> Run:
    """One run of `generate` with so many workers; with one, in this process, as a user has it."""
    manifest, watch = linked_manifest(scratch, images), Watch()
    before, lanes = time.perf_counter(), job._batches_at_once
    job._batches_at_once = lambda device, options: LANES
    try:
        generate(
            manifest,
            step=0,
            source=SleepingSource(rate=rate),
            out=scratch / "scaling.zarr",
            options=options(device="cpu", shard_size=shard, cluster=ClusterOptions(workers=workers)),
            progress=watch,
        )
    finally:
        job._batches_at_once = lanes
    return _steady(watch, workers, before)


def _steady(watch: Watch, workers: int, before: float) -> Run:
    """From a commit after the first shards of all workers to one before the last ones; several come together."""
    shards = len(watch.times) - 1
    ends = together(watch.times)
    first = next((at for at in ends if at >= min(2 * workers, shards // 3)), ends[0])
    last = next((at for at in reversed(ends) if first < at <= shards - workers), ends[-1])
    wall = watch.times[last] - watch.times[first]
    used = watch.used[last] - watch.used[first]
    names = set(watch.threads[last]) | set(watch.threads[first])
    threads = {name: (watch.threads[last].get(name, 0) - watch.threads[first].get(name, 0)) / wall for name in names}
    return Run(
        workers=workers,
        rate=(watch.done[last] - watch.done[first]) / wall,
        start=watch.times[1] - before,
        share=used / wall,
        threads=threads,
        per_shard_ms=1000 * used / (last - first),
    )


def together(times: list[float], gap: float = APART) -> list[int]:
    """The last place of every group of `times` that lie closer than `gap` to one another, without the start."""
    return [at for at in range(1, len(times)) if at + 1 == len(times) or times[at + 1] - times[at] > gap]


def by_thread() -> dict[str, float]:
    """Processor seconds of this process's threads, by what they are for."""
    names = {thread.native_id: _kind(thread.name) for thread in threading.enumerate()}
    found: dict[str, float] = {}
    for task in Path("/proc/self/task").iterdir():
        try:
            fields = (task / "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        kind = names.get(int(task.name), "other")
        found[kind] = found.get(kind, 0.0) + (int(fields[11]) + int(fields[12])) / _TICK
    return found


def _kind(name: str) -> str:
    if name == "MainThread":
        return "commits"
    if "IO loop" in name:
        return "Dask's event loop"
    return "zarr's event loop" if "zarr" in name.lower() else "other"


def _rows(found: dict[int, list[Run]], rate: float, shard: int) -> list[dict[str, Any]]:
    title = f"devices of {rate:.0f} images/s, shards of {shard}"
    one, rows = found[min(found)], []
    for workers, runs in found.items():
        rows.append(row(f"{title}: {workers} workers, images/s", figure([run.rate for run in runs])))
        if workers == min(found):
            continue
        scaled = figure([many.rate / single.rate for many, single in zip(runs, one, strict=True)])
        target = rate == 100
        asked = "at least 7.2" if workers == 8 and target else ""
        rows.append(row(f"{title}: {workers} workers over one", scaled, asked))
        share = figure([100 * run.share for run in runs])
        loop = _percent([run.threads.get("Dask's event loop", 0.0) for run in runs])
        rows.append(
            row(
                f"{title}: {workers} workers, coordinator, % of a core",
                share,
                "",
                start=runs[0].start,
                threads={name: round(100 * part, 2) for name, part in sorted(runs[0].threads.items())},
            )
        )
        rows.append(
            row(
                f"{title}: {workers} workers, of it the scheduler, % of a core",
                loop,
                "below 3" if workers == 8 and target else "",
            )
        )
        rows.append(row(f"{title}: {workers} workers, coordinator, ms a shard", figure([r.per_shard_ms for r in runs])))
    return rows


def _percent(values: list[float]) -> Figure:
    return figure([100 * value for value in values])
