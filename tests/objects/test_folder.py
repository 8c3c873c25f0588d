"""A folder in a bucket keeps the promises of one on disk, also where the network fails."""

import json
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from wilss.disk import Folder, ObjectUrl, buckets, data_folder_at, data_path, folder_at, object_lock, objects
from wilss.disk.kept import KeptBytes
from wilss.errors import ParameterError, StoreError

from .killing import KilledError, count_down
from .proxy import Proxy
from .servers import SETTINGS


@pytest.fixture
def folder(bucket: ObjectUrl) -> Folder:
    return folder_at(bucket / "step-1.zarr")


def names(folder: Folder) -> list[str]:
    return sorted(name for name, _ in folder.files())


def test_files_are_written_read_listed_and_removed(folder: Folder) -> None:
    assert not folder.exists()
    folder.write("mask/c/0/0", b"0123456789")
    folder.write("zarr.json", b"{}")
    assert folder.exists()
    assert folder.exists("zarr.json")
    assert not folder.exists("mask")
    assert sorted(folder.files()) == [("mask/c/0/0", 10), ("zarr.json", 2)]
    assert list(folder.files("mask/c")) == [("mask/c/0/0", 10)]
    with folder.open("mask/c/0/0") as file:
        assert (file.size, file.read(2, 3), file.read(8, 9)) == (10, b"234", b"89")
    before = folder.signature("mask/c/0/0")
    folder.write("mask/c/0/0", b"other")
    assert folder.signature("mask/c/0/0") != before
    folder.remove("mask/c/0/0")
    folder.remove("mask/c/0/0")
    assert folder.signature("mask/c/0/0") is None
    with pytest.raises(FileNotFoundError):
        folder.read("mask/c/0/0")


def test_of_many_that_create_a_file_one_is_told_that_it_did(folder: Folder) -> None:
    with ThreadPoolExecutor(8) as pool:
        for turn in range(5):
            mine = [f"{turn}/{who}".encode() for who in range(8)]
            told = list(pool.map(lambda data, turn=turn: folder.create(f"parts/{turn}.json", data), mine))
            assert told.count(True) == 1
            assert folder.read(f"parts/{turn}.json") == mine[told.index(True)]


@pytest.mark.parametrize("fault", ["lost", "503", "refused"])
def test_who_created_a_file_knows_it_though_the_answer_was_lost(folder: Folder, proxy: Proxy, fault: str) -> None:
    folder = folder_at(folder.location)
    proxy.once(fault, "PUT", "/receipt")
    assert folder.create("receipt", b"mine")
    assert proxy.happened[fault] == 1
    assert not folder.create("receipt", b"another's")
    assert folder.read("receipt") == b"mine"


def test_a_body_cut_short_is_read_whole(folder: Folder, proxy: Proxy) -> None:
    folder.write("shard", bytes(100_000))
    proxy.once("truncated", "GET", "/shard")
    assert folder_at(folder.location).read("shard") == bytes(100_000)
    assert proxy.happened["truncated"] == 1


def test_a_server_that_heeds_no_conditions_is_refused(folder: Folder, proxy: Proxy) -> None:
    proxy.deaf = True
    with pytest.raises(StoreError, match="lets two writers create the same object.*use a server that heeds"):
        folder_at(folder.location).require_writable()
    assert not list(folder_at(folder.location.parent).files())


def test_a_probe_that_a_kill_left_is_removed_by_a_later_one(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    left = folder_at(folder.location.with_name(f"{folder.location.name}.probe"))
    left.write("left", b"1")
    folder.require_writable()
    assert [name for name, _ in left.files()] == ["left"], "it may be another writer's, of just now"
    monkeypatch.setattr(buckets, "_PROBE_SECONDS", -600.0)
    folder.require_writable()
    assert not list(left.files())


def test_a_server_that_cannot_be_reached_is_a_sentence(bucket: ObjectUrl, monkeypatch: pytest.MonkeyPatch) -> None:
    from obstore.store import S3Store

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    once = S3Store(bucket.bucket, retry_config={"max_retries": 0})
    monkeypatch.setattr(buckets, "client_of", lambda *names: once)
    with pytest.raises(StoreError) as refused:
        folder_at(bucket / "step-1.zarr").read("zarr.json")
    assert f"{bucket}/step-1.zarr/zarr.json cannot be read" in str(refused.value)
    assert "run the same command again" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not any(secret in str(refused.value) for secret in list(SETTINGS.values())[:2])


def test_without_obstore_there_is_a_sentence(bucket: ObjectUrl, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "obstore", None)
    buckets.client_of.cache_clear()
    with pytest.raises(StoreError, match=r"needs the library obstore: install it with `pip install 'wilss\[object-"):
        folder_at(bucket / "step-1.zarr")
    buckets.client_of.cache_clear()


def test_nothing_of_credentials_is_pickled_or_shown(folder: Folder) -> None:
    data = pickle.dumps(folder) + repr(folder).encode() + str(folder).encode()
    assert not any(secret.encode() in data for secret in list(SETTINGS.values())[:2])
    assert pickle.loads(pickle.dumps(folder)).location == folder.location


def test_other_credentials_are_another_client(bucket: ObjectUrl, monkeypatch: pytest.MonkeyPatch) -> None:
    before = buckets.Bucket(bucket)._client
    assert buckets.Bucket(bucket)._client is before
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    assert buckets.Bucket(bucket)._client is not before


@pytest.mark.parametrize("word", ["1 GiB", "-1", "many"])
def test_a_memory_that_is_no_number_is_refused(bucket: ObjectUrl, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WILSS_SHARD_MEMORY", word)
    objects._kept.cache_clear()
    with pytest.raises(ParameterError, match=f"^WILSS_SHARD_MEMORY is '{word}', which is no number of MiB; set e.g."):
        folder_at(bucket)
    monkeypatch.setenv("WILSS_SHARD_MEMORY", "64")
    folder_at(bucket)
    objects._kept.cache_clear()


# -- the whole ------------------------------------------------------------------------------------------------


def test_another_folder_takes_the_place_of_one(folder: Folder) -> None:
    for name in ("zarr.json", "status/c/0", "mask/c/0/0/0/0", "mask/c/1/0/0/0"):
        folder.write(name, b"old")
    with folder.built_beside() as building:
        for name in ("zarr.json", "mask/c/0/0/0/0"):
            building.write(name, b"new")
        assert folder.read("zarr.json") == b"old"
    assert names(folder) == ["mask/c/0/0/0/0", "zarr.json"]
    assert folder.read("mask/c/0/0/0/0") == b"new"
    assert {name.partition("/")[0] for name, _ in folder_at(folder.location.parent).files()} == {"step-1.zarr"}


def test_what_was_written_is_put_in_place_though_listings_come_late(folder: Folder, proxy: Proxy) -> None:
    folder, proxy.late = folder_at(folder.location), 60.0
    with folder.built_beside() as building:
        for name in ("zarr.json", "mask/c/0/0/0/0"):
            building.write(name, b"new")
    proxy.late = 0.0
    assert names(folder) == ["mask/c/0/0/0/0", "zarr.json"]


def test_a_body_that_raises_leaves_the_former_folder(folder: Folder) -> None:
    folder.write("zarr.json", b"old")
    with pytest.raises(FileNotFoundError), folder.built_beside() as building:
        building.take(building, "nothing", "zarr.json")
    assert folder.read("zarr.json") == b"old"
    assert [name for name, _ in folder_at(folder.location.parent).files()] == ["step-1.zarr/zarr.json"]


def test_a_kill_at_any_request_leaves_the_old_or_the_new_folder(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At no time is there a `zarr.json` beside files of the other folder, and `settle` brings one of both."""
    old = {name: f"old {name}".encode() for name in ("zarr.json", "status/c/0", "mask/c/0/0/0/0", "mask/c/2/0/0/0")}
    new = {name: f"new {name}".encode() for name in ("zarr.json", "status/c/0", "mask/c/0/0/0/0", "mask/c/1/0/0/0")}
    monkeypatch.setattr("wilss.disk.objects._THREADS", 1)
    left = count_down(monkeypatch, ("put", "delete", "copy"))
    outcomes = []
    for requests in range(40):
        left[0] = 1000
        for name in names(folder):
            folder.remove(name)
        for name, data in old.items():
            folder.write(name, data)
        left[0] = requests
        try:
            with folder.built_beside() as building:
                for name, data in new.items():
                    building.write(name, data)
            killed = False
        except KilledError:
            killed = True
        left[0] = 1000
        there = {name: folder.read(name) for name in names(folder)}
        if "zarr.json" in there:
            assert there in (old, new)
        else:
            assert not folder.exists()
        folder.settle()
        settled = {name: folder.read(name) for name in names(folder)}
        assert settled in (old, new)
        assert {n.partition("/")[0] for n, _ in folder_at(folder.location.parent).files()} == {"step-1.zarr"}
        outcomes.append(settled == new)
        if not killed:
            break
    assert not killed
    assert outcomes == sorted(outcomes)  # the old one until a certain request, the new one from then on
    assert not outcomes[0]


# -- the lock -------------------------------------------------------------------------------------------------


def test_one_writer_at_a_time(folder: Folder) -> None:
    refused = pytest.raises(StoreError, match=r"is being written by process \d+ on .*last sign of life.*is removed")
    with folder.lock(), refused:
        folder_at(folder.location).lock().__enter__()
    with folder.lock():
        pass
    assert not list(folder_at(folder.location.parent).files())


def test_of_many_that_lock_one_has_it(folder: Folder) -> None:
    have, gate = [], threading.Barrier(6)

    def ask(who: int) -> None:
        gate.wait()
        try:
            with folder_at(folder.location).lock():
                have.append(who)
                time.sleep(0.5)
        except StoreError:
            pass

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(ask, range(6)))
    assert len(have) == 1


def test_a_lock_of_a_process_of_this_machine_that_is_gone_is_taken_over(folder: Folder) -> None:
    beside = folder_at(folder.location.parent)
    gone = {"id": "x", "pid": 999_999_999, "host": "here", "process": [*object_lock._process()[:2], "1"]}
    beside.write("step-1.zarr.lock", json.dumps(gone).encode())
    with folder.lock():
        assert json.loads(beside.read("step-1.zarr.lock"))["id"] != "x"


def test_a_lock_of_another_machine_is_taken_over_once_it_is_silent(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = folder_at(folder.location.parent)
    beside.write("step-1.zarr.lock", json.dumps({"id": "x", "pid": 1, "host": "far"}).encode())
    with pytest.raises(StoreError, match="process 1 on far"):
        folder.lock().__enter__()
    time.sleep(1.1)  # the server's clock counts seconds
    monkeypatch.setattr(object_lock, "STALE_SECONDS", 1.0)
    with folder.lock():
        assert json.loads(beside.read("step-1.zarr.lock"))["id"] != "x"


def test_who_lost_the_lock_writes_nothing_more(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_lock, "_BEAT_SECONDS", 0.05)
    beside = folder_at(folder.location.parent)
    with folder.lock():
        folder.write("zarr.json", b"{}")
        beside.write("step-1.zarr.lock", b'{"id": "another"}')
        deadline = time.monotonic() + 10
        while folder.location not in object_lock._LOST and time.monotonic() < deadline:
            time.sleep(0.02)
        with pytest.raises(StoreError, match="may be written by another process now"):
            folder.write("zarr.json", b"{}")
    assert beside.read("step-1.zarr.lock") == b'{"id": "another"}'
    beside.remove("step-1.zarr.lock")
    with folder.lock():
        folder.write("zarr.json", b"{}")


# -- what is kept in memory -----------------------------------------------------------------------------------


def test_what_is_kept_is_bounded_and_fetched_once() -> None:
    kept, fetched = KeptBytes(100), []

    def fetch(key: str, size: int) -> bytes:
        return kept.get(key, lambda: fetched.append(key) or time.sleep(0.05) or bytes(size))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: fetch("a", 60), range(4)))
    assert fetched == ["a"]
    fetch("b", 30), fetch("a", 60), fetch("c", 40)  # a was asked for after b
    fetched.clear()
    fetch("a", 60), fetch("c", 40), fetch("b", 30)
    assert fetched == ["b"]
    assert len(fetch("d", 101)) == len(fetch("d", 101)) == 101
    assert fetched == ["b", "d", "d"]  # larger than all that may be kept


def test_what_two_fetched_counts_once() -> None:
    """One asked, what it was given was dropped, and the one who had waited for it fetches beside a third."""
    kept = KeptBytes(100)

    def beside() -> bytes:
        kept._fetching.clear()  # as the one before has left it
        kept.get("a", lambda: bytes(60))
        return bytes(60)

    kept.get("a", beside)
    fetched = []
    kept.get("b", lambda: bytes(40))
    kept.get("a", lambda: fetched.append("a") or bytes(60))
    assert not fetched


def test_what_is_not_there_is_known_not_to_be() -> None:
    kept, asked = KeptBytes(100), []

    def fetch() -> bytes:
        asked.append(1)
        raise FileNotFoundError

    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            kept.get("a", fetch)
    assert len(asked) == 1


def test_a_file_on_disk_is_taken_into_a_bucket(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "shard").write_bytes(b"abc")
    folder.take(folder_at(tmp_path), "shard", "mask/c/0/0/0/0")
    assert folder.read("mask/c/0/0/0/0") == b"abc"


def test_a_folder_of_data_is_one_in_another_process_too(bucket: ObjectUrl) -> None:
    folder = data_folder_at(data_path(str(bucket / "bank.zarr")))
    assert type(pickle.loads(pickle.dumps(folder))) is type(folder) is not objects.ObjectFolder
