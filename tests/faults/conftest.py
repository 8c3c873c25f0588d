"""What many drills begin with, made once for all processes of a test run. Nobody changes it: a copy may be changed."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from tests.faults.train_cli import Result, result, walk, wilss_train, words


@pytest.fixture(scope="session")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set with both stores, the run of step 0 in `base` and an uninterrupted one of step 1 in `whole`."""

    def make(root: Path) -> None:
        made = wilss_train(*words(walk(root), "whole"))
        assert made.code == 0, made.said

    return _made_once("walked", make, tmp_path_factory)


@pytest.fixture(scope="session")
def uninterrupted(walked: Path) -> Result:
    """What a run of step 1 leaves that nothing happens to."""
    return result(walked / "whole")


@pytest.fixture(scope="module")
def root(walked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy for this module, whose tests add runs to it; modules with other data have a `root` of their own."""
    return shutil.copytree(walked, tmp_path_factory.mktemp("root") / "walked")


def _made_once(name: str, make: Callable[[Path], None], factory: pytest.TempPathFactory) -> Path:
    """The folder that one process of pytest-xdist makes and the others wait for."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with FileLock(folder.with_suffix(".lock")):
        if not folder.exists():
            building = folder.with_suffix(f".{os.getpid()}")
            building.mkdir()
            make(building)
            building.rename(folder)
    return folder
