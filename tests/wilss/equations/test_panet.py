from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.references import panet as slow
from wilss.data.images import to_pixels
from wilss.data.taxonomy import VOID
from wilss.equations import panet

CLOSE: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-12}


def normal(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def some(*shape, share=0.5, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).uniform(size=shape) < share)


def support_map(*shape, seed=0):
    """Background, foreground and unknown pixels."""
    return torch.from_numpy(np.random.default_rng(seed).choice([0, 1, VOID], size=shape).astype(np.uint8))


# -- pooling_weights ----------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(*(st.integers(1, 9) for _ in range(2)), *(st.integers(1, 24) for _ in range(2)), st.integers(0, 99))
def test_pooling_weights_are_the_adjoint_of_upsampling(h, w, height, width, seed):
    features, mask = normal(3, h, w, seed=seed), normal(height, width, seed=seed + 1).abs()
    upsampled = (to_pixels(features, height, width) * mask).sum(dim=(-2, -1))
    weights = panet.pooling_weights(mask, (h, w))
    torch.testing.assert_close((features * weights).sum(dim=(-2, -1)), upsampled, rtol=1e-9, atol=1e-10)


def test_pooling_weights_sum_to_the_masks_area_and_are_not_negative():
    masks = some(2, 3, 23, 17, share=0.3)
    weights = panet.pooling_weights(masks, (5, 4))
    assert weights.shape == (2, 3, 5, 4)
    assert weights.dtype == torch.float32
    assert weights.min() >= 0
    torch.testing.assert_close(weights.sum(dim=(-2, -1)), masks.sum(dim=(-2, -1)).float())


def test_a_grid_of_the_masks_own_size_gives_the_mask():
    mask = some(6, 7)
    assert torch.equal(panet.pooling_weights(mask, (6, 7)), mask.float())


# -- prototypes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(9, 14), (2, 3)])
def test_masked_average_equals_its_slow_twin_alone_and_in_batches(size):
    features, masks = normal(2, 5, 3, 4), some(2, *size, share=0.7)
    vectors, areas = panet.masked_average(features, masks)
    for i in range(2):
        expected, area = slow.masked_average(features[i].numpy(), masks[i].numpy())
        np.testing.assert_allclose(vectors[i].numpy(), expected, **CLOSE)
        assert areas[i].item() == area
        torch.testing.assert_close(panet.masked_average(features[i], masks[i])[0], vectors[i], **CLOSE)


def test_masked_average_of_half_precision_is_computed_in_float32():
    features = (normal(5, 30, 40) * 50).half()
    vector, area = panet.masked_average(features, torch.ones(480, 640, dtype=torch.bool))
    assert vector.dtype == torch.float32
    assert area.item() == 480 * 640  # far beyond what float16 holds
    torch.testing.assert_close(vector, features.float().mean(dim=(-2, -1)), rtol=1e-4, atol=1e-4)


def test_an_empty_mask_averages_to_zeros_of_area_zero():
    vector, area = panet.masked_average(normal(5, 3, 4), torch.zeros(9, 8, dtype=torch.bool))
    assert vector.tolist() == [0.0] * 5
    assert area.item() == 0


def test_the_prototype_of_a_constant_feature_map_is_that_constant():
    constant = normal(5)
    features = constant[:, None, None].expand(3, 5, 4, 6)
    masks = some(3, 11, 13, share=0.2)
    torch.testing.assert_close(panet.prototype(features, masks), constant, **CLOSE)
    torch.testing.assert_close(panet.prototype(features, ~masks), constant, **CLOSE)


def test_a_full_mask_gives_the_mean_of_the_upsampled_features():
    features = normal(1, 5, 3, 4)
    full = torch.ones(1, 12, 16, dtype=torch.bool)
    expected = to_pixels(features[0], 12, 16).mean(dim=(-2, -1))
    torch.testing.assert_close(panet.prototype(features, full), expected, **CLOSE)


@pytest.mark.parametrize("empty", [(), (1,), (0, 2), (0, 1, 2)])
def test_prototype_equals_its_slow_twin_whichever_shots_are_empty(empty):
    features, masks = normal(3, 5, 3, 4), some(3, 7, 9)
    masks[list(empty)] = False
    expected = slow.prototype(features.numpy(), masks.numpy())
    np.testing.assert_allclose(panet.prototype(features, masks).numpy(), expected, **CLOSE)


def test_every_shot_counts_the_same_whatever_its_area():
    features = torch.stack([torch.zeros(2, 3, 3), torch.ones(2, 3, 3)]).double()
    masks = torch.zeros(2, 9, 9, dtype=torch.bool)
    masks[0], masks[1, 4, 4] = True, True
    torch.testing.assert_close(panet.prototype(features, masks), torch.full((2,), 0.5, dtype=torch.float64))


def test_the_mean_of_no_shot_is_zeros():
    assert panet.mean_of_filled(torch.zeros(0, 4), torch.zeros(0)).tolist() == [0.0] * 4


def test_what_features_are_outside_a_mask_by_more_than_a_cell_does_not_matter():
    features, mask = normal(1, 5, 8, 8), torch.zeros(1, 32, 32, dtype=torch.bool)
    mask[0, :8, :8] = True
    other = features.clone()
    other[:, :, 3:, 3:] = 7.0
    assert torch.equal(panet.prototype(features, mask), panet.prototype(other, mask))


def supports(seed=0):
    """Five supports of three ways, of different sizes."""
    grids, sizes = [(3, 4), (4, 3), (3, 3), (2, 5), (3, 4)], [(9, 12), (13, 8), (9, 9), (5, 11), (3, 4)]
    features = [normal(6, *grid, seed=seed + i) for i, grid in enumerate(grids)]
    maps = [support_map(*size, seed=seed + i) for i, size in enumerate(sizes)]
    return features, maps, [1, 2, 2, 3, 1]


def test_prototypes_equal_their_slow_twin_for_supports_of_many_sizes():
    features, maps, ways = supports()
    found, present = panet.prototypes(features, maps, ways, 4)
    expected = slow.prototypes([f.numpy() for f in features], [m.numpy() for m in maps], ways, 4)
    np.testing.assert_allclose(found.numpy(), expected, **CLOSE)
    assert present.tolist() == [True, True, True, True, False]


def test_prototypes_of_one_way_are_those_of_its_masks():
    features, maps = normal(3, 6, 3, 4), support_map(3, 9, 12)
    found, _ = panet.prototypes(list(features), list(maps), [1, 1, 1], 1)
    torch.testing.assert_close(found[0], panet.prototype(features, maps == 0), **CLOSE)
    torch.testing.assert_close(found[1], panet.prototype(features, maps == 1), **CLOSE)


def test_an_empty_way_and_a_full_support_are_said_to_be_absent():
    features, maps, ways = supports()
    maps = [torch.ones_like(one) for one in maps]  # no background anywhere
    maps[3][:] = VOID  # and nothing of way 3
    found, present = panet.prototypes(features, maps, ways, 3)
    assert present.tolist() == [False, True, True, False]
    assert not found[[0, 3]].any()


def test_prototypes_pass_gradients_to_every_support_that_is_in_one():
    features, maps, ways = supports()
    leaves = [one.requires_grad_() for one in features]
    panet.prototypes(leaves, maps, ways, 3)[0].square().sum().backward()
    assert all(one.grad.abs().sum() > 0 for one in leaves)


def test_prototypes_of_unequal_lists_are_refused():
    features, maps, ways = supports()
    with pytest.raises(ValueError, match="as many features, maps and ways"):
        panet.prototypes(features, maps[1:], ways, 3)
    with pytest.raises(ValueError, match="as many features, maps and ways"):
        panet.prototypes([], [], [], 3)


# -- scores and masks ---------------------------------------------------------------------------------------


def test_scores_equal_their_slow_twin_alone_and_in_batches():
    features, vectors = normal(2, 6, 3, 4), normal(3, 6, seed=1)
    together = panet.scores(features, vectors, 20.0)
    for one, whole in zip(features, together, strict=True):
        np.testing.assert_allclose(whole.numpy(), slow.scores(one.numpy(), vectors.numpy(), 20.0), **CLOSE)
        torch.testing.assert_close(panet.scores(one, vectors), whole, **CLOSE)


def test_scores_do_not_see_lengths_and_scale_with_alpha():
    features, vectors = normal(6, 3, 4), normal(3, 6, seed=1)
    found = panet.scores(features, vectors, 1.0)
    torch.testing.assert_close(panet.scores(features * 7, vectors * 0.01, 20.0), 20 * found, **CLOSE)
    assert found.abs().max() <= 1 + 1e-12


def test_a_cell_that_is_a_prototype_scores_alpha_and_a_prototype_of_zeros_nothing():
    vectors = torch.stack([torch.zeros(6, dtype=torch.float64), normal(6)])
    found = panet.scores(vectors[1].reshape(6, 1, 1) * 3, vectors)
    torch.testing.assert_close(found.flatten(), torch.tensor([0.0, 20.0], dtype=torch.float64), **CLOSE)


def test_probabilities_equal_their_slow_twin_and_sum_to_one():
    maps = normal(4, 3, 5) * 20
    found = panet.probabilities(maps)
    np.testing.assert_allclose(found.numpy(), slow.probabilities(maps.numpy()), **CLOSE)
    torch.testing.assert_close(found.sum(dim=-3), torch.ones(3, 5, dtype=torch.float64), **CLOSE)


def test_the_label_map_is_the_same_of_scores_and_of_probabilities():
    maps = normal(4, 3, 5)
    np.testing.assert_array_equal(panet.label_map(maps).numpy(), slow.label_map(maps.numpy()))
    assert torch.equal(panet.label_map(maps), panet.label_map(panet.probabilities(maps)))


def test_equal_scores_are_the_background():
    assert not panet.label_map(torch.zeros(3, 2, 2)).any()


def test_what_is_absent_cannot_win_and_has_no_probability():
    maps, present = normal(4, 3, 5), torch.tensor([True, False, True, False])
    found = panet.with_absent(maps, present)
    assert set(panet.label_map(found).flatten().tolist()) <= {0, 2}
    soft = panet.probabilities(found)
    assert not soft[~present].any()
    torch.testing.assert_close(soft[present], panet.probabilities(maps[present]), **CLOSE)
    assert torch.equal(panet.with_absent(maps, torch.ones(4, dtype=torch.bool)), maps)


def test_absence_can_differ_from_image_to_image():
    maps, present = normal(2, 3, 4, 5), torch.tensor([[True, True, False], [True, False, True]])
    found = panet.with_absent(maps, present)
    for i in range(2):
        assert torch.equal(found[i], panet.with_absent(maps[i], present[i]))


def test_a_class_that_is_alone_against_the_background_wins_where_it_is_nearer():
    features = torch.zeros(2, 4, 4, dtype=torch.float64)
    features[0], features[1, 1:3, 1:3], features[0, 1:3, 1:3] = 1.0, 1.0, 0.0
    known = torch.zeros(4, 4, dtype=torch.uint8)
    known[1:3, 1:3] = 1
    vectors, _ = panet.prototypes([features], [known], [1], 1)
    assert torch.equal(panet.label_map(panet.scores(features, vectors)), known)


def test_scores_have_the_right_gradient_for_features_and_supports():
    features, masks = normal(2, 3, 2, 3).requires_grad_(), some(2, 5, 4)

    def whole(x):
        vectors = torch.stack([panet.prototype(x, ~masks), panet.prototype(x, masks)])
        return panet.scores(x, vectors, 2.0)

    assert torch.autograd.gradcheck(whole, (features,))


# -- a bias of the background -------------------------------------------------------------------------------


def queries(count=4, ways=2, seed=0):
    """Scores, labels with VOID, and the class of each way; the third query has a way that is absent."""
    found = []
    for i in range(count):
        maps = normal(ways + 1, 5, 6, seed=seed + i) * 2
        if i == 2:
            maps[1] = -np.inf
        labels = np.random.default_rng(seed + i).choice([*range(ways + 1), VOID], size=(5, 6))
        found.append((maps, torch.from_numpy(labels.astype(np.uint8)), [7 + i % 3, 12][:ways]))
    return found


@pytest.mark.parametrize("ways", [1, 2])
def test_counts_by_bias_equal_those_of_labels_under_each_bias(ways):
    tried = torch.tensor([-2.5, -0.31, 0.0, 0.4, 3.0], dtype=torch.float64)
    for maps, labels, _ in queries(ways=ways):
        found = panet.counts_by_bias(maps, labels, tried)
        assert found.shape == (ways, 5, 3)
        for place, bias in enumerate(tried.tolist()):
            slowly = slow.counts_with_bias(maps.numpy(), labels.numpy(), bias)
            assert found[:, place].tolist() == [slowly[way] for way in range(1, ways + 1)]
            said = panet.label_map(panet.with_bias(maps, bias))
            right = [(said == way) & (labels == way) for way in range(1, ways + 1)]
            assert found[:, place, 0].tolist() == [int(one.sum()) for one in right]


@pytest.mark.parametrize("seed", [0, 10, 20])
def test_the_best_bias_is_that_of_the_slow_twin(seed):
    tried, counts = panet.biases(8.0).double(), dict[int, Any]()
    several = queries(ways=2, seed=seed)
    for maps, labels, classes in several:
        for way, one in zip(classes, panet.counts_by_bias(maps, labels, tried), strict=True):
            counts[way] = counts.get(way, 0) + one
    found = panet.best_bias(torch.stack(list(counts.values())), tried)
    as_numpy = [(maps.numpy(), labels.numpy(), classes) for maps, labels, classes in several]
    assert found == slow.best_bias(as_numpy, tried.tolist())


def test_a_shift_of_the_scores_is_taken_back_by_the_bias():
    labels = some(20, 20).to(torch.uint8)
    maps = torch.stack([torch.zeros(20, 20), labels.float() - 0.5]).double()
    shifted = maps + torch.tensor([0.0, 1.5])[:, None, None]  # the way is too high everywhere
    assert panet.label_map(shifted).all()
    found = panet.best_bias(panet.counts_by_bias(shifted, labels, panet.biases()), panet.biases())
    assert found == pytest.approx(1.0)  # the least from which it is right, and the nearest to 0
    assert torch.equal(panet.label_map(panet.with_bias(shifted, found)), labels)


def test_where_every_bias_serves_as_well_there_is_none():
    maps = torch.stack([torch.zeros(4, 4), torch.full((4, 4), 15.0)])
    assert panet.best_bias(panet.counts_by_bias(maps, torch.ones(4, 4), panet.biases()), panet.biases()) == 0.0
    nothing = panet.counts_by_bias(maps, torch.full((4, 4), VOID), panet.biases())
    assert not nothing.any()
    assert panet.best_bias(nothing, panet.biases()) == 0.0


def test_no_bias_leaves_scores_alone_and_any_moves_the_background_only():
    maps = normal(2, 3, 4, 5)
    assert panet.with_bias(maps, 0.0) is maps
    moved = panet.with_bias(maps, -1.25)
    assert torch.equal(moved[:, 1:], maps[:, 1:])
    torch.testing.assert_close(moved[:, 0], maps[:, 0] - 1.25)


@pytest.mark.parametrize("alpha", [20.0, 4.0])
def test_biases_go_as_far_either_way_as_a_quarter_of_alpha_and_hold_nothing(alpha):
    tried = panet.biases(alpha)
    assert len(tried) == 101
    assert tried[[0, 50, 100]].tolist() == [-alpha / 4, 0.0, alpha / 4]
    torch.testing.assert_close(tried.flip(0), -tried)
