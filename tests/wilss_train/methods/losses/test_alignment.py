from typing import Any

import numpy as np
import pytest
import torch

from tests.references import alignment as slow
from wilss.data.taxonomy import VOID
from wilss_train.methods.losses.alignment import aligned, drawn_counts, soft_counts

CLOSE: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-12}
SHARES = torch.tensor([0.7, 0.2, 0.1, 0.0], dtype=torch.float64)
EVEN = torch.full((4,), 0.25, dtype=torch.float64)


def soft(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).softmax(dim=1)


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(("given", "wanted"), [(SHARES, EVEN), (EVEN, SHARES), (SHARES, SHARES)])
def test_aligned_equals_its_slow_twin(given, wanted, strength):
    labels = soft(2, 4, 3, 5)
    found = aligned(labels, given, wanted, strength)
    torch.testing.assert_close(found.numpy(), slow.aligned(labels.numpy(), given, wanted, strength), **CLOSE)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(2, 3, 5, dtype=torch.float64), **CLOSE)


def test_no_strength_and_equal_shares_change_nothing():
    labels = soft(2, 4, 3, 5)
    torch.testing.assert_close(aligned(labels, SHARES, EVEN, 0.0), labels, **CLOSE)
    torch.testing.assert_close(aligned(labels, SHARES, SHARES, 1.0), labels, **CLOSE)


def test_the_odds_of_two_classes_change_by_the_odds_of_their_shares():
    labels = soft(1, 4, 2, 2)
    found = aligned(labels, SHARES, EVEN, 1.0)
    ratio = (found[:, 1] / found[:, 0]) / (labels[:, 1] / labels[:, 0])
    torch.testing.assert_close(ratio, torch.full_like(ratio, 0.7 / 0.2), **CLOSE)


def test_a_sure_label_stays_and_a_class_without_a_share_is_no_division_by_zero():
    sure = torch.zeros(1, 4, 1, 1, dtype=torch.float64)
    sure[0, 2] = 1.0
    assert torch.equal(aligned(sure, SHARES, EVEN, 1.0), sure)
    nothing = torch.zeros(4, dtype=torch.float64)
    torch.testing.assert_close(aligned(sure, nothing, nothing, 1.0), sure, **CLOSE)


def test_counts_leave_out_what_is_not_valid_and_void():
    labels = soft(2, 4, 3, 5)
    valid = torch.from_numpy(np.random.default_rng(1).uniform(size=(2, 3, 5)) < 0.5)
    counts = soft_counts(labels, valid)
    np.testing.assert_allclose(counts.numpy(), slow.soft_counts(labels.numpy(), valid.numpy()), rtol=1e-12)
    assert counts.sum().item() == pytest.approx(int(valid.sum()))
    drawn = torch.tensor([[[0, 2, VOID], [2, 3, VOID]]])
    assert drawn_counts(drawn, 4).tolist() == [1.0, 0.0, 2.0, 1.0]
