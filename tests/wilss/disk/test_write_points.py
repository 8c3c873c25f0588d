"""Which write belongs to which point."""

import threading
from pathlib import Path

import pytest

from wilss.disk import WritePoint, at, point_of

SHARD, COMMIT = WritePoint.STORE_SHARD, WritePoint.STORE_COMMIT


@pytest.mark.parametrize(
    ("path", "belongs"),
    [
        ("s.zarr", True),
        ("s.zarr/mask/c/0", True),
        ("s.zarr.lock", True),
        ("s.zarr.building/mask/zarr.json", True),
        ("s.zarr2", False),
        ("other/s.zarr", False),
        (".", True),  # made, and fsynced, for what lies in it
        ("..", True),
        ("t.zarr/mask", False),
    ],
)
def test_a_point_covers_what_is_below_a_name_and_beside_it(tmp_path: Path, path: str, belongs: bool) -> None:
    with at(SHARD, tmp_path / "out/s.zarr"):
        assert (point_of(tmp_path / "out" / path) is SHARD) == belongs
    assert point_of(tmp_path / "out/s.zarr") is None


def test_the_last_entered_counts(tmp_path: Path) -> None:
    with at(COMMIT, tmp_path / "s"), at(SHARD, tmp_path / "s/mask"):
        assert point_of(tmp_path / "s/mask/0") is SHARD
        assert point_of(tmp_path / "s/status") is COMMIT


def test_a_point_holds_in_all_threads_and_ends_after_an_error(tmp_path: Path) -> None:
    seen: list[WritePoint | None] = []

    def look() -> None:
        with at(SHARD, tmp_path / "s"):
            other = threading.Thread(target=lambda: seen.append(point_of(tmp_path / "s")))
            other.start()  # as zarr does it
            other.join()
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        look()
    assert seen == [SHARD]
    assert point_of(tmp_path / "s") is None


def test_a_relative_name_is_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with at(SHARD, Path("s")):
        assert point_of(tmp_path / "s/0") is SHARD
