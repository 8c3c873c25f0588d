from typing import Any

import numpy as np
import pytest
import torch

from tests.references import unimatch as slow
from wilss_train.methods.losses import kernels, unimatch

CLOSE: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-12}


def normal(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def some(*shape, share=0.5, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).uniform(size=shape) < share)


# -- sure_labels --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.95])
def test_sure_labels_equal_their_slow_twin(threshold):
    logits = 3 * normal(2, 4, 3, 5)
    labels, sure = unimatch.sure_labels(logits, threshold)
    expected = slow.sure_labels(logits.numpy(), threshold)
    np.testing.assert_array_equal(labels.numpy(), expected[0])
    np.testing.assert_array_equal(sure.numpy(), expected[1])


def test_everything_is_sure_at_zero_and_equal_channels_give_the_first():
    labels, sure = unimatch.sure_labels(torch.zeros(1, 3, 2, 2), 0.0)
    assert sure.all()
    assert not labels.any()
    assert not unimatch.sure_labels(torch.zeros(1, 3, 2, 2), 0.34)[1].any()


# -- cut_mixed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 3, 5, 6), (3, 5, 6), (4, 5, 6)])
def test_cut_mixed_equals_its_slow_twin(shape):
    rows, boxes = normal(*shape), some(shape[0], *shape[-2:], seed=1)
    np.testing.assert_array_equal(unimatch.cut_mixed(rows, boxes), slow.cut_mixed(rows.numpy(), boxes.numpy()))


def test_no_box_changes_nothing_and_a_whole_one_gives_the_other_image():
    rows = normal(4, 3, 2, 2)
    nowhere = torch.zeros(4, 2, 2, dtype=torch.bool)
    assert torch.equal(unimatch.cut_mixed(rows, nowhere), rows)
    assert torch.equal(unimatch.cut_mixed(rows, ~nowhere), rows.flip(0))
    alone = rows[:1]
    assert torch.equal(unimatch.cut_mixed(alone, ~nowhere[:1]), alone)


# -- complementary ------------------------------------------------------------------------------------------


def test_complementary_equals_its_slow_twin():
    drawn, whole = some(5, 7), some(5, seed=1)
    found = unimatch.complementary(drawn, whole)
    np.testing.assert_array_equal(found.numpy(), slow.complementary(drawn.numpy(), whole.numpy()))


def test_both_views_together_have_every_channel_once():
    drawn, whole = some(6, 9), torch.tensor([True, False] * 3)
    first, second = unimatch.complementary(drawn, whole)
    assert torch.equal(first + second, torch.full((6, 9), 2.0))
    assert (first[whole] == 1).all()
    assert not (first * second)[~whole].any()


# -- sure_ce ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_sure_ce_equals_its_slow_twin(share):
    logits, labels = 3 * normal(3, 4, 2, 5), some(3, 2, 5, seed=4).long()
    sure, valid = some(3, 2, 5, share=share, seed=2), some(3, 2, 5, share=0.7, seed=3)
    expected = slow.sure_ce(*(one.numpy() for one in (logits, labels, sure, valid)))
    assert unimatch.sure_ce(logits, labels, sure, valid).item() == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_sure_ce_is_plain_cross_entropy_where_all_is_sure_and_less_where_it_is_not():
    logits, labels = normal(2, 4, 3, 5), some(2, 3, 5).long()
    everywhere = torch.ones(2, 3, 5, dtype=torch.bool)
    whole = unimatch.sure_ce(logits, labels, everywhere, everywhere)
    torch.testing.assert_close(whole, kernels.pixel_ce(logits, labels), **CLOSE)
    half = everywhere.clone()
    half[:, :, 2:] = False
    assert unimatch.sure_ce(logits, labels, half, everywhere) < whole
    assert unimatch.sure_ce(logits, labels, ~everywhere, everywhere) == 0
    assert unimatch.sure_ce(logits, labels, everywhere, ~everywhere) == 0


def test_what_is_not_sure_has_no_gradient():
    logits, labels = normal(2, 4, 3, 5).requires_grad_(), some(2, 3, 5).long()
    sure = some(2, 3, 5, seed=5)
    unimatch.sure_ce(logits, labels, sure, torch.ones_like(sure)).backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad.abs().sum(dim=1) > 0, sure)


def test_images_with_equal_padding_are_averaged_as_the_public_code_averages_a_batch():
    logits, labels = normal(3, 4, 2, 6), some(3, 2, 6, seed=1).long()
    sure, valid = some(3, 2, 6, seed=2), torch.ones(3, 2, 6, dtype=torch.bool)
    valid[:, :, :2] = False
    each = torch.nn.functional.cross_entropy(logits, labels, reduction="none") * (sure & valid)
    torch.testing.assert_close(unimatch.sure_ce(logits, labels, sure, valid), each.sum() / valid.sum(), **CLOSE)


# -- the moving average -------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [0.0, 0.5, 0.9, 0.996])
def test_the_average_equals_its_slow_twin(most):
    students, teacher = normal(30), torch.tensor(7.0, dtype=torch.float64)
    for taken, student in enumerate(students, start=1):
        teacher = unimatch.averaged(teacher, student, unimatch.share_kept(taken, most))
    assert teacher.item() == pytest.approx(slow.teacher_after(students.tolist(), most), rel=1e-12)


def test_the_first_step_makes_the_teacher_the_student_and_early_ones_its_mean():
    assert unimatch.share_kept(1, 0.996) == 0
    students, teacher = normal(20), torch.zeros((), dtype=torch.float64)
    for taken, student in enumerate(students, start=1):
        teacher = unimatch.averaged(teacher, student, unimatch.share_kept(taken, 0.996))
    torch.testing.assert_close(teacher, students.mean())
    assert unimatch.share_kept(10_000, 0.996) == 0.996


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.5, 0.7, 0.996])
def test_what_is_the_same_in_both_stays_to_the_bit(kept):
    same = normal(1000).float()
    assert torch.equal(unimatch.averaged(same, same.clone(), kept), same)


def test_counts_are_the_students():
    assert unimatch.averaged(torch.tensor(3), torch.tensor(9), 0.5) == 9
