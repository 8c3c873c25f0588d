import math
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.references import fmwiss as slow
from wilss.equations import fmwiss, kernels
from wilss.randomness import generator_for

CLOSE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-6}
GOLDEN_POINTS = [[1, 2], [4, 2], [4, 0], [0, 2]]
GRIDS = st.tuples(st.integers(1, 7), st.integers(1, 7))


def normal(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def attention_maps(low=0.0):
    """Non-negative float32 maps with many ties."""
    value = st.sampled_from([0.0, 0.125, 0.5, 1.0, 3.0]) | st.floats(0, 1, width=32)
    return hnp.arrays(np.float32, GRIDS, elements=value.map(lambda v: max(v, low)))


# -- features -----------------------------------------------------------------------------------------------


def test_unit_has_length_one_and_leaves_zero_alone():
    x = torch.stack([normal(5), torch.zeros(5)])
    np.testing.assert_allclose(kernels.unit(x)[0].numpy(), slow.unit(x[0].numpy()), **CLOSE)
    assert kernels.unit(x)[1].tolist() == [0.0] * 5


def test_ensemble_equals_its_slow_twin_in_batches():
    prompts = normal(3, 4, 6) * 5
    together = fmwiss.ensemble(prompts)
    for one, whole in zip(prompts, together, strict=True):
        np.testing.assert_allclose(whole.numpy(), slow.ensemble(one.numpy()), **CLOSE)


def test_a_prompt_of_great_length_counts_no_more_than_others():
    a, b = normal(2, 6)
    assert torch.allclose(fmwiss.ensemble(torch.stack([a, 1000 * b])), fmwiss.ensemble(torch.stack([a, b])))


def test_ensemble_of_one_prompt_is_that_prompt():
    prompt = normal(1, 6)
    torch.testing.assert_close(fmwiss.ensemble(prompt), kernels.unit(prompt[0]))


def test_score_map_equals_its_slow_twin_alone_and_in_batches():
    image, text = kernels.unit(normal(2, 6, 3, 4), dim=1), kernels.unit(normal(5, 6, seed=1))
    batch = kernels.score_map(image, text)
    assert batch.shape == (2, 5, 3, 4)
    for one, whole in zip(image, batch, strict=True):
        np.testing.assert_allclose(whole.numpy(), slow.score_map(one.numpy(), text.numpy()), **CLOSE)
        torch.testing.assert_close(kernels.score_map(one, text), whole)


def test_a_patch_that_is_the_text_scores_one():
    text = kernels.unit(normal(2, 6))
    scores = kernels.score_map(text[0].reshape(6, 1, 1), text)
    assert scores[0].item() == pytest.approx(1.0, abs=1e-6)
    assert scores.abs().max() <= 1 + 1e-6


# -- foreground ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["softmax", "margin", "minmax"])
@pytest.mark.parametrize("words", [0, 1, 4])
def test_foreground_score_equals_its_slow_twin_alone_and_in_batches(mode, words):
    tags, background = normal(2, 3, 4, 5) / 5, normal(2, words, 4, 5, seed=1) / 5
    batch = fmwiss.foreground_score(tags, background, mode=mode, logit_scale=20.0)
    for i in range(2):
        expected = slow.foreground_score(tags[i].numpy(), background[i].numpy(), mode, 20.0)
        np.testing.assert_allclose(batch[i].numpy(), expected, **CLOSE)


@pytest.mark.parametrize("mode", ["softmax", "margin", "minmax"])
def test_foreground_score_lies_in_the_unit_interval_and_is_finite_for_flat_maps(mode):
    tags = torch.stack([normal(4, 5), torch.full((4, 5), 0.3), torch.zeros(4, 5)])
    found = fmwiss.foreground_score(tags, torch.full((2, 4, 5), 0.1), mode=mode, logit_scale=100.0)
    assert found.isfinite().all()
    assert 0 <= found.min() <= found.max() <= 1
    if mode != "softmax":
        assert found[1:].max() == 0  # no contrast, no foreground


def test_one_tag_without_background_words_is_foreground_everywhere_under_softmax():
    tags = normal(1, 3, 3)
    nothing = torch.zeros(0, 3, 3)
    assert (fmwiss.foreground_score(tags, nothing, mode="softmax", logit_scale=100.0) == 1).all()


def test_margin_without_background_words_is_minmax():
    tags, nothing = normal(2, 3, 3), torch.zeros(0, 3, 3)
    margin = fmwiss.foreground_score(tags, nothing, mode="margin", logit_scale=1.0)
    assert torch.equal(margin, fmwiss.foreground_score(tags, nothing, mode="minmax", logit_scale=1.0))


def test_a_single_patch_has_no_contrast():
    assert fmwiss.foreground_score(normal(2, 1, 1), normal(3, 1, 1), mode="margin", logit_scale=1.0).eq(0).all()


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="softmax, margin or minmax"):
        fmwiss.foreground_score(normal(1, 2, 2), normal(1, 2, 2), mode="nearest", logit_scale=1.0)  # type: ignore[arg-type]


# -- seeds --------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(hnp.arrays(bool, GRIDS), st.integers(1, 12), st.integers(0, 5))
def test_seeds_lie_in_the_foreground_and_are_distinct_where_it_is_large_enough(foreground, count, seed):
    score = normal(*foreground.shape)
    points, fell_back = fmwiss.seed_points(torch.from_numpy(foreground), score, count, generator_for(seed))
    assert points.shape == (count, 2)
    assert points.dtype == torch.int64
    assert fell_back == (not foreground.any())
    if fell_back:
        highest = np.unravel_index(score.numpy().argmax(), score.shape)
        assert {tuple(p) for p in points.tolist()} == {tuple(int(v) for v in highest)}
    else:
        assert all(foreground[row, column] for row, column in points.tolist())
        distinct = len({tuple(p) for p in points.tolist()})
        assert distinct == count if foreground.sum() >= count else 1 <= distinct <= foreground.sum()


def test_all_of_the_foreground_is_drawn_when_it_has_just_enough():
    foreground = torch.zeros(4, 4, dtype=torch.bool)
    foreground[1, 2] = foreground[3, 0] = foreground[0, 0] = True
    points = fmwiss.seed_points(foreground, normal(4, 4), 3, generator_for(0)).points
    assert sorted(points.tolist()) == foreground.nonzero().tolist()


def test_seeds_are_drawn_uniformly():
    foreground = torch.zeros(3, 3, dtype=torch.bool)
    foreground[0] = True
    drawn = [fmwiss.seed_points(foreground, normal(3, 3), 1, generator_for(0, i)).points[0, 1] for i in range(900)]
    counts = np.bincount(drawn, minlength=3)
    assert counts.min() > 240  # 300 each, 4 standard deviations of 14


def test_a_draw_belongs_to_its_name_alone():
    masks = [normal(6, 6, seed=i) > 0 for i in range(4)]

    def draw(i):
        return fmwiss.seed_points(masks[i], normal(6, 6), 9, generator_for(0, f"image{i}", "cat")).points

    forwards = [draw(i) for i in range(4)]
    backwards = [draw(i) for i in reversed(range(4))]
    for a, b in zip(forwards, reversed(backwards), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(forwards[0], draw(1))


def test_a_draw_does_not_change_from_one_release_to_the_next():
    points = fmwiss.seed_points(torch.ones(5, 7, dtype=torch.bool), torch.zeros(5, 7), 4, generator_for(0, "a", "cat"))
    assert points.points.tolist() == GOLDEN_POINTS


def test_ties_of_the_fallback_go_to_the_first_in_raster_order():
    score = torch.tensor([[0.0, 2.0], [2.0, 1.0]])
    points, fell_back = fmwiss.seed_points(torch.zeros(2, 2, dtype=torch.bool), score, 2, generator_for(0))
    assert fell_back
    assert points.tolist() == [[0, 1], [0, 1]]


def test_no_seeds_are_refused():
    with pytest.raises(ValueError, match="at least 1"):
        fmwiss.seed_points(torch.ones(2, 2, dtype=torch.bool), normal(2, 2), 0, generator_for(0))


@settings(deadline=None)
@given(GRIDS, GRIDS)
def test_moved_points_hold_the_centres_of_the_old(from_grid, to_grid):
    points = torch.cartesian_prod(torch.arange(from_grid[0]), torch.arange(from_grid[1])).reshape(-1, 2)
    moved = fmwiss.move_points(points, from_grid, to_grid)
    expected = [slow.move_point(p, from_grid, to_grid) for p in points.tolist()]
    assert [tuple(p) for p in moved.tolist()] == expected


def test_points_stay_where_they_are_on_the_same_grid():
    points = torch.tensor([[0, 0], [4, 6], [2, 3]])
    assert torch.equal(fmwiss.move_points(points, (5, 7), (5, 7)), points)


# -- attention ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("affinity", ["qk", "kk"])
@pytest.mark.parametrize("prefix", [0, 1, 5])
def test_seed_attention_equals_its_slow_twin_alone_and_in_batches(affinity, prefix):
    queries, keys = normal(3, 2, 4, 6), normal(2, 11, 6, seed=1)
    batch = fmwiss.seed_attention(queries, keys, prefix=prefix, affinity=affinity)
    assert batch.shape == (3, 11 - prefix)
    for one, whole in zip(queries, batch, strict=True):
        expected = slow.seed_attention(one.double().numpy(), keys.double().numpy(), prefix, affinity)
        np.testing.assert_allclose(whole.numpy(), expected, **CLOSE)


def test_seed_attention_is_the_seeds_rows_of_the_whole_map():
    queries, keys = normal(2, 11, 6), normal(2, 11, 6, seed=1)
    whole = (queries @ keys.mT / math.sqrt(6)).softmax(-1).mean(0)
    rows = fmwiss.seed_attention(queries[:, [3, 7]], keys, prefix=1, affinity="qk")
    torch.testing.assert_close(rows, whole[[3, 7], 1:].mean(0))


def test_literal_attention_sums_to_one_without_prefix_and_to_less_with():
    queries, keys = normal(2, 3, 6), normal(2, 11, 6, seed=1)
    sums = [fmwiss.seed_attention(queries, keys, prefix=p, affinity="qk").sum().item() for p in (0, 1)]
    assert sums[0] == pytest.approx(1.0, abs=1e-6)
    assert sums[1] < sums[0]


def test_averaging_draws_is_one_call_with_all_their_seeds():
    draws, keys = normal(3, 2, 4, 6), normal(2, 11, 6, seed=1)
    apart = fmwiss.seed_attention(draws, keys, prefix=1, affinity="kk").mean(0)
    together = fmwiss.seed_attention(draws.transpose(0, 1).flatten(1, 2), keys, prefix=1, affinity="kk")
    assert (together - apart).abs().max() < 0.2  # the clamp at 0 acts on the mean
    apart = fmwiss.seed_attention(draws, keys, prefix=1, affinity="qk").mean(0)
    together = fmwiss.seed_attention(draws.transpose(0, 1).flatten(1, 2), keys, prefix=1, affinity="qk")
    torch.testing.assert_close(together, apart)


def test_key_affinity_ignores_lengths_is_one_at_the_seed_and_never_negative():
    keys = normal(1, 6, 4)
    seed = keys[:, 2:3] * 7
    found = fmwiss.seed_attention(seed, keys, prefix=0, affinity="kk")
    assert found[2].item() == pytest.approx(1.0, abs=1e-6)
    assert found.min() >= 0
    opposite = fmwiss.seed_attention(-keys[:, 2:3], keys[:, 2:3], prefix=0, affinity="kk")
    assert opposite.tolist() == [0.0]


def test_a_map_of_a_single_patch():
    assert fmwiss.seed_attention(normal(2, 1, 4), normal(2, 1, 4), prefix=0, affinity="qk").tolist() == [1.0]


def test_an_unknown_affinity_is_refused():
    with pytest.raises(ValueError, match="qk or kk"):
        fmwiss.seed_attention(normal(1, 1, 2), normal(1, 3, 2), prefix=0, affinity="vv")  # type: ignore[arg-type]


# -- thresholds ---------------------------------------------------------------------------------------------


def kept(values, amount, by):
    maps = torch.from_numpy(values)
    return (maps >= fmwiss.keep_top(maps, amount, by)[..., None, None]).numpy()


@settings(deadline=None, max_examples=200)
@given(
    attention_maps(),
    st.sampled_from([0.01, 0.3, 0.5, 0.7, 0.95, 1.0]),
    st.sampled_from(["mass", "locations", "std"]),
)
def test_keep_top_equals_its_slow_twin(values, amount, by):
    np.testing.assert_array_equal(kept(values, amount, by), slow.keep_top(values, amount, by))


@settings(deadline=None)
@given(attention_maps(low=0.001), st.floats(0.01, 1))
def test_the_mass_kept_is_enough_and_no_more_than_needed(values, amount):
    inside = kept(values, amount, "mass")
    total = values.astype(np.float64).sum()
    assert values[inside].astype(np.float64).sum() >= amount * total * (1 - 1e-12)
    if amount < 1:
        without_lowest = values[values > values[inside].min()].astype(np.float64).sum()
        assert without_lowest < amount * total * (1 + 1e-12)


@settings(deadline=None)
@given(attention_maps(low=0.001), st.floats(0.01, 1))
def test_the_locations_kept_are_enough_and_no_more_than_needed(values, amount):
    inside = kept(values, amount, "locations")
    assert inside.sum() >= amount * values.size - 1e-6
    assert (values > values[inside].min()).sum() < amount * values.size


@settings(deadline=None)
@given(attention_maps(), st.floats(0.01, 1), st.floats(0.01, 1), st.sampled_from(["mass", "locations", "std"]))
def test_more_is_kept_of_a_larger_amount_and_less_of_more_deviations(values, a, b, by):
    small, large = (a, b) if (a <= b) != (by == "std") else (b, a)
    assert not (kept(values, small, by) & ~kept(values, large, by)).any()


@settings(deadline=None)
@given(attention_maps(), st.floats(0.01, 1), st.sampled_from(["mass", "locations", "std"]))
def test_what_is_kept_is_never_lower_than_what_is_not(values, amount, by):
    inside = kept(values, amount, by)
    if inside.any() and not inside.all():
        assert values[inside].min() > values[~inside].max()


@pytest.mark.parametrize("by", ["mass", "locations"])
def test_keeping_all_keeps_all_zeros_too(by):
    assert kept(np.array([[0.0, 1.0], [0.0, 0.5]], dtype=np.float32), 1, by).all()
    assert kept(np.zeros((2, 2), dtype=np.float32), 1.0, by).all()


@pytest.mark.parametrize("by", ["mass", "locations", "std"])
@pytest.mark.parametrize("value", [0.1, 1 / 3, 7e-8])
def test_a_constant_map_is_kept_whole_and_an_empty_one_not_at_all(by, value):
    assert kept(np.full((7, 7), value, dtype=np.float32), 0.5, by).all()
    assert not kept(np.zeros((7, 7), dtype=np.float32), 0.5, by).any()
    assert kept(np.full((1, 1), value, dtype=np.float32), 0.5, by).all()


def test_ties_at_the_threshold_are_kept_together():
    values = np.array([[3.0, 1.0, 1.0, 1.0]], dtype=np.float32)
    assert kept(values, 0.5, "mass").tolist() == [[True, False, False, False]]
    assert kept(values, 0.6, "mass").all()
    assert kept(values, 0.5, "locations").all()


def test_thresholds_of_a_batch_are_those_of_its_maps():
    maps = normal(2, 3, 4, 5).abs()
    amounts: dict[Literal["mass", "locations", "std"], float] = {"mass": 0.7, "locations": 0.7, "std": 0.5}
    for by, amount in amounts.items():
        batch = fmwiss.keep_top(maps, amount, by)
        assert batch.shape == (2, 3)
        assert batch.dtype == maps.dtype
        alone = [[fmwiss.keep_top(m, amount, by) for m in row] for row in maps]
        assert batch.tolist() == [[m.item() for m in row] for row in alone]


@pytest.mark.parametrize(("amount", "by"), [(0, "mass"), (1.1, "locations"), (-0.5, "mass"), (math.nan, "std")])
def test_an_amount_that_means_nothing_is_refused(amount, by):
    with pytest.raises(ValueError, match="needs an amount"):
        fmwiss.keep_top(normal(2, 2), amount, by)


def test_an_unknown_way_to_keep_is_refused():
    with pytest.raises(ValueError, match="mass, locations or std"):
        fmwiss.keep_top(normal(2, 2), 0.5, "median")  # type: ignore[arg-type]


# -- masks --------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.data(), GRIDS)
def test_fusion_and_diagnostics_equal_their_slow_twins(data, grid):
    a, b = (data.draw(hnp.arrays(bool, grid)) for _ in range(2))
    score = data.draw(hnp.arrays(np.float32, grid, elements=st.floats(0, 1, width=32)))
    ta, tb, ts = (torch.from_numpy(x) for x in (a, b, score))
    for mode in ("union", "intersection", "init", "seeds"):
        np.testing.assert_array_equal(fmwiss.fuse(ta, tb, mode).numpy(), slow.fuse(a, b, mode))
    assert fmwiss.agreement(ta, tb).item() == pytest.approx(slow.agreement(a, b), rel=1e-6)
    assert fmwiss.confidence(ts, ta).item() == pytest.approx(slow.confidence(score, a), rel=1e-6)
    assert fmwiss.area(ta).item() == slow.area(a)


def test_union_with_nothing_changes_nothing_and_intersection_leaves_nothing():
    mask, nothing = normal(4, 4) > 0, torch.zeros(4, 4, dtype=torch.bool)
    assert torch.equal(fmwiss.fuse(mask, nothing, "union"), mask)
    assert torch.equal(fmwiss.fuse(nothing, mask, "union"), mask)
    assert not fmwiss.fuse(mask, nothing, "intersection").any()


def test_empty_masks_agree_fully_have_no_area_and_no_confidence():
    nothing = torch.zeros(2, 3, 3, dtype=torch.bool)
    assert fmwiss.agreement(nothing, nothing).tolist() == [1.0, 1.0]
    assert fmwiss.confidence(torch.full((2, 3, 3), math.nan), nothing).tolist() == [0.0, 0.0]
    assert fmwiss.area(nothing).tolist() == [0, 0]


def test_diagnostics_of_a_batch_are_those_of_its_masks():
    a, b, score = normal(3, 4, 5) > 0, normal(3, 4, 5, seed=1) > 0, normal(3, 4, 5, seed=2)
    assert fmwiss.agreement(a, b).tolist() == [fmwiss.agreement(x, y).item() for x, y in zip(a, b, strict=True)]
    alone = [fmwiss.confidence(s, m).item() for s, m in zip(score, a, strict=True)]
    assert fmwiss.confidence(score, a).tolist() == alone
    assert fmwiss.agreement(a, b).dtype == fmwiss.confidence(score, a).dtype == torch.float32


def test_an_unknown_fusion_is_refused():
    with pytest.raises(ValueError, match="union, intersection, init or seeds"):
        fmwiss.fuse(torch.ones(1, dtype=torch.bool), torch.ones(1, dtype=torch.bool), "both")  # type: ignore[arg-type]


@pytest.mark.parametrize("threads", [1, 2])
def test_results_do_not_depend_on_the_number_of_threads(threads):
    before = torch.get_num_threads()
    score = normal(5, 300, 400)
    expected = (fmwiss.confidence(score, score > 0), fmwiss.keep_top(score.abs(), 0.7, "mass"))
    try:
        torch.set_num_threads(threads)
        assert torch.equal(fmwiss.confidence(score, score > 0), expected[0])
        assert torch.equal(fmwiss.keep_top(score.abs(), 0.7, "mass"), expected[1])
    finally:
        torch.set_num_threads(before)
