import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.references import regions as slow
from wilss.equations import regions as fast
from wilss.equations.kernels import first_greatest

SIDES = st.integers(1, 9)
MAPS = st.tuples(SIDES, SIDES).flatmap(lambda size: hnp.arrays(np.int32, size, elements=st.integers(-1, 4)))
MASKS = st.tuples(st.integers(1, 5), SIDES, SIDES).flatmap(lambda size: hnp.arrays(np.bool_, size))


def partition(masks, scores=None):
    order = fast.from_below([int(mask.sum()) for mask in masks], scores)
    return fast.partition(order, lambda place: torch.from_numpy(masks[place]), *masks.shape[1:])


def probabilities(count, height, width, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(count, height, width))).float().softmax(dim=0)


# -- proposals as a partition -------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(MASKS, st.lists(st.sampled_from([0.25, 0.5, 0.75]), min_size=5, max_size=5), st.booleans())
def test_partition_equals_its_slow_twin(masks, scores, scored):
    given_scores = scores[: len(masks)] if scored else None
    np.testing.assert_array_equal(partition(masks, given_scores).numpy(), slow.partition(masks, given_scores))


def test_through_a_hole_the_mask_below_is_seen_and_beside_all_masks_there_is_no_region():
    ring, below = np.ones((5, 5), bool), np.ones((5, 6), bool)
    ring[1:4, 1:4] = False
    masks = np.stack([np.pad(ring, ((0, 0), (0, 1))), below])
    masks[1, 0, 5] = False
    regions = partition(masks)
    assert regions[2, 2] == 1
    assert regions[0, 0] == 0
    assert regions[0, 5] == -1


def test_of_five_hundred_masks_one_is_held_at_a_time():
    masks, most = [], 0

    def mask_of(place):
        nonlocal most
        mask = torch.zeros(20, 30, dtype=torch.bool)
        mask[place % 20, place % 30] = True
        masks.append(weakref.ref(mask))
        most = max(most, sum(one() is not None for one in masks))
        return mask

    regions = fast.partition(range(500), mask_of, 20, 30)
    assert most == 1
    assert regions.max() == 499


def test_numbers_without_gaps_keep_their_order():
    numbers, count = fast.numbered(torch.tensor([[7, -1], [3, 7]]))
    assert numbers.tolist() == [[1, -1], [0, 1]]
    assert count == 2
    assert fast.numbered(torch.tensor([-1, -1]))[1] == 0
    assert fast.numbered(torch.tensor([5]))[0].tolist() == [0]


# -- the vote -----------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(MAPS, st.integers(1, 4))
def test_vote_equals_its_slow_twin(regions, count):
    maps = probabilities(count, *regions.shape)
    expected = slow.vote(maps.numpy(), regions)
    np.testing.assert_allclose(fast.vote(maps, torch.from_numpy(regions)).numpy(), expected, rtol=0, atol=1e-6)


def test_among_equals_the_first_label_wins_the_vote():
    maps = torch.tensor([[[0.0, 1.0]], [[1.0, 0.0]]])
    assert fast.vote(maps, torch.zeros(1, 2, dtype=torch.int32))[:, 0, 0].tolist() == [0.5, 0.5]
    assert first_greatest(fast.vote(maps, torch.zeros(1, 2, dtype=torch.int32))).tolist() == [[0, 0]]


def test_without_regions_or_with_a_region_a_pixel_labels_stay():
    maps = probabilities(3, 4, 5)
    nowhere = torch.full((4, 5), -1, dtype=torch.int32)
    assert fast.vote(maps, nowhere).equal(maps)
    each = torch.arange(20, dtype=torch.int32).reshape(4, 5)
    assert first_greatest(fast.vote(maps, each)).equal(first_greatest(maps))


def test_a_small_region_inside_a_large_one_keeps_its_own_label():
    labels = torch.zeros(6, 6, dtype=torch.int32)
    labels[2, 2] = 1
    maps = torch.stack([labels == 0, labels == 1]).float()
    assert first_greatest(fast.vote(maps, labels))[2, 2] == 1
    assert first_greatest(fast.vote(maps, torch.zeros_like(labels)))[2, 2] == 0


# -- regions of alike patches -------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", [(1, 1), (1, 5), (4, 5), (3, 3)])
@pytest.mark.parametrize("least", [-1.0, 0.2, 0.6, 0.9, 1.1])
@pytest.mark.parametrize("seed", range(3))
def test_agglomeration_equals_its_slow_twin(grid, least, seed):
    features = np.random.default_rng(seed).normal(size=(3, *grid)) * 4
    found = fast.agglomerate(torch.from_numpy(features), least=least)
    np.testing.assert_array_equal(found.numpy(), slow.agglomerate(features, least))


def test_only_patches_that_touch_are_joined():
    features = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])[:, None]
    assert fast.agglomerate(features, least=0.9).tolist() == [[0, 1, 2]]
    assert fast.agglomerate(torch.ones(2, 3, 4), least=0.9).max() == 0


def test_regions_of_patches_at_pixels():
    assert fast.at_pixels(torch.tensor([[0, 1], [2, 2]]), 2, 4).tolist() == [[0, 0, 1, 1], [2, 2, 2, 2]]


# -- attention inside regions -------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(MAPS, st.tuples(SIDES, SIDES))
def test_the_region_of_a_patch_equals_its_slow_twin(regions, grid):
    found = fast.of_patches(torch.from_numpy(regions), grid)
    np.testing.assert_array_equal(found.numpy(), slow.of_patches(regions, grid))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(0, 10_000), st.sampled_from([0.2, 0.6, 0.9]))
def test_merging_alike_regions_equals_its_slow_twin(length, seed, least):
    random = np.random.default_rng(seed)
    regions, features = random.integers(-1, 6, length), random.normal(size=(length, 3)) * 5
    found = fast.merge_alike(torch.from_numpy(regions), torch.from_numpy(features), least=least)
    np.testing.assert_array_equal(found.numpy(), slow.merge_alike(regions, features, least))


def test_merging_in_blocks_of_rows_changes_nothing(monkeypatch):
    random = np.random.default_rng(1)
    regions, features = torch.arange(60), torch.from_numpy(random.normal(size=(60, 4)))
    whole = fast.merge_alike(regions, features, least=0.9)
    monkeypatch.setattr(fast, "_BLOCK", 60 * 7)
    assert fast.merge_alike(regions, features, least=0.9).equal(whole)
    assert 1 < int(whole.max()) < 59


def test_regions_are_joined_along_a_chain():
    """The first and the last are not alike, each is like its neighbour: DBSCAN with one a cluster joins them all."""
    angles = torch.arange(4) * 0.5
    features = torch.stack([angles.cos(), angles.sin()], dim=1)
    assert fast.merge_alike(torch.arange(4), features, least=0.8).tolist() == [0, 0, 0, 0]
    assert fast.merge_alike(torch.arange(4), features, least=0.9).tolist() == [0, 1, 2, 3]
    assert fast.merge_alike(torch.tensor([-1, -1]), features[:2]).tolist() == [-1, -1]


@pytest.mark.parametrize("seed", range(4))
def test_attention_within_regions_is_the_softmax_over_them(seed):
    random = np.random.default_rng(seed)
    logits, scope = random.normal(size=(9, 9)), random.integers(-1, 3, 9)
    affinity = torch.from_numpy(logits).softmax(dim=-1)
    found = torch.cat([fast.within(affinity[r], torch.from_numpy(scope), r) for r in (slice(0, 4), slice(4, 9))])
    np.testing.assert_allclose(found.numpy(), slow.scoped_softmax(logits, scope), rtol=0, atol=1e-6)


def test_a_row_with_nothing_left_attends_to_itself():
    scope, rows = torch.tensor([0, 1, -1]), slice(0, 3)
    affinity = torch.tensor([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.5, 0.5, 0.5]])
    assert fast.within(affinity, scope, rows).equal(torch.eye(3))
