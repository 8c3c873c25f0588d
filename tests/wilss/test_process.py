"""What `map_in_threads` begins before somebody asks for a result; what glibc is told to keep, and when it is not."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from wilss import process
from wilss.process import StopSignals, interrupted_by_queues, interrupts_deferred, map_in_threads, own_cores


def begun(count: int, **options: Any) -> tuple[int, list[int]]:
    """How many of `count` items were begun when the first result came, and all results."""
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(count):
            taken.append(number)
            yield number

    results = map_in_threads(lambda number: -number, items(), **options)
    first = next(results)
    return len(taken), [first, *results]


@pytest.mark.parametrize(
    ("count", "options", "ahead"),
    [
        (40, {"threads": 2}, 8),
        (40, {"threads": 2, "ahead": 12}, 12),
        (3, {"threads": 2}, 3),
        (40, {"threads": 2, "weight": lambda number: 10, "heaviest": 25}, 3),
        (40, {"threads": 2, "weight": lambda number: 100, "heaviest": 25}, 1),
        (40, {"threads": 2, "weight": lambda number: number, "heaviest": 25}, 8),
    ],
)
def test_no_more_is_begun_than_is_wanted(count: int, options: dict[str, Any], ahead: int) -> None:
    assert begun(count, **options) == (ahead, [-number for number in range(count)])


@pytest.mark.parametrize("cores", [1, 3])
def test_threads_are_those_of_the_cores_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch, cores: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert begun(40)[0] == 4 * cores


def test_an_error_comes_in_its_place() -> None:
    results = map_in_threads(lambda number: 6 // number, [3, 2, 0, 1], 2)
    assert (next(results), next(results)) == (2, 3)
    with pytest.raises(ZeroDivisionError):
        next(results)


@pytest.mark.parametrize(
    ("said", "beside", "cores"),
    [
        ("3", "", 3),
        ("5,2", "", 5),
        ("", "", 4),
        ("many", "", 4),
        ("0", "", 4),
        ("1", "2", 2),
        ("3", "2", 3),
        ("1", "1", 1),
    ],
)
def test_a_process_works_on_as_many_cores_as_it_is_told(
    monkeypatch: pytest.MonkeyPatch, said: str, beside: str, cores: int
) -> None:
    """A launcher sets OMP_NUM_THREADS=1 for each of several processes unasked; beside others the 1 is no wish."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", beside)
    assert own_cores() == cores
    assert begun(40)[0] == 4 * cores


FAULTS = """
import resource, sys
import numpy as np
from wilss.process import keep_freed_memory

kept = keep_freed_memory() if sys.argv[1] == "keep" else False
for _ in range(3):  # glibc's own threshold moves with the first blocks that are freed
    [np.ones(2**20) for _ in range(4)]
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    [np.ones(2**20) for _ in range(4)]
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def ran(code: str, how: str) -> subprocess.CompletedProcess[str]:
    """A process of its own, in which glibc has been told nothing yet."""
    return subprocess.run([sys.executable, "-c", code, how], capture_output=True, text=True, check=True)


def faults(how: str) -> tuple[bool, int]:
    """Whether memory is kept, and the faults of making and freeing the same 32 MiB twenty times."""
    kept, count = ran(FAULTS, how).stdout.split()
    return kept == "True", int(count)


def told_and_not(
    monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], count: Callable[[str], tuple[bool, int]], how: str
) -> tuple[int, int]:
    """What is counted where glibc has been told something, and where not. words: what would keep it from that."""
    for word in words:
        monkeypatch.delenv(word, raising=False)
    is_told, told = count(how)
    if not is_told:
        pytest.skip("another C library than glibc")
    return told, count("leave")[1]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc alone")
def test_what_is_freed_is_not_fetched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    few, many = told_and_not(monkeypatch, process._OWN_WORDS, faults, "keep")
    assert few < 20_000 / 10 < many


@pytest.mark.parametrize("word", process._OWN_WORDS)
def test_what_the_environment_says_stays(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(ctypes, "CDLL", asked.append)
    monkeypatch.setenv(word, "1")
    assert not process.keep_freed_memory()
    assert not asked


HEAPS = """
import ctypes, sys, threading
from concurrent.futures import ThreadPoolExecutor
from wilss.process import share_one_heap

shared = share_one_heap() if sys.argv[1] == "share" else False
meeting = threading.Barrier(4)
def fill():
    meeting.wait(10)
    return bytes(50_000)
with ThreadPoolExecutor(4) as pool:
    blocks = [pool.submit(fill) for _ in range(4)]
    [block.result() for block in blocks]
print(shared, flush=True)
ctypes.CDLL(None).malloc_stats()  # to stderr: "Arena 0:" and so on
"""


def heaps(how: str) -> tuple[bool, int]:
    """Whether threads share a heap, and how many heaps there are after four threads have asked for memory."""
    done = ran(HEAPS, how)
    return done.stdout.strip() == "True", done.stderr.count("Arena ")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc alone")
def test_threads_share_one_heap(monkeypatch: pytest.MonkeyPatch) -> None:
    one, several = told_and_not(monkeypatch, process._OWN_WORDS_ON_HEAPS, heaps, "share")
    assert one == 1 < several
    monkeypatch.setenv("MALLOC_ARENA_MAX", "3")
    assert heaps("share")[0] is False


def test_a_library_without_it_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for word in process._OWN_WORDS:
        monkeypatch.delenv(word, raising=False)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert not process.keep_freed_memory()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_queues_signal_is_a_ctrl_c_and_its_echo_is_nothing(number: signal.Signals) -> None:
    before = [signal.getsignal(number) for number in StopSignals.ALL]
    with interrupted_by_queues():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        signal.raise_signal(signal.SIGTERM)  # in the midst of what the first one lets a run put in order
    assert [signal.getsignal(number) for number in StopSignals.ALL] == before


def test_a_second_wish_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StopSignals, "ECHO", 0.0)
    with interrupted_by_queues():
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGTERM)


def test_a_signal_that_is_deferred_and_its_echo_come_once_at_the_end() -> None:
    done: list[bool] = []
    with interrupted_by_queues(), pytest.raises(KeyboardInterrupt):
        _deferred(done)
    assert done


def _deferred(done: list[bool]) -> None:
    with interrupts_deferred():
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGTERM)
        done.append(True)
