"""SAM 3 by tags against its slow twin, and in its limits."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.references import sam3 as reference
from wilss.equations.kernels import first_greatest
from wilss.equations.sam3 import lead, tag_score


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("queries", [0, 1, 7])
@pytest.mark.parametrize("least", [0.0, 0.3, 1.0])
def test_the_score_of_a_tag_is_its_twins(queries, least):
    masks, scores, semantic = 4 * drawn(queries, 5, 6), drawn(queries, seed=1).sigmoid(), 3 * drawn(5, 6, seed=2)
    found = tag_score(masks, scores, semantic, least)
    expected = reference.tag_score(masks.tolist(), scores.tolist(), semantic.tolist(), least)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_masks_of_too_little_score_are_as_if_they_were_not_there():
    masks, semantic = 9 * drawn(3, 4, 4), drawn(4, 4, seed=1)
    alone = tag_score(masks[1:2], torch.tensor([0.5]), semantic)
    assert torch.equal(tag_score(masks, torch.tensor([0.29, 0.5, 0.1]), semantic), alone)
    assert torch.equal(tag_score(masks, torch.zeros(3), semantic), semantic.sigmoid())


def test_logits_of_half_precision_are_taken_exactly():
    masks, semantic = drawn(2, 4, 4), drawn(4, 4, seed=1)
    halved = tag_score(masks.bfloat16(), torch.tensor([0.9, 0.4]), semantic.bfloat16())
    assert halved.dtype == torch.float32
    torch.testing.assert_close(halved, tag_score(masks, torch.tensor([0.9, 0.4]), semantic).float(), atol=0.01, rtol=0)


@pytest.mark.parametrize("tags", [1, 2, 3, 5])
@pytest.mark.parametrize("threshold", [0.1, 0.4, 1.0])
def test_evidence_is_its_twins(tags, threshold):
    scores = drawn(tags, 6, 7).sigmoid()
    found = lead(scores, threshold)
    expected = [[reference.lead(scores[:, y, x].tolist(), threshold) for x in range(7)] for y in range(6)]
    torch.testing.assert_close(found.permute(1, 2, 0), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("tags", [1, 2, 4])
def test_what_wins_by_evidence_wins_by_the_rule(tags):
    scores = (1.5 * drawn(tags, 9, 9)).sigmoid()
    evidence = lead(scores)
    labels = first_greatest(torch.cat([torch.ones_like(evidence[:1]), evidence]))
    for y in range(9):
        for x in range(9):
            label = reference.label(scores[:, y, x].tolist(), 0.4)
            assert labels[y, x] == (0 if label is None else label + 1)
    assert len(labels.unique()) == tags + 1


@given(st.lists(st.floats(0, 1), min_size=1, max_size=4), st.floats(0.05, 1))
def test_no_two_tags_have_one_place(scores, threshold):
    found = lead(torch.tensor(scores, dtype=torch.float64)[:, None, None], threshold)
    assert (found >= 0).all()
    assert (found > 0).sum() <= 1


def test_a_tag_of_no_score_changes_nothing():
    scores = drawn(1, 5, 5).sigmoid()
    assert torch.equal(lead(torch.cat([scores, torch.zeros_like(scores)]))[:1], lead(scores))


def test_a_tag_alone_is_cut_at_the_threshold_to_the_five_sixths():
    cut = 0.4 ** (5 / 6)
    below, above = lead(torch.tensor([cut - 1e-6, cut + 1e-6], dtype=torch.float64)[None, None]).flatten().tolist()
    assert below < 1 < above
    assert math.isclose(cut, 0.466, abs_tol=1e-3)


def test_equals_leave_a_place_to_the_background():
    assert not lead(torch.full((2, 3, 3), 0.9)).any()
    assert not lead(torch.tensor([0.2, 0.9, 0.9])[:, None, None]).any()


@pytest.mark.parametrize("threshold", [0.0, 1.1])
def test_a_threshold_that_means_nothing_is_refused(threshold):
    with pytest.raises(ValueError, match="lead needs a threshold above 0"):
        lead(torch.zeros(1, 2, 2), threshold)
