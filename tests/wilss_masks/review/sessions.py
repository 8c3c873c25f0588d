"""A small store that is judged, and its server in a thread."""

import contextlib
import functools
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.wilss_masks.stores import make_manifest, make_store
from wilss_masks.review.opening import Asked, open_session
from wilss_masks.review.server import address, bound_socket, new_token, server_for
from wilss_masks.review.session import ReviewSession

BOX, OTHER, TWO, FAILED, UNTAGGED, LAST = range(6)  # the places of the store's images
POT, SHEEP, SCREEN = 16, 17, 20
SIZE = (48, 64)  # of the first image


def make_session(folder: Path, **asked: Any) -> ReviewSession:
    """A session of the small store, which is made at first."""
    manifest: Any = make_manifest(folder / "images")
    path = folder / "step-1.zarr"
    if not path.exists():
        shutil.copytree(Path(_made().name) / path.name, path)
    return open_session(path, manifest, Asked(author="Ada", **{"cache": folder / "cache", **asked}))


@functools.cache
def _made() -> "tempfile.TemporaryDirectory[str]":
    """The store, made once in a process."""
    folder = tempfile.TemporaryDirectory()
    make_store(Path(folder.name) / "step-1.zarr")
    return folder


@contextlib.contextmanager
def served(session: ReviewSession) -> Iterator[str]:
    """The address of a server that runs until the end."""
    listener, token = bound_socket(0), new_token()
    port = listener.getsockname()[1]
    server = server_for(session, token, port)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield address(port, token)
    finally:
        server.should_exit = True
        thread.join(timeout=10)
        listener.close()
        session.close()
