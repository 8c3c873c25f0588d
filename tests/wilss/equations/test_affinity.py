"""Affinities, soft seeds and competition against their slow twins, and their limits."""

from typing import Any

import numpy as np
import pytest
import torch

from tests.references import placing as slow
from tests.references.regions import scoped_softmax
from wilss.equations import fmwiss
from wilss.equations.affinity import Affinity, Patches, affinity_of, rows_of
from wilss.equations.competition import against_background, compete, evidence
from wilss.equations.placing import counted_weights, soft_weights, spread_again

PREFIX, HEADS, LENGTH, WIDTH = 2, 3, 12, 5


def block(seed: int = 0) -> Patches:
    generator = torch.Generator().manual_seed(seed)
    parts = [torch.randn(HEADS, PREFIX + LENGTH, WIDTH, generator=generator) for _ in range(3)]
    outputs = torch.randn(PREFIX + LENGTH, 2 * WIDTH, generator=generator)
    return Patches(queries=parts[0], keys=parts[1], values=parts[2], outputs=outputs, prefix=PREFIX)


def by_loops(one: Patches, kind: str, **options: Any) -> np.ndarray:
    assert one.values is not None
    assert one.outputs is not None
    queries, keys, values, outputs = (x.double().numpy() for x in (one.queries, one.keys, one.values, one.outputs))
    return np.asarray(slow.affinity(kind, queries, keys, values, outputs, one.prefix, **options))


@pytest.mark.parametrize("kind", ["qk", "qq+kk", "kk", "vv", "outputs"])
@pytest.mark.parametrize("negatives", ["zero", "cut"])
def test_rows_equal_the_slow_twin(kind: Any, negatives: Any) -> None:
    rows = rows_of([block()], kind, negatives=negatives, sharpness=4.0)
    expected = by_loops(block(), kind, how=negatives, sharpness=4.0)
    np.testing.assert_allclose(rows(slice(0, LENGTH)), expected, atol=1e-6)
    np.testing.assert_array_equal(rows(slice(3, 7)).shape, (4, LENGTH))
    np.testing.assert_allclose(rows(slice(3, 7)), expected[3:7], atol=1e-6)


def test_blocks_are_averaged() -> None:
    rows = rows_of([block(0), block(1)], "qk")
    expected = (by_loops(block(0), "qk") + by_loops(block(1), "qk")) / 2
    np.testing.assert_allclose(rows(slice(0, LENGTH)), expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["qk", "kk"])
def test_inside_regions_rows_are_those_of_the_slow_twin(kind: Any) -> None:
    scope = torch.tensor([0, 0, 1, -1, 1, 2, 0, -1, 2, 2, 3, 0])
    made = affinity_of([block()], kind, scope=scope)
    with np.errstate(divide="ignore"):
        expected = scoped_softmax(np.log(by_loops(block(), kind)), scope.numpy())
    np.testing.assert_allclose(made.rows(slice(0, LENGTH)), expected, atol=1e-6)
    np.testing.assert_allclose(made.rows(slice(3, 7)), expected[3:7], atol=1e-6)


@pytest.mark.parametrize("balance", ["none", "symmetric", "sinkhorn"])
@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("step", [1, 5, LENGTH])
def test_spreading_equals_the_product_with_the_balanced_matrix(balance: Any, squared: bool, step: int) -> None:
    matrix = slow.balanced(by_loops(block(), "qk"), balance, 3)
    matrix = matrix @ matrix if squared else matrix
    weights = torch.rand(2, LENGTH, generator=torch.Generator().manual_seed(9))
    made = affinity_of([block()], "qk", balance=balance, squared=squared)
    operator = Affinity(rows=made.rows, length=LENGTH, step=step, balance=balance, squared=squared)
    np.testing.assert_allclose(operator.spread(weights), weights.double().numpy() @ matrix, atol=1e-6)
    np.testing.assert_allclose(made.spread(weights), weights.double().numpy() @ matrix, atol=1e-6)


def test_no_more_than_a_block_of_rows_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the whole affinity is large; the products are the same."""
    whole = affinity_of([block()], "kk", balance="sinkhorn")
    monkeypatch.setattr("wilss.equations.affinity._KEPT", 0)
    monkeypatch.setattr("wilss.equations.affinity._BLOCK", 2 * HEADS * (PREFIX + LENGTH))
    in_parts = affinity_of([block()], "kk", balance="sinkhorn")
    asked: list[slice] = []
    watched = Affinity(
        rows=lambda rows: (asked.append(rows), in_parts.rows(rows))[1],
        length=LENGTH, step=in_parts.step, balance="sinkhorn",
    )  # fmt: skip
    weights = torch.rand(3, LENGTH)
    np.testing.assert_allclose(watched.spread(weights), whole.spread(weights), atol=1e-6)
    assert max(rows.stop - rows.start for rows in asked) == 2


def test_sinkhorn_gives_rows_and_columns_that_sum_to_one() -> None:
    operator = affinity_of([block()], "qk", balance="sinkhorn", rounds=60)
    even = torch.ones(1, LENGTH)
    np.testing.assert_allclose(operator.spread(even), even, atol=1e-5)


def test_an_affinity_that_was_not_asked_for_is_refused() -> None:
    one = block()
    bare = Patches(queries=one.queries, keys=one.keys, prefix=PREFIX)
    with pytest.raises(ValueError, match="vv"):
        rows_of([bare], "vv")
    with pytest.raises(ValueError, match="no affinity 'xx'"):
        rows_of([bare], "xx")  # type: ignore[arg-type]


@pytest.mark.parametrize("power", [0.0, 1.0, 2.5])
def test_soft_weights_equal_the_slow_twin(power: float) -> None:
    score = torch.rand(3, LENGTH, generator=torch.Generator().manual_seed(1))
    score[1] = 0
    np.testing.assert_allclose(soft_weights(score, power), slow.soft_weights(score.double().numpy(), power), atol=1e-6)


def test_a_great_power_leaves_the_best_patch_alone() -> None:
    score = torch.tensor([[0.2, 0.9, 0.5]])
    np.testing.assert_allclose(soft_weights(score, 200.0), [[0, 1, 0]], atol=1e-6)


def test_seeds_as_weights_give_their_mean_attention() -> None:
    one, points = block(), torch.tensor([[[0, 1], [2, 3], [0, 1]], [[1, 1], [1, 2], [1, 3]]])  # on a grid of 3 x 4
    weights = counted_weights(points, 4, LENGTH)
    spread = affinity_of([one], "qk").spread(weights)
    tokens = PREFIX + points[..., 0] * 4 + points[..., 1]
    rows = one.queries[:, tokens].movedim(0, 1)
    expected = fmwiss.seed_attention(rows, one.keys, prefix=PREFIX, affinity="qk")
    np.testing.assert_allclose(spread, expected, atol=1e-6)


@pytest.mark.parametrize("passes", [1, 2, 4])
def test_spreading_again_equals_the_slow_twin(passes: int) -> None:
    score = torch.rand(2, LENGTH, generator=torch.Generator().manual_seed(4))
    operator = affinity_of([block()], "qk", balance="symmetric")
    maps = spread_again(soft_weights(score, 2.0), score, operator.spread, passes=passes, power=2.0)
    matrix = slow.balanced(by_loops(block(), "qk"), "symmetric", 3)
    exact = score.double().numpy()
    expected = slow.spread_again(slow.soft_weights(exact, 2.0), exact, matrix, passes, 2.0)
    np.testing.assert_allclose(maps, expected, atol=1e-6)


def test_competing_equals_the_slow_twin_and_is_one_hot() -> None:
    evidences = 2 * torch.rand(3, 6, 7, generator=torch.Generator().manual_seed(2))
    evidences[1, 2] = evidences[0, 2]  # equals
    evidences[:, 3] = 1.0  # at the cut, where a mask still is
    evidences[:, 4] = 1 - 2.0**-20
    found = compete(evidences)
    np.testing.assert_array_equal(found.argmax(dim=0), slow.compete(evidences.numpy()))
    np.testing.assert_array_equal(found.sum(dim=0), np.ones((6, 7)))
    assert (found[1, 3] == 1).all()
    assert (found[0, 4] == 1).all()


@pytest.mark.parametrize("mode", ["union", "intersection", "init", "seeds"])
def test_evidence_is_cut_where_the_fused_masks_are(mode: Any) -> None:
    generator = torch.Generator().manual_seed(3)
    score, attention = (torch.rand(2, 8, 8, generator=generator) for _ in range(2))
    cut = torch.tensor([0.4, 0.7])
    found = evidence(score, attention, 0.6, cut, mode)
    expected = fmwiss.fuse(score >= 0.6, attention >= cut[:, None, None], mode)
    np.testing.assert_array_equal(found >= 1, expected)


def test_evidence_has_limits() -> None:
    score, attention = torch.rand(1, 2, 2), torch.zeros(1, 2, 2)
    assert (evidence(score, attention, 0.0, torch.tensor([0.5]), "init") >= 1).all()
    assert (evidence(score, attention, 0.5, torch.tensor([torch.inf]), "seeds") == 0).all()
    with pytest.raises(ValueError, match="xor"):
        evidence(score, attention, 0.5, torch.tensor([0.5]), "xor")  # type: ignore[arg-type]


def test_a_class_against_the_background_alone_equals_the_slow_twin() -> None:
    probabilities = torch.randn(4, 20, generator=torch.Generator().manual_seed(5)).softmax(dim=0)
    probabilities[[0, 2], 3] = 0
    found = against_background(probabilities)
    np.testing.assert_allclose(found, slow.against_background(probabilities.numpy()), rtol=1e-6)
    assert found[1, 3] == 0
    even = torch.tensor([[0.4, 0.0], [0.4, 0.2], [0.2, 0.8]])
    torch.testing.assert_close(against_background(even), torch.tensor([[0.5, 1.0], [1 / 3, 1.0]]))
    faint = torch.full((2, 1), 1e-35)  # of hardly any probability, and as probable as one another
    assert float(against_background(faint)) == 0.5
