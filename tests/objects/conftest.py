"""One server for all tests of buckets, and a bucket for each."""

import functools
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

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


@pytest.fixture(scope="session")
def made_on_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store that a run makes of such images on disk. Nobody changes it."""
    folder = tmp_path_factory.mktemp("here")
    make(draw_images(folder / "images", COUNT), folder / "step-0.zarr")
    return folder / "step-0.zarr"


@pytest.fixture
def here(made_on_disk: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(made_on_disk, tmp_path / "step-0.zarr")


@pytest.fixture
def proxy(server: str, bucket: ObjectUrl, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy before the server, through which the environment leads."""
    with proxy_before(server) as proxy:
        use(monkeypatch, proxy.address)
        _retries(monkeypatch, {"backoff": {"init_backoff": _SOON, "max_backoff": 20 * _SOON, "base": 2}})
        monkeypatch.setattr("wilss.disk.buckets._PAUSE_SECONDS", _SOON.total_seconds())
        yield proxy


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that gives up soon; asked for after the proxy."""
    monkeypatch.setattr("wilss.disk.buckets._LONG_SECONDS", 0.1)
    _retries(monkeypatch, {"max_retries": 1, "retry_timeout": timedelta(seconds=1)})


#: How long a client waits before it tries again: at such a server, no time is worth waiting for.
_SOON = timedelta(milliseconds=2)


def _retries(monkeypatch: pytest.MonkeyPatch, config: Any) -> None:
    from obstore.store import S3Store

    monkeypatch.setattr("obstore.store.S3Store", functools.partial(S3Store, retry_config=config))
