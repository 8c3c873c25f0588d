import numpy as np
import pytest
import torch

from tests.references import insid3 as slow
from wilss.equations import insid3
from wilss.equations.kernels import unit


def normal(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def some(*shape, share=0.5, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).uniform(size=shape) < share)


def groups_of(numbers):
    return [set(torch.nonzero(numbers == k)[:, 0].tolist()) for k in range(int(numbers.max()) + 1)]


# -- positional debiasing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("directions", [0, 1, 3])
def test_debiased_features_equal_their_slow_twin(directions):
    features, blank = normal(6, 3, 4), normal(6, 4, 5, seed=1)
    found = insid3.debiased(features, insid3.positional_basis(blank, directions))
    np.testing.assert_allclose(found.numpy(), slow.debiased(features.numpy(), blank.numpy(), directions), atol=1e-9)


def test_nothing_of_the_basis_is_left_and_what_is_beside_it_stays():
    blank = normal(8, 5, 5)
    basis = insid3.positional_basis(blank, 3)
    torch.testing.assert_close(basis.T @ basis, torch.eye(3, dtype=basis.dtype))
    left = insid3.debiased(normal(8, 4, 4, seed=1), basis)
    assert (basis.T @ left.flatten(1)).abs().max() < 1e-12
    torch.testing.assert_close(insid3.debiased(left, basis), left)


def test_there_are_never_more_directions_than_a_blank_image_has():
    assert insid3.positional_basis(normal(8, 2, 2), 100).shape == (8, 4)
    whole = insid3.positional_basis(normal(3, 4, 4), 100)
    assert insid3.debiased(normal(3, 2, 2, seed=1), whole).abs().max() < 1


# -- supports ------------------------------------------------------------------------------------------------


def test_a_patch_is_the_object_where_it_shows_more_of_it_than_of_the_rest():
    object_, known = torch.zeros(16, 16, dtype=torch.bool), torch.ones(16, 16, dtype=torch.bool)
    object_[:8, :8] = True
    assert insid3.foreground_patches(object_, known, (4, 4)).sum() == 4
    assert insid3.foreground_patches(object_, known, (4, 4))[:2, :2].all()
    assert not insid3.foreground_patches(object_ & False, known, (4, 4)).any()


def test_a_small_object_is_not_lost_and_a_scribble_is_taken_where_it_runs():
    dot, known = torch.zeros(16, 16, dtype=torch.bool), torch.ones(16, 16, dtype=torch.bool)
    dot[9, 5] = True
    assert insid3.foreground_patches(dot, known, (4, 4)).nonzero().tolist() == [[2, 1]]
    alone = insid3.foreground_patches(dot, dot, (4, 4))
    assert alone[2, 1]
    assert not alone[0].any()


@pytest.mark.parametrize("empty", [False, True])
def test_prototypes_equal_their_slow_twin(empty):
    features, patches = [normal(5, 7, seed=s) for s in range(3)], [some(7, seed=s) for s in range(3)]
    if empty:
        patches[1] = patches[1] & False
    expected = slow.prototype_of([one.numpy() for one in features], [one.numpy() for one in patches])
    np.testing.assert_allclose(insid3.prototype_of(features, patches), expected, atol=1e-12)


def test_no_patch_at_all_is_a_prototype_of_zeros():
    assert not insid3.prototype_of([normal(5, 7)], [some(7, share=0.0)]).any()


# -- candidates ----------------------------------------------------------------------------------------------


def test_nearest_and_candidates_equal_their_slow_twins():
    features, supports = unit(normal(5, 9), dim=0), unit(normal(5, 12, seed=1), dim=0)
    cosines, places = insid3.nearest(features, supports)
    assert places.tolist() == slow.nearest(features.numpy(), supports.numpy())
    torch.testing.assert_close(cosines, (features * supports[:, places]).sum(dim=0))
    for shots in (1, 2, 3):
        alike, backward = some(9, share=0.7), some(shots, 9, seed=shots)
        expected = slow.candidates(alike.numpy(), backward.numpy())
        assert insid3.candidates(alike, backward).tolist() == expected


def test_what_is_nearer_to_another_class_is_won_by_it():
    cosines = torch.tensor([[0.9, 0.1], [0.5, 0.6]])
    labels = torch.tensor([[1, 1], [0, 2]])
    assert insid3.winners(cosines, labels).tolist() == [1, 2]


def test_a_tenth_is_alike_where_nothing_is():
    assert insid3.similar(torch.tensor([-0.1, 0.2])).tolist() == [False, True]
    low = -1.0 - torch.arange(20.0)
    assert insid3.similar(low).nonzero()[:, 0].tolist() == [0, 1]


# -- clusters ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tau", [-0.2, 0.1, 0.5, 0.9])
def test_clusters_equal_their_slow_twin(tau):
    features = unit(normal(4, 14), dim=0)
    found = groups_of(insid3.clusters(features, tau))
    assert sorted(map(sorted, found)) == sorted(map(sorted, slow.clusters(features.numpy(), tau)))


def test_clusters_are_numbered_by_their_first_patch_and_one_patch_is_one():
    features = torch.tensor([[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0]])
    assert insid3.clusters(features, 0.5).tolist() == [0, 1, 0, 1]
    assert insid3.clusters(features[:, :1], 0.5).tolist() == [0]
    assert insid3.clusters(features, -0.9).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("share", [0.0, 0.2, 0.6])
def test_scores_of_clusters_equal_their_slow_twin(share):
    plain, cosines, found = unit(normal(4, 14), dim=0), normal(14, seed=2).tanh(), some(14, share=share, seed=3)
    numbers = insid3.clusters(plain, 0.3)
    expected = slow.cluster_scores(cosines.numpy(), found.numpy(), plain.numpy(), groups_of(numbers))
    np.testing.assert_allclose(insid3.cluster_scores(cosines, found, plain, numbers), expected, atol=1e-12)


def test_without_a_surest_cluster_each_counts_by_its_candidates_alone():
    numbers = torch.tensor([0, 0, 1, 1])
    cosines, found = torch.tensor([0.8, 0.4, 0.5, 0.5]), torch.tensor([True, False, True, True])
    torch.testing.assert_close(insid3.cluster_shares(cosines, found, numbers), torch.tensor([0.3, 0.5]))
    assert not insid3.cluster_shares(cosines, found & False, numbers).any()


def test_labels_are_the_greatest_score_above_what_is_least():
    scores = torch.tensor([[0.1, 0.5, 0.3], [0.15, 0.2, 0.3]])
    assert insid3.patch_labels(scores, 0.2).tolist() == [0, 1, 1]
