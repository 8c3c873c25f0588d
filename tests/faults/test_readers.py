"""Readers beside a writer in another process: whole masks of one making, or "not there"; never a mixture.

An absent plane reads as background, so a store that is thrown away under a reader must not look like an empty one.
"""

import dataclasses
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.faults.standin import SIZES, draw_images, make
from tests.faults.train_cli import forkserver
from wilss.errors import StoreError
from wilss.randomness import numpy_generator_for
from wilss.store import MaskStore, MaskStoreWriter, Status, open_masks, writer_lock
from wilss.store.seal import unseal

IMAGES = 16
READS = 1_000
READS_LONG = 10_000
BROKEN = 5  # in the second shard of four
CONTEXT = forkserver()

Masks = dict[str, np.ndarray[Any, Any]]


def draw_anew(folder: Path, version: int, *, sized: bool = False) -> None:
    """Other pixels in the same files, and with `sized` images of other sizes."""
    for i in range(IMAGES):
        size = SIZES[(i + version) % len(SIZES) if sized else i % len(SIZES)]
        pixels = numpy_generator_for(version, i).integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"image_{i:04d}.png")


def masks_of(store: Path) -> Masks:
    """Every mask of a store by image id, read while nobody writes."""
    opened = MaskStore.open(store)
    return {name: opened.read(name).masks for name in opened.image_ids if is_done(opened, name)}


def is_done(store: MaskStore, name: str) -> bool:
    return bool(store.vector("status")[store.position(name)] == Status.DONE)


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, Masks]]:
    """Two folders of images with the same names and sizes, and the masks of each."""
    made, tmp_path = [], tmp_path_factory.mktemp("versions")
    for version in (0, 1):
        folder = tmp_path / f"images-{version}"
        draw_images(folder, IMAGES)
        draw_anew(folder, version)
        make(folder, tmp_path / f"whole-{version}.zarr")
        made.append((folder, masks_of(tmp_path / f"whole-{version}.zarr")))
    assert any((made[0][1][name] != made[1][1][name]).any() for name in made[0][1])
    return made


@contextmanager
def written_by(write: Callable[..., None], *given: Any) -> Iterator[None]:
    """A process that calls `write(stop, *given)`, which goes on until the event `stop`."""
    stop = CONTEXT.Event()
    process = CONTEXT.Process(target=write, args=(stop, *given))
    process.start()
    try:
        yield
        assert process.exitcode is None, "the writer ended before the reader"
    finally:
        stop.set()
        process.join(60)
        if process.exitcode is None:
            process.kill()


def read_many(store: Path, reads: int, allowed: list[Masks]) -> Counter[str]:
    """So many reads of random images, with handles that grow old; how many gave what of `allowed`, or nothing."""
    draw = np.random.default_rng(reads)
    names = sorted(allowed[0])
    found: Counter[str] = Counter()
    reader: Callable[[str], Any] | None = None
    while sum(found.values()) < reads:
        name = names[draw.integers(len(names))]
        try:
            if reader is None or draw.random() < 0.003:
                reader = [through_store, through_xarray][int(draw.random() < 0.2)](store)
            seen = reader(name)
        except StoreError:
            found["not there"] += 1
            continue
        kinds = [number for number, masks in enumerate(allowed) if np.array_equal(seen, masks[name])]
        assert kinds, f"{name}: bytes of no store, {int(seen.sum())} pixels"
        found[f"version {kinds[0]}"] += 1
    return found


def through_store(path: Path) -> Callable[[str], Any]:
    store = MaskStore.open(path, allow_partial=True)
    return lambda name: store.read(name).masks


def through_xarray(path: Path) -> Callable[[str], Any]:
    dataset = open_masks(path, allow_partial=True)
    status = dict(zip(dataset.image.values.tolist(), dataset.status.values.tolist(), strict=True))
    tags, sizes = dataset.tags.values, (dataset.height.values, dataset.width.values)
    rows = {name: row for row, name in enumerate(dataset.image.values.tolist())}

    def read(name: str) -> Any:
        if status.get(name) != Status.DONE:
            raise StoreError(f"{path} has not made {name} yet")
        row = rows[name]
        planes = dataset.mask.isel(image=row).values[tags[row]]
        return planes[:, : sizes[0][row], : sizes[1][row]]

    return read


def write_again_and_again(stop: Any, folders: list[Path], store: Path, options: list[dict[str, Any]]) -> None:
    """Make the store of each folder in turn, thrown away before each."""
    while not stop.is_set():
        for folder, given in zip(folders, options, strict=True):
            make(folder, store, delay=0.01, overwrite=True, **given)


def test_a_reader_beside_a_writer_that_begins_again(tmp_path: Path, versions: list[tuple[Path, Masks]]) -> None:
    beginning_anew(tmp_path, versions, READS)


@pytest.mark.long
def test_a_reader_beside_a_writer_that_begins_again_long_form(
    tmp_path: Path, versions: list[tuple[Path, Masks]]
) -> None:
    beginning_anew(tmp_path, versions, READS_LONG)


def beginning_anew(tmp_path: Path, versions: list[tuple[Path, Masks]], reads: int) -> None:
    store = tmp_path / "s.zarr"
    folders = [folder for folder, _ in versions]
    shutil.copytree(folders[0].parent / "whole-0.zarr", store)
    found: Counter[str] = Counter()
    with written_by(write_again_and_again, folders, store, [{}, {}]):
        while len(found) < 3 or sum(found.values()) < reads:
            found += read_many(store, 500, [masks for _, masks in versions])


def test_a_handle_of_a_store_that_was_replaced_by_another(tmp_path: Path, versions: list[tuple[Path, Masks]]) -> None:
    """Another plan: a position means another image there, so an old handle reads nothing any more."""
    (folder, masks), (other, _) = versions
    store = tmp_path / "s.zarr"
    make(folder, store)
    handle, dataset = through_store(store), through_xarray(store)
    unread = through_store(store)
    np.testing.assert_array_equal(handle("image_0003"), masks["image_0003"])
    make(other, store, overwrite=True, threads=2)
    for read in (handle, unread, dataset):
        with pytest.raises(StoreError, match="was removed or replaced while it was read; open it again"):
            read("image_0003")


def test_a_handle_of_a_store_that_was_removed(tmp_path: Path, versions: list[tuple[Path, Masks]]) -> None:
    store = tmp_path / "s.zarr"
    make(versions[0][0], store)
    handle, dataset, unread = through_store(store), through_xarray(store), through_store(store)
    handle("image_0003")
    shutil.rmtree(store)
    for read in (handle, dataset, unread):
        with pytest.raises(StoreError):
            read("image_0003")


def retry_again_and_again(stop: Any, folders: list[Path], store: Path) -> None:
    """Mend the broken image and break it again, with other images in its shard and of other sizes each time."""
    while not stop.is_set():
        for folder in folders:
            for name in (f"image_{i:04d}" for i in (BROKEN, BROKEN + 1)):
                shutil.copy(folder / f"{name}.png", store.parent / f"images/{name}.png")
            reopen(store)
            make(store.parent / "images", store, delay=0.01, retry_failed=True)


def reopen(store: Path) -> None:
    """Say of a shard of a finished store that the two images failed that are replaced beside it."""
    with writer_lock(store):
        opened = MaskStore.open(store)
        unseal(store)
        receipt = opened.receipt(BROKEN // 4)
        status = receipt.status.copy()
        status[[BROKEN % 4, BROKEN % 4 + 1]] = Status.FAILED
        writer = MaskStoreWriter(opened)
        writer.commit(dataclasses.replace(receipt, status=status))
        writer.seal()


def test_a_reader_beside_retry_failed(tmp_path: Path) -> None:
    retrying(tmp_path, READS)


@pytest.mark.long
def test_a_reader_beside_retry_failed_long_form(tmp_path: Path) -> None:
    retrying(tmp_path, READS_LONG)


def retrying(tmp_path: Path, reads: int) -> None:
    store, folders, masks = tmp_path / "s.zarr", [], []
    for version in (0, 1):
        folder = tmp_path / f"images-{version}"
        draw_images(folder, IMAGES)
        for i in (BROKEN, BROKEN + 1):  # a pair that has its sizes swapped
            size = SIZES[(i + version) % 2]
            pixels = numpy_generator_for(version, i).integers(0, 256, (*size, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"image_{i:04d}.png")
        make(folder, tmp_path / f"whole-{version}.zarr")
        masks.append(masks_of(tmp_path / f"whole-{version}.zarr"))
        folders.append(folder)
    shutil.copytree(folders[1], tmp_path / "images")
    make(tmp_path / "images", store)
    wanted = [{name: one[name] for name in (f"image_{i:04d}" for i in range(4, 8))} for one in masks]
    found: Counter[str] = Counter()
    with written_by(retry_again_and_again, folders, store):
        while len(found) < 3 or sum(found.values()) < reads:
            found += read_many(store, 500, wanted)


def write_once(stop: Any, folder: Path, store: Path) -> None:
    make(folder, store, delay=0.05)
    stop.wait(60)


def test_a_reader_of_a_store_that_grows_sees_each_image_come(
    tmp_path: Path, versions: list[tuple[Path, Masks]]
) -> None:
    """With one handle: not done, then done, and never back."""
    (folder, masks), _ = versions
    store = tmp_path / "s.zarr"
    seen: dict[str, list[bool]] = {name: [] for name in masks}
    with written_by(write_once, folder, store):
        while not store.exists():
            pass
        read = through_store(store)
        while not all(came and came[-1] for came in seen.values()):
            time.sleep(0.002)
            for name, came in seen.items():
                try:
                    np.testing.assert_array_equal(read(name), masks[name])
                except StoreError:
                    came.append(False)
                else:
                    came.append(True)
    assert all(came == sorted(came) for came in seen.values())
    assert not all(came[0] for came in seen.values()), "everything was there before the first look"
