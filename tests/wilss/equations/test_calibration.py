"""Calibration against loops over pixels, then its limits."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.references import calibration as slow
from wilss.equations import calibration


def pixels(count=400, seed=0):
    """Confidences, and what is right about as often as confidence squared."""
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.01, 0.99, count)
    return confidence, rng.uniform(size=count) < confidence**2


# -- sureness -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tags", [1, 2, 4])
def test_sureness_equals_its_slow_twin(tags):
    rng = np.random.default_rng(tags)
    evidence, labels = rng.exponential(size=(tags, 5, 7)), rng.integers(0, tags + 1, (5, 7))
    background = rng.exponential(size=(5, 7))
    for own in (background, np.ones((5, 7))):
        found = calibration.sureness(*map(torch.from_numpy, (evidence, labels, own)))
        np.testing.assert_allclose(found.numpy(), slow.sureness(evidence, labels, own), rtol=1e-12)
    assert torch.equal(calibration.sureness(torch.from_numpy(evidence), torch.from_numpy(labels)), found)


def test_the_greatest_evidence_is_at_least_even_and_another_label_at_most():
    evidence = torch.rand(3, 6, 6, generator=torch.Generator().manual_seed(0)) * 2
    best = torch.cat([torch.ones(1, 6, 6), evidence]).argmax(dim=0)
    assert calibration.sureness(evidence, best).min() >= 0.5
    assert calibration.sureness(evidence, (best + 1) % 4).max() <= 0.5


def test_sureness_of_no_evidence_of_none_asked_and_of_a_tie():
    nothing = torch.zeros(2, 1, 1)
    assert calibration.sureness(nothing, torch.zeros(1, 1, dtype=torch.uint8)).item() == 1
    assert calibration.sureness(nothing, torch.ones(1, 1, dtype=torch.uint8)).item() == 0
    assert calibration.sureness(torch.zeros(0, 2, 3), torch.zeros(2, 3, dtype=torch.uint8)).tolist() == [[1.0] * 3] * 2
    assert calibration.sureness(torch.ones(1, 1, 1), torch.ones(1, 1, dtype=torch.uint8)).item() == 0.5


# -- reliability --------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60), st.sampled_from([1, 3, 15]))
def test_the_expected_error_equals_its_slow_twin(some, bins):
    confidence, right = (list(part) for part in zip(*some, strict=True))
    sums = calibration.binned(np.array(confidence), np.array(right), 15)
    assert calibration.expected_error(sums, bins) == pytest.approx(
        slow.expected_error(confidence, right, bins), abs=1e-9
    )


def test_a_diagram_by_hand():
    sums = calibration.binned(np.array([0.1, 0.2, 0.9, 1.0]), np.array([False, True, True, True]), 10)
    found = calibration.reliability(sums, 2)
    np.testing.assert_allclose(found.confidence, [0.15, 0.95])
    np.testing.assert_allclose(found.right, [0.5, 1.0])
    assert found.pixels.tolist() == [2, 2]
    assert calibration.expected_error(sums, 2) == pytest.approx((0.35 + 0.05) / 2)


def test_sums_of_images_are_added():
    confidence, right = pixels()
    parts = [calibration.binned(confidence[part], right[part]) for part in (slice(150), slice(150, None))]
    np.testing.assert_allclose(parts[0] + parts[1], calibration.binned(confidence, right))


def test_no_pixel_has_no_error_and_no_curve():
    sums = calibration.binned(np.zeros(0), np.zeros(0, bool))
    assert math.isnan(calibration.expected_error(sums))
    assert np.isnan(calibration.reliability(sums).right).all()
    assert calibration.isotonic(sums) == ()


@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan])
def test_what_is_no_confidence_is_refused(bad):
    with pytest.raises(ValueError, match="in \\[0, 1\\]"):
        calibration.binned(np.array([0.5, bad]), np.array([True, True]))


# -- the curve ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_the_curve_is_the_slow_ones_where_it_may_have_as_many_knots(seed):
    confidence, right = pixels(60, seed)
    sums = calibration.binned(confidence, right, 15)
    count, total, hits = sums[:, sums[0] > 0]
    expected = slow.isotonic_levels((hits / count).tolist(), count.tolist())
    curve = calibration.isotonic(sums, 15)
    assert sorted(set(np.round(expected, 4).tolist())) == [height for _, height in curve]
    for x, height in curve:  # each knot at the mean confidence of its level
        level = np.isclose(np.round(expected, 4), height)
        assert x == pytest.approx(total[level].sum() / count[level].sum(), abs=1e-4)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 1000), st.integers(1, 400), st.integers(1, 12))
def test_a_curve_rises_and_has_few_knots(seed, count, knots):
    curve = calibration.isotonic(calibration.binned(*pixels(count, seed)), knots)
    x, y = zip(*curve, strict=True)
    assert 1 <= len(curve) <= knots
    assert all(a < b for a, b in itertools.pairwise(x))
    assert all(a <= b for a, b in itertools.pairwise(y))
    assert min(x + y) >= 0
    assert max(x + y) <= 1


def test_a_curve_mends_confidences():
    confidence, right = pixels(40_000)
    curve = calibration.isotonic(calibration.binned(confidence, right))
    fresh, happened = pixels(40_000, seed=1)
    before, after = (
        calibration.expected_error(calibration.binned(some, happened))
        for some in (fresh, calibration.calibrated(fresh, curve))
    )
    assert before > 0.15
    assert after < 0.02


def test_calibrated_equals_its_slow_twin_and_is_level_outside():
    curve = ((0.2, 0.1), (0.5, 0.1), (0.6, 0.9))
    some = np.linspace(0, 1, 41)
    np.testing.assert_allclose(calibration.calibrated(some, curve), [slow.on_curve(x, curve) for x in some], atol=1e-12)
    assert calibration.calibrated(np.array([0.0, 1.0]), curve).tolist() == [0.1, 0.9]
    np.testing.assert_array_equal(calibration.calibrated(some, ()), some)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 1000), st.floats(0, 1))
def test_what_is_below_the_least_confidence_is_below_what_is_wanted(seed, wanted):
    curve = calibration.isotonic(calibration.binned(*pixels(300, seed)))
    least, some = calibration.least_confidence(curve, wanted), np.linspace(0, 1, 997)
    high, low = (
        calibration.calibrated(some[some >= least + 1e-9], curve),
        calibration.calibrated(some[some < least - 1e-9], curve),
    )
    assert (high >= wanted - 1e-9).all()
    assert (low < wanted + 1e-9).all()


def test_the_least_confidence_at_its_limits():
    curve = ((0.2, 0.3), (0.4, 0.5), (0.8, 0.5), (0.9, 0.7))
    assert calibration.least_confidence(curve, 0.3) == 0
    assert calibration.least_confidence(curve, 0.4) == pytest.approx(0.3)
    assert calibration.least_confidence(curve, 0.5) == pytest.approx(0.4)  # the first place where it is so high
    assert calibration.least_confidence(curve, 0.71) == math.inf
    assert calibration.least_confidence((), 0.6) == 0.6
