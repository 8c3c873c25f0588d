import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.references import fmwiss_learning as slow
from wilss.data.images import to_pixels
from wilss.data.taxonomy import VOID
from wilss.randomness import generator_for
from wilss_train.methods.losses import fmwiss

CLOSE: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-12}
OLD, NEW = (0, 1, 2), (3, 4)


def uniform(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).uniform(size=shape))


def normal(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def some(*shape, share=0.5, seed=0):
    return uniform(*shape, seed=seed) < share


def pasted_somewhere(*shape, seed=0):
    pasted = torch.randint(0, 3, shape, generator=generator_for(seed, "pasted"), dtype=torch.uint8)
    return pasted.masked_fill(some(*shape, share=0.7, seed=seed), VOID)


# -- masked_bce ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_masked_bce_equals_its_slow_twin(channels):
    logits, targets, valid = normal(3, channels, 4, 5) * 4, uniform(3, channels, 4, 5, seed=1), some(3, 4, 5, share=0.8)
    expected = slow.masked_bce(logits.numpy(), targets.numpy(), valid.numpy())
    assert fmwiss.masked_bce(logits, targets, valid).item() == pytest.approx(expected, rel=1e-12)
    assert fmwiss.masked_bce(logits.float(), targets, valid).item() == pytest.approx(expected, rel=1e-5)


def test_masked_bce_in_float32_equals_torch_where_logits_are_great_small_or_zero():
    logits = torch.tensor([0.0, 1e-8, -1e-8, 20.0, -20.0, 90.0, -90.0, 1e4]).reshape(1, 1, 2, 4).requires_grad_()
    targets = uniform(1, 1, 2, 4).float()
    valid = torch.ones(1, 2, 4, dtype=torch.bool)
    theirs = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets)
    torch.testing.assert_close(fmwiss.masked_bce(logits, targets, valid), theirs)
    ours, expected = (torch.autograd.grad(f, logits)[0] for f in (fmwiss.masked_bce(logits, targets, valid), theirs))
    torch.testing.assert_close(ours, expected)


def test_masked_bce_of_a_batch_is_the_mean_over_its_equal_parts():
    logits, targets, valid = normal(4, 3, 4, 5), uniform(4, 3, 4, 5), some(4, 4, 5)
    valid[1] = False
    whole = fmwiss.masked_bce(logits, targets, valid)
    parts = [fmwiss.masked_bce(logits[i : i + 2], targets[i : i + 2], valid[i : i + 2]) for i in (0, 2)]
    torch.testing.assert_close(torch.stack(parts).mean(), whole, **CLOSE)


def test_masked_bce_does_not_see_pixels_that_are_not_valid():
    logits, targets, valid = normal(2, 3, 4, 5), uniform(2, 3, 4, 5), some(2, 4, 5)
    other = torch.where(valid[:, None], logits, 7.0).requires_grad_()
    loss = fmwiss.masked_bce(other, targets, valid)
    torch.testing.assert_close(loss, fmwiss.masked_bce(logits, targets, valid), **CLOSE)
    loss.backward()
    assert other.grad is not None
    assert not other.grad[(~valid)[:, None].expand_as(other)].any()


@pytest.mark.parametrize(("channels", "share"), [(0, 1.0), (2, 0.0)])
def test_masked_bce_of_nothing_is_zero_and_has_a_gradient(channels, share):
    logits = normal(2, channels, 3, 3).requires_grad_()
    loss = fmwiss.masked_bce(logits, torch.zeros_like(logits), some(2, 3, 3, share=share))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_masked_bce_has_the_right_gradient():
    logits, targets, valid = normal(2, 3, 3, 2).requires_grad_(), uniform(2, 3, 3, 2), some(2, 3, 2, share=0.7)
    assert torch.autograd.gradcheck(lambda x: fmwiss.masked_bce(x, targets, valid), (logits,))


def test_masked_bce_is_smallest_where_the_logits_say_the_targets():
    targets = uniform(1, 2, 3, 3) * 0.8 + 0.1
    valid = torch.ones(1, 3, 3, dtype=torch.bool)
    best = targets.logit().requires_grad_()
    fmwiss.masked_bce(best, targets, valid).backward()
    assert best.grad.abs().max() < 1e-12


# -- sample_points ------------------------------------------------------------------------------------------


def generators(count, seed=0):
    return [generator_for(seed, i) for i in range(count)]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6), st.integers(1, 12), st.integers(0, 1000))
def test_points_are_distinct_ordered_and_as_many_as_there_can_be(batch, height, width, per_class, seed):
    values = np.random.default_rng(seed).choice(
        [0, 1, 4, 254, VOID], size=(batch, height, width), p=[0.5, 0.2, 0.1, 0.1, 0.1]
    )
    labels = torch.from_numpy(values.astype(np.uint8))
    points = fmwiss.sample_points(labels, per_class, generators(batch, seed))
    assert points.shape[1] == 3
    found = [(int(b), int(labels[b, y, x]), int(y), int(x)) for b, y, x in points]
    assert found == sorted(set(found))
    for image in range(batch):
        for label in range(256):
            there = int((values[image] == label).sum())
            wanted = 0 if label == VOID else min(per_class, there)
            assert sum(place[:2] == (image, label) for place in found) == wanted


def test_a_draw_belongs_to_its_image_and_class():
    labels = torch.randint(0, 4, (3, 20, 30), generator=generator_for(0, "labels"), dtype=torch.uint8)
    together = fmwiss.sample_points(labels, 5, generators(3))
    alone = fmwiss.sample_points(labels[1:2], 5, generators(3)[1:2])
    assert torch.equal(together[together[:, 0] == 1][:, 1:], alone[:, 1:])
    without = labels.clone()
    without[without == 2] = VOID
    kept = together[labels[tuple(together.T)] != 2]
    assert torch.equal(fmwiss.sample_points(without, 5, generators(3)), kept)


def test_every_pixel_of_a_class_is_as_likely_as_any_other():
    labels = torch.zeros(400, 3, 3, dtype=torch.uint8)
    points = fmwiss.sample_points(labels, 4, generators(400))
    drawn = torch.bincount(points[:, 1] * 3 + points[:, 2], minlength=9).double()
    expected = 400 * 4 / 9
    assert ((drawn - expected).abs() < 5 * math.sqrt(expected)).all()


def test_labels_without_a_class_give_no_points():
    labels = torch.full((2, 3, 3), VOID, dtype=torch.uint8)
    assert fmwiss.sample_points(labels, 10, generators(2)).shape == (0, 3)


def test_every_image_needs_a_generator():
    with pytest.raises(ValueError, match="2 generators"):
        fmwiss.sample_points(torch.zeros(2, 3, 3, dtype=torch.uint8), 10, generators(1))


# -- embedding_at -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(8, 12), (7, 5), (1, 3), (2, 3)])
def test_the_embedding_at_a_pixel_is_the_upsampled_one(size):
    grid = normal(2, 4, 2, 3)
    points = torch.tensor([(b, y, x) for b in range(2) for y in range(size[0]) for x in range(size[1])])
    found = fmwiss.embedding_at(grid, points, *size)
    image, row, column = points.T
    torch.testing.assert_close(found, to_pixels(grid, *size)[image, :, row, column], rtol=1e-6, atol=1e-7)
    for value, (b, y, x) in zip(found, points.tolist(), strict=True):
        np.testing.assert_allclose(value.numpy(), slow.upsampled_at(grid[b].numpy(), y, x, *size), **CLOSE)


def test_the_embedding_at_no_pixel_has_a_gradient():
    grid = normal(1, 4, 2, 3).requires_grad_()
    found = fmwiss.embedding_at(grid, torch.zeros(0, 3, dtype=torch.int64), 8, 8)
    assert found.shape == (0, 4)
    found.sum().backward()
    assert not grid.grad.any()


# -- dense_contrastive --------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.1, 1.0])
@pytest.mark.parametrize("classes", [[0, 0, 1, 1, 1, 2], [0, 1, 0, 1, 0, 1], [3, 3, 3, 9, 8, 7]])
def test_dense_contrastive_equals_its_slow_twin(classes, temperature):
    embedding = normal(6, 5)
    expected = slow.dense_contrastive(embedding.numpy(), classes, temperature)
    found = fmwiss.dense_contrastive(embedding, torch.tensor(classes), temperature)
    assert found.item() == pytest.approx(expected, rel=1e-10)
    assert expected > 0


def test_the_length_of_an_embedding_does_not_matter():
    embedding, classes = normal(6, 5), torch.tensor([0, 0, 1, 1, 2, 2])
    longer = embedding * torch.tensor([1.0, 10, 0.1, 5, 2, 3])[:, None]
    torch.testing.assert_close(*(fmwiss.dense_contrastive(x, classes) for x in (embedding, longer)), **CLOSE)


@pytest.mark.parametrize(
    "classes", [[], [4], [1, 2, 3], [5, 5, 5]], ids=["no point", "one point", "no positive", "no negative"]
)
def test_where_nothing_can_be_compared_the_loss_is_zero_and_has_a_gradient(classes):
    embedding = normal(len(classes), 5).requires_grad_()
    loss = fmwiss.dense_contrastive(embedding, torch.tensor(classes, dtype=torch.int64))
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-12)
    assert torch.equal(embedding.grad, torch.zeros_like(embedding))


def test_a_point_without_a_positive_is_left_out_but_is_a_negative():
    embedding = normal(5, 4)
    loss = fmwiss.dense_contrastive(embedding, torch.tensor([0, 0, 1, 1, 2]))
    assert loss.item() == pytest.approx(slow.dense_contrastive(embedding.numpy(), [0, 0, 1, 1, 2], 0.1))
    assert loss > fmwiss.dense_contrastive(embedding[:4], torch.tensor([0, 0, 1, 1]))


def test_classes_that_lie_apart_cost_less_than_classes_that_are_mixed():
    apart = torch.eye(4, dtype=torch.float64).repeat_interleave(2, dim=0)
    alike, mixed = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3]), torch.tensor([0, 1, 1, 2, 2, 3, 3, 0])
    assert fmwiss.dense_contrastive(apart, alike) < 1e-3 < 1 < fmwiss.dense_contrastive(apart, mixed)


def test_dense_contrastive_has_the_right_gradient():
    embedding, classes = normal(6, 3).requires_grad_(), torch.tensor([0, 0, 1, 1, 1, 2])
    assert torch.autograd.gradcheck(lambda x: fmwiss.dense_contrastive(x, classes, 0.5), (embedding,))


def test_autocast_changes_nothing():
    embedding, classes = normal(6, 5).float(), torch.tensor([0, 0, 1, 1, 1, 2])
    logits, targets, valid = normal(2, 3, 4, 4).float(), uniform(2, 3, 4, 4).float(), some(2, 4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = fmwiss.dense_contrastive(embedding, classes), fmwiss.masked_bce(logits, targets, valid)
    assert inside == (fmwiss.dense_contrastive(embedding, classes), fmwiss.masked_bce(logits, targets, valid))


# -- targets ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("new", [0, 1, 2])
@pytest.mark.parametrize("known", [1, 3])
def test_old_targets_equal_their_slow_twin(known, new):
    old, masks, pasted = uniform(2, known, 4, 5), some(2, new, 4, 5, seed=1), pasted_somewhere(2, 4, 5)
    pasted = torch.where(pasted == VOID, pasted, pasted.clamp_max(known - 1))
    before = old.clone()
    found = fmwiss.old_targets(old, pasted, masks)
    np.testing.assert_allclose(found.numpy(), slow.old_targets(old.numpy(), pasted.numpy(), masks.numpy()), **CLOSE)
    assert torch.equal(old, before)
    soft = uniform(2, new, 4, 5, seed=1)
    found = fmwiss.old_targets(old, pasted, soft)
    np.testing.assert_allclose(found.numpy(), slow.old_targets(old.numpy(), pasted.numpy(), soft.numpy()), **CLOSE)


def test_background_is_no_target_where_a_new_mask_holds():
    old = torch.ones(1, 3, 2, 2)
    masks = torch.zeros(1, 2, 2, 2, dtype=torch.bool)
    masks[0, 1, 0, 0] = True
    found = fmwiss.old_targets(old, torch.full((1, 2, 2), VOID, dtype=torch.uint8), masks)
    assert found[0, 0].tolist() == [[0.0, 1.0], [1.0, 1.0]]
    assert found[0, 1:].min() == 1


@pytest.mark.parametrize(("alpha", "beta"), [(0.5, 0.9), (0.0, 0.0), (1.0, 1.0), (0.3, 0.6)])
@pytest.mark.parametrize(
    ("old_channels", "new_channels"), [(OLD, NEW), ((0,), (1,)), ((0, 1, 2), ()), ((0,), (1, 2, 3))]
)
def test_student_targets_equal_their_slow_twin(old_channels, new_channels, alpha, beta):
    channels = len(old_channels) + len(new_channels)
    teacher, old = uniform(2, channels, 4, 5).round(decimals=1), uniform(2, len(old_channels), 4, 5, seed=1)
    how: dict[str, Any] = {"new_channels": new_channels, "old_channels": old_channels, "alpha": alpha, "beta": beta}
    found = fmwiss.student_targets(teacher, old, **how)
    np.testing.assert_allclose(found.numpy(), slow.student_targets(teacher.numpy(), old.numpy(), **how), **CLOSE)
    single = fmwiss.student_targets(teacher.float(), old.float(), **how)
    torch.testing.assert_close(single, found.float())
    second = fmwiss.student_targets(teacher, old, **how, shows_none=torch.tensor([False, True]))
    wanted = slow.student_targets(teacher.numpy(), old.numpy(), **how, shows_none={1})
    np.testing.assert_allclose(second.numpy(), wanted, **CLOSE)
    assert torch.equal(second[0], found[0])
    for targets in (found, single):
        assert targets.min() >= 0
        assert targets.max() <= 1


def test_alpha_one_gives_hard_targets_and_beta_one_the_old_model():
    teacher, old = uniform(2, 5, 4, 4), uniform(2, 3, 4, 4, seed=1)
    found = fmwiss.student_targets(teacher, old, new_channels=NEW, old_channels=OLD, alpha=1.0, beta=1.0)
    best = teacher.argmax(dim=1)
    for channel in NEW:
        assert torch.equal(found[:, channel], (best == channel).double())
    assert torch.equal(found[:, 1:3], old[:, 1:])
    assert torch.equal(found[:, 0], old[:, 0] * (best < 3))


def test_among_equal_probabilities_the_first_channel_is_the_hard_label():
    teacher = torch.ones(1, 5, 1, 1)
    how: dict[str, Any] = {"new_channels": NEW, "old_channels": OLD, "alpha": 1.0}
    assert fmwiss.student_targets(teacher, torch.ones(1, 3, 1, 1), **how)[0, 3:].flatten().tolist() == [0.0, 0.0]
    teacher[:, :3] = 0.5
    assert fmwiss.student_targets(teacher, torch.ones(1, 3, 1, 1), **how)[0, 3:].flatten().tolist() == [1.0, 0.0]


def test_targets_carry_no_gradient():
    teacher, old = uniform(1, 5, 2, 2).requires_grad_(), uniform(1, 3, 2, 2).requires_grad_()
    nowhere = torch.full((1, 2, 2), VOID, dtype=torch.uint8)
    assert not fmwiss.student_targets(teacher, old, new_channels=NEW, old_channels=OLD).requires_grad
    assert not fmwiss.old_targets(old, nowhere, some(1, 2, 2, 2)).requires_grad


@pytest.mark.parametrize("new", [(), (3,), (3, 4), (7, 5)])
def test_labels_equal_their_slow_twin(new):
    masks, old = some(2, len(new), 5, 6, share=0.4), uniform(2, 3, 5, 6, seed=1).round(decimals=1)
    pasted = pasted_somewhere(2, 5, 6)
    found = fmwiss.labels_of(masks, old, pasted, new)
    assert found.dtype == torch.uint8
    assert found.tolist() == slow.labels_of(masks.numpy(), old.numpy(), pasted.numpy(), new).tolist()


def test_two_new_masks_on_one_pixel_make_it_unsure_unless_something_is_pasted_there():
    masks = torch.ones(1, 2, 1, 2, dtype=torch.bool)
    pasted = torch.tensor([[[VOID, 1]]], dtype=torch.uint8)
    assert fmwiss.labels_of(masks, uniform(1, 3, 1, 2), pasted, NEW).flatten().tolist() == [VOID, 1]
