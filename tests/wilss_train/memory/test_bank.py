"""A bank on disk: what others read in it, whole or not there, and every changed byte found."""

import errno
import json
import pickle
import shutil
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray

from tests.wilss_train.memory.drawn import PROTOCOL, files_of, make_store, random_masks, records_of, write_images
from wilss.data.taxonomy import VOID, Taxonomy
from wilss.errors import StoreError
from wilss_train.data.copy_paste import PasteParams, draw_instance, paste
from wilss_train.memory import MemoryBank, fill, writing


def make_bank(folder: Path, name: str = "memory.zarr", **given: Any) -> Path:
    """Forty instances of two classes, which take two shards."""
    images = random_masks(20, (1, 2))
    store_path = folder / f"{name}-of" / "step-0.zarr"
    store = make_store(store_path, images, confidence={"image-001": 0.25})
    records = records_of(write_images(folder, images))
    settings: dict[str, Any] = {"per_class": 50, "seed": 0, "weak": False, "min_area": 1}
    fill(
        folder / name,
        store=store,
        records=records,
        protocol=PROTOCOL,
        step=0,
        parent=None,
        **(settings | given),
    )
    return folder / name


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bank(tmp_path_factory.mktemp("bank"))


def test_xarray_reads_it_without_a_warning(path: Path) -> None:
    bank = MemoryBank.open(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = xarray.open_zarr(path)
    assert dict(dataset.sizes) == {"instance": 40, "y": 9, "x": 9, "colour": 3, "edge": 4} | {
        side: max(getattr(info, name) for info in bank.infos) for side, name in (("y", "height"), ("x", "width"))
    }
    for info in (bank.infos[0], bank.infos[37]):
        one, seen = bank.read(info.index), dataset.isel(instance=info.index)
        np.testing.assert_array_equal(seen.image[: info.height, : info.width], one.image)
        np.testing.assert_array_equal(seen.mask[: info.height, : info.width], one.mask)
        assert not seen.mask[info.height :].any()
        assert str(seen.image_id.values) == info.image_id
        assert tuple(seen.box.values.tolist()) == info.box
    assert dataset.confidence.isnull().sum() == 38
    assert dataset.weak.dtype == bool


def test_threads_and_copies_read_the_same(path: Path) -> None:
    bank = MemoryBank.open(path)
    serial = [bank.read(index).image for index in range(len(bank))]
    bank.read(0)
    copy = pickle.loads(pickle.dumps(bank))
    assert len(pickle.dumps(bank)) < 400 + len(str(path)), "a path, and nothing else"
    with ThreadPoolExecutor(4) as pool:
        for one, expected in zip(pool.map(copy.read, range(len(bank))), serial, strict=True):
            np.testing.assert_array_equal(one.image, expected)


def test_what_is_drawn_can_be_pasted(path: Path) -> None:
    bank, generator = MemoryBank.open(path), torch.Generator().manual_seed(0)
    arrays = (
        torch.zeros((3, 30, 30), dtype=torch.uint8),
        torch.ones((2, 30, 30), dtype=torch.bool),
        torch.full((30, 30), VOID, dtype=torch.uint8),
        torch.zeros((30, 30), dtype=torch.bool),
    )
    one = draw_instance(bank, (2,), generator)
    assert one.category_id == 2
    made = paste(*arrays, one, 5, PasteParams(scale=(1.0, 1.0)), generator)
    assert int((made.pasted == 5).sum()) == one.area


def test_a_class_is_the_same_however_its_umlauts_are_composed(path: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(path, tmp_path / "memory.zarr"))
    root = json.loads((copied / "zarr.json").read_text())
    names = root["attributes"]["taxonomy"]["class_names"]
    names[1] = "B\u00e4r"
    (copied / "zarr.json").write_text(json.dumps(root))
    bank = MemoryBank.open(copied)
    assert 1 in bank.category_ids
    bank.require_taxonomy(Taxonomy(name="t", class_names=("background", "Ba\u0308r", *names[2:])))
    with pytest.raises(StoreError, match="which are not those of t; pass the checkpoint"):
        bank.require_taxonomy(Taxonomy(name="t", class_names=("background", "Bar", *names[2:])))


def test_every_changed_missing_or_foreign_file_is_found(tmp_path: Path) -> None:
    path = make_bank(tmp_path)
    MemoryBank.open(path).verify()
    for name, content in files_of(path).items():
        file = path / name
        changed = bytearray(content)
        changed[len(content) // 2] ^= 1
        file.write_bytes(changed)
        with pytest.raises(StoreError, match=r"memory\.zarr"):
            MemoryBank.open(path).verify()
        file.unlink()
        with pytest.raises(StoreError, match=r"memory\.zarr"):
            MemoryBank.open(path).verify()
        file.write_bytes(content)
    (path / "image" / "more").write_text("?")
    with pytest.raises(StoreError, match="does not match its digest: its files were changed"):
        MemoryBank.open(path).verify()


def test_damaged_bytes_are_told_when_they_are_read(tmp_path: Path) -> None:
    path = make_bank(tmp_path)
    (path / "image/c/0/0/0/0").write_bytes(b"nothing")
    with pytest.raises(StoreError, match="instance 0 cannot be read .*copy the bank again"):
        MemoryBank.open(path).read(0)
    (path / "box/c/0/0").write_bytes(b"nothing")
    with pytest.raises(StoreError, match="vectors cannot be read"):
        len(MemoryBank.open(path))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"format": "wilss-masks"}, "is no memory bank; pass the memory.zarr of a run"),
        ({"format_version": 99}, "format_version 99, this wilss reads up to 1; upgrade"),
    ],
)
def test_what_is_no_bank_is_refused(change: dict[str, Any], told: str, tmp_path: Path) -> None:
    root = make_bank(tmp_path) / "zarr.json"
    content = json.loads(root.read_text())
    content["attributes"] |= change
    root.write_text(json.dumps(content))
    with pytest.raises(StoreError, match=told):
        MemoryBank.open(root.parent)
    root.write_text("{")
    with pytest.raises(StoreError, match="copy the bank again"):
        MemoryBank.open(root.parent)
    with pytest.raises(StoreError, match="nowhere is not there or no memory bank"):
        MemoryBank.open(tmp_path / "nowhere")


def test_a_bank_without_instances_is_a_bank(tmp_path: Path) -> None:
    path = make_bank(tmp_path, per_class=0)
    bank = MemoryBank.open(path)
    bank.verify()
    assert (len(bank), bank.category_ids) == (0, ())
    with pytest.raises(StoreError, match="holds no instance of an old class"):
        draw_instance(bank, (1, 2), torch.Generator())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert xarray.open_zarr(path).sizes["instance"] == 0


def test_a_bank_is_replaced_and_nothing_else_is(tmp_path: Path) -> None:
    path = make_bank(tmp_path)
    before = files_of(path)
    make_bank(tmp_path / "again")
    make_bank(tmp_path / "other", per_class=3)
    assert files_of(tmp_path / "again" / "memory.zarr") == before
    (tmp_path / "notes.zarr").mkdir()
    (tmp_path / "notes.zarr" / "keep.txt").write_text("dear")
    with pytest.raises(StoreError, match="exists and is no memory bank; move it away"):
        make_bank(tmp_path, "notes.zarr")
    assert (tmp_path / "notes.zarr" / "keep.txt").read_text() == "dear"


def test_a_bank_is_replaced_whole_or_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, images = make_bank(tmp_path), random_masks(20, (1, 2))
    before = files_of(path)
    again: dict[str, Any] = {
        "store": make_store(tmp_path / "step-0.zarr", images), "records": records_of(write_images(tmp_path, images)),
        "protocol": PROTOCOL, "step": 0, "parent": None, "seed": 0, "weak": False, "per_class": 2,
    }  # fmt: skip

    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(writing, "write_atomically", full)
        with pytest.raises(StoreError, match="cannot be written .No space left on device.; free some space"):
            fill(path, **again)
    assert files_of(path) == before
    fill(path, **again)
    assert len(MemoryBank.open(path)) == 4
    assert not list(tmp_path.glob("memory.zarr.*[rg]")), "neither .former nor .building is left"
