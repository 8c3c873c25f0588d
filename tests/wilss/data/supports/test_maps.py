"""Every annotation becomes foreground, background and unknown; and the annotations that are simulated."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from wilss.data.supports import maps as support_maps
from wilss.data.supports.maps import BACKGROUND, FOREGROUND, UNKNOWN
from wilss.data.supports.regions import depth_inside, middle_line, numbered, steps_from
from wilss.data.supports.simulate import box_map, boxes_of, map_for, mask_map, scribble_map, scribble_of
from wilss.randomness import numpy_generator_for

NOWHERE = np.zeros((40, 50), np.bool_)


def ellipse(centre: tuple[int, int] = (20, 25), radii: tuple[int, int] = (12, 18)) -> NDArray[np.bool_]:
    rows, columns = np.mgrid[:40, :50]
    return np.asarray(((rows - centre[0]) / radii[0]) ** 2 + ((columns - centre[1]) / radii[1]) ** 2 <= 1)


def rng(name: str = "a") -> np.random.Generator:
    return numpy_generator_for(0, name)


def test_a_mask_knows_all_but_void() -> None:
    void = NOWHERE.copy()
    void[20] = True
    found = mask_map(ellipse(), void)
    assert (found[20] == UNKNOWN).all()
    assert ((found == FOREGROUND) == (ellipse() & ~void)).all()
    assert set(np.unique(found)) == {BACKGROUND, FOREGROUND, UNKNOWN}


def test_boxes_know_the_largest_and_what_is_outside_of_all() -> None:
    mask = NOWHERE.copy()
    mask[2:6, 3:9] = mask[20:40, 30:50] = True
    assert boxes_of(mask) == ((3, 2, 9, 6), (30, 20, 50, 40))
    found = box_map(mask, NOWHERE)
    assert (found[20:, 30:] == FOREGROUND).all()
    assert (found[2:6, 3:9] == UNKNOWN).all()
    assert (found == BACKGROUND).sum() == 40 * 50 - 20 * 20 - 4 * 6


def test_where_boxes_meet_the_largest_is_on_top() -> None:
    found = support_maps.map_of_boxes([(0, 0, 3, 3), (1, 1, 8, 8)], (10, 10))
    assert found[2, 2] == FOREGROUND
    assert found[0, 0] == UNKNOWN


def test_a_box_says_nothing_of_void() -> None:
    void = NOWHERE.copy()
    void[:, 25] = void[0, 0] = True
    whole = ellipse((20, 25), (12, 18))
    assert box_map(whole, void)[0, 0] == BACKGROUND
    assert FOREGROUND in box_map(whole, void)[:, 24]


def test_touching_at_a_corner_is_one_object() -> None:
    assert numbered(np.eye(5, dtype=np.bool_)).max() == 1


@pytest.mark.parametrize("kind", ["mask", "box", "scribble"])
def test_of_an_empty_mask_nothing_is_foreground(kind: str) -> None:
    found = map_for(kind, NOWHERE, NOWHERE, rng())  # type: ignore[arg-type]
    assert not (found == FOREGROUND).any()


@pytest.mark.parametrize("kind", ["mask", "box", "scribble"])
def test_of_a_full_mask_nothing_is_background(kind: str) -> None:
    found = map_for(kind, ~NOWHERE, NOWHERE, rng())  # type: ignore[arg-type]
    assert (found == FOREGROUND).any()
    assert not (found == BACKGROUND).any()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 18), st.integers(1, 24), st.integers(0, 39), st.integers(0, 49))
def test_a_scribble_stays_on_its_side(seed: int, high: int, wide: int, row: int, column: int) -> None:
    mask = ellipse((row, column), (high, wide))
    void = ellipse((row, column), (high + 1, wide + 1)) & ~mask
    found = scribble_map(mask, void, np.random.default_rng(seed))
    assert mask[found == FOREGROUND].all()
    assert (found == FOREGROUND).any()
    assert not (mask | void)[found == BACKGROUND].any()


def test_a_scribble_is_thin_long_and_belongs_to_its_name() -> None:
    mask = ellipse()
    line = scribble_of(mask, rng())
    assert 8 <= line.sum() <= 40
    assert numbered(line).max() == 1
    assert (scribble_of(mask, rng()) == line).all()
    assert (scribble_of(mask, rng("b")) != line).any()


def test_a_scribble_follows_a_bend() -> None:
    mask = NOWHERE.copy()
    mask[5:35, 5:12] = mask[28:35, 5:45] = True
    way = middle_line(mask, 0.5, rng())
    assert mask[tuple(way.T)].all()
    assert np.abs(np.diff(way, axis=0)).max() == 1
    assert len(way) > 45, "from one end round the corner to the other"


def test_lines_are_as_thick_as_the_image_is_large() -> None:
    assert [support_maps.line_width(size) for size in ((96, 128), (375, 500), (1000, 3000))] == [1, 3, 8]
    mask = np.zeros((375, 500), np.bool_)
    mask[100:300, 100:400] = True
    line = scribble_of(mask, rng())
    assert 2 * line.any(axis=0).sum() < line.sum() < 6 * max(line.any(axis=0).sum(), line.any(axis=1).sum())


def test_steps_go_around_walls() -> None:
    inside = np.ones((5, 5), np.bool_)
    inside[:4, 2] = False
    start = np.zeros((5, 5), np.bool_)
    start[0, 0] = True
    steps = steps_from(start, inside)
    assert (steps[0, 2], steps[4, 2], steps[0, 4]) == (-1, 4, 8)


def test_depth_counts_from_the_picture_edge_too() -> None:
    assert depth_inside(np.ones((5, 5), np.bool_))[2].tolist() == [1, 2, 3, 2, 1]


def test_a_scribble_without_background_takes_it_from_well_away() -> None:
    found = support_maps.map_of_lines([[(20, 10), (29, 14)]], [], (40, 50))
    rows, columns = np.nonzero(found == BACKGROUND)
    assert not ((rows >= 5) & (rows <= 19) & (columns >= 10) & (columns <= 39)).any()
    assert (found[:5] == BACKGROUND).all()
    assert (found[14, 29], found[12, 36]) == (FOREGROUND, UNKNOWN)


def test_a_scribble_with_background_knows_no_other() -> None:
    found = support_maps.map_of_lines([[(20, 10), (29, 14)]], [[(0, 39), (49, 39)]], (40, 50))
    assert (found == BACKGROUND).sum() == 50
    assert support_maps.map_of_lines([[(0, 0), (49, 39)]], [], (40, 50)).max() == UNKNOWN
    assert not (support_maps.map_of_lines([[(0, 0), (49, 39)]], [], (40, 50)) == BACKGROUND).any()


def test_a_line_of_one_point_is_a_dot() -> None:
    assert (support_maps.map_of_lines([[(3, 2)]], [], (9, 9)) == FOREGROUND).sum() == 1
