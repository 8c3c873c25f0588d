"""`run(plan, ...)`: make the shards that are not done yet, here or on Dask workers, and commit them.

One shard is one task with one writer. Workers write the shard's files; only this coordinator writes status
and vectors, after the shard is on disk. `run` is handed a source and knows none by name.
"""

import contextlib
import dataclasses
import itertools
import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from wilss.data.contents import UNKNOWN, content_of
from wilss.disk import Location, writing
from wilss.errors import EncoderError, OneImageError, StoreError
from wilss.process import keep_freed_memory
from wilss.store import ImageContent, MaskStoreWriter, ShardReceipt, Status, write_shard
from wilss.store.parts import are_begun

from ..sources.base import ImageTask, MaskSource, Proposer, made_of, why_not_finite
from .job import Job
from .plan import MaskPlan, ShardTask
from .workers import on_workers

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger(__name__)

#: Shards are committed together where they come fast, at most so often: a commit costs the coordinator as much for ten
#: as for one. What is finished waits at most until the next shard comes after so long; a kill then costs so much work.
_COMMIT_SECONDS = 0.5
#: Shards that are begun before the first of them is written; what they made waits in memory.
_SHARDS_AHEAD = 2
#: How often whoever waits for a batch is told that it is not there yet.
_PULSE_SECONDS = 2.0


def _tell_nobody(images: int) -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class Workers:
    """Who makes the shards of a run, and who is told.

    client: a Dask client, or None to work in this process. window, shard_seconds: see `on_workers`. on_shard: told of
    every shard that is committed. on_images: told how many images every batch of this process has made, before they are
    committed; 0 now and then, while it waits.
    """

    client: "Client | None" = None
    window: int = 2
    shard_seconds: float = 0.0
    on_shard: Callable[[ShardReceipt], None] = lambda receipt: None
    on_images: Callable[[int], None] = _tell_nobody

    def make(self, job: Job, tasks: Iterator[ShardTask], count: int = 0) -> Generator[ShardReceipt | str | None]:
        """Shards as they come: a receipt, or a sentence why there is none; None now and then.

        count: see `on_workers`.
        """
        if self.client is None:
            return _in_this_process(job, tasks, self.on_images)
        make = partial(make_shard, job)
        return on_workers(self.client, make, tasks, window=self.window, shard_seconds=self.shard_seconds, count=count)


def run(writer: MaskStoreWriter, plan: MaskPlan, job: Job, workers: Workers = Workers()) -> tuple[str, ...]:
    """Make every pending shard of a store, commit them as they come, and seal the store when all are there.

    Returns a sentence for every shard that a worker could not make; the store is then not sealed.
    Raises what ends the run for all shards: EncoderError, WeightsError, StoreError (a full disk), WilssError (no
    scheduler or worker left).
    """
    pending = writer.store.pending_shards()
    results, failures = workers.make(job, map(plan.shard, pending), len(pending)), []
    with _Committer(writer, workers.on_shard) as committer, contextlib.closing(results):
        for result in results:
            if isinstance(result, str):
                failures.append(result)
            elif result is None:
                committer.flush()
                workers.on_images(0)
            else:
                committer.add(result)
    if not failures:
        with disk_errors(writer.path):
            writer.seal()
    return tuple(failures)


def run_parts(plan: MaskPlan, job: Job, shards: Iterable[tuple[int, int]], workers: Workers) -> tuple[str, ...]:
    """Make shards of a store that is made in parts, each with its generation; whoever makes one hands it in.

    Returns and raises as `run` does.
    """
    results, failures = workers.make(job, (plan.shard(*shard) for shard in shards)), []
    with contextlib.closing(results):
        for result in results:
            if isinstance(result, str):
                failures.append(result)
            elif result is None:
                workers.on_images(0)
            else:
                workers.on_shard(result)
    return tuple(failures)


class _Committer:
    """Commits shards to a store, at most twice a second. Use it as a context: at its end all are committed.

    on_shard: told of every shard once it is committed.
    """

    def __init__(self, writer: MaskStoreWriter, on_shard: Callable[[ShardReceipt], None]) -> None:
        self._writer, self._on_shard = writer, on_shard
        self._waiting: list[ShardReceipt] = []
        self._last = -_COMMIT_SECONDS

    def add(self, receipt: ShardReceipt) -> None:
        """A shard that is on disk. Raises StoreError where it cannot be committed."""
        self._waiting.append(receipt)
        if time.monotonic() - self._last >= _COMMIT_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Commit what waits. Raises StoreError."""
        waiting, self._waiting = self._waiting, []
        if are_begun(self._writer.path):  # where no lock could tell them that this run is at work
            raise StoreError(
                f"others have begun to make {self._writer.path} in parts; run the same command again to take part."
            )
        if waiting:
            with disk_errors(self._writer.path):
                self._writer.commit(*waiting)
            self._last = time.monotonic()
        for receipt in waiting:
            self._on_shard(receipt)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Commit what waits, also where something else went wrong; but a full disk is told once."""
        if not isinstance(error, StoreError):
            self.flush()


def disk_errors(path: Location) -> AbstractContextManager[None]:
    """Turn the errors of a full or forbidden disk into a StoreError that says how to resume."""
    return writing(path, then="run the same command again (without --overwrite), it goes on where it stopped")


def make_shard(job: Job, task: ShardTask) -> ShardReceipt:
    """Make and write one shard. Bad images are marked as failed and do not stop the others."""
    with _batch_threads(job) as pool:
        return _written(job, task, _submitted(pool, job, task))


def _submitted(pool: Executor, job: Job, task: ShardTask) -> list[Future[dict[int, ImageContent]]]:
    """The batches of a shard, on their way."""
    return [pool.submit(_make_batch, job, task, batch) for batch in task.batches]


def _written(
    job: Job,
    task: ShardTask,
    batches: list[Future[dict[int, ImageContent]]],
    on_images: Callable[[int], None] = _tell_nobody,
) -> ShardReceipt:
    """Wait for a shard's batches and write it."""
    contents = {i: _before_running(job, image) for i, image in enumerate(task.images)}
    on_images(len(contents) - sum(map(len, task.batches)))
    for batch, made in zip(task.batches, batches, strict=True):
        while not wait([made], timeout=_PULSE_SECONDS).done:
            on_images(0)
        contents.update(made.result())
        on_images(len(batch))
    images = [contents[i] for i in range(len(task.images))]
    with disk_errors(job.store):
        if job.parts is not None:
            return job.parts.hand_in(task.shard, images, task.generation)
        return write_shard(job.store, job.layout, task.shard, images)


def _make_batch(job: Job, task: ShardTask, batch: tuple[int, ...]) -> dict[int, ImageContent]:
    """Decode the images at positions `batch` of a shard, and propose their masks together."""
    proposer, loaded, contents, noted = _opened(job), {}, {}, {}
    for i in batch:
        # First, so that a file that is replaced meanwhile is one that has changed since.
        noted[i] = _content_of(job, task.images[i])
        try:
            loaded[i] = proposer.load(task.images[i])
        except OneImageError as error:
            contents[i] = ImageContent(status=Status.FAILED, error=str(error))
    made = propose_in_parts(proposer, [task.images[i] for i in loaded], list(loaded.values()))
    for i, content in zip(loaded, made, strict=True):
        problem = why_not_finite(task.images[i], {name: [*planes.values()] for name, planes in content.planes.items()})
        contents[i] = (
            ImageContent(status=Status.FAILED, error=problem)
            if problem
            else dataclasses.replace(content, content=noted[i])
        )
    return contents


def _content_of(job: Job, image: ImageTask) -> int:
    """What a store notes of an image that something was made of."""
    return content_of(image.record, made_of(job.source)) if job.layout.has_content else UNKNOWN


def _before_running(job: Job, image: ImageTask) -> ImageContent:
    if image.problem is not None:
        return ImageContent(status=Status.FAILED, error=image.problem)
    if image.shows_none and not image.is_proposed:
        return ImageContent(status=Status.DONE, content=_content_of(job, image))
    is_of_label = job.source.reads_labels and image.status is Status.UNTAGGED  # which says so, whatever the tags
    return ImageContent(status=image.status, content=_content_of(job, image) if is_of_label else UNKNOWN)


def propose_in_parts(proposer: Proposer, tasks: Sequence[ImageTask], loaded: Sequence[Any]) -> list[ImageContent]:
    """Propose masks for a batch; when the device is out of memory, for its halves."""
    if not tasks:
        return []
    try:
        return proposer.propose(tasks, loaded)
    except Exception as error:
        # Named, not imported: a source without networks should not wait for torch.
        if type(error).__name__ != "OutOfMemoryError":
            raise
        if len(tasks) == 1:
            raise EncoderError(
                f"the device has too little memory for {tasks[0].record.path} alone; make the source's inputs smaller "
                "with --set where it can (vit_size=336 and clip_size=336, or longest=512), or use --device cpu."
            ) from None
        log.warning("out of memory with %d images at once; trying %d", len(tasks), len(tasks) // 2)
    half = len(tasks) // 2
    return [
        *propose_in_parts(proposer, tasks[:half], loaded[:half]),
        *propose_in_parts(proposer, tasks[half:], loaded[half:]),
    ]


@contextlib.contextmanager
def _batch_threads(job: Job) -> Iterator[Executor]:
    """Threads in which batches are made at the same time; after an error or Ctrl-C they end with their batch."""
    with ThreadPoolExecutor(job.batches_at_once) as pool:
        try:
            yield pool
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _in_this_process(job: Job, tasks: Iterable[ShardTask], on_images: Callable[[int], None]) -> Generator[ShardReceipt]:
    """Shards in this process, the next ones begun before the last is written, so that no thread waits."""
    _opened(job)
    with _batch_threads(job) as pool:
        waiting = iter(tasks)
        running = deque((task, _submitted(pool, job, task)) for task in itertools.islice(waiting, _SHARDS_AHEAD))
        while running:
            yield _written(job, *running.popleft(), on_images)
            running.extend((task, _submitted(pool, job, task)) for task in itertools.islice(waiting, 1))


@dataclass
class _Opened:
    """A source with its networks loaded. what: source, device, identity. asked: the object asked for last."""

    what: tuple[MaskSource, str, str]
    asked: MaskSource
    proposer: Proposer


_OPENED: list[_Opened] = []
_OPENING = threading.Lock()


def _opened(job: Job) -> Proposer:
    """The job's source with its networks loaded; kept for the process, the one cache there is."""
    with _OPENING:
        if _OPENED and _OPENED[0].asked is job.source and _OPENED[0].what[1] == job.device:  # every batch asks
            return _OPENED[0].proposer
        identity = json.dumps([job.source.name, job.source.identity()], sort_keys=True, default=str)
        what = job.source, job.device, identity
        if not _OPENED or _OPENED[0].what != what:
            _OPENED.clear()  # before the next one takes its memory
            if job.device == "cpu":
                keep_freed_memory()
            _OPENED.append(_Opened(what, job.source, job.source.open(job.device, job.threads)))
        _OPENED[0].asked = job.source
        return _OPENED[0].proposer
