from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.references import mib as slow
from wilss.data.taxonomy import VOID
from wilss_train.methods.losses import mib
from wilss_train.methods.losses.kernels import pixel_ce

CLOSE: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-12}
OLD = 3


def normal(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)) * 3


def labels(*choices, seed=0):
    found = torch.from_numpy(np.random.default_rng(seed).choice(choices, (3, 3, 4)))
    found[2] = VOID
    return found


@pytest.mark.parametrize("channels", [4, 5])
def test_unbiased_ce_equals_its_slow_twin(channels):
    logits, given = normal(3, channels, 3, 4), labels(0, 1, 3, channels - 1, VOID)
    expected = slow.unbiased_ce(logits.numpy(), given.numpy(), OLD)
    assert mib.unbiased_ce(logits, given, OLD).item() == pytest.approx(expected, rel=1e-12)
    assert mib.unbiased_ce(logits.float(), given.to(torch.uint8), OLD).item() == pytest.approx(expected, rel=1e-5)


def test_an_old_class_is_no_mistake_where_the_label_says_background():
    logits = torch.full((1, 5, 1, 1), -40.0)
    logits[:, 2] = 40.0
    assert mib.unbiased_ce(logits, torch.zeros(1, 1, 1, dtype=torch.long), OLD).item() == pytest.approx(0, abs=1e-6)
    assert mib.unbiased_ce(logits, torch.full((1, 1, 1), 4), OLD).item() == pytest.approx(80, abs=1e-3)


def test_with_the_background_alone_as_old_it_is_the_usual_cross_entropy():
    logits, given = normal(3, 4, 3, 4), labels(0, 1, 3, VOID)
    torch.testing.assert_close(mib.unbiased_ce(logits, given, 1), pixel_ce(logits, given), **CLOSE)


@pytest.mark.parametrize("channels", [4, 5])
def test_unbiased_distillation_equals_its_slow_twin(channels):
    logits, old = normal(3, channels, 3, 4), normal(3, OLD, 3, 4, seed=1)
    valid = labels(0, VOID) != VOID
    expected = slow.unbiased_distillation(logits.numpy(), old.numpy(), valid.numpy())
    assert mib.unbiased_distillation(logits, old, valid).item() == pytest.approx(expected, rel=1e-12)


def test_a_new_class_is_no_mistake_where_the_old_model_says_background():
    old, logits = torch.full((1, OLD, 1, 1), -40.0), torch.full((1, 5, 1, 1), -40.0)
    old[:, 0], logits[:, 4] = 40.0, 40.0
    valid = torch.ones(1, 1, 1, dtype=torch.bool)
    assert mib.unbiased_distillation(logits, old, valid).item() == pytest.approx(0, abs=1e-6)


def test_distillation_without_new_classes_is_least_at_the_old_model():
    old, valid = normal(1, OLD, 3, 4), torch.ones(1, 3, 4, dtype=torch.bool)
    logits = old.clone().requires_grad_()
    mib.unbiased_distillation(logits, old, valid).backward()
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-12


@pytest.mark.parametrize("loss", ["ce", "kd"])
def test_the_losses_have_the_right_gradient(loss):
    logits, given, old = normal(2, 5, 2, 3).requires_grad_(), labels(0, 3, 4, VOID)[:2, :2, :3], normal(2, OLD, 2, 3)
    valid = given != VOID
    losses = {
        "ce": lambda x: mib.unbiased_ce(x, given, OLD),
        "kd": lambda x: mib.unbiased_distillation(x, old, valid),
    }
    assert torch.autograd.gradcheck(losses[loss], (logits,))


def test_labels_of_masks_equal_their_slow_twin():
    masks = torch.from_numpy(np.random.default_rng(0).uniform(size=(3, 2, 3, 4)) < 0.4)
    void = torch.from_numpy(np.random.default_rng(1).uniform(size=(3, 3, 4)) < 0.2)
    found = mib.labels_of_masks(masks, void, OLD)
    assert found.tolist() == slow.labels_of_masks(masks.numpy(), void.numpy(), OLD).tolist()
    assert set(found.flatten().tolist()) == {0, 3, 4, VOID}


def test_what_is_joined_sums_to_one():
    joined = mib.with_new_as_background(F.log_softmax(normal(2, 5, 2, 2), dim=1), OLD)
    torch.testing.assert_close(joined.exp().sum(dim=1), torch.ones(2, 2, 2, dtype=torch.float64), **CLOSE)
