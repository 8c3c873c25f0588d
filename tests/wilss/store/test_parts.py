"""The parts of a store: who wins a shard, what becomes of the loser's files, what a damaged shard leads to."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.wilss_masks.stores import IMAGES, make_content, make_header, make_store
from wilss.disk import LocalFolder, Location
from wilss.disk.locations import BEGUN
from wilss.disk.shared import SharedObjects
from wilss.errors import StoreError
from wilss.store import ImageContent, MaskStore, PartsGoneError, StoreParts, seal_parts
from wilss.store import parts as receipts
from wilss.store.creation import create_group
from wilss.store.parts import parts_folder
from wilss_masks.sources.fmwiss_params import FmwissParams

PARAMS = FmwissParams()


@pytest.fixture(params=["on disk", "in a bucket"], autouse=True)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket's keys are files here, and its receipts can be created again once they are gone."""
    if request.param == "in a bucket":
        monkeypatch.setattr(receipts, "shared_folder_at", lambda place: SharedObjects(LocalFolder(place)))
    return str(request.param)


def begin(path: Path) -> StoreParts:
    """A store of three shards of two images, all to be made."""
    header = make_header(IMAGES, PARAMS, keep=True, attributes={})
    create_group(path, header)
    parts = StoreParts.of(path, header.layout)
    parts.begin()
    return parts


def images(shard: int, *, other: bool = False) -> list[ImageContent]:
    """The content of a shard; other: as a machine makes it whose masks differ in a pixel."""
    made = [make_content(IMAGES[row], row, PARAMS, keep=True) for row in (2 * shard, 2 * shard + 1)]
    return [_changed(content) for content in made] if other else made


def _changed(content: ImageContent) -> ImageContent:
    masks = {position: mask.copy() for position, mask in content.planes.get("mask", {}).items()}
    for mask in masks.values():
        mask[0, 0] ^= True
    area = {position: int(mask.sum()) for position, mask in masks.items()}
    return ImageContent(**{**vars(content), "planes": {**content.planes, "mask": masks}, "area": area})


def names(path: Location) -> list[str]:
    files = (file for file in Path(str(parts_folder(path))).rglob("*") if file.is_file())
    return sorted(file.name for file in files if file.name != BEGUN)


def test_a_store_made_in_parts_is_that_of_one_writer(tmp_path: Path) -> None:
    whole = make_store(tmp_path / "whole.zarr")
    parts = begin(tmp_path / "s.zarr")
    for shard in (2, 0):
        parts.hand_in(shard, images(shard))
    store = MaskStore.open(parts.path, allow_partial=True)
    assert store.shards_to_make() == {1: 0} == seal_parts(parts.path)
    assert store.pending_shards() == (0, 1, 2)
    assert not (store.current_status() == 1).any()  # for readers it is not done until it is sealed
    parts.hand_in(1, images(1))
    assert seal_parts(parts.path) == {} == seal_parts(parts.path)
    assert MaskStore.open(parts.path).digest == whole.digest
    assert not names(parts.path)


def test_a_listing_that_comes_late_loses_no_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one does not know of a receipt that a second one, a moment later, does."""
    whole, parts = make_store(tmp_path / "whole.zarr"), begin(tmp_path / "s.zarr")
    for shard in range(3):
        parts.hand_in(shard, images(shard))
    listed, late = StoreParts.state, [1]

    def state(of: StoreParts) -> receipts.PartsState:
        generation, there = listed(of)
        return receipts.PartsState(generation, there - {late.pop()} if late else there)

    monkeypatch.setattr(StoreParts, "state", state)
    assert seal_parts(parts.path) == {}
    assert not late
    assert MaskStore.open(parts.path).digest == whole.digest


def test_the_first_of_two_that_differ_wins_with_its_files(tmp_path: Path) -> None:
    parts = begin(tmp_path / "s.zarr")
    first = parts.hand_in(0, images(0))
    second = parts.hand_in(0, images(0, other=True))
    assert second.digest == first.digest
    assert names(parts.path) == ["0.0.receipt"]
    parts.hand_in(1, images(1))
    parts.hand_in(2, images(2))
    assert seal_parts(parts.path) == {}
    assert not list(MaskStore.open(parts.path).verify())


def test_a_loser_that_meets_the_receipt_late_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = begin(tmp_path / "s.zarr")
    first = parts.hand_in(0, images(0))
    monkeypatch.setattr(StoreParts, "has_receipt", lambda *given: False)  # it looked before there was one
    assert parts.hand_in(0, images(0, other=True)).digest == first.digest
    assert names(parts.path) == ["0.0.receipt"]
    assert (parts.hand_in(0, images(0)).area == first.area).all()
    assert names(parts.path) == ["0.0.receipt"]


def test_files_on_their_way_are_placed_by_whoever_seals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = begin(tmp_path / "s.zarr")
    with monkeypatch.context() as patch:
        patch.setattr(StoreParts, "place", lambda *given: None)  # killed just before
        parts.hand_in(0, images(0))
    assert [name for name in names(parts.path) if name.startswith("0.mask.")]
    parts.hand_in(1, images(1))
    parts.hand_in(2, images(2))
    assert seal_parts(parts.path) == {}
    assert MaskStore.open(parts.path).digest == make_store(tmp_path / "whole.zarr").digest


def test_a_shard_that_somebody_overwrote_is_made_again(tmp_path: Path) -> None:
    parts = begin(tmp_path / "s.zarr")
    for shard in range(3):
        parts.hand_in(shard, images(shard))
    file = next(Path(str(parts.path)).glob("mask/c/1/*/*/*"))
    file.write_bytes(file.read_bytes()[::-1])
    assert seal_parts(parts.path) == {1: 1}
    assert seal_parts(parts.path) == {1: 1} == MaskStore.open(parts.path, allow_partial=True).shards_to_make()
    parts.hand_in(1, images(1), 0)  # of one who has not heard of it: the old receipt holds no longer
    assert seal_parts(parts.path) == {1: 1}
    parts.hand_in(1, images(1), 1)
    assert seal_parts(parts.path) == {}
    assert MaskStore.open(parts.path).digest == make_store(tmp_path / "whole.zarr").digest


def test_nothing_is_handed_in_once_it_is_sealed(tmp_path: Path) -> None:
    parts = begin(tmp_path / "s.zarr")
    for shard in range(3):
        parts.hand_in(shard, images(shard))
    assert seal_parts(parts.path) == {}
    digest = MaskStore.open(parts.path).digest
    with pytest.raises(PartsGoneError, match=r"s\.zarr was thrown away or replaced"):
        parts.hand_in(0, images(0, other=True))
    parts.begin()  # where receipts are keys, and no folder keeps them out
    with pytest.raises(PartsGoneError):
        parts.hand_in(0, images(0, other=True))
    assert not list(MaskStore.open(parts.path).verify())
    assert MaskStore.open(parts.path).digest == digest


def test_receipts_of_another_store_do_not_count(tmp_path: Path) -> None:
    parts = begin(tmp_path / "s.zarr")
    parts.hand_in(0, images(0))
    other = make_header(IMAGES, PARAMS, keep=True, attributes={"seed": 5})
    shutil.rmtree(str(parts.path))
    create_group(tmp_path / "s.zarr", other)
    assert MaskStore.open(parts.path, allow_partial=True).parts() is None
    with pytest.raises(PartsGoneError):
        parts.hand_in(1, images(1))


def test_a_damaged_receipt_is_named(tmp_path: Path) -> None:
    parts = begin(tmp_path / "s.zarr")
    parts.hand_in(0, images(0))
    file = Path(str(parts_folder(parts.path))) / parts.identity[:16] / "0.0.receipt"
    whole = json.loads(file.read_bytes())
    changed: dict[str, Any] = {**whole, "status": [2, 1]}
    outside: dict[str, Any] = {**whole, "vectors": {"area": [[9, 9, 9]]}}
    for data in (b"", b"[]", json.dumps(changed).encode(), json.dumps(outside).encode()):
        file.write_bytes(data)
        with pytest.raises(StoreError, match=r"0\.0\.receipt is damaged; remove it"):
            parts.receipt(0)


def test_a_receipt_says_all_that_was_handed_in(tmp_path: Path) -> None:
    parts = begin(tmp_path / "s.zarr")
    for shard in range(3):
        made, read = parts.hand_in(shard, images(shard)), parts.receipt(shard).receipt
        assert (read.digest, read.errors) == (made.digest, made.errors)
        for name in ("status", *made.vectors):
            np.testing.assert_array_equal(getattr(read, name), getattr(made, name))
