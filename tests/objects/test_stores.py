"""Stores in a bucket hold what the same run writes to disk, key for key, and everything reads them there."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray

import wilss
from tests.drills import turns
from tests.faults.standin import StandInManifest, StandInSource, make
from tests.wilss_masks.review.said import drawn, said
from tests.wilss_masks.stores import make_store
from wilss.disk import Location, ObjectUrl, folder_at
from wilss.errors import StoreError
from wilss.store import MaskStore, Status
from wilss_masks.inspect.fuse import fuse
from wilss_masks.make.generate import generate
from wilss_masks.make.options import Options, Part
from wilss_masks.review.compared import Comparison, OtherStore
from wilss_masks.review.index import build_index
from wilss_masks.revision.revise import revise

from .conftest import COUNT
from .proxy import Proxy
from .servers import SETTINGS
from .tally import tallied


@pytest.fixture
def there(bucket: ObjectUrl) -> ObjectUrl:
    return bucket / "step-0.zarr"


@pytest.fixture
def made_there(there: ObjectUrl, here: Path) -> ObjectUrl:
    """The store that a run makes there: that it does so, the first test shows, and it takes longer than a copy."""
    return copied(here, there)


def copied(here: Location, there: ObjectUrl) -> ObjectUrl:
    """A folder on disk in a bucket, where it is returned."""
    for name, _ in folder_at(here).files():
        folder_at(there).take(folder_at(here), name, name)
    return there


def contents(place: Location) -> dict[str, bytes]:
    """Every file of a store by its name."""
    folder = folder_at(place)
    return {name: folder.read(name) for name, _ in folder.files()}


def beside(place: ObjectUrl) -> set[str]:
    return {name.partition("/")[0] for name, _ in folder_at(place.parent).files()}


def test_the_same_keys_bytes_and_seal_as_on_disk(there: ObjectUrl, here: Path, images: Path) -> None:
    summary = make(images, there)
    assert (summary.done, str(summary.store)) == (COUNT, str(there))
    assert contents(there) == contents(here)
    opened = MaskStore.open(str(there))
    assert opened.digest == MaskStore.open(here).digest
    assert not list(opened.verify())
    assert beside(there) == {"step-0.zarr", "step-0.zarr.stamps"}  # no lock, and nothing half built
    assert make(images, there).made_now == 0
    assert not any(secret.encode() in data for data in contents(there).values() for secret in [*SETTINGS.values()][:2])


def test_masks_are_read_as_from_disk(made_there: ObjectUrl, here: Path) -> None:
    near, far = MaskStore.open(here), MaskStore.open(made_there)
    for row in range(COUNT):
        ours, theirs = near.read(row), far.read(row)
        assert ours.categories == theirs.categories
        np.testing.assert_array_equal(ours.masks, theirs.masks)
    with wilss.open_masks(here) as ours, wilss.open_masks(str(made_there)) as theirs:
        xarray.testing.assert_identical(ours.load(), theirs.load())
    plain = xarray.open_zarr(folder_at(made_there).for_zarr(), zarr_format=3)
    np.testing.assert_array_equal(plain["mask"].values, xarray.open_zarr(here)["mask"].values)


def test_a_shard_is_one_request_however_many_images_are_read(made_there: ObjectUrl, proxy: Proxy) -> None:
    store = MaskStore.open(made_there)
    store.read(0)
    proxy.asked.clear()
    for _ in range(2):
        for row in (9, 0, 5, 2, 7, 1, 8, 3, 6, 4):
            store.read(row)
    read = [path for method, path in proxy.asked if "/mask/c/" in path and method == "GET"]
    assert len(read) == len(set(read)) == store.layout.num_shards - 1


@pytest.mark.parametrize("kill", turns([1, 2], short=[1]))
def test_a_run_that_was_stopped_goes_on(
    there: ObjectUrl, here: Path, images: Path, kill: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wilss.store import MaskStoreWriter

    commit, left = MaskStoreWriter.commit, [kill]

    def stopped(self: MaskStoreWriter, *receipts: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        commit(self, *receipts)

    with monkeypatch.context() as patch:
        patch.setattr(MaskStoreWriter, "commit", stopped)
        patch.setattr("wilss_masks.make.run._COMMIT_SECONDS", 0.0)
        with pytest.raises(KeyboardInterrupt):
            make(images, there)
    partial = MaskStore.open(there, allow_partial=True)
    assert len(partial.pending_shards()) == 3 - kill
    with pytest.raises(StoreError, match="is not complete"):
        MaskStore.open(there)
    with pytest.raises(StoreError, match="its status is pending"):
        partial.read(9)
    make(images, there)
    assert contents(there) == contents(here)


def test_an_update_makes_what_has_changed(made_there: ObjectUrl, images: Path, tmp_path: Path) -> None:
    (images / "image_0000.png").unlink()
    with pytest.raises(StoreError, match="was made with something else"):
        make(images, made_there)
    make(images, made_there, update=True)
    make(images, tmp_path / "new.zarr")
    assert contents(made_there) == contents(tmp_path / "new.zarr")
    assert beside(made_there) == {"step-0.zarr", "step-0.zarr.stamps"}


def test_overwriting_begins_again(made_there: ObjectUrl, here: Path, images: Path) -> None:
    assert make(images, made_there, overwrite=True).made_now == COUNT
    assert contents(made_there) == contents(here)


@pytest.mark.wide  # processes that write there: test_parts; what workers pickle: test_folder
def test_workers_write_there(there: ObjectUrl, here: Path, images: Path) -> None:
    make(images, there, workers=2)
    assert contents(there) == contents(here)


def test_a_reader_beside_a_writer_that_begins_again(made_there: ObjectUrl, images: Path) -> None:
    """Whoever had it open is told that it was replaced, and never given a mask of the other."""
    store = MaskStore.open(made_there)
    before = store.read(0).masks
    source = dataclasses.replace(StandInSource(), misfortune="")
    options = Options(shard_size=5, batch_size=2, device="cpu", overwrite=True)
    generate(StandInManifest(folder=images), step=0, source=source, out=made_there, options=options)  # type: ignore[arg-type]
    np.testing.assert_array_equal(
        store.read(1).masks, MaskStore.open(made_there).read(1).masks
    )  # kept in memory with 0
    np.testing.assert_array_equal(store.read(0).masks, before)
    with pytest.raises(StoreError, match="was removed or replaced while it was read"):
        store.read(9)


def test_damage_is_found_and_made_again(made_there: ObjectUrl) -> None:
    folder = folder_at(made_there)
    folder.write("mask/c/1/0/0/0", b"no shard")
    folder.write("notes.txt", b"no file of a store")
    what = [damage.what for damage in MaskStore.open(made_there).verify()]
    assert what[0] == "shard 1 does not match its digest"
    assert len(what) == 2
    folder.remove("notes.txt")
    folder.remove("mask/c/1/0/0/0")  # which reads as background
    assert [damage.shard for damage in MaskStore.open(made_there).verify()] == [1]


def test_a_store_that_is_gone_is_a_sentence(there: ObjectUrl) -> None:
    with pytest.raises(StoreError, match=rf"^{there} does not exist; make it with"):
        MaskStore.open(there)
    folder_at(there).write("data.csv", b"1")
    with pytest.raises(StoreError, match="is not a readable mask store"):
        MaskStore.open(there)


@pytest.mark.parametrize("seed", turns(range(2), short=[0]))
def test_faults_of_the_network_change_no_byte(
    there: ObjectUrl, here: Path, images: Path, proxy: Proxy, seed: int
) -> None:
    """A tenth of the requests meet one of six faults, and listings come late."""
    proxy.at_random(0.1, seed)
    proxy.late = 2.0
    with tallied("faults") as done:
        make(images, there)
        status = MaskStore.open(there).current_status()
        masks = [MaskStore.open(there).read(row).masks for row in range(COUNT)]
        proxy.plan, proxy.late = (lambda method, path: ""), 0.0
        done.update(faults=sum(proxy.happened.values()), stores=1)
        assert done["faults"] > 5
        assert (status == Status.DONE).all()
        wanted = MaskStore.open(here)
        assert [mask.tolist() for mask in masks] == [wanted.read(row).masks.tolist() for row in range(COUNT)]
        assert contents(there) == contents(here)


def test_stores_are_fused_and_revised_there(bucket: ObjectUrl, tmp_path: Path) -> None:
    """Read from a bucket and written to one, where another is replaced."""
    store = make_store(tmp_path / "step-1.zarr")
    there = copied(store.path, bucket / "step-1.zarr")
    far, told = MaskStore.open(there), {"a list": [said("corrected", mask=drawn())]}
    fuse(far, bucket / "fused.zarr", {"threshold": 0.6})
    fuse(store, tmp_path / "fused.zarr", {"threshold": 0.4})
    place = Path(str(bucket / "fused.zarr"))  # whose slashes a path collapses
    fused = fuse(far, place, {"threshold": 0.4}, overwrite=True)
    assert contents(bucket / "fused.zarr") == contents(tmp_path / "fused.zarr")
    assert not list(fused.verify())
    revise(store, tmp_path / "revised.zarr", corrections=told)
    revise(far, bucket / "revised.zarr", corrections=told)
    assert contents(bucket / "revised.zarr") == contents(tmp_path / "revised.zarr")
    with pytest.raises(StoreError, match="is the store to be fused"):
        fuse(far, there, {}, overwrite=True)
    with pytest.raises(StoreError, match="exists; give another path"):
        fuse(far, bucket / "fused.zarr", {})
    assert beside(there) == {"step-1.zarr", "fused.zarr", "revised.zarr"}


def test_masks_that_could_not_be_fetched_are_not_kept_as_compared(
    made_there: ObjectUrl, here: Path, proxy: Proxy, tmp_path: Path, quiet: None
) -> None:
    store, cache = MaskStore.open(made_there), tmp_path / "cache"
    comparison = Comparison(store, build_index(store), OtherStore(MaskStore.open(here)), cache)
    proxy.plan = lambda method, path: "refused" if "/mask/c/" in path else ""
    comparison.start()
    with pytest.raises(StoreError, match=rf"{made_there}/mask/c/.* cannot be read .*run the same command again"):
        comparison.wait()
    assert not list(tmp_path.glob("cache/*"))
    proxy.plan = lambda method, path: ""
    again = Comparison(store, build_index(store), OtherStore(MaskStore.open(here)), cache)
    again.start()
    again.wait()
    assert np.nanmax(again.values) == 0


@pytest.mark.wide  # as processes: test_parts
def test_parts_make_it_together_without_a_coordinator(there: ObjectUrl, here: Path, images: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        made = [pool.submit(make, images, there, part=Part(index=index, count=3)) for index in (1, 2, 3)]
        assert all(not one.result().lost for one in made)
    assert contents(there) == contents(here)
    assert beside(there) <= {"step-0.zarr", "step-0.zarr.stamps"}
