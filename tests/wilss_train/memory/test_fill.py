"""What a step archives: by priority, the same bytes whatever the order, and named where an image is broken."""

import shutil
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.references import memory as slow
from tests.wilss_train.memory.drawn import (
    PROTOCOL,
    TAXONOMY,
    Masks,
    blob,
    files_of,
    make_store,
    random_masks,
    records_of,
    write_images,
)
from wilss.data.images import read_image
from wilss.data.taxonomy import Taxonomy
from wilss.errors import ParameterError, StoreError
from wilss.store import MaskStore
from wilss_train.data import masked_images
from wilss_train.memory import MemoryBank, fill

MIN_AREA = 20


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Masks], MaskStore, dict[str, Path]]:
    folder, images = tmp_path_factory.mktemp("drawn"), random_masks(30, (1, 2))
    return images, make_store(folder / "step-0.zarr", images), write_images(folder, images)


def filled(path: Path, store: MaskStore, images: dict[str, Path], **given: Any) -> dict[str, str]:
    defaults: dict[str, Any] = {
        "protocol": PROTOCOL, "step": 0, "parent": None, "per_class": 5, "seed": 3, "weak": False, "min_area": MIN_AREA,
    }  # fmt: skip
    return fill(path, store=store, records=records_of(images), **(defaults | given))


def test_only_images_that_were_trained_on_are_archived(
    drawn: tuple[dict[str, Masks], MaskStore, dict[str, Path]], tmp_path: Path
) -> None:
    _, store, files = drawn
    rows = masked_images.MaskedImages(store, {}).trained_on(6, 3)
    filled(tmp_path / "few", store, files, limit=6)
    filled(tmp_path / "all", store, files)
    few, whole = (
        {name for identity in (1, 2) for name in names(MemoryBank.open(tmp_path / bank), identity)}
        for bank in ("few", "all")
    )
    assert few
    assert few <= {store.image_ids[row] for row in rows}
    assert not whole <= few


@pytest.mark.parametrize("limit", [0, 2, 3])
def test_images_that_are_left_out_of_training_are_not_archived(tmp_path: Path, limit: int) -> None:
    """`bee` is tagged in one image and no mask shows it; a limit that leaves nothing out changes nothing."""
    size = (16, 16)
    images: dict[str, Masks] = {
        "one": {1: blob(size, 0, 0, 9)},
        "other": {1: blob(size, 2, 2, 9)},
        "left out": {1: blob(size, 0, 0, 9), 2: blob(size, 0, 0, 0)},
    }
    store = make_store(tmp_path / "step-0.zarr", images)
    filled(tmp_path / "m.zarr", store, write_images(tmp_path, images), limit=limit)
    assert sorted(names(MemoryBank.open(tmp_path / "m.zarr"), 1)) == ["one", "other"]


def counts(bank: MemoryBank) -> dict[int, int]:
    return {identity: len(bank.instances(identity)) for identity in bank.category_ids}


def names(bank: MemoryBank, identity: int) -> list[str]:
    return [info.image_id for info in bank.instances(identity)]


def expected_names(images: dict[str, Masks], identity: int, count: int) -> list[str]:
    candidates = [
        (slow.priority(3, name, TAXONOMY.name_of(identity)), slow.largest_region(masks[identity]).sum(), name)
        for name, masks in images.items()
    ]
    return list(slow.kept(candidates, count, MIN_AREA))


def test_the_smallest_priorities_are_kept_and_the_small_replaced(drawn: Any, tmp_path: Path) -> None:
    images, store, paths = drawn
    failed = filled(tmp_path / "m.zarr", store, paths)
    bank = MemoryBank.open(tmp_path / "m.zarr")
    for identity in (1, 2):
        assert names(bank, identity) == expected_names(images, identity, 5)
    assert (counts(bank), failed, len(bank)) == ({1: 5, 2: 5}, {}, 10)
    assert bank.attributes["store_seal"] == store.attributes["seal"]


def test_an_instance_is_its_region_cut_out_of_its_image(drawn: Any, tmp_path: Path) -> None:
    images, store, paths = drawn
    filled(tmp_path / "m.zarr", store, paths)
    bank = MemoryBank.open(tmp_path / "m.zarr")
    for info in bank.infos:
        one = bank.read(info.index)
        region = slow.largest_region(images[one.image_id][one.category_id])
        rows, columns = np.nonzero(region)
        top, left, bottom, right = one.box
        assert one.box == (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
        np.testing.assert_array_equal(one.mask, region[top:bottom, left:right])
        np.testing.assert_array_equal(one.image, np.array(Image.open(paths[one.image_id]))[top:bottom, left:right])
        assert (one.area, one.step, one.weak) == (region.sum(), 0, False)
        assert np.isnan(one.confidence)


def test_order_and_threads_decide_nothing(drawn: Any, tmp_path: Path) -> None:
    images, store, paths = drawn
    turned = make_store(tmp_path / "turned.zarr", dict(reversed(images.items())))
    banks = [tmp_path / f"{number}.zarr" for number in range(3)]
    filled(banks[0], store, paths, threads=1)
    filled(banks[1], store, paths, threads=4)
    filled(banks[2], turned, paths)
    assert files_of(banks[0]) == files_of(banks[1])
    first, other = (MemoryBank.open(banks[i]) for i in (0, 2))
    assert first.digest != other.digest, "they name other stores"
    assert [str(info) for info in first.infos] == [str(info) for info in other.infos]


def test_a_smaller_bank_is_the_beginning_of_a_larger_one(drawn: Any, tmp_path: Path) -> None:
    _, store, paths = drawn
    large, small = tmp_path / "large.zarr", tmp_path / "small.zarr"
    filled(large, store, paths, per_class=12)
    filled(small, store, paths, per_class=4)
    assert names(MemoryBank.open(small), 1) == names(MemoryBank.open(large), 1)[:4]
    other = tmp_path / "other.zarr"
    filled(other, store, paths, per_class=4, seed=4)
    assert names(MemoryBank.open(other), 1) != names(MemoryBank.open(small), 1)


def test_an_image_is_decoded_once_for_all_its_classes(drawn: Any, tmp_path: Path, monkeypatch: Any) -> None:
    _, store, paths = drawn
    read: list[Path] = []
    decode = read_image
    monkeypatch.setattr(masked_images, "read_image", lambda path, bits: read.append(path) or decode(path, bits))
    filled(tmp_path / "m.zarr", store, paths)
    wanted = {paths[info.image_id] for info in MemoryBank.open(tmp_path / "m.zarr").infos}
    assert sorted(read) == sorted(wanted)
    assert len(wanted) < 10, "one image is wanted for both classes"


def test_broken_images_are_named_and_the_next_come_in(drawn: Any, tmp_path: Path) -> None:
    images, store, good = drawn
    first = expected_names(images, 1, 3)
    paths = {name: tmp_path / path.name for name, path in good.items()}
    for name, path in paths.items():
        path.write_bytes(good[name].read_bytes())
    paths[first[0]].write_bytes(b"\x89PNG\r\n\x1a\n")
    Image.new("RGB", (7, 5)).save(paths[first[1]])
    del paths[first[2]]
    failed = filled(tmp_path / "m.zarr", store, paths)
    left = {name: masks for name, masks in images.items() if name not in first}
    for identity in (1, 2):
        assert names(MemoryBank.open(tmp_path / "m.zarr"), identity) == expected_names(left, identity, 5)
    assert sorted(failed) == sorted(first)
    assert "is 7 x 5 pixels, its masks in" in failed[first[1]]
    assert "not on the list of images" in failed[first[2]]


def test_damaged_masks_are_named_and_the_next_come_in(drawn: Any, tmp_path: Path) -> None:
    images, store, paths = drawn
    shutil.copytree(store.path, tmp_path / "s.zarr")
    (tmp_path / "s.zarr/mask/c/0/0/0/0").write_bytes(b"damaged")
    lost = [name for name, _ in zip(images, range(store.layout.shard_size), strict=False)]
    failed = filled(tmp_path / "m.zarr", MaskStore.open(tmp_path / "s.zarr"), paths, per_class=30)
    assert sorted(failed) == lost
    assert "the array 'mask' cannot be read" in failed[lost[0]]
    left = {name: masks for name, masks in images.items() if name not in lost}
    for identity in (1, 2):
        assert names(MemoryBank.open(tmp_path / "m.zarr"), identity) == expected_names(left, identity, 30)


def test_weak_masks_must_be_confident(tmp_path: Path) -> None:
    images = random_masks(12, (3, 4))
    sure = {name: number / 12 for number, name in enumerate(images)}
    store = make_store(tmp_path / "s.zarr", images, step=1, confidence=sure)
    paths = write_images(tmp_path, images)
    given: dict[str, Any] = {"step": 1, "per_class": 50, "min_area": 1}
    filled(tmp_path / "m.zarr", store, paths, weak=True, keep_confident=0.25, **given)
    weak = MemoryBank.open(tmp_path / "m.zarr")
    assert set(names(weak, 3)) == {"image-009", "image-010", "image-011"}
    assert all(info.weak for info in weak.infos)
    assert [info.confidence for info in weak.infos] == pytest.approx([sure[info.image_id] for info in weak.infos])
    filled(tmp_path / "all.zarr", store, paths, weak=False, keep_confident=0.25, **given)
    assert len(MemoryBank.open(tmp_path / "all.zarr")) == 24


def test_old_instances_are_carried_over_as_they_are(drawn: Any, tmp_path: Path) -> None:
    _, store, paths = drawn
    filled(tmp_path / "0.zarr", store, paths)
    parent = MemoryBank.open(tmp_path / "0.zarr")
    images = random_masks(8, (3, 4), seed=1)
    later = make_store(tmp_path / "step-1.zarr", images, step=1)
    filled(tmp_path / "1.zarr", later, write_images(tmp_path, images), step=1, parent=parent, weak=True, per_class=3)
    bank = MemoryBank.open(tmp_path / "1.zarr")
    assert bank.category_ids == (1, 2, 4, 3), "in the order of the protocol"
    assert counts(bank) == {1: 3, 2: 3, 4: 3, 3: 3}
    assert bank.attributes["parent_digest"] == parent.digest
    for identity in (1, 2):
        for new, old in zip(bank.instances(identity), parent.instances(identity), strict=False):
            assert str(replace(new, index=0)) == str(replace(old, index=0))
            np.testing.assert_array_equal(bank.read(new.index).image, parent.read(old.index).image)
            np.testing.assert_array_equal(bank.read(new.index).mask, parent.read(old.index).mask)
    assert all(info.weak and info.step == 1 for identity in (3, 4) for info in bank.instances(identity))


def test_wrong_words_are_refused(drawn: Any, tmp_path: Path) -> None:
    _, store, paths = drawn
    path = tmp_path / "m.zarr"
    with pytest.raises(ParameterError, match="per_class is -1"):
        filled(path, store, paths, per_class=-1)
    with pytest.raises(ParameterError, match="keep_confident is 0"):
        filled(path, store, paths, keep_confident=0)
    with pytest.raises(StoreError, match="holds masks of ant, bee, but the classes of step 1 of 2-2 are dög, cat"):
        filled(path, store, paths, step=1)
    filled(path, store, paths)
    others = Taxonomy(name="toys", class_names=("background", "car", "doll", "cat", "dög"))
    later = make_store(tmp_path / "s.zarr", random_masks(3, (3, 4)), step=1)
    with pytest.raises(StoreError, match="holds classes of pets, which are not those of toys"):
        filled(
            tmp_path / "n.zarr", later, paths, step=1, protocol=replace(PROTOCOL, taxonomy=others),
            parent=MemoryBank.open(path),
        )  # fmt: skip


def test_classes_are_the_same_however_their_umlauts_are_composed(drawn: Any, tmp_path: Path) -> None:
    _, store, paths = drawn
    parent = tmp_path / "m.zarr"
    filled(parent, store, paths)
    later = make_store(tmp_path / "s.zarr", images := random_masks(3, (3, 4)), step=1)
    apart = tuple(unicodedata.normalize("NFD", name) for name in TAXONOMY.class_names)
    assert apart != TAXONOMY.class_names
    protocol = replace(PROTOCOL, taxonomy=Taxonomy(name="pets", class_names=apart))
    files = write_images(tmp_path, images)
    filled(tmp_path / "next.zarr", later, files, step=1, protocol=protocol, parent=MemoryBank.open(parent))
    assert {info.category_id for info in MemoryBank.open(tmp_path / "next.zarr").infos} == {1, 2, 3, 4}


def test_a_damaged_parent_is_refused(drawn: Any, tmp_path: Path) -> None:
    _, store, paths = drawn
    filled(tmp_path / "m.zarr", store, paths)
    next((tmp_path / "m.zarr" / "image" / "c").rglob("0")).joinpath("0", "0", "0").write_bytes(b"?")
    later = make_store(tmp_path / "s.zarr", random_masks(3, (3, 4)), step=1)
    with pytest.raises(StoreError, match="does not match its digest"):
        filled(tmp_path / "n.zarr", later, paths, step=1, parent=MemoryBank.open(tmp_path / "m.zarr"))
    assert not (tmp_path / "n.zarr").exists()


def test_a_class_without_a_usable_mask_is_simply_not_there(tmp_path: Path) -> None:
    images = {"a": {1: blob((20, 20), 0, 0, 9)}, "b": {1: blob((20, 20), 3, 3, 9), 2: blob((20, 20), 0, 0, 2)}}
    store, paths = make_store(tmp_path / "s.zarr", images), write_images(tmp_path, images)
    filled(tmp_path / "m.zarr", store, paths)
    bank = MemoryBank.open(tmp_path / "m.zarr")
    assert counts(bank) == {1: 2}
    assert bank.category_ids == (1,)
    assert bank.instances(2) == ()
