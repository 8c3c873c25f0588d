"""One server for all tests of buckets, and a bucket for each."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.standin import draw_images, make
from wilss.disk import ObjectUrl

from .proxy import Proxy, proxy_before
from .servers import new_bucket, s3_server, use

pytest.importorskip("obstore")
pytest.importorskip("moto")

#: Images of a drawn data set.
COUNT = 10


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
def images(tmp_path: Path) -> Path:
    return draw_images(tmp_path / "images", COUNT)


@pytest.fixture
def here(images: Path, tmp_path: Path) -> Path:
    """The store that a run makes on disk."""
    make(images, tmp_path / "step-0.zarr")
    return tmp_path / "step-0.zarr"


@pytest.fixture
def proxy(server: str, bucket: ObjectUrl, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy before the server, through which the environment leads."""
    with proxy_before(server) as proxy:
        use(monkeypatch, proxy.address)
        yield proxy
