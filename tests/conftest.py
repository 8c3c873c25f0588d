"""What holds for all tests: one thread in every process, since several processes share the cores."""

import logging
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.drills import leave_few
from tests.quick import freeze
from tests.together import TOGETHER, ByWhatTheyAsk

# A busy machine makes examples slow, and is no fault of what they are examples of.
_SLOW = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("short", _SLOW, max_examples=40)
settings.register_profile("long", _SLOW)
settings.load_profile("short")  # `make test-long` asks for the other one


#: The files that take longest, in the order in which they are begun, after those of `TOGETHER`: each goes to one worker
#: as a whole, and at the end none should be left alone with one of them. The others take seconds, whatever their order.
LONG_FILES = (
    "tests/test_pages.py",
    "tests/faults/test_bad_table.py",
    "tests/faults/test_fuzz.py",
    "tests/faults/test_damage.py",
    "tests/wilss_masks/tuning/test_tune.py",
    "tests/wilss_train/run/test_train.py",
    "tests/faults/test_train_bad_input.py",
    "tests/faults/test_disk.py",
    "tests/wilss_masks/sources/test_cam.py",
    "tests/faults/test_bad_input.py",
    "tests/faults/test_cli.py",
    "tests/wilss_masks/review/test_server.py",
    "tests/faults/test_workers.py",
    "tests/wilss_masks/sources/test_sam3.py",
    "tests/wilss/models/encoders/clip/test_timm_towers.py",
    "tests/wilss_masks/inspect/test_relabel.py",
    "tests/wilss_masks/make/test_features.py",
    "tests/wilss_train/methods/test_heads.py",
    "tests/faults/test_kills.py",
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByWhatTheyAsk | None:
    """Who takes which file, where files stay whole."""
    return ByWhatTheyAsk(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.hookimpl(tryfirst=True)  # before marks choose what is run
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What goes together first, then long files; within a file, and among the others, the order stays."""
    for _, cases in groupby(items, lambda item: item.nodeid.partition("[")[0]):
        leave_few(list(cases))
    places = {name: place for place, name in enumerate(LONG_FILES)}
    items.sort(
        key=lambda item: (
            -1 if item.nodeid.startswith(TOGETHER) else places.get(item.nodeid.partition("::")[0], len(places))
        )
    )


@pytest.fixture(autouse=True)
def _levels() -> Iterator[None]:
    """A command says what its words ask for (`-q`), and says so to all of its process: not to the tests after it."""
    before = {name: logging.getLogger(name).level for name in ("wilss", "wilss_masks", "wilss_train", "matplotlib")}
    yield
    for name, level in before.items():
        if logging.getLogger(name).level != level:  # to set one clears what every logger remembers
            logging.getLogger(name).setLevel(level)


def pytest_collection_finish() -> None:
    """What was imported to collect the tests stays."""
    freeze()
