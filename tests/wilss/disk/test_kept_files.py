"""The cache of fetched files: bounded, whole, and of use where not all fits in."""

import io
import os
import time
from pathlib import Path

import pytest

from wilss.disk import ObjectUrl
from wilss.disk.urls.kept_files import VARIABLE, KeptFiles, kept_files, limit_of
from wilss.errors import ParameterError

A, B, C, D = (ObjectUrl("s3", "bucket", name) for name in "abcd")


def total(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def age(folder: Path) -> None:
    """All that is there was used last long ago."""
    for path in folder.rglob("*"):
        os.utime(path, (time.time() - 1000,) * 2)


def test_what_is_kept_comes_back_with_its_version(tmp_path: Path) -> None:
    kept = KeptFiles(tmp_path, 10_000)
    assert kept.read(A) is None
    kept.keep(A, '"v1"', b"one", 7)
    assert kept.read(A) == KeptFiles(tmp_path, 10_000).read(A) == ('"v1"', b"one")
    assert (kept.is_sure(A, 7), kept.is_sure(A, 8), kept.is_sure(B, 7)) == (True, False, False)
    assert not KeptFiles(tmp_path, 10_000).is_sure(A, 7)  # another process asks the server
    kept.doubt(A)
    assert not kept.is_sure(A, 7)
    kept.keep(A, '"v2"', b"", 7)
    assert kept.read(A) == ('"v2"', b"")


def test_what_is_damaged_is_not_given(tmp_path: Path) -> None:
    kept = KeptFiles(tmp_path, 10_000)
    for spoil in (lambda data: data[:-1], lambda data: data[:-1] + b"!", lambda data: b"", lambda data: data[:5]):
        kept.keep(A, "v", b"something", 0)
        (path,) = (path for path in tmp_path.rglob("*") if path.is_file())
        path.write_bytes(spoil(path.read_bytes()))
        assert kept.read(A) is None
        assert not path.exists()


def test_what_is_large_is_kept_and_given_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wilss.disk.urls.kept_files._PIECE", 4)
    kept, here = KeptFiles(tmp_path / "kept", 10_000), tmp_path / "here"
    here.write_bytes(b"something large")
    given = io.BytesIO()
    assert kept.copy(A, given) == ""
    kept.keep_file(A, '"v1"', here, 7)
    assert kept.read(A) == ('"v1"', b"something large")
    assert kept.is_sure(A, 7)
    assert kept.read(A, 10) is None
    assert (kept.copy(A, given), given.getvalue()) == ('"v1"', b"something large")
    for spoil in (lambda data: data[:-1], lambda data: data[:-1] + b"!", lambda data: b"", lambda data: data[:5]):
        kept.keep_file(A, "v", here, 0)
        (path,) = (path for path in (tmp_path / "kept").rglob("*") if path.is_file())
        path.write_bytes(spoil(path.read_bytes()))
        assert kept.copy(A, io.BytesIO()) == ""
        assert not path.exists()


def test_it_is_bounded_and_keeps_what_this_process_uses(tmp_path: Path) -> None:
    kept = KeptFiles(tmp_path, 300)
    for url in (A, B, C, D):
        kept.keep(url, "v", bytes(110), 0)
    assert total(tmp_path) <= 300
    assert [kept.read(url) is not None for url in (A, B, C, D)] == [True, True, False, False]
    assert not kept.is_sure(C, 0)
    age(tmp_path)
    later = KeptFiles(tmp_path, 300)
    assert later.read(B) is not None  # used again, so that A makes room
    later.keep(C, "v", bytes(110), 0)
    assert total(tmp_path) <= 300
    assert [later.read(url) is not None for url in (A, B, C)] == [False, True, True]


def test_processes_that_fill_it_together_stay_about_within_it(tmp_path: Path) -> None:
    limit = 16_000
    several = [KeptFiles(tmp_path, limit) for _ in range(4)]
    for number in range(200):
        several[number % 4].keep(ObjectUrl("s3", "bucket", str(number)), "v", bytes(190), 0)
    assert 0.8 * limit < total(tmp_path) < 1.1 * limit


def test_a_file_that_is_larger_than_all_of_it_is_not_kept(tmp_path: Path) -> None:
    kept = KeptFiles(tmp_path, 100)
    kept.keep(A, "v", bytes(1000), 0)
    assert kept.read(A) is None
    assert total(tmp_path) == 0


def test_a_disk_that_takes_nothing_is_told_once_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "data").write_text("no folder")
    kept = KeptFiles(tmp_path / "data", 1000)
    for url in (A, B):
        kept.keep(url, "v", b"1", 0)
    assert kept.read(A) is None
    assert sum("cannot be kept" in message for message in caplog.messages) == 1


def test_others_may_not_look_into_it(tmp_path: Path) -> None:
    KeptFiles(tmp_path / "cache/data", 1000).keep(A, "v", b"1", 0)
    assert (tmp_path / "cache/data").stat().st_mode & 0o077 == 0


def test_its_size_is_read_as_people_write_sizes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sizes = ("20 GB", "1.5gb", "500MB", "2 TiB", "1000", "0")
    assert [limit_of(size) for size in sizes] == [20 * 10**9, 15 * 10**8, 5 * 10**8, 2 * 10**12, 1000, 0]
    for wrong in ("much", "-1", "10 XB", ""):
        with pytest.raises(ParameterError, match=r'set e\.g\. WILSS_DATA_CACHE="20 GB", 0 to keep nothing'):
            limit_of(wrong)
    monkeypatch.setenv("WILSS_CACHE", str(tmp_path))
    monkeypatch.setenv(VARIABLE, "0")
    assert kept_files() is None
    monkeypatch.setenv(VARIABLE, "1 MB")
    found = kept_files()
    assert found is not None
    assert found.folder == tmp_path / "data"
