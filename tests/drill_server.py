"""The server of forked processes (`multiprocessing`'s) as a fork of a worker that has run no test yet.

Started by multiprocessing itself, as where there are no workers, it imports for seconds what the worker has.
"""

import os
import socket
import sys
from multiprocessing import connection, forkserver
from typing import Any, NoReturn


def fork_server() -> None:
    """Start it for this process; its own processes write to nobody's terminal. Later pythons start it themselves."""
    if sys.version_info >= (3, 14):
        return
    with socket.socket(socket.AF_UNIX) as listener:
        address = connection.arbitrary_address("AF_UNIX")  # type: ignore[attr-defined]
        listener.bind(address)
        os.chmod(address, 0o600)
        listener.listen()
        alive_r, alive_w = os.pipe()
        if (pid := os.fork()) == 0:
            os.close(alive_w)
            _serve(listener, alive_r)
        os.close(alive_r)
    server: Any = forkserver._forkserver
    server._forkserver_address, server._forkserver_alive_fd, server._forkserver_pid = address, alive_w, pid


def _serve(listener: socket.socket, alive: int) -> NoReturn:
    try:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (1, 2):
            os.dup2(nowhere, stream)
        forkserver.main(listener.fileno(), alive, [])
    finally:
        os._exit(0)
