"""Stored soft labels go with the view: image, masks and soft labels of a turned checkerboard stay on one another."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.wilss_train.data.random_views import draw_view
from tests.wilss_train.data.semi.stores import PROTOCOL, soft_store
from wilss.data.images import to_pixels
from wilss.errors import StoreError
from wilss.store import MaskStore
from wilss_train.data.augment import View, cut_image, cut_masks, is_outside
from wilss_train.data.semi.soft import SoftLabels, warped

HEIGHT, WIDTH = 90, 120


def checkerboard(angle: float = 0.4, field: float = 23.0) -> NDArray[np.bool_]:
    """A board that is turned against the image's axes, bool [HEIGHT, WIDTH]."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    across = np.cos(angle) * columns + np.sin(angle) * rows
    down = -np.sin(angle) * columns + np.cos(angle) * rows
    return np.asarray((np.floor(across / field) + np.floor(down / field)) % 2 == 1)


def as_soft(board: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The board as soft labels of background and one class, a cell for every pixel."""
    return np.stack([~board, board]).astype(np.float32)


VIEWS = [draw_view(HEIGHT, WIDTH, crop=64, scale=(0.5, 1.8), flip=0.5, colour=0.0, rng=np.random.default_rng(seed))
         for seed in range(12)]  # fmt: skip


@pytest.mark.parametrize("view", VIEWS)
def test_image_mask_and_soft_label_of_a_turned_checkerboard_stay_together(view: View) -> None:
    board = checkerboard()
    inside = ~is_outside(HEIGHT, WIDTH, view)
    soft = warped(as_soft(board), view, HEIGHT, WIDTH)[1]
    mask = cut_masks(board[None], view)[0]
    image = cut_image(np.repeat(255 * board[..., None].astype(np.uint8), 3, axis=2), view)[..., 0] / 255.0
    assert (np.abs(soft - mask) <= 0.75 + 1e-4)[inside].all(), "the nearest of four pixels has a quarter at least"
    assert ((soft > 0.5) == mask)[inside].mean() > 0.95
    assert ((image > 0.5) == (soft > 0.5))[inside].mean() > 0.9
    assert np.corrcoef(image[inside], soft[inside])[0, 1] > 0.9
    other = warped(as_soft(np.ascontiguousarray(board[:, ::-1])), view, HEIGHT, WIDTH)[1]
    assert ((other > 0.5) == mask)[inside].mean() < 0.9, "a mirrored label would not be noticed"


def test_whole_pixels_are_moved_and_mirrored_exactly() -> None:
    board = checkerboard()
    for mirrored in (False, True):
        view = View(left=17, top=-9, factor=1.0, size=64, mirrored=mirrored)
        inside = ~is_outside(HEIGHT, WIDTH, view)
        soft = warped(as_soft(board), view, HEIGHT, WIDTH)
        np.testing.assert_allclose(soft[1][inside], cut_masks(board[None], view)[0][inside], atol=1e-5)


def test_a_view_of_all_of_it_is_upsampling() -> None:
    soft = np.random.default_rng(0).random((3, 8, 8)).astype(np.float32)
    view = View(left=0.0, top=0.0, factor=1.0, size=64)
    wanted = to_pixels(torch.from_numpy(soft), 64, 64).numpy()
    np.testing.assert_allclose(warped(soft, view, 64, 64), wanted, atol=1e-6)
    np.testing.assert_allclose(warped(soft, view, 64, 64, stride=4), wanted[:, 2::4, 2::4], atol=1e-6)


def test_a_slope_is_read_off_at_the_pixels_places() -> None:
    """Bilinear interpolation is exact on a plane: row and column, corner, factor and mirror by themselves."""
    rows, columns = np.mgrid[:9, :12]
    slope = ((rows + 0.5) * HEIGHT / 9 + 1000 * (columns + 0.5) * WIDTH / 12)[None].astype(np.float64)
    view = View(left=20.5, top=11.25, factor=1.6, size=48, mirrored=True)
    found = warped(slope, view, HEIGHT, WIDTH)[0]
    for row, column in ((0, 0), (5, 40), (47, 13)):
        place = (11.25 + (row + 0.5) / 1.6) + 1000 * (20.5 + (47 - column + 0.5) / 1.6)
        assert found[row, column] == pytest.approx(place, rel=1e-4)


@pytest.mark.parametrize("view", VIEWS[:4])
def test_soft_labels_stay_probabilities(view: View) -> None:
    soft = np.random.default_rng(1).dirichlet(np.ones(4), (6, 7)).transpose(2, 0, 1)
    found = warped(soft, view, HEIGHT, WIDTH, stride=2)
    assert found.shape == (4, 32, 32)
    assert found.min() >= 0
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-5)


def test_a_store_gives_channels_on_the_images_own_grid(tmp_path: Path) -> None:
    """The category axis has another order than the channels, and one image a smaller grid than the others."""
    planes = {"a": np.full((2, 3, 4), 0.25), "b": np.stack([np.full((2, 2), 0.125), np.full((2, 2), 0.5)])}
    store = soft_store(tmp_path / "soft.zarr", planes, category_ids=(1, 2))
    soft = SoftLabels(store, PROTOCOL, 0)
    assert soft.read("a").shape == (3, 3, 4)
    found = soft.read("b")
    assert found.shape == (3, 2, 2)
    assert [float(plane[0, 0]) for plane in found] == [0.375, 0.5, 0.125]  # channels are background, 2, 1


def test_a_store_that_is_of_no_use_is_refused(tmp_path: Path) -> None:
    planes = {"a": np.full((2, 2, 2), 0.25), "bad": None}
    store = soft_store(tmp_path / "soft.zarr", planes, category_ids=(1, 2))
    soft = SoftLabels(store, PROTOCOL, 0)
    with pytest.raises(StoreError, match=r"holds no masks of bad"):
        soft.read("bad")
    soft.require(("a",))
    with pytest.raises(StoreError, match=r"holds no soft labels of 1 image, c among them"):
        soft.require(("a", "c"))
    with pytest.raises(StoreError, match=r"which are not the classes of step 1"):
        SoftLabels(store, PROTOCOL, 1)
    plain = soft_store(tmp_path / "plain.zarr", planes, category_ids=(1, 2), keep=False)
    with pytest.raises(StoreError, match=r"keeps no soft labels; make it again"):
        SoftLabels(MaskStore.open(plain.path), PROTOCOL, 0)
