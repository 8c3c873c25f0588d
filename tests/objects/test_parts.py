"""A store in a bucket that many processes make without a coordinator: killed, at once, with a network that fails."""

from pathlib import Path

import pytest

from tests.drills import turns
from tests.faults import test_parts as parts
from tests.faults.standin import draw_images
from wilss.disk import ObjectUrl, folder_at
from wilss.errors import StoreError
from wilss_masks.make.options import Part

from .proxy import Proxy
from .tally import tallied
from .test_stores import beside, contents

COUNT = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_images(tmp_path_factory.mktemp("images"), COUNT)


@pytest.fixture(scope="module")
def alone(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The stores of single processes on each of two machines, on disk."""
    return parts.on_each_machine(folder, tmp_path_factory.mktemp("alone"))


def nothing_beside(there: ObjectUrl, folder: Path) -> None:
    """Nothing of the parts is left once anybody has looked at the finished store; late starters leave keys.

    A kill between a probe of the server and its removal leaves a byte until a later probe.
    """
    parts.make_part(folder, there, Part(1, 1))
    assert {name for name in beside(there) if not name.endswith(".probe")} == {there.name}


def test_a_part_alone(bucket: ObjectUrl, folder: Path, alone: list[Path]) -> None:
    there = bucket / "s.zarr"
    parts.make_part(folder, there, Part(2, 3))
    assert contents(there) == contents(alone[0])
    assert beside(there) == {there.name}


@pytest.mark.parametrize(("writers", "number"), turns([(2, 0), *((4, n) for n in range(100))], [(2, 0)]))
def test_parts_at_once(bucket: ObjectUrl, folder: Path, alone: list[Path], writers: int, number: int) -> None:
    there = bucket / "s.zarr"
    with tallied("races") as done:
        parts.all_at_once(folder, there, writers)
        done.update(races=1, stores=1)
        assert contents(there) == contents(alone[0])
        nothing_beside(there, folder)


@pytest.mark.wide
@pytest.mark.parametrize(("count", "seed"), turns([(4, 0), *((16, seed) for seed in range(5))], [(4, 0)]))
def test_parts_that_are_killed_on_machines_that_differ(
    bucket: ObjectUrl, folder: Path, alone: list[Path], count: int, seed: int
) -> None:
    there = bucket / "s.zarr"
    with tallied("machines") as done:
        done["kills"] += parts.make_with_kills(folder, there, count=count, at_once=4, seed=seed, machines=2)
        done["stores"] += 1
        parts.wholly_of_one(there, alone)
        nothing_beside(there, folder)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
def test_64_parts_that_are_killed(bucket: ObjectUrl, tmp_path: Path, seed: int) -> None:
    """A shard for each of them; the short form is that of machines that differ."""
    images, there = draw_images(tmp_path / "images", 128), bucket / "s.zarr"
    parts.make_part(images, tmp_path / "alone.zarr", None)
    with tallied("parts") as done:
        done["kills"] += parts.make_with_kills(images, there, count=64, at_once=4, seed=seed, machines=1)
        done["stores"] += 1
        assert contents(there) == contents(tmp_path / "alone.zarr")
        nothing_beside(there, images)


def test_what_a_kill_left_of_the_removal_of_receipts_goes(bucket: ObjectUrl, folder: Path) -> None:
    """Whichever of them: a store that an ordinary run began has no mark of its own above them."""
    there = bucket / "s.zarr"
    parts.make_part(folder, there, Part(1, 1))
    folder_at(there.with_name("s.zarr.parts")).write("0123456789abcdef/3.0.receipt", b"{}")
    parts.make_part(folder, there, Part(1, 1))
    assert beside(there) == {there.name}


def test_a_part_with_other_options_while_the_store_begins(bucket: ObjectUrl, folder: Path) -> None:
    """Its root is not there yet, so nobody can say what differs; nothing of the first one's is touched."""
    there = bucket / "s.zarr"
    folder_at(there.with_name("s.zarr.parts")).create("begun", b"{}")
    with pytest.raises(StoreError, match=r"is being made in parts with something else; give all parts the same"):
        parts.make_part(folder, there, Part(1, 2))
    assert beside(there) == {"s.zarr.parts"}


@pytest.mark.wide  # a store over such a network: test_stores; receipts: test_folder
def test_parts_over_a_network_that_fails(bucket: ObjectUrl, folder: Path, alone: list[Path], proxy: Proxy) -> None:
    """A tenth of the requests meet one of six faults, and listings come late."""
    there = bucket / "s.zarr"
    proxy.at_random(0.1)
    proxy.late = 2.0
    parts.make_part(folder, there, Part(2, 2))
    proxy.plan, proxy.late = (lambda method, path: ""), 0.0
    assert sum(proxy.happened.values()) > 5
    assert contents(there) == contents(alone[0])
    nothing_beside(there, folder)
