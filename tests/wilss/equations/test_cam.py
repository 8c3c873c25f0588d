from typing import Any

import numpy as np
import torch

from tests.references import cam as slow
from wilss.equations import cam
from wilss.equations.affinity import Affinity

CLOSE: dict[str, Any] = {"rtol": 1e-6, "atol": 1e-9}


def normal(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def some(*shape, share=0.4, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).uniform(size=shape) < share)


def test_activation_maps_equal_their_slow_twin_and_are_taken_over_their_maximum():
    features, weights = normal(2, 5, 3, 4), normal(3, 5, seed=1)
    weights[2] = 0  # a class that is nowhere
    found = cam.activation_maps(features, weights)
    for i in range(2):
        expected = slow.activation_maps(features[i].numpy(), weights.numpy())
        np.testing.assert_allclose(found[i].numpy(), expected, **CLOSE)
        np.testing.assert_allclose(cam.over_maximum(found)[i].numpy(), slow.over_maximum(expected), **CLOSE)
    assert cam.over_maximum(found).amax() == 1
    assert not cam.over_maximum(found)[:, 2].any()


def test_products_of_patches_are_the_mean_cosine_of_their_stages():
    stages = [normal(6, 3, 4), normal(5, 3, 4, seed=1)]
    features = cam.patch_features(stages, (3, 4))
    np.testing.assert_allclose(
        (features @ features.T).numpy(), slow.mean_cosines([stage.numpy() for stage in stages]), **CLOSE
    )
    rows = cam.feature_rows(features, 0.2)
    expected = slow.feature_rows(slow.mean_cosines([stage.numpy() for stage in stages]), 0.2)
    np.testing.assert_allclose(rows(slice(0, 12)).numpy(), expected, **CLOSE)
    np.testing.assert_allclose(rows(slice(5, 7)).numpy(), expected[5:7], **CLOSE)


def test_a_coarser_stage_is_brought_to_the_grid_and_a_flat_one_says_nothing():
    fine, coarse = normal(6, 4, 4), normal(5, 2, 2, seed=1)
    assert cam.patch_features([fine, coarse], (4, 4)).shape == (16, 11)
    flat = cam.patch_features([fine, torch.ones(5, 2, 2, dtype=torch.float64)], (4, 4))
    torch.testing.assert_close(flat.norm(dim=-1), torch.full((16,), 0.5**0.5, dtype=torch.float64))


def test_spreading_equals_its_slow_twin_and_no_pass_changes_nothing():
    maps = cam.over_maximum(normal(2, 3, 4).clamp_min(0))
    features = cam.patch_features([normal(6, 3, 4, seed=2)], (3, 4))
    affinity = Affinity(rows=cam.feature_rows(features, 0.3), length=12, step=5)
    whole = cam.feature_rows(features, 0.3)(slice(0, 12)).numpy()
    for passes, power in ((1, 1.0), (2, 2.0)):
        found = cam.spread_often(maps, affinity.spread, passes=passes, power=power)
        np.testing.assert_allclose(found.numpy(), slow.spread_often(maps.numpy(), whole, passes, power), **CLOSE)
    assert cam.spread_often(maps, affinity.spread, passes=0, power=2.0) is maps


def test_weights_of_classes_and_images_equal_their_slow_twins():
    tags = some(9, 4)
    tags[:, 3] = False  # a class that no image shows
    tags[0] = False  # an image of none
    np.testing.assert_allclose(
        cam.positive_weights(tags, 0.5, 3.0).numpy(), slow.positive_weights(tags.numpy(), 0.5, 3.0), rtol=1e-6
    )
    weights = cam.drawing_weights(tags, 0.5)
    np.testing.assert_allclose(weights.numpy(), slow.drawing_weights(tags.numpy(), 0.5), **CLOSE)
    torch.testing.assert_close(weights.sum(), torch.tensor(1.0, dtype=torch.float64))
    assert weights[0] == weights.min()
    torch.testing.assert_close(cam.drawing_weights(tags, 0.0), torch.full((9,), 1 / 9, dtype=torch.float64))


def test_the_loss_equals_its_slow_twin():
    logits, tags, positive = normal(6, 3), some(6, 3), torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
    found = cam.tag_loss(logits, tags, positive)
    np.testing.assert_allclose(float(found), slow.tag_loss(logits.numpy(), tags.numpy(), positive.numpy()), **CLOSE)


def test_what_patches_are_said_to_be_and_how_much_they_weigh_equal_their_slow_twins():
    maps = normal(3, 20).sigmoid()
    labels = cam.patch_labels(maps, 0.6)
    np.testing.assert_array_equal(labels.numpy(), slow.patch_labels(maps.numpy(), 0.6))
    assert 0 in labels
    assert not cam.patch_labels(maps, 1.1).any()
    for power in (0.0, 0.5, 1.0):
        found = cam.balanced_weights(labels, 5, power)
        np.testing.assert_allclose(found.numpy(), slow.balanced_weights(labels.numpy(), 5, power), rtol=1e-6)
    alike = cam.balanced_weights(labels, 5, 1.0)
    sums = [float(alike[labels == label].sum()) for label in labels.unique()]
    np.testing.assert_allclose(sums, 20 / 5, rtol=1e-5)


def test_stacked_features_keep_their_values_on_their_own_grid():
    fine, coarse = normal(6, 4, 4), normal(5, 2, 2, seed=1)
    both = cam.stacked_features([fine, coarse], (4, 4))
    assert both.shape == (16, 11)
    torch.testing.assert_close(both[:, :6], fine.flatten(1).T)
