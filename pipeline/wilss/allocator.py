"""What becomes of freed memory: the C library keeps it for the next tensor instead of giving it back at once.

glibc gives a large block back to the system as soon as it is freed, and the next one comes as pages of zeros, each of
them a fault. Networks on a CPU make and free the same megabytes over and over. And it gives every thread a heap of its
own, up to eight a core, each of which keeps what was freed in it: with threads that decode and write, the peak of a
long run grows with the number of heaps that have once held a batch.
"""

import ctypes
import os
import sys

#: Of mallopt(3): more than the first is given back; blocks above the second are no part of what is kept.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_MOST_KEPT, _LARGEST_BLOCK = 2**30, 32 * 2**20
_OWN_WORDS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
_OWN_WORDS_ON_HEAPS = ("MALLOC_ARENA_MAX", "MALLOC_ARENA_TEST", "GLIBC_TUNABLES")


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
