"""Shards on Dask workers: a window of them at a time, and what to do where a worker dies, hangs or is gone.

A worker that dies is Dask's affair: its shards are made by another, and one that kills them all is given up. A worker
that hangs, a scheduler that is gone and a cluster without workers would be waited for without end; here they are
noticed. Whatever happens, what is done is kept.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wilss.errors import WilssError, first_line
from wilss.store import ShardReceipt

from .plan import ShardTask

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger(__name__)

_TOPIC = "wilss-shard-begun"
_LOOK_SECONDS = 1.0
_PULSE_SECONDS = 5.0
#: How long the scheduler may be silent, and the cluster be without workers (each starts in seconds).
_PATIENCE_SECONDS = 45.0
#: A shard that makes its worker hang may have met a bad moment; the second time it is the shard's own fault.
_MOST_TRIES = 2


def on_workers(
    client: "Client",
    make: Callable[[ShardTask], ShardReceipt],
    tasks: Iterable[ShardTask],
    *,
    window: int,
    shard_seconds: float = 0.0,
) -> Generator[ShardReceipt | str | None]:
    """`make(task)` on the client's workers: a receipt for each task, or a sentence why there is none.

    None now and then, while nothing comes, for who has something to do meanwhile.

    window: tasks given to the client at a time. shard_seconds: how long a worker may take for a shard before it is
    considered hung, and is restarted; 0 for any time.
    Raises WilssError where the scheduler or all workers are gone, and what would meet every other shard as well.
    """
    crew = _Crew(client, make, shard_seconds)
    try:
        yield from crew.make_all(iter(tasks), window)
    finally:
        crew.leave()


@dataclass
class _Running:
    """A shard that the client was given. since: when a worker began with it, None before that."""

    task: ShardTask
    future: Any
    since: float | None = None
    worker: str = ""
    tries: int = 0


class _Crew:
    def __init__(self, client: "Client", make: Callable[[ShardTask], ShardReceipt], shard_seconds: float) -> None:
        self._client, self._make, self._shard_seconds = client, make, shard_seconds
        self._running: dict[str, _Running] = {}
        self._ended: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._address = client.scheduler.address if client.scheduler is not None else "its address"
        self._hung = ""
        self._pulse = _Pulse(client)
        client.subscribe_topic(_TOPIC, self._note_begun)

    def make_all(self, waiting: Iterator[ShardTask], window: int) -> Iterator[ShardReceipt | str | None]:
        """Keep `window` shards with the client until there are no more."""
        looked = time.monotonic()
        while True:
            while len(self._running) < window and (task := next(waiting, None)) is not None:
                self._submit(task)
            if not self._running:
                return
            try:
                yield from self._outcome(self._ended.get(timeout=_LOOK_SECONDS))
            except queue.Empty:
                yield None
                self._require_cluster()
            if time.monotonic() - looked > _LOOK_SECONDS:
                looked = time.monotonic()
                yield from self._overdue()

    def leave(self) -> None:
        """Take back what was given."""
        self._pulse.stop()
        for running in self._running.values():
            running.future.release()

    def _submit(self, task: ShardTask) -> None:
        key = f"shard-{task.shard}-{id(task)}"
        try:
            future = self._client.submit(_make_announced, self._make, task, pure=False, retries=1, key=key)
        except Exception as error:  # a client that is closed says so in several ways
            if self._client.status == "running":
                raise
            raise self._gone() from error
        self._running[key] = _Running(task, future)
        self._listen(key, future)

    def _listen(self, key: str, future: Any) -> None:
        future.add_done_callback(lambda _: self._ended.put(key))

    def _outcome(self, key: str) -> Iterator[ShardReceipt | str]:
        running = self._running.get(key)
        if running is None:  # given up before
            return
        try:
            # Not its status: a worker that dies now takes a finished result along, which is then made once more.
            error = running.future.exception(timeout=_PATIENCE_SECONDS)
            made = running.future.result(timeout=_PATIENCE_SECONDS) if error is None else None
        except CancelledError as cancelled:
            error, made = cancelled, None
        except OSError:  # what the task raised is returned, so this is the way to the cluster; or it took too long
            self._require_cluster()
            running.since = None
            self._listen(key, running.future)
            return
        if isinstance(error, CancelledError):
            raise self._gone()
        del self._running[key]
        running.future.release()
        yield _why_not_made(running.task, error) if made is None else made

    def _overdue(self) -> Iterator[str]:
        """Restart the workers that take too long for a shard; a sentence for each shard that is given up."""
        now = time.monotonic()
        for key, running in list(self._running.items()):
            if not self._shard_seconds or running.since is None or now - running.since < self._shard_seconds:
                continue
            if running.future.done():  # it is about to be taken
                continue
            running.tries, running.since = running.tries + 1, None
            given_up = running.tries >= _MOST_TRIES
            if given_up:
                del self._running[key]
                running.future.cancel()  # else the next worker would hang with it
            self._restart(running)
            if given_up:
                yield (
                    f"{_named(running.task)} could not be made: no worker was through with it in "
                    f"{self._shard_seconds:.0f} s (a larger --shard-timeout gives it more time)"
                )

    def _restart(self, running: _Running) -> None:
        """End the worker process that hangs, and have another one started in its place; the others work on."""
        log.warning("%s took more than %.0f s; its worker is restarted", _named(running.task), self._shard_seconds)
        worker, shard = running.worker, _named(running.task)

        def restart() -> None:
            try:
                self._client.restart_workers([worker], timeout=_PATIENCE_SECONDS, raise_for_error=False)
            except KeyError:
                return  # it has died by itself meanwhile
            except Exception as error:
                self._hung = (
                    f"the worker at {worker} hangs with {shard} and cannot be restarted ({first_line(error)}); "
                    "what is done is kept. End that worker, and run the same command again."
                )

        threading.Thread(target=restart, name="wilss-restart", daemon=True).start()

    def _require_cluster(self) -> None:
        """Raise WilssError where nothing is left that could make a shard."""
        if self._client.status != "running" or self._pulse.silent_seconds > _PATIENCE_SECONDS:
            raise self._gone()
        if self._hung:
            raise WilssError(self._hung)
        if self._pulse.lonely_seconds > _PATIENCE_SECONDS:
            raise WilssError(
                f"no worker is left at {self._address}; what is done is kept. Start workers, and run the same command "
                "again."
            )

    def _gone(self) -> WilssError:
        return WilssError(
            f"the scheduler at {self._address} does not answer any more; what is done is kept. Start it and its "
            "workers again, and run the same command again."
        )

    def _note_begun(self, event: tuple[float, dict[str, str]]) -> None:
        """Called in the client's loop: a worker has begun with a shard."""
        _, said = event
        running = self._running.get(said["key"])
        if running is not None:
            running.worker, running.since = said["worker"], time.monotonic()


class _Pulse:
    """Asks the scheduler every few seconds for its workers, in a thread that may be left behind where it is silent."""

    def __init__(self, client: "Client") -> None:
        self._client, self._stopped = client, threading.Event()
        self._heard = self._manned = time.monotonic()
        threading.Thread(target=self._ask, name="wilss-pulse", daemon=True).start()

    @property
    def silent_seconds(self) -> float:
        """Since the scheduler answered."""
        return time.monotonic() - self._heard

    @property
    def lonely_seconds(self) -> float:
        """Since there was a worker."""
        return time.monotonic() - self._manned

    def stop(self) -> None:
        """Ask no more."""
        self._stopped.set()

    def _ask(self) -> None:
        while not self._stopped.wait(_PULSE_SECONDS):
            try:
                workers = self._client.scheduler_info(n_workers=-1)["workers"]
            except Exception:  # it is gone, or the client is closing; whoever waits is told by the silence
                continue
            self._heard = time.monotonic()
            if workers:
                self._manned = self._heard


def _make_announced(make: Callable[[ShardTask], ShardReceipt], task: ShardTask) -> ShardReceipt:
    """On a worker: say that the shard is begun, then make it."""
    from distributed import get_worker

    worker = get_worker()
    worker.log_event(_TOPIC, {"key": worker.get_current_task(), "worker": worker.address})
    return make(task)


def _why_not_made(task: ShardTask, error: BaseException) -> str:
    """A sentence about a lost shard; errors that every shard would meet are raised instead."""
    if isinstance(error, WilssError):
        raise error
    if type(error).__name__ == "KilledWorker":
        return f"{_named(task)} could not be made: its worker processes died (no memory left, or a library crashed)"
    return f"{_named(task)} could not be made: {type(error).__name__}: {first_line(error)}"


def _named(task: ShardTask) -> str:
    ids = [image.record.image_id for image in task.images]
    return f"shard {task.shard} ({ids[0]} to {ids[-1]})"
