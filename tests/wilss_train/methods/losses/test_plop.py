from typing import Any

import numpy as np
import pytest
import torch

from tests.references import plop as slow
from wilss.data.taxonomy import VOID
from wilss_train.methods.losses import plop
from wilss_train.methods.losses.kernels import weighted_pixel_ce

CLOSE: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-12}


def normal(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)) * 3


def some(*shape, share=0.7, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).uniform(size=shape)) < share


@pytest.mark.parametrize("grid", [(4, 8), (5, 6), (3, 7), (1, 1)])
def test_pod_distance_equals_its_slow_twin(grid):
    features, old, valid = normal(2, 3, *grid), normal(2, 3, *grid, seed=1), some(2, *grid)
    expected = slow.pod_distance(features.numpy(), old.numpy(), valid.numpy(), (1, 2, 4))
    assert plop.pod_distance(features, old, valid).item() == pytest.approx(expected, rel=1e-12)


def test_equal_maps_are_no_distance_apart_and_have_a_gradient_that_is_a_number():
    old = normal(2, 3, 4, 4)
    features = old.clone().requires_grad_()
    loss = plop.pod_distance(features, old, some(2, 4, 4))
    loss.backward()
    assert loss.item() == 0
    assert features.grad is not None
    assert not features.grad.any()


def test_pooling_at_one_scale_is_the_means_of_columns_and_rows():
    maps = normal(1, 1, 2, 3)
    expected = torch.cat([maps.mean(dim=-1).flatten(), maps.mean(dim=-2).flatten()])
    torch.testing.assert_close(plop.pooled(maps, (1,))[0], expected, **CLOSE)
    assert plop.pooled(normal(1, 2, 4, 8)).shape == (1, 2 * (4 + 8) * (1 + 2 + 4))


def test_new_logits_are_added_to_the_backgrounds():
    logits = normal(2, 5, 2, 2)
    found = plop.with_new_in_background(logits, 3)
    torch.testing.assert_close(found[:, 0], logits[:, 0] + logits[:, 3] + logits[:, 4], **CLOSE)
    torch.testing.assert_close(found[:, 1:], logits[:, 1:3], **CLOSE)


def test_distillation_grows_with_what_is_known():
    assert plop.growth(16, 5) == pytest.approx((21 / 5) ** 0.5)
    assert plop.growth(20, 1) > plop.growth(16, 5)


@pytest.mark.parametrize("least", [0.0, 0.001, 0.3, 1.0])
def test_old_labels_equal_their_slow_twin(least):
    old = normal(3, 3, 3, 4)
    labels = torch.from_numpy(np.random.default_rng(2).choice([0, 0, 0, 4, VOID], (3, 3, 4)))
    labels[2] = 4  # no background at all
    made, share = plop.old_labels(labels, old, least=least)
    expected, expected_share = slow.old_labels(labels.numpy(), old.numpy(), least)
    assert made.tolist() == expected.tolist()
    assert share.tolist() == pytest.approx(expected_share.tolist())
    assert bool((made[labels == 4] == 4).all())
    if least == 1.0:
        assert share.tolist() == [1, 1, 1]


def test_weighted_pixel_ce_equals_its_slow_twin():
    logits, weights, valid = normal(3, 4, 3, 4), torch.tensor([1.0, 0.25, 0.0], dtype=torch.float64), some(3, 3, 4)
    labels = torch.from_numpy(np.random.default_rng(3).choice([0, 1, 3, VOID], (3, 3, 4))).masked_fill(~valid, VOID)
    expected = slow.weighted_pixel_ce(logits.numpy(), labels.numpy(), weights.numpy(), valid.numpy())
    assert weighted_pixel_ce(logits, labels, weights, valid).item() == pytest.approx(expected, rel=1e-12)
