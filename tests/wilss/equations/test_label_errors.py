"""Signs of label errors against loops, then their limits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.references import label_errors as slow
from wilss.equations import label_errors


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 1.0])
def test_presence_equals_its_slow_twin(share):
    maps = np.random.default_rng(0).random((3, 7, 9))
    np.testing.assert_allclose(label_errors.presence(maps, share), slow.presence(maps, share))
    if share == 1:
        np.testing.assert_allclose(label_errors.presence(maps, share), maps.mean(axis=(1, 2)))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_confident_doubts_equal_their_slow_twin(seed):
    rng = np.random.default_rng(seed)
    present, tags = rng.random((12, 4)), rng.random((12, 4)) < 0.4
    present[rng.random(present.shape) < 0.1] = np.nan
    found = label_errors.confident_doubts(present, tags)
    unsupported, missing = slow.confident_doubts(present.tolist(), tags.tolist())
    assert {tuple(pair) for pair in np.argwhere(found.unsupported).tolist()} == unsupported
    assert {tuple(pair) for pair in np.argwhere(found.missing).tolist()} == missing


def test_a_wrong_tag_is_doubted_and_a_missing_one_named_and_a_class_of_all_images_is_not():
    present = np.array([[0.9, 0.9], [0.8, 0.9], [0.05, 0.1], [0.1, 0.9], [0.9, 0.9]])
    tags = np.array([[1, 1], [1, 1], [1, 1], [0, 1], [0, 1]], bool)
    found = label_errors.confident_doubts(present, tags)
    assert np.argwhere(found.unsupported).tolist() == [[2, 0]]
    assert np.argwhere(found.missing).tolist() == [[4, 0]]


def test_relative_is_at_most_1_and_keeps_what_is_not_known():
    values = np.array([[0.2, np.nan, 0.0], [0.4, np.nan, 0.0], [0.8, np.nan, 0.5]])
    found = label_errors.relative(values)
    np.testing.assert_allclose(found[:, 0], [0.5, 1, 1])
    assert np.isnan(found[:, 1]).all()
    np.testing.assert_allclose(found[:, 2], 1)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), max_size=20), st.floats(0.5, 5), st.integers(1, 8))
def test_unusual_equals_its_slow_twin(values, cut, least):
    found = label_errors.unusual(np.array(values), cut, least)
    np.testing.assert_allclose(found, slow.unusual(values, cut, least), atol=1e-9)


def test_unusual_is_half_at_twice_the_cut_and_nothing_of_few_or_equal_ones():
    values = np.exp(np.array([-1.0, -1, 0, 0, 1, 1, 0, 0, -1, 1, 8 * 1.4826]))
    assert label_errors.unusual(values, 4.0, 8)[-1] == pytest.approx(0.5)
    assert not label_errors.unusual(values[-3:], 4.0, 8).any()
    assert not label_errors.unusual(np.array([0.1] * 9 + [0.9]), 4.0, 8).any()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.floats(0, 1), st.floats(0, 0.6))
def test_stray_parts_and_the_rim_equal_their_slow_twins(seed, most, far):
    rng = np.random.default_rng(seed)
    mask = rng.random((9, 12)) < rng.choice([0.1, 0.3, 0.6])
    found = {tuple(pixel) for pixel in np.argwhere(label_errors.stray_parts(mask, most=most, far=far)).tolist()}
    assert found == slow.stray_parts(mask.tolist(), most, far)
    assert label_errors.rim_share(mask, far / 2) == pytest.approx(slow.rim_share(mask.tolist(), far / 2))


def test_a_speck_far_away_is_stray_and_stretches_the_box():
    mask = np.zeros((40, 60), bool)
    mask[5:25, 5:25] = True
    near = mask.copy()
    near[26:28, 10:12] = True
    assert not label_errors.stray_parts(near, most=0.05, far=0.1).any()
    far = mask.copy()
    far[38, 55] = True
    stray = label_errors.stray_parts(far, most=0.05, far=0.1)
    assert stray.sum() == 1
    assert label_errors.stretch(far, stray) == pytest.approx(1 - 400 / (34 * 51))
    assert label_errors.stretch(mask, np.zeros_like(mask)) == 0
    assert label_errors.stretch(np.zeros_like(mask), np.zeros_like(mask)) == 0
    assert label_errors.rim_share(np.zeros_like(mask), 0.1) == 0


def test_systematic_pairs_equal_their_slow_twin():
    rng = np.random.default_rng(0)
    counts, images = rng.integers(0, 100, (5, 5)), rng.integers(0, 6, (5, 5))
    counts[2] = 0
    found = label_errors.systematic(counts, images, share=0.2, least=3)
    assert found == slow.systematic(counts.tolist(), images.tolist(), 0.2, 3)
    assert found
