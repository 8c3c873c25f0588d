"""A store's images as training reads them: size and masks, what is kept, and what stands in for a broken one."""

import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.wilss_train.memory.drawn import (
    PROTOCOL,
    Masks,
    blob,
    make_store,
    random_masks,
    records_of,
    write_images,
)
from wilss.data.taxonomy import BACKGROUND
from wilss.errors import ImageError, MasksError, StoreError, UnreachableError, WilssError
from wilss_train.data.image_pool import BoundedCache, Broken, BrokenImages, ImagePool
from wilss_train.data.masked_images import MaskedImage, MaskedImages
from wilss_train.data.trust import Trust


def opened(folder: Path, images: dict[str, Masks], failed: tuple[str, ...] = (), **more: object) -> MaskedImages:
    records = records_of(write_images(folder / "images", images))
    return MaskedImages(make_store(folder / "step-1.zarr", images, step=1, failed=failed, **more), records)  # type: ignore[arg-type]


def pool_of(
    images: MaskedImages, *, cache_mib: float = 64, broken: BrokenImages | None = None
) -> ImagePool[MaskedImage]:
    return ImagePool(
        images.store.image_ids, images.finished(), images.read,
        cache_mib=cache_mib, seed=3, broken=broken or BrokenImages(),
    )  # fmt: skip


def taken(pool: ImagePool[MaskedImage], positions: Sequence[int]) -> list[str]:
    return [pool.take(position, 0).image_id for position in positions]


def test_masks_come_with_their_classes(tmp_path: Path) -> None:
    images: dict[str, Masks] = {
        "a": {3: blob((16, 20), 2, 3, 5)},
        "b": {4: blob((12, 14), 0, 0, 4), 3: blob((12, 14), 6, 6, 4)},
    }
    reader = opened(tmp_path, images)
    first, second = reader.read(0), reader.read("b")
    assert (first.image_id, first.category_ids) == ("a", (3,))
    assert np.array_equal(first.masks[0], images["a"][3])
    assert first.image.shape == (16, 20, 3)
    assert first.void is None
    assert first.nbytes == 4 * 16 * 20
    assert second.category_ids == PROTOCOL.new(1), "in the order of the store's axis"
    for identity, mask in zip(second.category_ids, second.masks, strict=True):
        assert np.array_equal(mask, images["b"][identity])
    with Image.open(tmp_path / "images/b.png") as image:
        assert np.array_equal(reader.image("b"), np.asarray(image))


def test_where_masks_overlap_the_label_is_the_lower_id_of_equals(tmp_path: Path) -> None:
    images: dict[str, Masks] = {"a": {3: blob((9, 9), 0, 0, 5), 4: blob((9, 9), 3, 3, 5)}}
    reader = opened(tmp_path, images, confidence={"a": 0.5})
    expected = np.where(images["a"][3], 3, np.where(images["a"][4], 4, BACKGROUND))
    assert np.array_equal(reader.label(0), expected)


def test_images_without_masks_are_left_out(tmp_path: Path) -> None:
    images = random_masks(5, (4, 3))
    names = tuple(images)
    reader = opened(tmp_path, images, failed=(names[1], names[4]))
    assert reader.finished().tolist() == [0, 2, 3]
    pool = pool_of(reader)
    assert len(pool) == 3
    assert taken(pool, range(3)) == [names[0], names[2], names[3]]
    with pytest.raises(StoreError, match=rf"holds no masks of {names[1]}: {names[1]} is truncated"):
        reader.read(1)


def test_a_class_that_no_mask_shows_is_not_learnt_as_background(tmp_path: Path) -> None:
    """Whoever is tagged with it is left out: `b` and `d`; of class 3 there are masks, though not in `c`."""
    some, none = blob((9, 9), 0, 0, 5), np.zeros((9, 9), bool)
    images: dict[str, Masks] = {"a": {3: some}, "b": {3: some, 4: none}, "c": {3: none}, "d": {4: none}}
    assert opened(tmp_path, images).finished().tolist() == [0, 2]


def test_images_that_show_none_of_the_classes_are_drawn_by_name_so_many_for_each_of_the_others(tmp_path: Path) -> None:
    """More are these and others; which ones, seed and names decide, whatever other images there are."""
    shown, bare = random_masks(4, (4, 3)), {f"bare-{i}": {9: np.zeros((9, 9), bool)} for i in range(9)}
    images: dict[str, Masks] = {}
    for number, name in enumerate(bare):
        images |= {name: bare[name]} | dict([*shown.items()][number : number + 1])

    def names(reader: MaskedImages, negatives: float, *, seed: int = 5, limit: int = 0) -> set[str]:
        rows = reader.trained_on(limit, seed, negatives=negatives)
        assert rows.tolist() == sorted(set(rows.tolist()))
        return {reader.store.image_ids[row] for row in rows.tolist()}

    reader = opened(tmp_path / "a", images)
    some = [names(reader, negatives) for negatives in (0, 0.25, 1, 2, 100)]
    assert [len(one) for one in some] == [4, 5, 8, 12, 13]
    assert all(one < other for one, other in itertools.pairwise(some))
    assert some[0] == set(shown)
    assert names(reader, 1) != names(reader, 1, seed=6)
    assert names(reader, 1, limit=6) < some[2]
    assert reader.trained_on(0, 5).tolist() == reader.trained_on(0, 5, negatives=0).tolist()
    reversed_ = opened(tmp_path / "b", dict(reversed(images.items())))
    assert names(reversed_, 1) == some[2]


def test_trust_says_nothing_of_images_without_masks(tmp_path: Path) -> None:
    """They stay, whatever masks are taken, in the number of the others that are."""
    bare: dict[str, Masks] = {f"bare-{i}": {9: np.zeros((9, 9), bool)} for i in range(5)}
    images = {**random_masks(3, (4, 3)), **bare}
    confidence = {"image-000": 0.9, "image-001": 0.5, "image-002": 0.5}
    reader = opened(tmp_path, images, confidence=confidence)
    trust = Trust.of(reader.store, "all", 0, least_confidence=0.8)
    rows = reader.trained_on(0, 0, trust, negatives=2.0)
    assert (rows[0], len(rows)) == (0, 3)
    assert (rows[1:] > 2).all()


def test_kept_images_need_no_disk_and_are_as_many_as_there_is_room_for(tmp_path: Path) -> None:
    images = random_masks(4, (4, 3))
    kept = pool_of(opened(tmp_path / "a", images))
    none = pool_of(opened(tmp_path / "b", images), cache_mib=0)
    before = [(kept.take(place), none.take(place)) for place in range(4)]
    for first, second in before:
        assert np.array_equal(first.image, second.image)
        assert np.array_equal(first.masks, second.masks)
    for path in (*(tmp_path / "a/images").iterdir(), *(tmp_path / "b/images").iterdir()):
        path.unlink()
    assert all(kept.take(place) is before[place][0] for place in range(4))
    with pytest.raises(StoreError, match=r"4 images cannot be read, so there is nothing to train on: .*is not there"):
        none.take(0)


def test_a_cache_keeps_what_came_first() -> None:
    cache = BoundedCache[str, bytes](5 / 2**20, len)
    assert [cache.get(value.decode(), value.upper) for value in (b"aaa", b"bbb", b"cc")] == [b"AAA", b"BBB", b"CC"]
    assert cache.get("aaa", bytes) == b"AAA"
    assert cache.get("bbb", bytes) == b"", "there was no room for it"
    assert cache.get("cc", bytes) == b"CC"


def test_threads_read_the_same(tmp_path: Path) -> None:
    images = random_masks(6, (4, 3))
    many, alone = pool_of(opened(tmp_path / "a", images)), opened(tmp_path / "b", images)
    with ThreadPoolExecutor(8) as threads:
        read = list(threads.map(many.take, [place % 6 for place in range(48)]))
    for place, first in enumerate(read):
        second = alone.read(place % 6)
        assert first.image_id == second.image_id
        assert np.array_equal(first.image, second.image)
        assert np.array_equal(first.masks, second.masks)


def test_an_image_that_changed_its_size_is_refused(tmp_path: Path) -> None:
    images: dict[str, Masks] = {"a": {4: blob((16, 20), 2, 3, 5)}}
    reader = opened(tmp_path, images)
    Image.new("RGB", (21, 16)).save(tmp_path / "images/a.png")
    sentence = r"a\.png is 21 x 16 pixels, its masks in .* are 20 x 16; the image has changed since they were made"
    for read in (reader.read, reader.image):
        with pytest.raises(ImageError, match=sentence):
            read("a")
    (tmp_path / "images/a.png").write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"a\.png"):
        reader.read(0)


def test_an_image_that_the_manifest_does_not_list_is_named(tmp_path: Path) -> None:
    images = random_masks(1, (4, 3))
    reader = MaskedImages(make_store(tmp_path / "step-1.zarr", images, step=1), {})
    with pytest.raises(ImageError, match=r"image-000 is in .*step-1\.zarr but not on the list of images"):
        reader.read(0)


def test_another_image_stands_in_for_a_broken_one_by_the_names_of_the_draw(tmp_path: Path) -> None:
    images = random_masks(6, (4, 3))
    reported: list[Broken] = []
    pool = pool_of(opened(tmp_path, images), broken=BrokenImages(reported.append))
    (tmp_path / "images/image-002.png").write_bytes(b"")
    substitutes = [pool.take(2, epoch).image_id for epoch in range(20)]
    assert [broken.image_id for broken in reported] == ["image-002"]
    assert len(set(substitutes)) > 2
    assert "image-002" not in substitutes
    again = pool_of(opened(tmp_path / "again", images))
    (tmp_path / "again/images/image-002.png").write_bytes(b"")
    assert [again.take(2, epoch).image_id for epoch in range(20)] == substitutes


@pytest.mark.parametrize("error", [ImageError("a.png is damaged"), MasksError("the masks of a are damaged")])
def test_an_image_that_is_at_fault_is_left_out(error: WilssError) -> None:
    def read() -> None:
        raise error

    broken = BrokenImages()
    assert broken.read("a", read) is None
    assert broken.errors == {"a": str(error)}


@pytest.mark.parametrize("error", [UnreachableError("no answer"), StoreError("step-1.zarr was removed")])
def test_what_is_of_the_whole_is_no_image_s_fault(error: WilssError) -> None:
    def read() -> None:
        raise error

    broken = BrokenImages()
    with pytest.raises(type(error), match=str(error)):
        broken.read("a", read)
    assert not broken.errors
