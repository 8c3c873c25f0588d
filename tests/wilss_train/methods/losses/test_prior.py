import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.references import prior as slow
from wilss_train.methods.losses.prior import prior_shift, softmax_shift

shares = st.floats(1e-6, 1 - 1e-6)


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits))


@given(st.lists(st.tuples(st.floats(1e-4, 1 - 1e-4), shares, shares), min_size=1, max_size=5))
def test_a_shifted_logit_equals_bayes_rule_by_its_slow_twin(rows):
    posterior, trained, expected = (np.array(column) for column in zip(*rows, strict=True))
    logits = np.log(posterior / (1 - posterior))
    shifted = sigmoid(logits + prior_shift(trained, expected))
    np.testing.assert_allclose(shifted, slow.under_another_prior(posterior, trained, expected), rtol=1e-7, atol=1e-12)


@given(st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_shifted_logits_of_a_softmax_equal_bayes_rule_by_its_slow_twin(classes, seed):
    draw = np.random.default_rng(seed)
    posterior, trained, expected = draw.dirichlet(np.ones(classes + 1), size=3) * 0.999 + 0.001 / (classes + 1)
    shifts = np.append(softmax_shift(trained[:-1], expected[:-1]), 0.0)
    shifted = posterior * np.exp(shifts)
    wanted = slow.of_a_softmax_under_another_prior(posterior, trained[:-1], expected[:-1])
    np.testing.assert_allclose(shifted / shifted.sum(), wanted, rtol=1e-9)


def test_one_class_of_a_softmax_is_as_one_with_a_sigmoid():
    here, there = np.array([0.12]), np.array([0.012])
    np.testing.assert_allclose(softmax_shift(here, there), prior_shift(here, there), rtol=1e-12)


@pytest.mark.parametrize("shares", [[0.5, 0.5], [0.7, 0.4], [0.0, 0.1]])
def test_what_are_no_shares_of_a_softmax_is_refused(shares):
    with pytest.raises(ValueError, match="above 0, with a sum below 1"):
        softmax_shift(np.array(shares), np.array([0.1, 0.1]))


def test_the_same_prior_moves_nothing_and_the_way_back_is_the_way_there():
    here, there = np.array([0.12, 0.3]), np.array([0.012, 0.6])
    assert prior_shift(here, here).tolist() == [0.0, 0.0]
    np.testing.assert_allclose(prior_shift(here, there), -prior_shift(there, here))


def test_a_class_on_every_picture_and_a_tenth_of_the_world_sinks_by_somewhat_more_than_log_ten():
    """Of rare pixels the shift is the log of the ratio; of frequent ones more."""
    assert prior_shift(np.array([1e-6]), np.array([1e-7])).item() == pytest.approx(-math.log(10), abs=1e-5)
    assert prior_shift(np.array([0.12]), np.array([0.012])).item() == pytest.approx(-2.4184, abs=1e-4)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, math.nan])
def test_what_is_no_share_is_refused(share):
    with pytest.raises(ValueError, match="above 0 and below 1"):
        prior_shift(np.array([share]), np.array([0.5]))
