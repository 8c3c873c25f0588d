"""Freed memory is kept where glibc is asked to, and nobody else has said something about it."""

import ctypes
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from wilss import allocator

FAULTS = """
import resource, sys
import numpy as np
from wilss.allocator import keep_freed_memory

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
    few, many = told_and_not(monkeypatch, allocator._OWN_WORDS, faults, "keep")
    assert few < 20_000 / 10 < many


@pytest.mark.parametrize("word", allocator._OWN_WORDS)
def test_what_the_environment_says_stays(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(ctypes, "CDLL", asked.append)
    monkeypatch.setenv(word, "1")
    assert not allocator.keep_freed_memory()
    assert not asked


HEAPS = """
import ctypes, sys, threading
from concurrent.futures import ThreadPoolExecutor
from wilss.allocator import share_one_heap

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
    one, several = told_and_not(monkeypatch, allocator._OWN_WORDS_ON_HEAPS, heaps, "share")
    assert one == 1 < several
    monkeypatch.setenv("MALLOC_ARENA_MAX", "3")
    assert heaps("share")[0] is False


def test_a_library_without_it_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for word in allocator._OWN_WORDS:
        monkeypatch.delenv(word, raising=False)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert not allocator.keep_freed_memory()
