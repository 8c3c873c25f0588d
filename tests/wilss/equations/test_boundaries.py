import numpy as np
import pytest
import torch

from tests.references import boundaries as slow
from wilss.equations.boundaries import guided, pamr

SIZES = [(7, 9), (1, 1), (1, 6), (5, 1), (2, 3)]


def picture(height, width, seed=0, channels=3):
    """A picture of three flat pieces with a little noise, and without noise in the last rows."""
    random = np.random.default_rng(seed)
    image = np.zeros((channels, height, width), np.float32)
    image[:, :, width // 3 :] += random.random((channels, 1, 1), dtype=np.float32) * 0.5
    image[:, height // 2 :] += random.random((channels, 1, 1), dtype=np.float32) * 0.4
    image[:, : -(height // 3) or None] += random.random((channels, height, width), dtype=np.float32)[
        :, : -(height // 3) or None
    ] * np.float32(0.1)
    return torch.from_numpy(image)


def probabilities(count, height, width, seed=1):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(count, height, width))).float().softmax(dim=0)


def half(height, width, columns):
    """A map of 1 in the first columns, and what is left."""
    one = torch.zeros(height, width)
    one[:, :columns] = 1
    return torch.stack([one, 1 - one])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("rounds", "dilations"), [(1, (1,)), (3, (1, 2, 4, 8))])
def test_pamr_equals_its_slow_twin(size, rounds, dilations):
    image, maps = picture(*size), probabilities(3, *size)
    refined = pamr(image, maps, rounds=rounds, dilations=dilations)
    expected = slow.pamr(image.numpy(), maps.numpy(), rounds, dilations)
    np.testing.assert_allclose(refined.numpy(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("radius", "eps"), [(0, 1e-2), (1, 1e-4), (3, 1e-2), (12, 1.0)])
def test_guided_equals_its_slow_twin(size, radius, eps):
    image, maps = picture(*size), probabilities(2, *size)
    expected = slow.guided(image.numpy(), maps.numpy(), radius, eps)
    exact = guided(image.double(), maps.double(), radius=radius, eps=eps)
    np.testing.assert_allclose(exact.numpy(), expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(guided(image, maps, radius=radius, eps=eps).numpy(), expected, rtol=0, atol=2e-5)


def test_guided_on_a_smaller_picture_equals_its_slow_twin():
    image, maps = picture(12, 20), probabilities(2, 12, 20)
    expected = slow.fast_guided(image.numpy(), maps.numpy(), 8, 1e-3, 4)
    np.testing.assert_allclose(guided(image, maps, radius=8, eps=1e-3, step=4).numpy(), expected, rtol=0, atol=1e-5)
    assert guided(picture(3, 5), probabilities(2, 3, 5), step=7).shape == (2, 3, 5)  # a picture of one pixel


def test_guided_with_a_usual_eps_is_exact_to_a_millionth_in_float32():
    image, maps = picture(12, 14), probabilities(2, 12, 14)
    expected = slow.guided(image.numpy(), maps.numpy(), 4, 1e-3)
    np.testing.assert_allclose(guided(image, maps, radius=4, eps=1e-3).numpy(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("refine", [pamr, guided])
def test_bands_of_rows_change_nothing(refine):
    image, maps = picture(60, 5), probabilities(3, 60, 5)
    few = {"rounds": 2, "dilations": (1, 3)} if refine is pamr else {"radius": 3}
    torch.testing.assert_close(refine(image, maps, band=5 * 13, **few), refine(image, maps, **few), rtol=0, atol=1e-6)


@pytest.mark.parametrize("refine", [pamr, guided])
def test_probabilities_still_sum_to_one(refine):
    refined = refine(picture(20, 30), probabilities(4, 20, 30))
    torch.testing.assert_close(refined.sum(dim=0), torch.ones(20, 30), rtol=0, atol=1e-5)


def test_pamr_stays_within_the_range_of_each_map():
    refined = pamr(picture(20, 30), half(20, 30, 7))
    assert refined.min() >= 0
    assert refined.max() <= 1 + 1e-5


@pytest.mark.parametrize("refine", [pamr, guided])
@pytest.mark.parametrize("size", SIZES)
def test_a_flat_picture_gives_plain_means_without_nan(refine, size):
    maps = probabilities(2, *size)
    for level in (0.0, 0.3, 1.0):
        refined = refine(torch.full((3, *size), level), maps)
        assert refined.isfinite().all()
        assert refined.min() >= maps.min() - 1e-6
        assert refined.max() <= maps.max() + 1e-6


def test_pamr_of_a_flat_picture_is_the_mean_of_the_neighbours():
    maps = probabilities(1, 3, 3)
    refined = pamr(torch.zeros(3, 3, 3), maps, rounds=1, dilations=(1,))
    torch.testing.assert_close(refined[0, 1, 1], (maps[0].sum() - maps[0, 1, 1]) / 8)


def test_no_rounds_no_dilations_and_no_radius_change_nothing():
    image, maps = picture(6, 5), probabilities(2, 6, 5)
    assert pamr(image, maps, rounds=0).equal(maps)
    assert pamr(image, maps, dilations=()).equal(maps)
    torch.testing.assert_close(guided(image, maps, radius=0), maps, rtol=0, atol=1e-6)


@pytest.mark.parametrize("refine", [pamr, guided])
def test_a_border_moves_to_the_edge_of_the_picture(refine):
    """A sharp edge after column 10, a map that ends after column 12: cut at one half it ends at the edge."""
    image = half(24, 24, 10)[:1].expand(3, -1, -1) * 0.6 + 0.2
    noise = torch.from_numpy(np.random.default_rng(3).normal(size=image.shape)).float() * 0.02
    refined = refine((image + noise).clamp(0, 1), half(24, 24, 12))
    assert (refined[0] > 0.5).equal(half(24, 24, 10)[0].bool())


def test_a_smaller_share_makes_harder_edges():
    image, maps = half(8, 8, 4)[:1].expand(3, -1, -1), half(8, 8, 4)
    soft, hard = (pamr(image, maps, share=share)[0, 4, 3] for share in (10.0, 0.1))
    assert soft < hard <= 1 + 1e-5


def test_a_grey_picture_and_one_channel_agree():
    grey, maps = picture(9, 9, channels=1), probabilities(2, 9, 9)
    torch.testing.assert_close(pamr(grey, maps), pamr(grey.expand(3, -1, -1), maps), rtol=0, atol=1e-6)


@pytest.mark.parametrize("wrong", [{"rounds": -1}, {"dilations": (0, 1)}, {"share": 0.0}])
def test_pamr_says_what_it_needs(wrong):
    with pytest.raises(ValueError, match="pamr needs rounds >= 0"):
        pamr(picture(4, 4), probabilities(2, 4, 4), **wrong)


@pytest.mark.parametrize("wrong", [{"radius": -1}, {"eps": 0.0}])
def test_guided_says_what_it_needs(wrong):
    with pytest.raises(ValueError, match="guided needs 3 channels"):
        guided(picture(4, 4), probabilities(2, 4, 4), **wrong)


@pytest.mark.parametrize("refine", [pamr, guided])
def test_a_picture_of_another_size_is_refused(refine):
    with pytest.raises(ValueError, match="of one size"):
        refine(picture(4, 5), probabilities(2, 4, 4))
