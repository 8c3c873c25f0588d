"""moto's S3 on loopback: it heeds If-None-Match and If-Match, reads ranges and lists at once."""

import contextlib
import logging
import os
import threading
import urllib.request
import uuid
from collections.abc import Iterator
from typing import Any

import pytest


class _OneAtATime:
    """moto looks whether there is an object and writes it in two steps, between which its other threads come."""

    def __init__(self, app: Any) -> None:
        self._app, self._lock = app, threading.Lock()

    def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
        with self._lock:
            return list(self._app(environ, start_response))


@contextlib.contextmanager
def s3_server() -> Iterator[str]:
    """The address of a server that runs in threads of this process."""
    from moto.moto_server.werkzeug_app import create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    # moto's own server looks which of all services a request is for: a quarter of its time
    app = _OneAtATime(create_backend_app("s3"))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        thread.join()


def new_bucket(address: str) -> str:
    """A bucket that nobody else uses."""
    name = f"masks-{uuid.uuid4().hex[:12]}"
    request = urllib.request.Request(f"{address}/{name}", method="PUT", headers=SIGNED)
    with urllib.request.urlopen(request, timeout=10):
        return name


#: moto looks at no signature, and wants one.
SIGNED = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, "
    "Signature=none"
}

SETTINGS = {
    "AWS_ACCESS_KEY_ID": "a-key-that-nobody-may-see",
    "AWS_SECRET_ACCESS_KEY": "a-secret-that-nobody-may-see",
    "AWS_REGION": "us-east-1",
    "AWS_ALLOW_HTTP": "true",
}


def use(patch: pytest.MonkeyPatch, address: str) -> None:
    """Send the clients of this process, and of those that it starts, to a server."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        patch.delenv(name)
    for name, value in {**SETTINGS, "AWS_ENDPOINT_URL": address}.items():
        patch.setenv(name, value)
