"""What may happen to a worker process in the middle of an image, told in one word each."""

import contextlib
import ctypes
import os
import resource
import signal
import sys
import time
from pathlib import Path

import psutil

__all__ = ["meet"]


def meet(told: str, image_id: str) -> None:
    """Let happen what `told` says of this image: `what:image` or `what:image:file`, several parted by commas.

    With a file it happens once, since the file is then there.
    """
    for one in filter(None, told.split(",")):
        what, image, *once = one.split(":")
        if image == image_id and _is_due(once):
            _HAPPENINGS[what]()


def _is_due(once: list[str]) -> bool:
    if not once:
        return True
    with contextlib.suppress(FileExistsError):
        Path(once[0]).touch(exist_ok=False)
        return True
    return False


def _segfault() -> None:
    ctypes.string_at(0)


def _killed() -> None:
    """As by a kernel that is short of memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def _hang() -> None:
    time.sleep(10_000)


def _memory_error() -> None:
    raise MemoryError("cannot allocate")


def _over_the_limit() -> None:
    """Ask for more than the process may have."""
    resource.setrlimit(resource.RLIMIT_AS, (2**34, resource.RLIM_INFINITY))
    try:
        bytearray(2**35)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def _nanny_killed() -> None:
    """The process that watches over this one; this one then ends, too."""
    psutil.Process(os.getppid()).kill()
    time.sleep(10_000)


def _disconnected() -> None:
    """All connections of this process are cut."""
    for place in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{place}").startswith("socket:"):
                import socket

                with socket.socket(fileno=os.dup(int(place))) as other:
                    other.shutdown(socket.SHUT_RDWR)
    sys.stdout.flush()
    time.sleep(1)


_HAPPENINGS = {
    "segfault": _segfault,
    "killed": _killed,
    "hang": _hang,
    "memory": _memory_error,
    "limit": _over_the_limit,
    "nanny": _nanny_killed,
    "disconnect": _disconnected,
}
