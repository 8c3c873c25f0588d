"""What a process takes of its machine: cores, threads whose results come in order, memory once freed; and its signals.

Memory: glibc gives a large block back to the system as soon as it is freed, and the next one comes as pages of zeros,
each of them a fault. Networks on a CPU make and free the same megabytes over and over. And it gives every thread a heap
of its own, up to eight a core, each of which keeps what was freed in it: with threads that decode and write, the peak
of a long run grows with the number of heaps that have once held a batch.
"""

import contextlib
import ctypes
import math
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

_T = TypeVar("_T")
_R = TypeVar("_R")
_MOST_THREADS = 16
_AHEAD = 4

#: Of mallopt(3): more than the first is given back; blocks above the second are no part of what is kept.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_MOST_KEPT, _LARGEST_BLOCK = 2**30, 32 * 2**20
_OWN_WORDS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
_OWN_WORDS_ON_HEAPS = ("MALLOC_ARENA_MAX", "MALLOC_ARENA_TEST", "GLIBC_TUNABLES")


def own_cores() -> int:
    """How many cores this process works on: as many as OMP_NUM_THREADS says, else its share of those that it may use.

    A launcher says how many processes it has started on this machine (LOCAL_WORLD_SIZE), and sets OMP_NUM_THREADS=1 for
    each where nobody set it; beside others the 1 is therefore no wish, and the cores are shared.
    """
    beside = _number("LOCAL_WORLD_SIZE") or 1
    wanted = _number("OMP_NUM_THREADS")
    if wanted and (beside == 1 or wanted > 1):
        return wanted
    return max(1, len(os.sched_getaffinity(0)) // beside)


def _number(variable: str) -> int:
    """A variable of the environment as a number; of a list (OpenMP's, by level of nesting) the first; 0 for none."""
    word = os.environ.get(variable, "").partition(",")[0].strip()
    return int(word) if word.isdecimal() else 0


def map_in_threads(
    function: Callable[[_T], _R],
    items: Iterable[_T],
    threads: int | None = None,
    *,
    ahead: int = 0,
    weight: Callable[[_T], int] = lambda item: 0,
    heaviest: int = 1,
) -> Generator[_R, None, None]:
    """`function` of each item, in order; a few items for each thread are begun before their results are asked for.

    `Executor.map` begins with a future for every item, a kilobyte each. threads: None for `own_cores` of them,
    at most 16. ahead: so many items at least are begun. weight, heaviest: no item is begun while those that
    are begun weigh so much together. Where nobody asks on, those that are not begun never are.
    """
    count = threads or min(own_cores(), _MOST_THREADS)
    most, held = max(_AHEAD * count, ahead), 0
    running = deque[tuple[int, Future[_R]]]()
    with ThreadPoolExecutor(count) as pool:
        try:
            for item in items:
                running.append((weight(item), pool.submit(function, item)))
                held += running[-1][0]
                while len(running) >= most or held >= heaviest:
                    weighs, result = running.popleft()
                    held -= weighs
                    yield result.result()
            while running:
                yield running.popleft()[1].result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def keep_freed_memory() -> bool:
    """Keep up to 1 GiB of what is freed, in blocks of up to 32 MiB; for the whole process, once is enough.

    Returns whether that is so: not where the C library is another than glibc, or where the environment says something
    about its memory already.
    """
    return _told(_OWN_WORDS, {_MMAP_THRESHOLD: _LARGEST_BLOCK, _TRIM_THRESHOLD: _MOST_KEPT})


def share_one_heap() -> bool:
    """Let threads that start from now on share one heap; for the whole process, once is enough.

    A block is asked for once a batch or an image, never in an inner loop, so that threads hardly wait for each other.
    Returns whether that is so, as `keep_freed_memory` does.
    """
    return _told(_OWN_WORDS_ON_HEAPS, {_ARENA_MAX: 1})


def _told(own_words: tuple[str, ...], settings: dict[int, int]) -> bool:
    """Whether glibc took all settings: mallopt(3)."""
    if not sys.platform.startswith("linux") or any(word in os.environ for word in own_words):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return all(mallopt(name, value) for name, value in settings.items())


class StopSignals:
    """Which signals stop a run, and whether one that comes is a wish of its own.

    Queues send SIGUSR1 where they were told to warn, and SIGTERM often twice: to all processes of a job, and through a
    launcher (torchrun, `timeout`) that passes it on. Answered as a second wish, the echo would cost what the first one
    lets a run save.
    """

    ALL = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    ECHO = 1.0  # seconds

    def __init__(self) -> None:
        self._last = -math.inf

    def is_echo(self) -> bool:
        """Whether the signal that came now is the echo of the one before. Of each it is asked once."""
        before, self._last = self._last, time.monotonic()
        return self._last - before < self.ECHO


@contextlib.contextmanager
def interrupted_by_queues() -> Iterator[None]:
    """A queue's SIGTERM and SIGUSR1 are answered as a Ctrl-C is. For the main thread."""
    signals = StopSignals()

    def interrupt(number: int, frame: object) -> None:
        if not signals.is_echo():
            raise KeyboardInterrupt

    former = {number: signal.signal(number, interrupt) for number in StopSignals.ALL if number != signal.SIGINT}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Answer a Ctrl-C or a queue's signal that comes meanwhile at the end of the block; a second one at once."""
    if threading.current_thread() is not threading.main_thread():  # signals are not its affair
        yield
        return
    received: list[int] = []
    signals = StopSignals()
    handlers = {number: signal.getsignal(number) for number in StopSignals.ALL}

    def note(number: int, frame: Any) -> None:
        received.append(number)
        is_echo = signals.is_echo()
        if len(received) > 1 and not is_echo and callable(handler := handlers[signal.Signals(number)]):
            handler(number, frame)

    for number in handlers:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if received:
            signal.raise_signal(received[0])
