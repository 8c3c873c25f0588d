from typing import Any

import numpy as np
import pytest
import torch

from tests.references import wilson as slow
from wilss.data.taxonomy import VOID
from wilss_train.methods.losses import wilson

CLOSE: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-12}
NEW = (3, 4)


def normal(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)) * 3


def uniform(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).uniform(size=shape))


def some(*shape, share=0.6, seed=0):
    return uniform(*shape, seed=seed) < share


def shares(*shape, seed=0):
    return normal(*shape, seed=seed).softmax(dim=1)


def same(found, expected):
    torch.testing.assert_close(found, torch.as_tensor(expected, dtype=found.dtype), **CLOSE)


TAGS = torch.tensor([[True, False], [True, True], [False, False]])
VALID = some(3, 3, 4)
VALID[2] = False


# -- tags ---------------------------------------------------------------------------------------------------


def test_tag_scores_equal_their_slow_twin():
    logits = normal(3, 5, 3, 4)
    same(wilson.tag_scores(logits, VALID), slow.tag_scores(logits.numpy(), VALID.numpy()))
    in_float = wilson.tag_scores(logits.float(), VALID)
    torch.testing.assert_close(in_float, wilson.tag_scores(logits, VALID).float(), rtol=1e-5, atol=1e-5)


def test_a_class_that_is_nowhere_scores_the_penalty_and_one_that_is_everywhere_its_logit():
    logits = torch.zeros(1, 2, 20, 20, dtype=torch.float64)
    logits[:, 1] = -60.0
    nowhere = wilson.tag_scores(logits, torch.ones(1, 20, 20, dtype=torch.bool))[0, 1].item()
    assert nowhere == pytest.approx(np.log(0.01), abs=1e-6)
    logits[:, 1] = 30.0
    assert wilson.tag_scores(logits, some(1, 20, 20, share=2))[0, 1].item() == pytest.approx(30 * 400 / 401, abs=1e-6)


def test_tag_scores_have_the_right_gradient_and_do_not_see_void():
    logits, valid = normal(2, 3, 2, 3).requires_grad_(), some(2, 2, 3)
    assert torch.autograd.gradcheck(lambda x: wilson.tag_scores(x, valid), (logits,))
    wilson.tag_scores(logits, valid).sum().backward()
    assert logits.grad is not None
    assert not logits.grad[(~valid)[:, None].expand_as(logits)].any()


def test_outside_bce_equals_its_slow_twin():
    logits, masks = normal(3, 2, 3, 4), some(3, 2, 3, 4, seed=1)
    masks[0, 0] = masks[0, 1] = False  # tagged and not tagged
    expected = slow.outside_bce(logits.numpy(), masks.numpy(), TAGS.numpy(), VALID.numpy())
    assert wilson.outside_bce(logits, masks, TAGS, VALID).item() == pytest.approx(expected, rel=1e-12)


def test_what_a_mask_holds_and_a_tag_without_mask_cost_nothing():
    logits, valid = normal(1, 1, 3, 4), torch.ones(1, 3, 4, dtype=torch.bool)
    tagged = torch.ones(1, 1, dtype=torch.bool)
    for held in (True, False):
        masks = torch.full((1, 1, 3, 4), held)
        assert wilson.outside_bce(logits, masks, tagged, valid).item() == 0
    assert wilson.outside_bce(logits, torch.zeros(1, 1, 3, 4, dtype=torch.bool), ~tagged, valid) > 0


def test_tag_bce_equals_its_slow_twin():
    scores, known = normal(3, 2), torch.tensor([True, True, False])
    expected = slow.tag_bce(scores.numpy(), TAGS.numpy(), known.numpy())
    assert wilson.tag_bce(scores, TAGS, known).item() == pytest.approx(expected, rel=1e-12)
    assert wilson.tag_bce(scores, TAGS, torch.zeros(3, dtype=torch.bool)).item() == 0


def test_prior_bce_equals_its_slow_twin():
    logits, old = normal(3, 3, 3, 4), uniform(3, 3, 3, 4, seed=1)
    expected = slow.prior_bce(logits.numpy(), old.numpy(), VALID.numpy())
    assert wilson.prior_bce(logits, old, VALID).item() == pytest.approx(expected, rel=1e-12)


# -- the localizer's own labels -----------------------------------------------------------------------------


def test_with_tags_equals_its_slow_twin():
    maps = shares(3, 5, 3, 4)
    same(wilson.with_tags(maps, TAGS, NEW), slow.with_tags(maps.numpy(), TAGS.numpy(), NEW))


@pytest.mark.parametrize("seed", range(3))
def test_sure_labels_equal_their_slow_twin(seed):
    maps = wilson.with_tags(shares(3, 5, 3, 4, seed=seed), TAGS, NEW)
    found = wilson.sure_labels(maps, VALID, foreground=0.6, background=0.7, least=0.2)
    expected = slow.sure_labels(maps.numpy(), VALID.numpy(), 0.6, 0.7, 0.2)
    assert found.dtype == torch.uint8
    assert found.tolist() == expected.tolist()
    assert {VOID, 0} < set(found.flatten().tolist())


def test_what_two_classes_claim_and_what_none_does_has_no_label():
    maps = torch.tensor([[[[0.5, 0.1, 0.3]], [[0.5, 0.9, 0.3]]]])
    everywhere = torch.ones(1, 1, 3, dtype=torch.bool)
    assert wilson.sure_labels(maps, everywhere).tolist() == [[[0, 1, VOID]]]
    assert wilson.sure_labels(maps, everywhere, foreground=0.4).tolist() == [[[VOID, 1, VOID]]]


@pytest.mark.parametrize("seed", range(3))
def test_balanced_ce_equals_its_slow_twin(seed):
    logits, tags = normal(3, 5, 3, 4, seed=seed), torch.tensor([[True, True], [False, True], [False, False]])
    labels = torch.tensor(np.random.default_rng(seed).choice([0, 3, 4, VOID], (3, 3, 4)), dtype=torch.uint8)
    labels[1][labels[1] == 3] = VOID
    found = wilson.balanced_ce(logits, labels, tags, VALID)
    expected = slow.balanced_ce(logits.numpy(), labels.numpy(), tags.numpy(), VALID.numpy())
    assert found.item() == pytest.approx(expected, rel=1e-12)
    assert found > 0


def test_an_image_whose_tag_no_pixel_shows_teaches_nothing():
    logits, valid = normal(1, 5, 2, 2), torch.ones(1, 2, 2, dtype=torch.bool)
    labels = torch.tensor([[[0, 0], [3, VOID]]], dtype=torch.uint8)
    assert wilson.balanced_ce(logits, labels, torch.tensor([[True, False]]), valid) > 0
    assert wilson.balanced_ce(logits, labels, torch.tensor([[True, True]]), valid).item() == 0


# -- the student --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_localized_targets_equal_their_slow_twin(alpha):
    maps, old = wilson.with_tags(shares(3, 5, 3, 4), TAGS, NEW), uniform(3, 3, 3, 4, seed=1)
    found = wilson.localized_targets(maps, old, new_channels=NEW, alpha=alpha)
    same(found, slow.localized_targets(maps.numpy(), old.numpy(), NEW, alpha))
    assert found.min() >= 0
    assert found.max() <= 1


def test_an_untagged_image_teaches_no_new_class():
    maps = wilson.with_tags(shares(1, 5, 3, 4), torch.zeros(1, 2, dtype=torch.bool), NEW)
    old = uniform(1, 3, 3, 4)
    targets = wilson.localized_targets(maps, old, new_channels=NEW, alpha=1.0)
    assert not targets[:, list(NEW)].any()
    torch.testing.assert_close(targets[:, :3], old, **CLOSE)  # nothing but background is left to be the greatest


def test_feature_distance_equals_its_slow_twin():
    features, old = normal(3, 6, 3, 4), normal(3, 6, 3, 4, seed=1)
    expected = slow.feature_distance(features.numpy(), old.numpy(), VALID.numpy())
    assert wilson.feature_distance(features, old, VALID).item() == pytest.approx(expected, rel=1e-12)
    assert wilson.feature_distance(old, old, VALID).item() == 0


@pytest.mark.parametrize("name", ["prior_bce", "feature_distance"])
def test_a_mean_over_a_batch_is_the_mean_over_its_equal_parts(name):
    loss = getattr(wilson, name)
    first, second, valid = normal(4, 3, 2, 3), uniform(4, 3, 2, 3), some(4, 2, 3)
    parts = torch.stack([loss(first[i : i + 2], second[i : i + 2], valid[i : i + 2]) for i in (0, 2)])
    torch.testing.assert_close(parts.mean(), loss(first, second, valid), **CLOSE)
