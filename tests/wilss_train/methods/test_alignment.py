import numpy as np
import torch
from torch import Tensor

from tests.references import alignment as slow
from wilss.data.taxonomy import VOID
from wilss_train.methods.alignment import Alignment
from wilss_train.methods.losses.alignment import aligned


def soft(count: int, seed: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(count, 4, 3, 5))).softmax(dim=1)


def drawn(seed: int) -> Tensor:
    labels = torch.from_numpy(np.random.default_rng(seed).integers(0, 4, size=(2, 6, 6)))
    labels[0, 0] = VOID
    return labels


def test_shares_are_those_of_all_drawn_labels_and_of_the_soft_ones_of_late() -> None:
    alignment, valid = Alignment(4, 1.0, lambda rows: rows), torch.ones(3, 3, 5, dtype=torch.bool)
    batches = [(soft(3, seed), drawn(seed)) for seed in range(250)]
    for labels, known in batches:
        alignment(labels, valid, known)
    given = slow.shares_over_steps([labels.sum(dim=(0, 2, 3)).tolist() for labels, _ in batches], 0.99)
    np.testing.assert_allclose(alignment.given, given, rtol=1e-9)
    counts = [[int((known == one).sum()) for one in range(4)] for _, known in batches]
    np.testing.assert_allclose(alignment.wanted, slow.shares_over_steps(counts, 1.0), rtol=1e-9)


def test_labels_are_aligned_by_the_shares_with_their_own_in_them() -> None:
    alignment, valid = Alignment(4, 0.5, lambda rows: rows), torch.ones(3, 3, 5, dtype=torch.bool)
    labels, known = soft(3, 0), drawn(0)
    found = alignment(labels, valid, known)
    torch.testing.assert_close(found, aligned(labels, labels.mean(dim=(0, 2, 3)), alignment.wanted, 0.5))
    assert found.dtype == labels.dtype


def test_nothing_valid_and_nothing_drawn_leave_the_shares_as_they_are() -> None:
    alignment = Alignment(4, 1.0, lambda rows: rows)
    everywhere = torch.ones(3, 3, 5, dtype=torch.bool)
    alignment(soft(3, 0), everywhere, drawn(0))
    before = alignment.given.clone(), alignment.wanted.clone()
    alignment(soft(3, 1), ~everywhere, torch.full((2, 6, 6), VOID))
    assert torch.equal(alignment.given, before[0])
    assert torch.equal(alignment.wanted, before[1])


def test_two_processes_count_what_one_does() -> None:
    """Each sees its half of a batch; `gather` brings the counts of both together."""
    labels, known, valid = soft(4, 0), drawn(0), torch.ones(4, 3, 5, dtype=torch.bool)
    whole = Alignment(4, 1.0, lambda rows: rows)(labels, valid, known)
    counted: list[Tensor] = []

    def noted(rows: Tensor) -> Tensor:
        counted.append(rows)
        return rows

    Alignment(4, 1.0, noted)(labels[2:], valid[2:], known[1:])
    first = Alignment(4, 1.0, lambda rows: torch.cat([rows, counted.pop(0)]))
    torch.testing.assert_close(first(labels[:2], valid[:2], known[:1]), whole[:2])
