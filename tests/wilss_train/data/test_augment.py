"""Views: image, masks and void are cut alike, wherever the window lies."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms.functional import resized_crop

from tests.wilss_train.data.random_views import draw_view
from wilss.data.images import IMAGENET_MEAN
from wilss_train.data.augment import View, cut_image, cut_masks, is_outside, published_window, view_of
from wilss_train.params import TrainParams

MEAN = tuple(round(255 * value) for value in IMAGENET_MEAN)


def checkerboard(height: int, width: int, cell: int) -> NDArray[np.bool_]:
    rows, columns = np.arange(height)[:, None] // cell, np.arange(width) // cell
    return np.asarray((rows + columns) % 2 == 1)


def painted(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.repeat(np.where(mask, 255, 0).astype(np.uint8)[..., None], 3, axis=2)


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(9, 60),
    width=st.integers(9, 60),
    crop=st.integers(8, 48),
    seed=st.integers(0, 10**6),
    flip=st.sampled_from([0.0, 1.0]),
)
def test_image_masks_and_void_are_cut_alike(height: int, width: int, crop: int, seed: int, flip: float) -> None:
    board = checkerboard(height, width, 9)
    view = draw_view(height, width, crop=crop, scale=(0.5, 2.0), flip=flip, colour=0.0, rng=np.random.default_rng(seed))
    image = cut_image(painted(board), view)
    masks = cut_masks(np.stack([board, ~board]), view)
    outside = is_outside(height, width, view)
    assert image.shape == (crop, crop, 3)
    assert masks.shape == (2, crop, crop)
    assert view.mirrored == bool(flip)
    assert np.array_equal(masks.any(axis=0), ~outside)
    assert not masks.all(axis=0).any()
    shown = image[..., 0].astype(int)
    sure = ~outside & (np.abs(shown - 127.5) > 24) & (image != MEAN).any(axis=2)
    assert np.array_equal(masks[0][sure], shown[sure] > 127)
    assert (image[outside] == MEAN).all()


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("corner", [(0, 0), (3, 5), (-4, 6), (10, -7), (40, 40), (-30, 0)])
def test_a_view_of_true_size_is_a_slice(corner: tuple[int, int], mirrored: bool) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (20, 24, 3)).astype(np.uint8)
    masks = rng.random((3, 20, 24)) > 0.5
    top, left = corner
    view = View(left=left, top=top, factor=1.0, size=12, mirrored=mirrored)
    expected = np.empty((12, 12, 3), np.uint8)
    expected[:] = MEAN
    expected_masks, expected_outside = np.zeros((3, 12, 12), bool), np.ones((12, 12), bool)
    for row in range(12):
        for column in range(12):
            y, x = top + row, left + column
            if 0 <= y < 20 and 0 <= x < 24:
                place = 11 - column if mirrored else column
                expected[row, place], expected_masks[:, row, place] = image[y, x], masks[:, y, x]
                expected_outside[row, place] = False
                continue
    assert np.array_equal(cut_image(image, view), expected)
    assert np.array_equal(cut_masks(masks, view), expected_masks)
    assert np.array_equal(is_outside(20, 24, view), expected_outside)


def test_half_size_is_the_mean_of_four_or_the_antialiased_like() -> None:
    """A flat image stays flat at any factor, up to the edge of what is shown."""
    image = np.full((30, 40, 3), 77, np.uint8)
    for factor in (0.5, 0.73, 1.9):
        view = View(left=1.3, top=2.7, factor=factor, size=10)
        assert (cut_image(image, view) == 77).all()


def test_the_source_stays_as_it_was() -> None:
    image, masks = painted(checkerboard(20, 20, 4)), checkerboard(20, 20, 4)[None]
    before = image.copy(), masks.copy()
    view = View(left=-3, top=2, factor=1.0, size=16, mirrored=True, gain=(2.0, 1.0, 0.5), offset=(1.0, 0.0, 5.0))
    cut_image(image, view)
    cut_masks(masks, view)
    assert np.array_equal(image, before[0])
    assert np.array_equal(masks, before[1])


def test_light_is_gain_and_offset_on_the_image_alone() -> None:
    image = np.arange(300, dtype=np.uint16).reshape(10, 10, 3).astype(np.uint8)
    view = View(left=-2, top=0, factor=1.0, size=12, gain=(1.5, 1.0, 0.25), offset=(-10.0, 0.0, 3.4))
    lit, plain = cut_image(image, view), cut_image(image, replace(view, gain=(1.0,) * 3, offset=(0.0,) * 3))
    expected = np.clip(np.rint(image * np.array([1.5, 1.0, 0.25]) + np.array([-10.0, 0.0, 3.4])), 0, 255)
    assert np.array_equal(lit[:10, 2:], expected)
    assert np.array_equal(plain[:10, 2:], image)
    assert (lit[10:] == MEAN).all()


def test_draws_stay_in_their_ranges_and_follow_the_generator() -> None:
    for seed in range(200):
        views = [
            draw_view(50, 30, crop=40, scale=(0.5, 2.0), flip=0.5, colour=0.3, rng=np.random.default_rng(seed))
            for _ in range(2)
        ]
        assert views[0] == views[1]
        view = views[0]
        assert 0.5 <= view.factor <= 2.0
        for corner, side in ((view.left, 30), (view.top, 50)):
            room = side - 40 / view.factor
            assert min(0, room) <= corner <= max(0, room)
        assert view.gain != (1.0, 1.0, 1.0)
        assert all(0.7 * 0.7 * 0.85 <= one <= 1.3 * 1.3 * 1.15 for one in view.gain)
    plain = draw_view(50, 30, crop=40, scale=(1.0, 1.0), flip=0.0, colour=0.0, rng=np.random.default_rng(0))
    assert (plain.factor, plain.mirrored, plain.gain, plain.offset) == (1.0, False, (1.0,) * 3, (0.0,) * 3)


def test_colour_and_flip_do_not_move_the_window() -> None:
    views = [
        draw_view(50, 30, crop=20, scale=(0.5, 2.0), flip=flip, colour=colour, rng=np.random.default_rng(3))
        for flip, colour in ((0.0, 0.0), (1.0, 0.0), (1.0, 0.5))
    ]
    assert len({(view.left, view.top, view.factor) for view in views}) == 1


# -- the published crop: a window inside the image, resized to the crop whatever its sides

AREA, ASPECT = (0.5, 2.0), (3 / 4, 4 / 3)
PUBLISHED = TrainParams(crop=64, cropping="published", flip=0.0)
SIZES = [(375, 500), (500, 375), (333, 500), (100, 400), (400, 100), (64, 64), (1, 9), (9, 1)]


def by_torch(seed: int) -> Any:
    """Draws in torchvision's place and from its generator."""
    torch.manual_seed(seed)
    return SimpleNamespace(
        uniform=lambda low, high: torch.empty(1).uniform_(low, high).item(),
        integers=lambda most: torch.randint(0, most, (1,)).item(),
    )


@pytest.mark.few(3)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_published_window_is_torchvisions_for_the_same_draws(height: int, width: int) -> None:
    picture = torch.zeros(3, height, width)
    for seed in range(100):
        ours = published_window(height, width, area=AREA, aspect=ASPECT, rng=by_torch(seed))
        torch.manual_seed(seed)
        top, left, high, wide = RandomResizedCrop.get_params(picture, list(AREA), list(ASPECT))
        assert (ours.top, ours.left, ours.high, ours.wide) == (top, left, high, wide)


def test_the_published_window_is_distributed_as_torchvisions() -> None:
    """On VOC's 500 x 375: how large it is, how wide, where it lies, and how often it is the whole image."""
    picture, count = torch.zeros(3, 375, 500), 2000
    torch.manual_seed(0)
    theirs = np.array([RandomResizedCrop.get_params(picture, list(AREA), list(ASPECT)) for _ in range(count)])
    draws = [
        published_window(375, 500, area=AREA, aspect=ASPECT, rng=np.random.default_rng(seed)) for seed in range(count)
    ]
    ours = np.array([(each.top, each.left, each.high, each.wide) for each in draws])
    for column in range(4):
        marks = np.quantile(theirs[:, column], np.linspace(0.05, 0.95, 19))
        shares = [(found[:, column, None] <= marks).mean(axis=0) for found in (ours, theirs)]
        assert np.abs(shares[0] - shares[1]).max() < 0.045  # two samples of 2,000 differ by less, 99 times in 100
    whole = [float((found[:, 2:] == (375, 500)).all(axis=1).mean()) for found in (ours, theirs)]
    assert whole[0] == pytest.approx(whole[1], abs=0.03)
    assert np.median(512 / ours[:, 3]) == pytest.approx(1.36, abs=0.03)
    assert np.median(512 / ours[:, 2]) == pytest.approx(1.47, abs=0.03)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_published_view_is_cut_and_resized_as_torchvision_does_and_never_padded(height: int, width: int) -> None:
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (height, width, 3)).astype(np.uint8)
    masks = generator.random((2, height, width)) > 0.5
    for seed in range(20):
        view = view_of(image, PUBLISHED, np.random.default_rng(seed))
        window = published_window(height, width, area=AREA, aspect=ASPECT, rng=np.random.default_rng(seed))
        cut = {"top": window.top, "left": window.left, "height": window.high, "width": window.wide, "size": [64, 64]}
        shown = resized_crop(Image.fromarray(image), **cut, interpolation=InterpolationMode.BILINEAR)
        inner = (slice(2, -2), slice(2, -2))  # theirs does not look beyond the window's edge
        smooth = min(window.wide, window.high) >= 16
        if smooth:
            apart = cut_image(image, view).astype(int)[inner] - np.asarray(cast(Image.Image, shown)).astype(int)[inner]
            assert np.abs(apart).max() <= 2
        for found, mask in zip(cut_masks(masks, view), masks, strict=True):
            plane = resized_crop(Image.fromarray(mask), **cut, interpolation=InterpolationMode.NEAREST)
            assert (found == np.asarray(cast(Image.Image, plane))).mean() > 0.99
        assert not is_outside(height, width, view).any()


def test_the_crop_is_said_by_name() -> None:
    image = np.zeros((60, 80, 3), np.uint8)
    plain, published = (
        view_of(image, TrainParams(crop=64, cropping=kind, flip=0.0), np.random.default_rng(5))
        for kind in ("scaled", "published")
    )
    expected = draw_view(60, 80, crop=64, scale=AREA, flip=0.0, colour=0.0, rng=np.random.default_rng(5))
    assert plain == expected
    assert plain.stretch == 1.0 != published.stretch
