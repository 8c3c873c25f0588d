from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.references import fmwiss as slow_fmwiss
from tests.references import pseudoseg as slow
from wilss.equations import kernels

CLOSE: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-12}


def normal(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


# -- score --------------------------------------------------------------------------------------------------


def test_score_map_equals_its_slow_twin_under_any_number_of_leading_dimensions():
    image, vectors = normal(2, 3, 6, 3, 4), normal(5, 6, seed=1)
    together = kernels.score_map(image, vectors)
    assert together.shape == (2, 3, 5, 3, 4)
    for i, j in np.ndindex(2, 3):
        expected = slow_fmwiss.score_map(image[i, j].numpy(), vectors.numpy())
        np.testing.assert_allclose(together[i, j].numpy(), expected, **CLOSE)


# -- propagate ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True])
def test_attention_rows_equal_their_slow_twin(masked):
    queries, keys = normal(2, 3, 8), normal(2, 5, 8, seed=1)
    valid = torch.tensor([[True, False, True, True, False], [False, False, False, True, False]])
    rows = kernels.attention_rows(queries, keys, valid if masked else None)
    for i in range(2):
        expected = slow.attention_rows(queries[i].numpy(), keys[i].numpy(), valid[i].numpy() if masked else None)
        np.testing.assert_allclose(rows[i].numpy(), expected, **CLOSE)


def test_leading_dimensions_of_queries_and_keys_broadcast():
    queries, keys = normal(4, 3, 2, 8), normal(3, 5, 8, seed=1)
    rows = kernels.attention_rows(queries, keys)
    assert rows.shape == (4, 3, 2, 5)
    torch.testing.assert_close(rows[1, 2], kernels.attention_rows(queries[1, 2], keys[2]), **CLOSE)


def test_attention_over_no_valid_token_is_even_and_finite():
    rows = kernels.attention_rows(normal(1, 2, 4) * 100, normal(1, 5, 4), torch.zeros(1, 5, dtype=torch.bool))
    torch.testing.assert_close(rows, torch.full_like(rows, 0.2), **CLOSE)


def test_propagate_equals_a_loop_over_cells():
    attention, maps = normal(2, 12, 12).softmax(dim=-1), normal(2, 3, 3, 4, seed=1)
    spread = kernels.propagate(attention, maps)
    assert spread.shape == maps.shape
    for b, c, i in np.ndindex(2, 3, 12):
        expected = sum(float(attention[b, i, j] * maps[b, c, j // 4, j % 4]) for j in range(12))
        assert float(spread[b, c, i // 4, i % 4]) == pytest.approx(expected, rel=1e-12)


def test_propagate_along_the_identity_changes_nothing_and_along_even_rows_gives_the_mean():
    maps = normal(3, 3, 4)
    assert torch.equal(kernels.propagate(torch.eye(12, dtype=maps.dtype), maps), maps)
    even = kernels.propagate(torch.full((12, 12), 1 / 12, dtype=maps.dtype), maps)
    torch.testing.assert_close(even, maps.mean(dim=(-2, -1), keepdim=True).expand_as(maps), **CLOSE)


# -- write --------------------------------------------------------------------------------------------------


SCORES = st.sampled_from([0.0, -1.0, 1.0, float("-inf"), 2.5]) | st.floats(-3, 3, width=32)
SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 4), st.integers(1, 4))


@settings(deadline=None)
@given(hnp.arrays(np.float32, SHAPES, elements=SCORES))
def test_first_greatest_is_the_first_of_the_greatest(scores):
    found = kernels.first_greatest(torch.from_numpy(scores))
    assert found.dtype == torch.uint8
    np.testing.assert_array_equal(found.numpy(), scores.argmax(axis=1))


def test_first_greatest_tells_255_channels_apart():
    scores = torch.eye(255).reshape(255, 5, 51)
    assert kernels.first_greatest(scores).flatten().tolist() == list(range(255))


def test_exact_keeps_float64_and_raises_the_rest():
    kept = normal(2)
    assert kernels.exact(kept) is kept
    assert kernels.exact(kept.half()).dtype == kernels.exact(kept.bfloat16()).dtype == torch.float32
