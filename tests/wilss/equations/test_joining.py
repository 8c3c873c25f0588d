"""Two heads as one: values against the slow twin, then limits."""

import pytest
import torch

from tests.references.joining import joined_picture, joined_pixel
from wilss.equations.joining import evidence, joined_logits


def logits(*shape: int, seed: int = 0, scale: float = 3.0) -> torch.Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("new", [1, 2, 4])
def test_values_are_the_twins(new: int) -> None:
    known, newer = logits(2, 3, 4, 5), logits(2, 3 + new, 4, 5, seed=1)
    found = joined_logits(known, newer)
    assert found.shape == (2, 3 + new, 4, 5)
    for image in range(2):
        for row in range(4):
            for column in range(5):
                wanted = joined_pixel(known[image, :, row, column].tolist(), newer[image, :, row, column].tolist())
                assert found[image, :, row, column].tolist() == pytest.approx(wanted, rel=1e-9)


def test_older_classes_keep_their_order_and_give_way_by_the_same_factor() -> None:
    known, newer = logits(2, 3, 4, 5), logits(2, 5, 4, 5, seed=1)
    found = joined_logits(known, newer)
    assert torch.equal(found[:, :3].argmax(dim=1), known.argmax(dim=1))
    left = 1 - found[:, 3:].sigmoid().sum(dim=1, keepdim=True)
    torch.testing.assert_close(found[:, :3].sigmoid(), known.sigmoid() * left)
    assert torch.equal(joined_logits(known, newer[:, :3]), known)


def test_odds_count_and_no_level() -> None:
    known, newer = logits(2, 3, 4, 5), logits(2, 5, 4, 5, seed=1)
    torch.testing.assert_close(joined_logits(known, newer + 5.0), joined_logits(known, newer))


def test_the_order_of_new_classes_is_nothing() -> None:
    known, newer = logits(2, 3, 4, 5, scale=10), logits(2, 5, 4, 5, seed=1, scale=10)
    turned = joined_logits(known, newer[:, [0, 1, 2, 4, 3]])
    torch.testing.assert_close(turned[:, [0, 1, 2, 4, 3]], joined_logits(known, newer))


@pytest.mark.parametrize("size", [200.0, 1e4])
def test_no_logit_is_too_large(size: float) -> None:
    for background in (-size, 0.0, size):
        for new in (-size, 0.0, size):
            known = torch.full((1, 1, 1, 1), background).requires_grad_()
            newer = torch.tensor([[[[0.0]], [[new]]]]).requires_grad_()
            found = joined_logits(known, newer)
            assert bool(found.isfinite().all())
            found.sum().backward()
            assert all(one.grad is not None and bool(one.grad.isfinite().all()) for one in (known, newer))
    sure = torch.tensor([[[[0.0]], [[-2 * size]]]])
    assert joined_logits(torch.full((1, 1, 1, 1), size), sure)[0, 0].item() == size


def test_half_precision_is_computed_in_float32() -> None:
    known, newer = logits(1, 2, 2, 2).bfloat16(), logits(1, 3, 2, 2, seed=1).bfloat16()
    found = joined_logits(known, newer)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, joined_logits(known.float(), newer.float()))


@pytest.mark.parametrize("shifts", [(-2.5,), (-2.5, -0.5), (0.0, -4.0, -1.0)])
def test_values_are_the_twins_where_a_class_may_be_in_no_pixel(shifts: tuple[float, ...]) -> None:
    known, newer = logits(2, 3, 9, 12), logits(2, 3 + len(shifts), 9, 12, seed=1)
    found = joined_logits(known, newer, shifts)
    for one, older, new in zip(*(each.flatten(2).transpose(1, 2) for each in (found, known, newer)), strict=True):
        torch.testing.assert_close(one, torch.tensor(joined_picture(older.tolist(), new.tolist(), shifts)).to(one))


def test_a_shift_lowers_its_own_class_in_pictures_that_show_little_of_it() -> None:
    known, newer = logits(2, 3, 6, 6), logits(2, 5, 6, 6, seed=1)
    newer[0, 4] -= 20
    newer[1, 4, :2, :2] += 30
    plain, shifted = joined_logits(known, newer), joined_logits(known, newer, (0.0, -3.0))
    assert torch.equal(shifted[:, :3].argmax(dim=1), known.argmax(dim=1))
    torch.testing.assert_close(shifted[:, 3], plain[:, 3])
    torch.testing.assert_close(shifted[1].sigmoid(), plain[1].sigmoid(), rtol=0, atol=1e-6)
    assert bool((shifted[0, 4] < plain[0, 4] - 3).all())
    left = 1 - shifted[:, 3:].sigmoid().sum(dim=1, keepdim=True)
    torch.testing.assert_close(shifted[:, :3].sigmoid(), known.sigmoid() * left)
    assert torch.equal(joined_logits(known, newer, (0.0, 0.0)), plain)


def test_pictures_of_a_batch_say_nothing_of_each_other() -> None:
    known, newer = logits(3, 3, 6, 6), logits(3, 4, 6, 6, seed=1)
    together = joined_logits(known, newer, (-2.0,))
    for one in range(3):
        torch.testing.assert_close(joined_logits(known[one : one + 1], newer[one : one + 1], (-2.0,))[0], together[one])


def test_evidence_is_that_of_the_best_cells() -> None:
    odds = torch.arange(200.0).reshape(1, 1, 10, 20)
    assert evidence(odds).shape == (1, 1, 1, 1)
    assert evidence(odds).item() == 197.5  # of 200 the best four
    assert evidence(odds[..., :1, :5]).item() == 4  # one at least


@pytest.mark.parametrize("size", [200.0, 1e4])
def test_no_logit_is_too_large_for_a_shift(size: float) -> None:
    for new in (-size, 0.0, size):
        known = torch.zeros(1, 1, 2, 2).requires_grad_()
        newer = torch.tensor([0.0, new, -size])[None, :, None, None].repeat(1, 1, 2, 2).requires_grad_()
        found = joined_logits(known, newer, (-3.0, 0.0))
        assert bool(found.isfinite().all())
        found.sum().backward()
        assert all(one.grad is not None and bool(one.grad.isfinite().all()) for one in (known, newer))
