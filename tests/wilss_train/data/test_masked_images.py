"""A store's images as training reads them."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.wilss_train.memory.drawn import PROTOCOL, Masks, blob, make_store, random_masks, write_images
from wilss.errors import ImageError
from wilss_train.data.masked_images import MaskedImages


@dataclass(frozen=True)
class Record:
    path: Path


def opened(
    folder: Path, images: dict[str, Masks], *, cache_mib: int = 64, failed: tuple[str, ...] = ()
) -> MaskedImages:
    paths = write_images(folder / "images", images)
    store = make_store(folder / "step-1.zarr", images, step=1, failed=failed)
    return MaskedImages(
        store,
        {name: Record(path) for name, path in paths.items()},
        PROTOCOL,
        1,
        cache_mib=cache_mib,  # type: ignore
    )


def test_masks_stand_at_the_places_of_the_protocol(tmp_path: Path) -> None:
    """The protocol's step 1 is (4, 3): place 0 is class 4."""
    images: dict[str, Masks] = {
        "a": {3: blob((16, 20), 2, 3, 5)},
        "b": {4: blob((12, 14), 0, 0, 4), 3: blob((12, 14), 6, 6, 4)},
    }
    found = opened(tmp_path, images)
    assert found.image_ids == ("a", "b")
    first, second = found.read(0), found.read(1)
    assert (first.image_id, first.places) == ("a", (1,))
    assert np.array_equal(first.masks[0], images["a"][3])
    assert first.image.shape == (16, 20, 3)
    assert sorted(second.places) == [0, 1]
    for place, mask in zip(second.places, second.masks, strict=True):
        assert np.array_equal(mask, images["b"][PROTOCOL.new(1)[place]])


def test_images_without_masks_are_left_out(tmp_path: Path) -> None:
    images = random_masks(5, (4, 3))
    names = tuple(images)
    found = opened(tmp_path, images, failed=(names[1], names[4]))
    assert found.image_ids == (names[0], names[2], names[3])
    assert len(found) == 3
    assert found.read(1).image_id == names[2]
    with Image.open(tmp_path / f"images/{names[2]}.png") as image:
        assert np.array_equal(found.read(1).image, np.asarray(image))


def test_kept_images_need_no_disk_and_are_as_many_as_there_is_room_for(tmp_path: Path) -> None:
    images = random_masks(4, (4, 3))
    kept, none = opened(tmp_path / "a", images), opened(tmp_path / "b", images, cache_mib=0)
    before = [(kept.read(place), none.read(place)) for place in range(4)]
    for first, second in before:
        assert np.array_equal(first.image, second.image)
        assert np.array_equal(first.masks, second.masks)
    for path in (*(tmp_path / "a/images").iterdir(), *(tmp_path / "b/images").iterdir()):
        path.unlink()
    assert all(kept.read(place) is before[place][0] for place in range(4))
    with pytest.raises(ImageError):
        none.read(0)


def test_threads_read_the_same(tmp_path: Path) -> None:
    images = random_masks(6, (4, 3))
    found, again = opened(tmp_path / "a", images), opened(tmp_path / "b", images)
    with ThreadPoolExecutor(8) as pool:
        many = list(pool.map(found.read, [place % 6 for place in range(48)]))
    for place, read in enumerate(many):
        alone = again.read(place % 6)
        assert read.image_id == alone.image_id
        assert np.array_equal(read.image, alone.image)
        assert np.array_equal(read.masks, alone.masks)


def test_an_image_that_changed_its_size_is_refused(tmp_path: Path) -> None:
    images: dict[str, Masks] = {"a": {4: blob((16, 20), 2, 3, 5)}}
    found = opened(tmp_path, images)
    Image.new("RGB", (21, 16)).save(tmp_path / "images/a.png")
    with pytest.raises(
        ImageError, match=r"a\.png is 21 x 16 pixels, its masks in .* are 20 x 16; the image has changed"
    ):
        found.read(0)
    (tmp_path / "images/a.png").write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"a\.png"):
        found.read(0)
