"""Perceptual hashes and near pairs against loops, then their limits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.references import duplicates as slow
from wilss.equations import duplicates


def picture(seed=0, side=duplicates.PICTURE):
    return np.random.default_rng(seed).random((side, side))


def test_frequencies_and_hash_equal_their_slow_twins():
    for seed in range(3):
        grey = picture(seed, 16) * 255.0
        low = duplicates.frequencies(grey)
        np.testing.assert_allclose(low, slow.frequencies(grey.tolist(), duplicates.SIDE), atol=1e-9)
        assert duplicates.hash_of(low) == slow.hash_of(low.tolist())


@pytest.mark.parametrize("turn", range(8))
def test_a_turns_hash_is_the_hash_of_the_turned_picture(turn):
    grey = picture(turn)
    low = duplicates.frequencies(grey)
    turned = duplicates.hash_of(duplicates.frequencies(duplicates.turned(grey, turn)))
    assert turned == int(duplicates.variants(low)[turn])
    assert len(duplicates.TURNS) == 8


def test_turns_are_what_they_are_called():
    grey = picture(1)
    named = dict(zip(duplicates.TURNS, (duplicates.turned(grey, turn) for turn in range(8)), strict=True))
    np.testing.assert_array_equal(named["as it is"], grey)
    np.testing.assert_array_equal(named["mirrored"], grey[:, ::-1])
    np.testing.assert_array_equal(named["turned by 180 degrees"], np.rot90(grey, 2))
    np.testing.assert_array_equal(named["turned by 90 degrees to the left"], np.rot90(grey))
    np.testing.assert_array_equal(named["turned by 90 degrees to the right"], np.rot90(grey, -1))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, duplicates.RADIUS), st.integers(1, 60))
def test_close_pairs_are_those_of_all_pairs(seed, radius, count):
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**63, count, dtype=np.uint64)
    asked = hashes[rng.permutation(count)].copy()
    for place in range(count):  # up to nine bits away from one that is there
        for bit in rng.choice(64, int(rng.integers(0, 10)), replace=False):
            asked[place] ^= np.uint64(1) << np.uint64(bit)
    found = [tuple(pair) for pair in duplicates.close_pairs(hashes, asked, radius).tolist()]
    assert found == slow.close_pairs(hashes, asked, radius)


def test_close_pairs_of_none_of_many_equal_ones_and_of_too_wide_a_radius(monkeypatch):
    nothing = np.empty(0, np.uint64)
    assert duplicates.close_pairs(nothing, nothing, 7).shape == (0, 2)
    monkeypatch.setattr(duplicates, "_AT_ONCE", 7)
    equal = np.full(9, 5, np.uint64)
    assert len(duplicates.close_pairs(equal, equal, 0)) == 81
    with pytest.raises(ValueError, match="from 0 to 7"):
        duplicates.close_pairs(equal, equal, 8)


def test_difference_equals_its_slow_twin_and_is_0_of_a_lighter_copy():
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 200, (2, 16, 16, 3)).astype(np.uint8)
    assert duplicates.difference(one, other, 4) == pytest.approx(slow.difference(one.tolist(), other.tolist(), 4))
    assert duplicates.difference(one, one + np.uint8(30), 4) == pytest.approx(0)


def test_a_small_thing_on_the_same_ground_is_a_difference():
    ground = np.full((64, 64, 3), 120, np.uint8)
    other = ground.copy()
    other[8:16, 8:16] = 250
    assert np.abs(ground.astype(int) - other).mean() / 255 < 0.01
    assert duplicates.difference(ground, other) > 0.4


def test_distances_without_numpy_2(monkeypatch):
    one, other = np.random.default_rng(0).integers(0, 2**63, (2, 50), dtype=np.uint64)
    new = duplicates.distances(one, other)
    monkeypatch.delattr(np, "bitwise_count", raising=False)
    np.testing.assert_array_equal(duplicates.distances(one, other), new)
    assert new.tolist() == [bin(int(a) ^ int(b)).count("1") for a, b in zip(one, other, strict=True)]
