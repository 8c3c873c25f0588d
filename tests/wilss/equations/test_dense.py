"""The last attention by other rules against slow twins, and its limits."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.references import dense as slow
from wilss.equations import dense
from wilss.equations.affinity import cosine_rows
from wilss.equations.dense import nearness, neighbour_attention, places_of, proxy_attention

HEADS, GRID, WIDTH = 3, (3, 5), 4
LENGTH = GRID[0] * GRID[1]


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("prefix", [0, 1, 5])
@pytest.mark.parametrize("deviation", [0.7, 5.0])
def test_neighbour_attention_equals_the_slow_twin(prefix: int, deviation: float) -> None:
    keys, values = (drawn(HEADS, prefix + LENGTH, WIDTH, seed=seed) for seed in (1, 2))
    found = neighbour_attention(keys, values, prefix=prefix, grid=GRID, deviation=deviation)
    expected = slow.neighbour_attention(keys.double().numpy(), values.double().numpy(), prefix, GRID, deviation)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("sharpness", [1.0, 3.0, 40.0])
def test_proxy_attention_equals_the_slow_twin(sharpness: float) -> None:
    features, values = drawn(LENGTH, 7, seed=3) + 0.5, drawn(HEADS, LENGTH, WIDTH, seed=4)
    found = proxy_attention(features, values, sharpness=sharpness)
    expected = slow.proxy_attention(features.double().numpy(), values.double().numpy(), sharpness)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_an_endless_neighbourhood_is_the_softmax_over_keys() -> None:
    keys, values = (drawn(HEADS, LENGTH, WIDTH, seed=seed) for seed in (1, 2))
    found = neighbour_attention(keys, values, prefix=0, grid=GRID, deviation=1e4)
    torch.testing.assert_close(found, F.scaled_dot_product_attention(keys, keys, values), atol=1e-5, rtol=0)


def test_nearness_is_one_at_home_and_falls_with_the_distance() -> None:
    places = places_of(GRID)
    assert places.tolist()[:6] == [[0, 0], [0, 1], [0, 2], [0, 3], [0, 4], [1, 0]]
    near = nearness(places, places, 2.0)
    assert near.diagonal().tolist() == [1.0] * LENGTH
    assert torch.equal(near, near.T)
    assert near[0, 1] == pytest.approx(np.exp(-1 / 8))
    assert near[0, 6] == pytest.approx(np.exp(-2 / 8))


@pytest.mark.parametrize("features", [torch.ones(LENGTH, 3), torch.eye(LENGTH)], ids=["all alike", "none alike"])
def test_a_patch_with_no_other_like_it_keeps_its_own_value(features: torch.Tensor) -> None:
    values = drawn(HEADS, LENGTH, WIDTH)
    torch.testing.assert_close(proxy_attention(features, values, sharpness=1e4), values, atol=1e-5, rtol=1e-5)


def test_two_kinds_of_patches_mix_among_themselves() -> None:
    kinds = (torch.arange(LENGTH) % 2).float()
    features, values = torch.stack([kinds, 1 - kinds], dim=1), drawn(HEADS, LENGTH, WIDTH)
    found = proxy_attention(features, values)
    for kind in (0, 1):
        torch.testing.assert_close(
            found[:, kinds == kind], values[:, kinds == kind].mean(1, True).expand_as(found[:, kinds == kind])
        )


def test_blocks_of_rows_change_nothing_and_bound_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    keys, values, features = drawn(HEADS, 1 + LENGTH, WIDTH), drawn(HEADS, 1 + LENGTH, WIDTH, seed=5), drawn(LENGTH, 7)
    whole = (neighbour_attention(keys, values, prefix=1, grid=GRID), proxy_attention(features, values[:, 1:]))
    seen: list[int] = []
    monkeypatch.setattr(
        dense, "cosine_rows", lambda own, rows: (seen.append(rows.stop - rows.start), cosine_rows(own, rows))[1]
    )
    monkeypatch.setattr(dense, "_BLOCK", 4 * HEADS * LENGTH)
    torch.testing.assert_close(neighbour_attention(keys, values, prefix=1, grid=GRID), whole[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(proxy_attention(features, values[:, 1:]), whole[1], atol=1e-6, rtol=0)
    assert seen == [4, 4, 4, 3]


def test_a_single_patch_is_itself() -> None:
    values = drawn(HEADS, 1, WIDTH)
    assert torch.equal(neighbour_attention(values, values, prefix=0, grid=(1, 1)), values)
    assert torch.equal(proxy_attention(drawn(1, 3), values), values)
