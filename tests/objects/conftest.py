"""One server for all tests of buckets, and a bucket for each."""

from collections.abc import Iterator

import pytest

from wilss.disk import ObjectUrl

from .proxy import Proxy, proxy_before
from .servers import new_bucket, s3_server, use

pytest.importorskip("obstore")
pytest.importorskip("moto")


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> ObjectUrl:
    """A place in a bucket of its own; the environment leads there."""
    use(monkeypatch, server)
    return ObjectUrl("s3", new_bucket(server), "voc")


@pytest.fixture
def proxy(server: str, bucket: ObjectUrl, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy before the server, through which the environment leads."""
    with proxy_before(server) as proxy:
        use(monkeypatch, proxy.address)
        yield proxy
