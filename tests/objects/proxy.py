"""A proxy before a server of S3 that makes the network worse: slow, refusing, cut off, answers lost, listings late."""

import contextlib
import http.client
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar
from urllib.parse import urlsplit

from .servers import QuickHandler, serving

#: What can happen to a request. The last two happen after the server has done what it was asked for.
FAULTS = ("slow", "500", "503", "refused", "truncated", "lost")
_SLOW_SECONDS = 0.05


class Proxy:
    """What happens to requests, and what happened. address: to be asked instead of the server.

    plan: called with method and path, gives a fault or "". late: for how many seconds a listing does not know of what
    was written or removed. deaf: conditions are taken out of requests, as by servers that do not know them.
    """

    def __init__(self, server: str) -> None:
        self.server = urlsplit(server)
        self.address = ""
        self.plan: Callable[[str, str], str] = lambda method, path: ""
        self.late, self.deaf = 0.0, False
        self.happened: Counter[str] = Counter()
        self.asked: list[tuple[str, str]] = []
        self.written: dict[str, float] = {}
        self.lock = threading.Lock()

    def at_random(self, share: float, seed: int = 0, faults: Sequence[str] = FAULTS, most: int = 2) -> None:
        """A fault for a share of the requests; never to the same (method and key) more than `most` times on end."""
        rng, running = random.Random(seed), Counter[tuple[str, str]]()

        def plan(method: str, path: str) -> str:
            what = method, path.partition("?")[0]
            if rng.random() < share and running[what] < most:
                running[what] += 1
                return rng.choice(faults)
            running[what] = 0
            return ""

        self.plan = plan

    def once(self, fault: str, method: str, ending: str) -> None:
        """One fault, to the next request of a method for a key with this ending."""
        left = [1]

        def plan(asked: str, path: str) -> str:
            if left[0] and asked == method and path.partition("?")[0].endswith(ending):
                left[0] -= 1
                return fault
            return ""

        self.plan = plan


class _Handler(QuickHandler):
    proxy: ClassVar[Proxy]

    def _handle(self) -> None:
        proxy = self.proxy
        body = self.body()
        with proxy.lock:
            fault = proxy.plan(self.command, self.path)
            proxy.asked.append((self.command, self.path))
            proxy.happened[fault] += bool(fault)
        if fault == "slow":
            time.sleep(_SLOW_SECONDS)
        if fault in ("500", "503"):
            self.answer(int(fault), {}, b"")
            return
        if fault == "refused":
            self._hang_up()
            return
        status, headers, data = self._ask(body)
        if fault == "lost" or (fault == "truncated" and len(data) < 2):
            self._hang_up()
            return
        if fault == "truncated":
            self.answer(status, headers, data[: len(data) // 2], len(data))
            self._hang_up()
            return
        self.answer(status, headers, data)

    def _ask(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        proxy = self.proxy
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("connection",)}
        if proxy.deaf:
            headers = {name: value for name, value in headers.items() if not name.lower().startswith("if-")}
        connection = http.client.HTTPConnection(proxy.server.hostname or "", proxy.server.port, timeout=30)
        with contextlib.closing(connection):
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            data = answer.read()
        if self.command == "PUT" and answer.status == 200:
            proxy.written[self.path.partition("?")[0].split("/", 2)[2]] = time.monotonic()
        if self.command == "GET" and "list-type" in self.path and proxy.late:
            data = re.sub(rb"<Contents>.*?</Contents>", self._unless_new, data, flags=re.DOTALL)
        return answer.status, dict(answer.getheaders()), data

    def _unless_new(self, found: re.Match[bytes]) -> bytes:
        key = re.search(rb"<Key>(.*?)</Key>", found[0])
        since = self.proxy.written.get(key[1].decode() if key else "", 0.0)
        return b"" if time.monotonic() - since < self.proxy.late else found[0]

    def _hang_up(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(2)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _handle  # noqa: N815


@contextlib.contextmanager
def proxy_before(server: str) -> Iterator[Proxy]:
    """A proxy that runs in threads of this process."""
    proxy = Proxy(server)
    with serving(type("Handler", (_Handler,), {"proxy": proxy})) as proxy.address:
        yield proxy
