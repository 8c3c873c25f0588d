"""moto's S3 on loopback: it heeds If-None-Match and If-Match, reads ranges and lists at once."""

import contextlib
import io
import os
import sys
import threading
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest


class QuickHandler(BaseHTTPRequestHandler):
    """Keeps a connection for the next request, and sends an answer at once; without that, waiting takes most time."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, *arguments: Any) -> None:
        """Nothing."""

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def answer(self, status: int, headers: dict[str, str], data: bytes, length: int | None = None) -> None:
        """Send an answer. length: what it says of the data's length where that is not so."""
        self.send_response_only(status)
        size = headers.get("Content-Length", "0") if self.command == "HEAD" else str(length or len(data))
        for name, value in {**headers, "Content-Length": size}.items():
            if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                self.send_header(name, value)
        self.send_header("Content-Length", size)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
        self.wfile.flush()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # a client beyond that tries again after a second or more

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is none."""


@contextlib.contextmanager
def serving(handler: type[QuickHandler]) -> Iterator[str]:
    """The address of a server that runs in threads of this process."""
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)  # looks so often for its end
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _MotoHandler(QuickHandler):
    """Asks moto's application, as werkzeug's server does, which takes a connection and a thread for each request."""

    app: ClassVar[Any]
    lock = threading.Lock()

    def _handle(self) -> None:
        path, _, query = self.path.partition("?")
        environ = {
            **{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in self.headers.items()},
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": self.headers.get("Content-Length", ""),
            "REQUEST_METHOD": self.command,
            "SCRIPT_NAME": "",
            "PATH_INFO": urllib.parse.unquote(path, "latin1"),
            "QUERY_STRING": query,
            "RAW_URI": self.path,
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": self.headers.get("Host", "").rpartition(":")[2],
            "SERVER_PROTOCOL": self.request_version,
            "REMOTE_ADDR": "127.0.0.1",
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(self.body()),
            "wsgi.errors": sys.stderr,
        }
        said: list[Any] = []
        # moto looks whether there is an object and writes it in two steps, between which its other threads come
        with self.lock:
            data = b"".join(self.app(environ, lambda *given: said.extend(given)))
        self.answer(int(said[0].split()[0]), dict(said[1]), data)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _handle  # noqa: N815


@contextlib.contextmanager
def s3_server() -> Iterator[str]:
    """The address of moto's server."""
    from moto.moto_server.werkzeug_app import create_backend_app

    # moto's own server looks which of all services a request is for: a quarter of its time
    with serving(type("Handler", (_MotoHandler,), {"app": staticmethod(create_backend_app("s3"))})) as address:
        yield address


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
