"""Projection, whole numbers and scores of kept features against slow twins, and their limits."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.references import features as slow
from wilss.equations.features import (
    Basis,
    Moments,
    ProjectedVectors,
    dequantised,
    principal_basis,
    projected,
    projected_scores,
    quantised,
    random_basis,
    restored,
)
from wilss.equations.kernels import score_map

TOKENS, WIDTH, TEXTS = 40, 12, 3


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def lopsided(seed: int = 0) -> torch.Tensor:
    """Features that differ more in some directions than in others, about a middle that is not zero."""
    return drawn(TOKENS, WIDTH, seed=seed) * torch.linspace(3.0, 0.1, WIDTH) + drawn(WIDTH, seed=9)


@pytest.mark.parametrize("dims", [1, 5, WIDTH])
def test_a_principal_basis_equals_the_slow_twin(dims: int) -> None:
    features = lopsided()
    count, total, outer = slow.moments(features.double().numpy())
    moments = Moments.of(features[:11]) + Moments.of(features[11:])
    assert moments.count == count
    np.testing.assert_allclose(moments.total, total)
    np.testing.assert_allclose(moments.outer, outer)
    basis = principal_basis(moments, dims)
    expected = slow.principal_directions(features.double().numpy(), dims)
    signs = np.sign(np.sum(basis.rows.numpy() * expected, axis=1, keepdims=True))
    np.testing.assert_allclose(basis.rows, expected * signs, atol=1e-5)
    np.testing.assert_allclose(basis.mean, total / count, atol=1e-6)
    assert (basis.rows.gather(1, basis.rows.abs().argmax(dim=1, keepdim=True)) > 0).all()


@pytest.mark.parametrize("dims", [4, WIDTH])
def test_what_is_kept_equals_the_slow_twins(dims: int) -> None:
    features, vectors = lopsided(), drawn(TEXTS, WIDTH, seed=3)
    basis = principal_basis(Moments.of(features), dims)
    mean, rows = basis.mean.double().numpy(), basis.rows.double().numpy()
    kept = projected(features, basis)
    expected = slow.projected(features.double().numpy(), mean, rows)
    np.testing.assert_allclose(kept, expected, atol=1e-5)
    np.testing.assert_allclose(restored(kept, basis), slow.restored(expected, mean, rows), atol=1e-5)
    whole, scale = quantised(kept)
    by_loops, scales = slow.quantised(kept.double().numpy())
    np.testing.assert_allclose(scale, scales, rtol=1e-6)
    assert np.abs(whole.numpy() - by_loops).max() <= 1  # one where rounding falls on the other side of a half
    assert (whole.numpy() != by_loops).mean() < 0.01
    back = dequantised(whole, scale)
    scores = projected_scores(back, ProjectedVectors.of(vectors, basis))
    expected = slow.scores(slow.restored(back.double().numpy(), mean, rows), vectors.double().numpy())
    np.testing.assert_allclose(scores, expected, atol=2e-5)


@given(seed=st.integers(0, 2**20), kind=st.sampled_from(["pca", "random"]))
def test_all_dimensions_lose_nothing(seed: int, kind: str) -> None:
    features, vectors = lopsided(seed), drawn(TEXTS, WIDTH, seed=seed + 1)
    if kind == "pca":
        basis = principal_basis(Moments.of(features), WIDTH + 5)
    else:
        basis = random_basis(WIDTH, WIDTH + 5, torch.Generator().manual_seed(seed))
    assert basis.rows.shape == (WIDTH, WIDTH)
    kept = projected(features, basis)
    torch.testing.assert_close(restored(kept, basis), features, atol=1e-4, rtol=1e-5)
    scores = projected_scores(kept, ProjectedVectors.of(vectors, basis))
    exact = score_map(features.T.reshape(WIDTH, TOKENS, 1), vectors)[..., 0]
    torch.testing.assert_close(scores, exact, atol=1e-4, rtol=1e-5)


@given(seed=st.integers(0, 2**20), dims=st.integers(1, WIDTH))
def test_no_basis_of_so_many_directions_restores_better_than_the_principal_one(seed: int, dims: int) -> None:
    features = lopsided(seed)
    principal = principal_basis(Moments.of(features), dims)
    other = random_basis(WIDTH, dims, torch.Generator().manual_seed(seed))
    unit_rows = Basis(mean=principal.mean, rows=other.rows / other.rows.norm(dim=1, keepdim=True))
    lost = [(restored(projected(features, basis), basis) - features).square().sum() for basis in (principal, unit_rows)]
    assert lost[0] <= lost[1] * (1 + 1e-4) + 1e-6


@given(seed=st.integers(0, 2**20), size=st.floats(1e-20, 1e20))
def test_whole_numbers_are_off_by_half_a_scale_at_most(seed: int, size: float) -> None:
    kept = drawn(7, 5, seed=seed) * size
    kept[:, 2] = 0
    whole, scale = quantised(kept)
    assert whole.dtype == torch.int8
    assert int(whole.min()) >= -127
    assert ((dequantised(whole, scale) - kept).abs() <= scale * 0.5001).all()
    assert scale[2] == 0
    again, same = quantised(dequantised(whole, scale))
    assert torch.equal(again, whole)
    torch.testing.assert_close(same, scale)


def test_random_directions_keep_products_on_average() -> None:
    one, other = drawn(WIDTH, seed=1), drawn(WIDTH, seed=2)
    products = []
    for seed in range(600):
        basis = random_basis(WIDTH, 4, torch.Generator().manual_seed(seed))
        products.append(float(projected(one, basis) @ projected(other, basis)))
    spread = float(np.std(products)) / len(products) ** 0.5
    assert abs(float(np.mean(products)) - float(one @ other)) < 4 * spread
