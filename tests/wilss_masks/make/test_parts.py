"""`generate --part` and `seal`: who makes what, what is refused and in which words, and that all ends in one store."""

import os
from pathlib import Path
from typing import Any

import pytest

from tests.faults.cli import IMAGES, Outcome, content, data_set, full_after, generate, wilss_masks
from wilss.disk import part_lock, writer_lock
from wilss.errors import ParameterError, StoreError
from wilss.store import MaskStore
from wilss.store.parts import StoreParts
from wilss_masks.make import parts as in_parts
from wilss_masks.make.options import Part


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven images, three shards; and the store of one process."""
    root = data_set(tmp_path_factory.mktemp("data"))
    assert generate(root, out="alone.zarr").code == 0
    return root


def make(data: Path, place: Path, *words: object) -> Outcome:
    return generate(data, *words, out=str(place / "s.zarr"))


@pytest.fixture
def stopping(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A process ends once it has made so many shards more: the number in the list."""
    left, hand_in = [1], StoreParts.hand_in

    def some(self: StoreParts, *given: Any) -> Any:
        if not left[0]:
            raise StoreError("stopped here; go on.")
        left[0] -= 1
        return hand_in(self, *given)

    monkeypatch.setattr(StoreParts, "hand_in", some)
    return left


def test_any_part_alone_finishes_the_store(data: Path, tmp_path: Path) -> None:
    made = make(data, tmp_path, "--part", "2/2")
    assert (made.code, made.err.count("Warning")) == (0, 0), made.said
    assert content(tmp_path / "s.zarr") == content(data / "alone.zarr")
    assert sorted(os.listdir(tmp_path)) == ["s.zarr", "s.zarr.lock"]
    again = make(data, tmp_path, "--part", "1/2")
    assert (again.code, "complete already" in again.out) == (0, True)
    assert sorted(os.listdir(tmp_path)) == ["s.zarr", "s.zarr.lock"]


@pytest.mark.wide
def test_a_part_with_workers(data: Path, tmp_path: Path) -> None:
    assert make(data, tmp_path, "--part", "1/2", "--workers", 2).code == 0
    assert content(tmp_path / "s.zarr") == content(data / "alone.zarr")


def test_a_part_that_is_stopped_goes_on(data: Path, tmp_path: Path, stopping: list[int]) -> None:
    store = tmp_path / "s.zarr"
    assert make(data, tmp_path, "--part", "2/3").code == 1
    opened = MaskStore.open(store, allow_partial=True)
    assert list(opened.shards_to_make()) == [0, 2]  # its own came first
    told = wilss_masks("info", store).out
    assert "parts: 1 of 3 shards have receipts" in told
    assert "3 of 3 images, 2 to be made" in told
    with pytest.raises(StoreError, match="2 of 3 shards are missing"):
        MaskStore.open(store)
    refused = wilss_masks("seal", store)
    assert refused.code == 1
    assert "shards 0, 2 of 3 still to be made; run the same `wilss-masks generate` with any --part" in refused.err
    stopping[0] = 2
    assert make(data, tmp_path, "--part", "2/3").code == 0
    assert stopping[0] == 0  # what was made is not made twice
    assert content(store) == content(data / "alone.zarr")


def test_seal_closes_what_the_last_part_did_not(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tmp_path / "s.zarr"

    def stop(path: Path) -> None:
        raise StoreError("stopped here; go on.")

    with monkeypatch.context() as patch:
        patch.setattr(in_parts, "seal_parts", stop)
        assert make(data, tmp_path, "--part", "1/1").code == 1
    assert "is complete: 3 shards" in wilss_masks("seal", store).out
    assert content(store) == content(data / "alone.zarr")
    assert "was complete already" in wilss_masks("seal", store).out


def test_seal_of_a_store_that_is_not_made_in_parts(data: Path, tmp_path: Path) -> None:
    assert "does not exist" in wilss_masks("seal", tmp_path / "s.zarr").err
    with full_after(1):
        assert make(data, tmp_path).code == 1
    refused = wilss_masks("seal", tmp_path / "s.zarr")
    assert (refused.code, "not made in parts" in refused.err) == (1, True)


def test_a_damaged_shard_is_made_again(
    data: Path, tmp_path: Path, stopping: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    stopping[0] = 2
    assert make(data, tmp_path, "--part", "1/1").code == 1
    file = next((tmp_path / "s.zarr").glob("mask/c/0/*/*/*"))
    file.write_bytes(b"of another tool")
    stopping[0] = 9
    made = make(data, tmp_path, "--part", "1/1")
    assert made.code == 0
    assert "shard 0 not on disk as made; made again" in caplog.text
    assert stopping[0] == 7  # the last one, and this one
    assert content(tmp_path / "s.zarr") == content(data / "alone.zarr")


def test_without_part_a_store_in_parts_is_gone_on_with(data: Path, tmp_path: Path, stopping: list[int]) -> None:
    assert make(data, tmp_path, "--part", "2/3").code == 1
    for option in ("--update", "--retry-failed"):
        assert f"is being made in parts; finish it without {option}" in make(data, tmp_path, option).err
    stopping[0] = 2
    assert make(data, tmp_path).code == 0
    assert content(tmp_path / "s.zarr") == content(data / "alone.zarr")


def test_overwrite_throws_the_parts_away(data: Path, tmp_path: Path, stopping: list[int]) -> None:
    assert make(data, tmp_path, "--part", "2/3").code == 1
    stopping[0] = 0
    assert make(data, tmp_path, "--overwrite").code == 0
    assert content(tmp_path / "s.zarr") == content(data / "alone.zarr")
    assert not (tmp_path / "s.zarr.parts").exists()


def test_a_part_goes_on_with_a_run_that_was_stopped(data: Path, tmp_path: Path, stopping: list[int]) -> None:
    with full_after(2):
        assert make(data, tmp_path).code == 1
    assert make(data, tmp_path, "--part", "3/5").code == 0
    assert stopping[0] == 0
    assert content(tmp_path / "s.zarr") == content(data / "alone.zarr")


def test_a_part_with_other_options_is_refused(data: Path, tmp_path: Path, stopping: list[int]) -> None:
    stopping[0] = 0
    assert make(data, tmp_path, "--part", "1/2").code == 1
    for other in (("--part", "2/2"), ()):
        refused = make(data, tmp_path, *other, "--set", "threshold=0.7")
        assert refused.code == 1
        assert 'parameters.threshold: "0.7" asked for, "0.5" in the store' in refused.err


def test_a_part_that_sees_another_image_is_refused(tmp_path: Path, stopping: list[int]) -> None:
    root = data_set(tmp_path / "data")
    assert make(root, tmp_path, "--part", "1/2").code == 1
    (root / f"data/JPEGImages/{IMAGES[3]}.jpg").write_bytes(b"on this machine it is gone")
    refused = make(root, tmp_path, "--part", "2/2")
    assert refused.code == 1
    assert f"{IMAGES[3]} has another height (0 pixels) than when the store was begun" in refused.err


@pytest.mark.parametrize("option", ["--overwrite", "--update", "--retry-failed", "--scheduler=tcp://127.0.0.1:1"])
def test_what_one_process_alone_can_do(data: Path, tmp_path: Path, option: str) -> None:
    refused = make(data, tmp_path, "--part", "1/2", option)
    assert refused.code
    assert f"--part 1/2 cannot be given with {option.partition('=')[0]}: " in refused.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("0/64", "there is no part 0/64: parts go from 1/64 to 64/64; to an index that begins at 0"),
        ("65/64", "there is no part 65/64"),
        ("3", "'3' is no part; write e.g. 3/64"),
        ("3/0", "is no part"),
        ("-1/4", "is no part"),
        ("/", "is no part"),
    ],
)
def test_parts_that_there_are_not(data: Path, tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(ParameterError, match="no part"):
        Part.parse(text)
    refused = make(data, tmp_path, f"--part={text}")
    assert (refused.code, why in refused.err) == (2, True), refused.err


def test_beside_a_run_without_part(data: Path, tmp_path: Path) -> None:
    store = tmp_path / "s.zarr"
    with writer_lock(store):
        refused = make(data, tmp_path, "--part", "1/2")
    assert refused.code == 1
    assert f"is being written by process {os.getpid()} on " in refused.err
    with part_lock(store), part_lock(store):
        refused = make(data, tmp_path, "--overwrite")
    assert (refused.code, "is being written by" in refused.err) == (1, True)


def test_a_run_whose_lock_told_nobody_stops(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = tmp_path / "s.zarr.parts/0123456789abcdef"
    monkeypatch.setattr(MaskStore, "pending_shards", _then(MaskStore.pending_shards, lambda: begun.mkdir(parents=True)))
    refused = make(data, tmp_path)
    assert (refused.code, "others have begun to make" in refused.err) == (1, True)


def _then(real: Any, once: Any) -> Any:
    waiting = [once]

    def call(*given: Any) -> Any:
        result = real(*given)
        if waiting and result:
            waiting.pop()()
        return result

    return call


def test_every_shard_is_of_one_part() -> None:
    shards = list(range(1000))
    own = [
        in_parts.in_order(shards, Part(index, 7), f"{index}/7")[: len(shards[index - 1 :: 7])] for index in range(1, 8)
    ]
    assert own == [shards[index - 1 :: 7] for index in range(1, 8)]
    rest = [in_parts.in_order(shards, Part(index, 7), f"{index}/7") for index in (1, 2)]
    assert [sorted(order) for order in rest] == [shards, shards]
    assert rest[0][-50:] != rest[1][-50:]
    assert rest[0] == in_parts.in_order(shards, Part(1, 7), "1/7")


def test_dry_run_of_a_part(data: Path, tmp_path: Path, stopping: list[int]) -> None:
    said = make(data, tmp_path, "--part", "2/2", "--dry-run")
    assert (said.code, "part 2/2: 1 of 3 shards is its own" in said.out) == (0, True), said.said
    assert not list(tmp_path.iterdir())
    assert make(data, tmp_path, "--part", "2/2").code == 1
    said = make(data, tmp_path, "--dry-run")
    assert f"would go on with {tmp_path / 's.zarr'}: 1 of 3 shards stays, 2 would be made" in said.out


def test_parts_keep_features_of_one_basis(data: Path, tmp_path: Path, stopping: list[int]) -> None:
    words = ("--keep", "features", "--feature-dims", 8)
    assert generate(data, *words, source="fmwiss", out=str(tmp_path / "alone.zarr")).code == 0
    stopping[0] = 1
    first = generate(data, *words, "--part", "1/2", source="fmwiss", out=str(tmp_path / "s.zarr"))
    assert (first.code, "features: a projection is fitted" in first.err) == (1, True), first.said
    stopping[0] = 2
    second = generate(data, *words, "--part", "2/2", source="fmwiss", out=str(tmp_path / "s.zarr"))
    assert (second.code, "is fitted" in second.err) == (0, False), second.said  # it takes that of the store
    assert content(tmp_path / "s.zarr") == content(tmp_path / "alone.zarr")
