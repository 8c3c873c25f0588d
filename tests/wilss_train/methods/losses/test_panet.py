import math
from typing import Any

import numpy as np
import pytest
import torch

from tests.references import panet as slow
from wilss.data.taxonomy import VOID
from wilss.equations import panet as equations
from wilss_train.methods.losses import panet

CLOSE: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-12}


def normal(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def support_map(*shape, seed=0):
    """Background, foreground and unknown pixels."""
    return torch.from_numpy(np.random.default_rng(seed).choice([0, 1, VOID], size=shape).astype(np.uint8))


def episode(ways=(1, 2, 2), count=2, seed=0):
    """A query, its scores, and supports of different sizes."""
    grids, sizes = [(3, 4), (4, 3), (3, 3)], [(9, 12), (13, 8), (9, 9)]
    supports = [normal(6, *grid, seed=seed + i) for i, grid in enumerate(grids)]
    maps = [support_map(*size, seed=seed + i) for i, size in enumerate(sizes)]
    query = normal(6, 5, 4, seed=seed + 9)
    vectors, _ = equations.prototypes(supports, maps, ways, count)
    return query, equations.scores(query, vectors), supports, maps, list(ways)


def slow_alignment(query, scores, supports, maps, ways, alpha=20.0):
    features, known = [f.detach().numpy() for f in supports], [m.numpy() for m in maps]
    return slow.alignment_loss(query.detach().numpy(), scores.numpy(), features, known, ways, alpha)


# -- query_ce -----------------------------------------------------------------------------------------------


def test_query_ce_equals_its_slow_twin():
    scores, labels = normal(3, 4, 5) * 10, torch.from_numpy(np.random.default_rng(0).choice([0, 1, 2, VOID], (4, 5)))
    expected = slow.query_ce(scores.numpy(), labels.numpy())
    assert panet.query_ce(scores, labels).item() == pytest.approx(expected, rel=1e-12)
    assert panet.query_ce(scores.float(), labels.to(torch.uint8)).item() == pytest.approx(expected, rel=1e-5)


def test_query_ce_without_a_labelled_pixel_is_zero_and_has_a_gradient():
    scores = normal(3, 4, 5).requires_grad_()
    loss = panet.query_ce(scores, torch.full((4, 5), VOID))
    loss.backward()
    assert loss.item() == 0
    assert not scores.grad.any()


def test_query_ce_takes_scores_in_which_a_way_is_absent():
    scores, labels = normal(3, 4, 5).requires_grad_(), torch.zeros(4, 5, dtype=torch.uint8)
    present = torch.tensor([True, True, False])
    loss = panet.query_ce(equations.with_absent(scores, present), labels)
    torch.testing.assert_close(loss, panet.query_ce(scores[:2], labels), **CLOSE)
    loss.backward()
    assert scores.grad.isfinite().all()
    assert not scores.grad[2].any()


def test_query_ce_has_the_right_gradient():
    scores, labels = normal(3, 2, 4).requires_grad_(), torch.tensor([[0, 1, 2, VOID], [2, 2, VOID, 0]])
    assert torch.autograd.gradcheck(lambda x: panet.query_ce(x, labels), (scores,))


# -- label_shares -------------------------------------------------------------------------------------------


def test_label_shares_are_counted_cell_by_cell():
    labels = torch.tensor([[0, 1, 1, 1], [0, 0, VOID, 1], [2, 2, 0, VOID], [2, 2, VOID, VOID]], dtype=torch.uint8)
    shares = panet.label_shares(labels, 3, (2, 2))
    for channel, row, column in np.ndindex(3, 2, 2):
        cell = labels[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        assert shares[channel, row, column].item() == (cell == channel).float().mean().item()


def test_supports_aligned_by_the_label_are_those_of_a_prediction_that_is_right():
    query, _, supports, maps, ways = episode()
    labels = torch.from_numpy(np.random.default_rng(3).integers(0, 3, (5, 4)))  # a pixel for each cell
    right = torch.nn.functional.one_hot(labels, 3).permute(2, 0, 1).double()
    shares = panet.label_shares(labels, 3, (5, 4))
    found = panet.alignment_loss(query, shares, supports, maps, ways)
    torch.testing.assert_close(found, panet.alignment_loss(query, right, supports, maps, ways))
    assert found.item() == pytest.approx(slow_alignment(query, shares, supports, maps, ways), rel=1e-9)


# -- alignment_loss -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_alignment_loss_equals_its_slow_twin(seed):
    query, scores, supports, maps, ways = episode(seed=seed)
    for alpha in (20.0, 3.0):
        expected = slow_alignment(query, scores, supports, maps, ways, alpha)
        loss = panet.alignment_loss(query, scores, supports, maps, ways, alpha)
        assert loss.item() == pytest.approx(expected, rel=1e-9)


def predicting(scores, *ways):
    """The scores under which the query's mask holds these prototypes alone."""
    return scores.masked_fill(~torch.isin(torch.arange(len(scores)), torch.tensor(ways))[:, None, None], -math.inf)


def test_ways_with_an_empty_prediction_are_skipped_and_still_count_in_the_mean():
    query, scores, supports, maps, ways = episode()
    found = panet.alignment_loss(query, predicting(scores, 0, 2), supports, maps, ways)
    others = panet.alignment_loss(query, predicting(scores, 0, 2), supports[1:], maps[1:], ways[1:])
    torch.testing.assert_close(found, others * 2 / 3, **CLOSE)


def test_if_all_ways_are_skipped_the_loss_is_zero_and_has_a_gradient():
    query, scores, supports, maps, ways = episode()
    query.requires_grad_()
    loss = panet.alignment_loss(query, predicting(scores, 0), supports, maps, ways)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(query.grad, torch.zeros_like(query))


def test_a_query_that_is_all_foreground_has_a_finite_loss_and_gradient():
    query, scores, supports, maps, ways = episode()
    query.requires_grad_()
    loss = panet.alignment_loss(query, predicting(scores, 1), supports, maps, ways)
    assert loss.item() == pytest.approx(slow_alignment(query, predicting(scores, 1), supports, maps, ways), rel=1e-9)
    loss.backward()
    assert query.grad.isfinite().all()


def test_a_support_without_a_known_pixel_gives_nothing():
    query, scores, supports, maps, ways = episode()
    maps[0] = torch.full_like(maps[0], VOID)
    found = panet.alignment_loss(query, scores, supports, maps, ways)
    assert found.item() == pytest.approx(slow_alignment(query, scores, supports, maps, ways), rel=1e-9)


def test_supports_of_other_ways_do_not_change_what_a_way_is_told_from():
    query, scores, supports, maps, ways = episode()
    whole = panet.alignment_loss(query, scores, supports, maps, ways)
    each = [
        panet.alignment_loss(query, scores, supports[i : i + 1], maps[i : i + 1], ways[i : i + 1]) for i in range(3)
    ]
    torch.testing.assert_close(whole, torch.stack(each).mean(), **CLOSE)


def test_features_that_agree_everywhere_cost_nothing():
    features = torch.zeros(2, 4, 4, dtype=torch.float64)
    features[0], features[0, :, 2:], features[1, :, 2:] = 1.0, 0.0, 1.0
    known = torch.zeros(4, 4, dtype=torch.uint8)
    known[:, 2:] = 1
    vectors, _ = equations.prototypes([features], [known], [1], 1)
    loss = panet.alignment_loss(features, equations.scores(features, vectors), [features], [known], [1])
    assert loss.item() < 1e-8


def test_alignment_loss_has_the_right_gradient_for_query_and_supports():
    query, scores, supports, maps, ways = episode()

    def loss(*features):
        return panet.alignment_loss(features[0], scores, features[1:], maps, ways, alpha=2.0)

    assert torch.autograd.gradcheck(loss, [one.requires_grad_() for one in (query, *supports)])


def test_alignment_loss_is_in_float32_whatever_autocast_says():
    query, scores, supports, maps, ways = episode()
    half = [one.bfloat16() for one in supports]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = panet.alignment_loss(query.bfloat16(), scores, half, maps, ways)
    assert found.dtype == torch.float32
    full = panet.alignment_loss(query.bfloat16().float(), scores, [one.float() for one in half], maps, ways)
    torch.testing.assert_close(found, full)


def test_alignment_of_no_support_is_refused():
    query, scores, *_ = episode()
    with pytest.raises(ValueError, match="as many supports, maps and ways"):
        panet.alignment_loss(query, scores, [], [], [])
