"""Which images of a store episodes are drawn from."""

from pathlib import Path

from tests.wilss_train.memory.drawn import PROTOCOL, Masks, blob, make_store
from wilss_train.data.episodes.images import index_of_store

SIZE = (12, 12)
IMAGES: dict[str, Masks] = {
    "a": {3: blob(SIZE, 0, 0, 5)},
    "b": {3: blob(SIZE, 0, 0, 5), 4: blob(SIZE, 0, 0, 0)},
    "c": {3: blob(SIZE, 2, 2, 5)},
    "d": {3: blob(SIZE, 2, 2, 5)},
}


def test_images_tagged_with_a_class_that_no_mask_shows_are_left_out(tmp_path: Path) -> None:
    """Its pixels would be background of an episode of another class."""
    store = make_store(tmp_path / "s.zarr", IMAGES, step=1, failed=["d"])
    found = {identity: list(names) for identity, names in index_of_store(store, PROTOCOL, 1).items()}
    assert found == {4: [], 3: ["a", "c"]}


def test_a_class_that_some_mask_shows_leaves_nothing_out(tmp_path: Path) -> None:
    images = {**IMAGES, "c": {3: blob(SIZE, 2, 2, 5), 4: blob(SIZE, 8, 8, 3)}}
    store = make_store(tmp_path / "s.zarr", images, step=1)
    found = {identity: list(names) for identity, names in index_of_store(store, PROTOCOL, 1).items()}
    assert found == {4: ["c"], 3: ["a", "b", "c", "d"]}
