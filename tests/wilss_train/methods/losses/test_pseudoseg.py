import math
from typing import Any

import numpy as np
import pytest
import torch

from tests.references import pseudoseg as slow
from wilss.data.taxonomy import VOID
from wilss_train.methods.losses import kernels, pseudoseg

CLOSE: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-12}


def normal(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def some(*shape, share=0.5, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).uniform(size=shape) < share)


def labels_of(*shape, channels=4, share=0.3, seed=0):
    """uint8 labels, a share of them VOID."""
    labels = np.random.default_rng(seed).integers(0, channels, size=shape).astype(np.uint8)
    return torch.from_numpy(labels).masked_fill(some(*shape, share=share, seed=seed + 1), VOID)


def soft(*shape, seed=0):
    return normal(*shape, seed=seed).softmax(dim=1)


# -- pixel_ce -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_pixel_ce_equals_its_slow_twin(share):
    logits, labels = normal(3, 4, 2, 5) * 4, labels_of(3, 2, 5, share=share)
    expected = slow.pixel_ce(logits.numpy(), labels.numpy())
    assert kernels.pixel_ce(logits, labels).item() == pytest.approx(expected, rel=1e-12)
    assert kernels.pixel_ce(logits.float(), labels.long()).item() == pytest.approx(expected, rel=1e-5)


def test_pixel_ce_of_a_batch_is_the_mean_over_its_images_and_one_without_a_label_counts_as_zero():
    logits, labels = normal(3, 4, 2, 5), labels_of(3, 2, 5)
    labels[1] = VOID
    parts = [kernels.pixel_ce(logits[i : i + 1], labels[i : i + 1]) for i in range(3)]
    assert parts[1].item() == 0
    torch.testing.assert_close(kernels.pixel_ce(logits, labels), torch.stack(parts).mean(), **CLOSE)


def test_pixel_ce_does_not_see_void_pixels():
    logits, labels = normal(2, 4, 3, 5), labels_of(2, 3, 5)
    other = torch.where((labels == VOID)[:, None], 7.0, logits).requires_grad_()
    loss = kernels.pixel_ce(other, labels)
    torch.testing.assert_close(loss, kernels.pixel_ce(logits, labels), **CLOSE)
    loss.backward()
    assert other.grad is not None
    assert not other.grad[(labels == VOID)[:, None].expand_as(other)].any()


@pytest.mark.parametrize("images", [0, 2])
def test_pixel_ce_of_nothing_is_zero_and_has_a_gradient(images):
    logits = normal(images, 4, 3, 3).requires_grad_()
    loss = kernels.pixel_ce(logits, torch.full((images, 3, 3), VOID))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_pixel_ce_has_the_right_gradient():
    logits, labels = normal(2, 4, 2, 3).requires_grad_(), labels_of(2, 2, 3)
    assert torch.autograd.gradcheck(lambda x: kernels.pixel_ce(x, labels), (logits,))


def test_pixel_ce_of_even_scores_is_the_logarithm_of_the_channels():
    labels = labels_of(2, 3, 5, share=0.0)
    assert kernels.pixel_ce(torch.zeros(2, 4, 3, 5), labels).item() == pytest.approx(math.log(4), rel=1e-6)


# -- soft_ce ------------------------------------------------------------------------------------------------


def test_soft_ce_equals_its_slow_twin():
    logits, targets, valid = normal(3, 4, 2, 5) * 4, soft(3, 4, 2, 5, seed=1), some(3, 2, 5, share=0.7)
    expected = slow.soft_ce(logits.numpy(), targets.numpy(), valid.numpy())
    assert pseudoseg.soft_ce(logits, targets, valid).item() == pytest.approx(expected, rel=1e-12)
    assert pseudoseg.soft_ce(logits.float(), targets, valid).item() == pytest.approx(expected, rel=1e-5)


def test_soft_ce_with_hard_targets_is_pixel_ce():
    logits, labels = normal(2, 4, 3, 5), labels_of(2, 3, 5)
    hard = torch.nn.functional.one_hot(labels.long().masked_fill(labels == VOID, 0), 4).movedim(-1, 1)
    torch.testing.assert_close(
        pseudoseg.soft_ce(logits, hard, labels != VOID), kernels.pixel_ce(logits, labels), **CLOSE
    )


def test_soft_ce_is_smallest_where_the_logits_say_the_targets_and_is_then_their_entropy():
    targets, valid = soft(1, 4, 3, 3), torch.ones(1, 3, 3, dtype=torch.bool)
    best = targets.log().requires_grad_()
    loss = pseudoseg.soft_ce(best, targets, valid)
    loss.backward()
    torch.testing.assert_close(loss, -(targets * targets.log()).sum(dim=1).mean(), **CLOSE)
    assert best.grad.abs().max() < 1e-12


def test_soft_ce_does_not_see_padding_and_passes_nothing_to_its_targets():
    logits, valid = normal(2, 4, 3, 5), some(2, 3, 5)
    targets = soft(2, 4, 3, 5, seed=1).requires_grad_()
    other = torch.where(valid[:, None], logits, 7.0).requires_grad_()
    loss = pseudoseg.soft_ce(other, targets, valid)
    torch.testing.assert_close(loss, pseudoseg.soft_ce(logits, targets, valid), **CLOSE)
    loss.backward()
    assert targets.grad is None
    assert other.grad is not None
    assert not other.grad[(~valid)[:, None].expand_as(other)].any()


def test_soft_ce_without_a_valid_pixel_is_zero_and_has_a_gradient():
    logits = normal(2, 4, 3, 3).requires_grad_()
    loss = pseudoseg.soft_ce(logits, soft(2, 4, 3, 3), torch.zeros(2, 3, 3, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_soft_ce_has_the_right_gradient():
    logits, targets, valid = normal(2, 4, 2, 3).requires_grad_(), soft(2, 4, 2, 3), some(2, 2, 3, share=0.7)
    assert torch.autograd.gradcheck(lambda x: pseudoseg.soft_ce(x, targets, valid), (logits,))


def test_losses_of_half_precision_are_computed_in_float32():
    logits, labels, targets = normal(2, 4, 3, 5).bfloat16() * 9, labels_of(2, 3, 5), soft(2, 4, 3, 5).float()
    for loss in (
        lambda x: kernels.pixel_ce(x, labels),
        lambda x: pseudoseg.soft_ce(x, targets, labels != VOID),
    ):
        assert loss(logits).dtype == torch.float32
        torch.testing.assert_close(loss(logits), loss(logits.float()), rtol=1e-6, atol=0)


# -- multi_label_bce ----------------------------------------------------------------------------------------


def test_multi_label_bce_equals_its_slow_twin():
    logits, tags = normal(3, 5) * 4, some(3, 5)
    expected = slow.multi_label_bce(logits.numpy(), tags.numpy())
    assert pseudoseg.multi_label_bce(logits, tags).item() == pytest.approx(expected, rel=1e-12)
    assert pseudoseg.multi_label_bce(logits.bfloat16(), tags).dtype == torch.float32


@pytest.mark.parametrize("shape", [(0, 5), (3, 0)])
def test_multi_label_bce_of_nothing_is_zero_and_has_a_gradient(shape):
    logits = normal(*shape).requires_grad_()
    loss = pseudoseg.multi_label_bce(logits, torch.zeros(shape, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0


def test_multi_label_bce_has_the_right_gradient():
    logits, tags = normal(3, 5).requires_grad_(), some(3, 5)
    assert torch.autograd.gradcheck(lambda x: pseudoseg.multi_label_bce(x, tags), (logits,))
