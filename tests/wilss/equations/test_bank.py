"""The bank's equations against their slow twins, and their limits."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.references import bank as slow
from wilss.equations import bank
from wilss.equations.kernels import unit

WIDTH = 6


def unit_vectors(count: int, seed: int = 0) -> Tensor:
    return unit(torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed)))


def a_bank(*counts: int) -> list[Tensor]:
    return [unit_vectors(count, seed=number + 1) for number, count in enumerate(counts)]


def mask(seed: int = 0) -> Tensor:
    return torch.rand(23, 31, generator=torch.Generator().manual_seed(seed)) > 0.1


@pytest.mark.parametrize("rounds", [0, 1, 3])
def test_eroding_equals_the_slow_twin(rounds: int) -> None:
    np.testing.assert_array_equal(bank.erode(mask(), rounds), slow.eroded(mask().numpy(), rounds))


def test_the_edge_of_the_image_is_no_rim() -> None:
    assert bank.erode(torch.ones(5, 7, dtype=torch.bool), 9).all()
    small = torch.zeros(9, 9, dtype=torch.bool)
    small[3:6, 3:6] = True
    assert bank.erode(small, 1).nonzero().tolist() == [[4, 4]]
    assert not bank.erode(small, 2).any()
    assert torch.equal(bank.erode(torch.stack([small, ~small]), 1)[0], bank.erode(small, 1))


@pytest.mark.parametrize("grid", [(4, 5), (23, 31), (1, 1), (30, 40)])
def test_shares_equal_the_slow_twin(grid: tuple[int, int]) -> None:
    np.testing.assert_allclose(bank.shares(mask(), grid), slow.shares(mask().numpy(), grid), atol=1e-6)


def test_directions_equal_the_slow_twin_and_the_centre_has_none() -> None:
    vectors, centre = unit_vectors(5), unit_vectors(1, seed=9)[0]
    expected = [slow.direction(vector, centre.numpy()) for vector in vectors.numpy()]
    np.testing.assert_allclose(bank.directions(vectors, centre), expected, atol=1e-6)
    assert not bank.directions(centre[None], centre).any()


@pytest.mark.parametrize(("count", "dropped"), [(9, 0.25), (8, 0.25), (1, 0.9), (7, 0.0), (10, 0.99), (0, 0.5)])
def test_outliers_are_those_of_the_slow_twin(count: int, dropped: float) -> None:
    kept = bank.typical(unit_vectors(count), dropped)
    assert len(kept) - kept.sum() == int(dropped * count)
    if count:
        np.testing.assert_array_equal(kept, slow.typical(unit_vectors(count).double().numpy(), dropped))


def test_of_equal_features_the_first_stay() -> None:
    assert bank.typical(unit_vectors(1).expand(4, WIDTH), 0.5).tolist() == [True, True, False, False]


@pytest.mark.parametrize("way", ["vote_of_each", "vote_of_nearest"])
@pytest.mark.parametrize("nearest", [1, 3, 100])
@pytest.mark.parametrize("counts", [(4, 3, 9), (5, 0, 2), (0, 0, 1), (1, 1)])
def test_votes_equal_the_slow_twin(way: str, nearest: int, counts: Sequence[int]) -> None:
    patches, features = unit_vectors(11, seed=42), a_bank(*counts)
    found = getattr(bank, way)(patches, features, nearest, 0.2)
    arrays: list[Any] = [one.double().numpy() for one in features]
    np.testing.assert_allclose(found, getattr(slow, way)(patches.double().numpy(), arrays, nearest, 0.2), atol=1e-5)
    torch.testing.assert_close(found.sum(dim=0), torch.ones(11))


@pytest.mark.parametrize("way", [bank.vote_of_each, bank.vote_of_nearest])
def test_votes_by_blocks_are_those_of_all_patches(way: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    patches, features = unit_vectors(11), a_bank(4, 3)
    whole = way(patches, features, 2, 0.1)
    monkeypatch.setattr(bank, "_BLOCK", 7 * 3)  # three patches at a time
    torch.testing.assert_close(way(patches, features, 2, 0.1), whole)


def test_equal_features_vote_evenly() -> None:
    same = unit_vectors(1)
    features = [same.expand(3, WIDTH), same.expand(9, WIDTH)]
    torch.testing.assert_close(bank.vote_of_each(same, features, 2, 0.1), torch.full((2, 1), 0.5))
    by_number = bank.vote_of_nearest(same, features, 12, 0.1)
    torch.testing.assert_close(by_number, torch.tensor([[0.25], [0.75]]))


def test_smoothing_equals_the_slow_twin_and_keeps_what_is_even() -> None:
    generator = torch.Generator().manual_seed(3)
    affinity = torch.rand(8, 8, generator=generator)
    affinity[:, 2] = 0.0  # none attends to it
    probabilities = torch.rand(3, 8, generator=generator).softmax(dim=0)
    found = bank.smoothed(probabilities, lambda weights: weights @ affinity)
    np.testing.assert_allclose(found, slow.smoothed(probabilities.numpy(), affinity.numpy()), atol=1e-6)
    torch.testing.assert_close(found[:, 2], probabilities[:, 2])
    even = torch.full((3, 8), 1 / 3)
    torch.testing.assert_close(bank.smoothed(even, lambda weights: weights @ affinity), even)
