"""Shards on Dask workers: a window of them at a time, and what to do where a worker dies, hangs or is gone.

A worker that dies is Dask's affair: its shards are made by another, and one that kills them all is given up. A worker
that hangs, a scheduler that is gone and a cluster without workers would be waited for without end; here they are
noticed. Whatever happens, what is done is kept.

What a scheduler does for a task is the same work for one shard and for ten, so fast ones go several to a task. Where
that task fails, each of its shards is tried again by itself: which of them was at fault is only known then.
"""

import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass
from functools import lru_cache
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
#: Shards go together as long as a worker needs no longer for them: so much work is lost where it dies.
_TASK_SECONDS = 4.0
_MOST_TOGETHER = 32


def on_workers(
    client: "Client",
    make: Callable[[ShardTask], ShardReceipt],
    tasks: Iterable[ShardTask],
    *,
    window: int,
    shard_seconds: float = 0.0,
    count: int = 0,
) -> Generator[ShardReceipt | str | None]:
    """`make(task)` on the client's workers: a receipt for each task, or a sentence why there is none.

    None now and then, while nothing comes, for who has something to do meanwhile.

    window: what the client is given at a time. shard_seconds: how long a worker may take for a shard before it is
    considered hung, and is restarted; 0 for any time. count: how many tasks there are; 0 where nobody knows, and each
    goes by itself.
    Raises WilssError where the scheduler or all workers are gone, and what would meet every other shard as well.
    """
    crew = _Crew(client, make, shard_seconds)
    try:
        yield from crew.make_all(iter(tasks), window, count)
    finally:
        crew.leave()


@dataclass
class _Pace:
    """How many shards go together. longest: seconds that a worker may take for them."""

    longest: float
    seconds: float = 0.0

    def add(self, shards: int, seconds: float) -> None:
        """So many shards took a worker so long; what was before counts half."""
        own = seconds / shards
        self.seconds = (self.seconds + own) / 2 if self.seconds else own

    def together(self, left: int, window: int) -> int:
        """left: shards that no worker was given yet; the last ones are shared out."""
        if not self.seconds:
            return 1
        return max(1, min(int(self.longest / self.seconds), left // window, _MOST_TOGETHER))


@dataclass
class _Running:
    """Shards that the client was given together. since: when a worker began with them, None before that."""

    tasks: tuple[ShardTask, ...]
    future: Any
    since: float | None = None
    worker: str = ""
    tries: int = 0

    @property
    def is_alone(self) -> bool:
        """Whether it is one shard, so that what happens is its own fault."""
        return len(self.tasks) == 1


class _Crew:
    def __init__(self, client: "Client", make: Callable[[ShardTask], ShardReceipt], shard_seconds: float) -> None:
        self._client, self._make, self._shard_seconds = client, _packed(make), shard_seconds
        self._pace = _Pace(min(_TASK_SECONDS, shard_seconds / 4) if shard_seconds else _TASK_SECONDS)
        self._running: dict[str, _Running] = {}
        self._ended: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._address = client.scheduler.address if client.scheduler is not None else "its address"
        self._hung = ""
        self._pulse = _Pulse(client)
        client.subscribe_topic(_TOPIC, self._note_begun)

    def make_all(self, waiting: Iterator[ShardTask], window: int, count: int) -> Iterator[ShardReceipt | str | None]:
        """Keep the client at `window` tasks until there are no more. count: of all shards, 0 if unknown."""
        looked, given = time.monotonic(), 0
        while True:
            while len(self._running) < window:
                together = self._pace.together(count - given, window) if count else 1
                tasks = tuple(itertools.islice(waiting, together))
                if not tasks:
                    break
                given += len(tasks)
                self._submit(tasks)
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

    def _submit(self, tasks: tuple[ShardTask, ...]) -> None:
        key = f"shard-{tasks[0].shard}-{id(tasks[0])}" + (f"-{len(tasks)}" if len(tasks) > 1 else "")
        retries = 1 if len(tasks) == 1 else 0  # several are tried again one by one
        try:
            future = self._client.submit(
                _make_announced, self._make, _packed(tasks), pure=False, retries=retries, key=key
            )
        except Exception as error:  # a client that is closed says so in several ways
            if self._client.status == "running":
                raise
            raise self._gone() from error
        self._running[key] = _Running(tasks, future)
        self._listen(key, future)

    def _submit_apart(self, running: _Running) -> None:
        for task in running.tasks:
            self._submit((task,))

    def _listen(self, key: str, future: Any) -> None:
        future.add_done_callback(lambda _: self._ended.put(key))

    def _outcome(self, key: str) -> Iterator[ShardReceipt | str]:
        running = self._running.get(key)
        if running is None:  # given up before
            return
        try:
            # Not its status: a worker that dies now takes a finished result along, which is then made once more.
            error = running.future.exception(timeout=_PATIENCE_SECONDS)
            made = running.future.result(timeout=_PATIENCE_SECONDS) if error is None else ()
        except CancelledError as cancelled:
            error, made = cancelled, ()
        except OSError:  # what the task raised is returned, so this is the way to the cluster; or it took too long
            self._require_cluster()
            running.since = None
            self._listen(key, running.future)
            return
        except Exception as lost:  # the result went with its worker between the two questions; made again it failed
            error, made = lost, ()
        if isinstance(error, CancelledError):
            raise self._gone()
        del self._running[key]
        running.future.release()
        if error is None:
            if running.since is not None:
                self._pace.add(len(running.tasks), time.monotonic() - running.since)
            yield from made
        elif running.is_alone:
            yield _why_not_made(running.tasks[0], error)
        else:  # also what would end the run: a store may fail once, and a shard by itself is tried twice
            self._submit_apart(running)

    def _overdue(self) -> Iterator[str]:
        """Restart the workers that take too long for a shard; a sentence for each shard that is given up."""
        now = time.monotonic()
        for key, running in list(self._running.items()):
            if not self._shard_seconds or running.since is None or now - running.since < self._shard_seconds:
                continue
            if running.future.done():  # it is about to be taken
                continue
            running.tries, running.since = running.tries + 1, None
            given_up = running.tries >= _MOST_TRIES or not running.is_alone
            if given_up:
                del self._running[key]
                running.future.cancel()  # else the next worker would hang with it
            self._restart(running)
            if given_up and running.is_alone:
                yield (
                    f"{_named(running.tasks[0])} could not be made: no worker was through with it in "
                    f"{self._shard_seconds:.0f} s (a larger --shard-timeout gives it more time)"
                )
            elif given_up:
                self._submit_apart(running)

    def _restart(self, running: _Running) -> None:
        """End the worker process that hangs, and have another one started in its place; the others work on."""
        shard, worker = " and ".join(map(_named, running.tasks)), running.worker
        log.warning("%s took more than %.0f s; its worker is restarted", shard, self._shard_seconds)

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


def _packed(what: object) -> bytes:
    """As bytes, which no process on the way to a worker unpacks: the scheduler would, every record of every image."""
    from distributed.protocol.pickle import dumps

    packed: bytes = dumps(what)
    return packed


def _unpacked(packed: bytes) -> Any:
    from distributed.protocol.pickle import loads

    return loads(packed)


@lru_cache(maxsize=1)
def _maker(packed: bytes) -> Callable[[ShardTask], ShardReceipt]:
    """The same object for every task of a run, whose networks are then known to be open."""
    make: Callable[[ShardTask], ShardReceipt] = _unpacked(packed)
    return make


def _make_announced(make: bytes, tasks: bytes) -> list[ShardReceipt]:
    """On a worker: say that the shards are begun, then make them."""
    from distributed import get_worker

    worker = get_worker()
    worker.log_event(_TOPIC, {"key": worker.get_current_task(), "worker": worker.address})
    return [_maker(make)(task) for task in _unpacked(tasks)]


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
