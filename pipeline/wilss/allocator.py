"""What becomes of freed memory: the C library keeps it for the next tensor instead of giving it back at once.

glibc gives a large block back to the system as soon as it is freed, and the next one comes as pages of zeros, each of
them a fault. Networks on a CPU make and free the same megabytes over and over.
"""

import ctypes
import os
import sys

#: Of mallopt(3): more than the first is given back; blocks above the second are no part of what is kept.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_MOST_KEPT, _LARGEST_BLOCK = 2**30, 32 * 2**20
_OWN_WORDS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Keep up to 1 GiB of what is freed, in blocks of up to 32 MiB; for the whole process, once is enough.

    Returns whether that is so: not where the C library is another than glibc, or where the environment says something
    about its memory already.
    """
    if not sys.platform.startswith("linux") or any(word in os.environ for word in _OWN_WORDS):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST_BLOCK) and mallopt(_TRIM_THRESHOLD, _MOST_KEPT))
