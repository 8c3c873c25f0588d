"""A machine without a network whose clock is set back: Python imports this first where it is on the path.

A call to another machine is written to the file that WILSS_TEST_CALLS names. It then fails as one that nobody answers,
at once if the caller has set a time limit; one without is noted as a call that would wait for ever.
"""

import os
import socket
import time
from typing import Any

_CALLS = os.environ.get("WILSS_TEST_CALLS")
_HERE = ("127.", "::1", "localhost")


def _note(what: str) -> None:
    if _CALLS:
        with open(_CALLS, "a", encoding="utf-8") as file:
            file.write(f"{what}\n")


def _is_here(host: Any) -> bool:
    return host is None or str(host).startswith(_HERE) or host == ""


_connect, _look_up, _now = socket.socket.connect, socket.getaddrinfo, time.time
_first = _now()


def _connect_elsewhere(self: socket.socket, address: Any) -> None:
    if self.family == socket.AF_UNIX or _is_here(address[0]):
        return _connect(self, address)
    _note(f"{address[0]}{'' if self.gettimeout() is not None else ' for ever'}")
    raise TimeoutError(110, "Connection timed out")


def _look_up_elsewhere(host: Any, *more: Any, **others: Any) -> Any:
    if _is_here(host) or str(host)[:1].isdigit():
        return _look_up(host, *more, **others)
    _note(f"name {host}")
    raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


def _set_back() -> float:
    """The time of day; a second after the start, a day earlier."""
    now = _now()
    return now if now < _first + 1 else now - 86_400


if _CALLS:
    socket.socket.connect = _connect_elsewhere  # type: ignore[method-assign, assignment]
    socket.getaddrinfo = _look_up_elsewhere
    time.time = _set_back
