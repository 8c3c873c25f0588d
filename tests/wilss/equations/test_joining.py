"""Two heads as one: values against the slow twin, then limits."""

import pytest
import torch

from tests.references.joining import joined_pixel
from wilss.equations.joining import joined_logits


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
