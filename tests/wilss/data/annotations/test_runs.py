"""Run lengths of annotation tools against slow twins, and what is no run length."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.references import annotations as slow
from tests.wilss.data.annotations.masks import HARD, masks
from wilss.data.annotations.runs import (
    box_of,
    cropped,
    mask_of_brush,
    mask_of_rows,
    packed_brush,
    placed,
    runs_by_rows,
)


@settings(max_examples=25)
@given(masks(7))
def test_rows_are_those_of_the_twin_and_come_back(mask: np.ndarray) -> None:
    runs = runs_by_rows(mask).tolist()
    assert runs == slow.runs_of_rows(mask)
    np.testing.assert_array_equal(mask_of_rows(runs, mask.shape), mask)
    np.testing.assert_array_equal(slow.rows_of_runs(runs, *mask.shape), mask)


@settings(max_examples=25)
@given(masks(7))
def test_a_brush_is_read_by_the_twin_and_comes_back(mask: np.ndarray) -> None:
    packed = packed_brush(mask)
    values = np.array(slow.values_of_brush(packed)).reshape(*mask.shape, 4)
    np.testing.assert_array_equal(values, np.repeat(mask[..., None] * 255, 4, axis=2))
    np.testing.assert_array_equal(mask_of_brush(packed, mask.shape), mask)


@given(masks(5), st.integers(0, 255), st.sampled_from([(3, 4, 8, 16), (1, 2, 3, 4)]))
def test_brushes_of_others_are_where_they_are_not_clear(mask: np.ndarray, paint: int, sizes: tuple[int, ...]) -> None:
    """Written out value by value, with other sizes of lengths, in any colour and half transparent."""
    alpha = np.where(mask, 1 + paint % 255, 0)
    values = np.dstack([np.full(mask.shape, paint)] * 3 + [alpha]).ravel().tolist()
    np.testing.assert_array_equal(mask_of_brush(slow.brush_of_values(values, sizes), mask.shape), mask)


def test_a_long_run_is_cut_where_its_length_has_no_room() -> None:
    mask = np.ones((300, 301), bool)
    mask[:2] = False
    np.testing.assert_array_equal(mask_of_brush(packed_brush(mask), mask.shape), mask)


@pytest.mark.parametrize("name", HARD)
def test_a_crop_goes_back_to_its_place(name: str) -> None:
    mask = HARD[name]
    crop, top, left = cropped(mask)
    assert box_of(mask) == (top, left, *crop.shape)
    np.testing.assert_array_equal(placed(crop, top, left, mask.shape), mask)


@pytest.mark.parametrize(
    "packed",
    [[], [0] * 9, "text", [1, -1], [1.5], [[1]], None, packed_brush(np.ones((2, 2), bool))[:-1], [0, 0, 0, 16] * 3],
)
def test_what_is_no_brush_of_this_size_is_refused(packed: object) -> None:
    with pytest.raises(ValueError, match="its run"):
        mask_of_brush(packed, (2, 2))  # type: ignore[arg-type]


@pytest.mark.parametrize("runs", [[], [3], [5], [-1, 5], [[4]], [2, 3]])
def test_runs_that_do_not_add_up_are_refused(runs: list[int]) -> None:
    with pytest.raises(ValueError, match="do not add up"):
        mask_of_rows(runs, (2, 2))


@pytest.mark.parametrize(("top", "left"), [(-1, 0), (0, -1), (2, 0), (0, 2)])
def test_a_crop_beyond_the_image_is_refused(top: int, left: int) -> None:
    with pytest.raises(ValueError, match="beyond"):
        placed(np.ones((2, 2), bool), top, left, (3, 3))
