"""The strong view: pixels keep their places, the square is reported, every draw is named."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from wilss.data.images import IMAGENET_MEAN
from wilss.errors import ParameterError
from wilss_train.data.semi.views import StrongParams, strong_view

SIDE = 40
STILL = StrongParams(brightness=0, contrast=0, saturation=0, hue=0, cutout=0)


def picture() -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_without_strength_nothing_changes() -> None:
    """But for the round trip through hues, which costs a level or two."""
    found, hole = strong_view(picture(), STILL, rng())
    assert not hole.any()
    assert np.abs(found.astype(int) - picture()).max() <= 6


@pytest.mark.parametrize("part", [0.0, 0.2, 0.5, 1.0])
def test_the_square_is_where_it_says_and_holds_the_inputs_mean(part: float) -> None:
    for seed in range(5):
        found, hole = strong_view(picture(), replace(STILL, cutout=part), rng(seed))
        assert hole.sum() == round(part * SIDE) ** 2
        mean = [round(255 * value) for value in IMAGENET_MEAN]
        assert (found[hole] == mean).all()


def test_a_pixel_depends_on_its_own_colour_alone() -> None:
    """Contrast looks at the whole picture's mean; two pixels of one colour stay of one colour."""
    image = picture()
    image[30, 5] = image[2, 20]
    found, _ = strong_view(image, replace(StrongParams(), cutout=0), rng(1))
    assert (found[30, 5] == found[2, 20]).all()


def test_light_changes_and_equal_draws_are_equal() -> None:
    first, second = (strong_view(picture(), StrongParams(), rng(7)) for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
    other, _ = strong_view(picture(), StrongParams(), rng(8))
    assert np.abs(first[0].astype(int) - other).mean() > 5


def test_brightness_and_saturation_stay_in_their_range() -> None:
    grey = np.full((SIDE, SIDE, 3), 100, np.uint8)
    means = [strong_view(grey, replace(STILL, brightness=0.5), rng(seed))[0].mean() for seed in range(60)]
    assert 48 <= min(means) < 60
    assert 140 < max(means) <= 152
    assert strong_view(grey, replace(STILL, saturation=1.0, hue=0.5), rng())[0].std() == 0, "grey has no hue"


def test_hue_turns_by_a_quarter_at_most() -> None:
    red = np.zeros((SIDE, SIDE, 3), np.uint8)
    red[..., 0] = 200
    for seed in range(40):
        found = strong_view(red, replace(STILL, hue=0.25), rng(seed))[0][0, 0]
        assert found[0] >= 95, "a quarter of the circle from red lies half way to green, or to blue"


def test_what_has_no_meaning_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"cutout is 1\.5; it must be between 0 and 1"):
        StrongParams(cutout=1.5)
    with pytest.raises(ParameterError, match=r"hue is 0\.6"):
        StrongParams(hue=0.6)
