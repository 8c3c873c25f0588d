"""Which regions become candidates, and in which order."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.references import memory as slow
from tests.wilss_train.memory.drawn import blob, make_store, random_masks
from wilss_train.data.masked_images import MaskedImages
from wilss_train.memory.regions import Queue, is_confident, largest_region, priority


@settings(max_examples=150, deadline=None)
@given(mask=arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_the_largest_region_is_what_a_flood_finds(mask: np.ndarray) -> None:
    expected, found = slow.largest_region(mask), largest_region(mask)
    if found is None:
        assert not mask.any()
        return
    drawn = np.zeros(mask.shape, bool)
    top, left, bottom, right = found.box
    drawn[top:bottom, left:right] = found.mask
    np.testing.assert_array_equal(drawn, expected)
    edges = (found.mask[0], found.mask[-1], found.mask[:, 0], found.mask[:, -1])
    assert all(edge.any() for edge in edges), "the box is tight"


def test_priorities_are_those_of_the_text() -> None:
    assert priority(3, "2007_000033", "sofa") == slow.priority(3, "2007_000033", "sofa")
    assert len({priority(0, "a", "b"), priority(1, "a", "b"), priority(0, "b", "a")}) == 3


@pytest.mark.parametrize(
    ("confidence", "share", "expected"),
    [
        ([0.1, 0.9, 0.5, 0.7], 0.5, [0, 1, 0, 1]),
        ([0.1, 0.9, 0.5], 0.5, [0, 1, 1]),
        ([0.5, 0.5, 0.5, 0.9], 0.5, [1, 1, 1, 1]),
        ([np.nan, 0.9, 0.5, 0.7], 0.5, [1, 1, 0, 0]),
        ([np.nan] * 3, 0.1, [1, 1, 1]),
        ([0.1, 0.9], 1.0, [1, 1]),
        ([], 0.5, []),
    ],
)
def test_the_upper_share_is_confident(confidence: list[float], share: float, expected: list[int]) -> None:
    np.testing.assert_array_equal(is_confident(np.array(confidence, np.float32), share), np.array(expected, bool))


def test_a_queue_passes_over_the_failed_the_untagged_and_the_small(tmp_path: Path) -> None:
    size = (20, 20)
    images = {
        "large": {1: blob(size, 0, 0, 9)},
        "failed": {1: blob(size, 0, 0, 9)},
        "untagged": {2: blob(size, 0, 0, 9)},
        "small": {1: blob(size, 0, 0, 3)},
        "in pieces": {1: blob(size, 0, 0, 5) | blob(size, 10, 10, 5)},
    }
    store = make_store(tmp_path / "s.zarr", images, failed=["failed"])
    queue = Queue.of(store, 1, MaskedImages(store, {}).finished(), min_area=30, keep_confident=1.0, seed=0)
    assert {store.image_ids[row] for row in queue.rows} == {"large", "in pieces"}
    assert list(queue.first(5, frozenset())) == [0]
    assert queue.first(5, frozenset([0])) == {}
    assert queue.first(0, frozenset()) == {}


def test_a_queue_holds_no_other_row_than_those_trained_on(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s.zarr", random_masks(6, (1, 2)))
    queue = Queue.of(store, 1, np.array([1, 4, 5]), min_area=1, keep_confident=1.0, seed=0)
    assert sorted(queue.rows) == [1, 4, 5]


def test_every_candidate_is_as_likely_to_be_kept(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s.zarr", random_masks(10, (1, 2)))
    rows, kept = MaskedImages(store, {}).finished(), np.zeros(10)
    for seed in range(400):
        queue = Queue.of(store, 1, rows, min_area=1, keep_confident=1.0, seed=seed)
        kept[list(queue.rows[:4])] += 1
    np.testing.assert_allclose(kept / 400, 0.4, atol=0.1)  # four standard deviations
