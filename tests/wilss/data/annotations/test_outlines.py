"""Outlines keep every pixel, holes too, by the rule that they are drawn with."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.references import annotations as slow
from tests.wilss.data.annotations.masks import HARD, RING, masks
from wilss.data.annotations.outlines import (
    drawn_along_edges,
    drawn_box,
    drawn_ellipse,
    drawn_rectangle,
    drawn_through_pixels,
    outlines_along_edges,
    outlines_through_pixels,
)

SQUARE = [(2, 2), (6, 2), (6, 6), (2, 6)]


def test_the_two_rules_differ_by_the_boundary() -> None:
    assert drawn_along_edges(SQUARE, (9, 9)).sum() == 16
    assert drawn_through_pixels(SQUARE, (9, 9)).sum() == 25
    assert drawn_rectangle([(2, 2), (6, 6)], (9, 9)).sum() == 25
    assert drawn_box(2, 2, 6, 6, (9, 9)).sum() == 16


@pytest.mark.parametrize(
    ("middle", "radii", "degrees", "rows"),
    [
        ((3.5, 2.5), (2.6, 0.6), 0, ["       ", "       ", " ##### ", "       ", "       "]),
        ((3.5, 2.5), (2.6, 0.6), 90, ["   #   ", "   #   ", "   #   ", "   #   ", "   #   "]),
        ((3.5, 2.5), (2.9, 0.6), 45, [" #     ", "  #    ", "   #   ", "    #  ", "     # "]),
        ((0, 0), (2, 2), 0, ["##     ", "#      ", "       ", "       ", "       "]),
    ],
)
def test_an_ellipse_holds_the_pixels_whose_centres_lie_in_it(
    middle: tuple[float, float], radii: tuple[float, float], degrees: float, rows: list[str]
) -> None:
    drawn = drawn_ellipse(middle, radii, degrees, (5, 7))
    assert ["".join("#" if inside else " " for inside in row) for row in drawn] == rows


@pytest.mark.parametrize("radii", [(0, 3), (-2, 2), (float("nan"), 2), (1e9, 2)])
def test_an_ellipse_without_a_radius_or_far_away_is_refused(radii: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="no radius|far outside"):
        drawn_ellipse((3, 3), radii, 0, (5, 7))


@settings(max_examples=25)
@given(masks(7))
def test_outlines_along_edges_keep_every_pixel(mask: np.ndarray) -> None:
    ours, twins = np.zeros_like(mask), np.zeros_like(mask)
    for outline in outlines_along_edges(mask):
        drawn = drawn_along_edges(outline, mask.shape)
        assert not (drawn & ours).any()
        ours |= drawn
        twins |= slow.along_edges(outline, *mask.shape)
    np.testing.assert_array_equal(ours, mask)
    np.testing.assert_array_equal(twins, mask)


@settings(max_examples=25)
@given(masks(7))
def test_outlines_through_pixels_are_exact_or_none(mask: np.ndarray) -> None:
    drawn, rest = np.zeros_like(mask), mask.copy()
    for outline, part in outlines_through_pixels(mask):
        assert rest[part].all()
        rest[part] = False
        if outline is None:
            drawn[part] = True
        else:
            drawn |= drawn_through_pixels(outline, mask.shape)
            np.testing.assert_array_equal(
                slow.through_pixels(outline, *mask.shape), drawn_through_pixels(outline, mask.shape)
            )
    assert not rest.any()
    np.testing.assert_array_equal(drawn, mask)


def test_many_holes_in_a_row_are_joined_to_one_another() -> None:
    """More of them than Python lets functions call themselves."""
    mask = np.ones((3, 4001), bool)
    mask[1, 1::2] = False
    (outline,) = outlines_along_edges(mask[:, :-1])
    np.testing.assert_array_equal(drawn_along_edges(outline, (3, 4000)), mask[:, :-1])


@pytest.mark.parametrize("name", HARD)
def test_hard_masks(name: str) -> None:
    mask = HARD[name]
    drawn = np.logical_or.reduce([drawn_along_edges(outline, mask.shape) for outline in outlines_along_edges(mask)])
    np.testing.assert_array_equal(drawn, mask)


def test_a_hole_has_no_polygon_of_labelmes() -> None:
    outlines = [outline for outline, _ in outlines_through_pixels(RING)]
    assert outlines[0] is None
    assert outlines[1] == [(3, 2)] * 3


@given(st.lists(st.tuples(st.floats(-3, 12), st.floats(-3, 12)), min_size=1, max_size=7))
def test_labelmes_rule_forgets_fractions(corners: list[tuple[float, float]]) -> None:
    whole = [(int(x), int(y)) for x, y in corners]
    np.testing.assert_array_equal(drawn_through_pixels(corners, (9, 9)), drawn_through_pixels(whole, (9, 9)))


@pytest.mark.parametrize("draw", [drawn_along_edges, drawn_through_pixels])
@pytest.mark.parametrize("place", [1e9, float("nan"), float("inf")])
def test_corners_far_away_are_refused(draw: object, place: float) -> None:
    with pytest.raises(ValueError, match="far outside"):
        draw([(0, 0), (place, 1), (1, 1)], (4, 4))  # type: ignore[operator]


def test_a_box_has_a_pixel_and_stays_in_the_image() -> None:
    assert drawn_box(1.2, 1.3, 1.4, 1.4, (4, 4)).sum() == 1
    assert drawn_box(-5, -5, 50, 50, (4, 4)).all()
    assert drawn_rectangle([(9, 9), (-9, -9)], (4, 4)).all()
