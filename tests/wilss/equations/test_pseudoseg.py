import math
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.references import pseudoseg as slow
from wilss.equations import pseudoseg

CLOSE: dict[str, Any] = {"rtol": 1e-7, "atol": 1e-9}


def normal(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def some(*shape, share=0.5, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).uniform(size=shape) < share)


def ones_along_channels(maps):
    return torch.testing.assert_close(maps.sum(dim=-3), torch.ones_like(maps.sum(dim=-3)), **CLOSE)


# -- self-attention Grad-CAM --------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True])
def test_self_attention_cam_equals_its_slow_twin_in_batches(masked):
    queries, keys, scores = normal(2, 12, 8), normal(2, 12, 8, seed=1), normal(2, 3, 3, 4, seed=2)
    valid = some(2, 12, share=0.7) if masked else None
    found = pseudoseg.self_attention_cam(queries, keys, scores, valid)
    for i in range(2):
        one = None if valid is None else valid[i].numpy()
        expected = slow.self_attention_cam(queries[i].numpy(), keys[i].numpy(), scores[i].numpy(), one)
        np.testing.assert_allclose(found[i].numpy(), expected, **CLOSE)


def test_a_constant_map_is_doubled_and_queries_of_zero_add_the_mean():
    queries, keys, scores = normal(1, 12, 8), normal(1, 12, 8, seed=1), normal(1, 3, 3, 4, seed=2)
    constant = torch.full_like(scores, 0.4)
    torch.testing.assert_close(pseudoseg.self_attention_cam(queries, keys, constant), 2 * constant, **CLOSE)
    found = pseudoseg.self_attention_cam(torch.zeros_like(queries), keys, scores)
    torch.testing.assert_close(found, scores + scores.mean(dim=(-2, -1), keepdim=True), **CLOSE)


def test_normalised_maps_stay_within_two_and_so_does_the_background():
    cam = pseudoseg.max_normalised(normal(2, 3, 3, 4))
    spread = pseudoseg.self_attention_cam(normal(2, 12, 8), normal(2, 12, 8, seed=1), cam)
    whole = pseudoseg.with_background(spread)
    assert whole.shape == (2, 4, 3, 4)
    assert whole.min() >= 0
    assert whole.max() <= 2 + 1e-12


def test_padding_is_not_attended_to():
    queries, keys, scores = normal(1, 12, 8), normal(1, 12, 8, seed=1), normal(1, 3, 3, 4, seed=2)
    valid = torch.ones(1, 12, dtype=torch.bool)
    valid[0, 9:] = False
    other, far = scores.clone(), keys.clone()
    other[..., 2, 1:], far[0, 9:] = 100.0, 100.0
    found = pseudoseg.self_attention_cam(queries, keys, scores, valid)
    changed = pseudoseg.self_attention_cam(queries, far, other, valid)
    torch.testing.assert_close(found[..., :2, :], changed[..., :2, :], **CLOSE)


def test_self_attention_cam_has_the_right_gradient_for_queries_and_keys():
    scores = normal(2, 2, 2, 3, seed=2)
    inputs = (normal(2, 6, 4).requires_grad_(), normal(2, 6, 4, seed=1).requires_grad_())
    assert torch.autograd.gradcheck(lambda q, k: pseudoseg.self_attention_cam(q, k, scores), inputs)


def test_max_normalised_equals_its_slow_twin_and_leaves_maps_without_a_positive_at_zero():
    cam = normal(3, 3, 4)
    cam[1] = -cam[1].abs()
    cam[2] = 0.0
    found = pseudoseg.max_normalised(cam)
    np.testing.assert_allclose(found.numpy(), slow.max_normalised(cam.numpy()), **CLOSE)
    assert found.amax(dim=(-2, -1)).tolist() == [1.0, 0.0, 0.0]


def test_max_normalised_does_not_see_the_scale_of_a_map():
    cam = normal(3, 3, 4)
    torch.testing.assert_close(pseudoseg.max_normalised(cam * 1e-6), pseudoseg.max_normalised(cam), **CLOSE)


def test_with_background_equals_its_slow_twin():
    cam = normal(2, 3, 3, 4).abs()
    found = pseudoseg.with_background(cam)
    for one, whole in zip(cam, found, strict=True):
        np.testing.assert_allclose(whole.numpy(), slow.with_background(one.numpy()), **CLOSE)
    assert (pseudoseg.with_background(torch.zeros(1, 3, 2, 2))[:, 0] == 2).all()


# -- joint_norm ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per", ["image", "batch"])
@pytest.mark.parametrize("masked", [False, True])
def test_joint_norm_equals_its_slow_twin(per, masked):
    p, m = normal(3, 4, 2, 5) * torch.tensor([1.0, 5.0, 20.0])[:, None, None, None], normal(3, 4, 2, 5, seed=1)
    valid = some(3, 2, 5, share=0.6)
    found = pseudoseg.joint_norm(p, m, per, valid if masked else None)
    expected = slow.joint_norm(p.numpy(), m.numpy(), per, valid.numpy() if masked else np.ones((3, 2, 5), bool))
    assert found.shape == ((3 if per == "image" else 1), 1, 1, 1)
    np.testing.assert_allclose(found.expand(3, 1, 1, 1).flatten().numpy(), expected, **CLOSE)


def test_joint_norm_of_one_image_is_the_same_per_image_and_per_batch_and_of_ones_is_one():
    p, m = normal(1, 4, 2, 5), normal(1, 4, 2, 5, seed=1)
    torch.testing.assert_close(pseudoseg.joint_norm(p, m, "image"), pseudoseg.joint_norm(p, m, "batch"), **CLOSE)
    assert pseudoseg.joint_norm(torch.ones(2, 3, 4, 5), -torch.ones(2, 3, 4, 5)).flatten().tolist() == [1.0, 1.0]


def test_no_valid_cell_gives_a_norm_of_zero_and_a_finite_label():
    p, m, nothing = normal(1, 4, 2, 5), normal(1, 4, 2, 5, seed=1), torch.zeros(1, 2, 5, dtype=torch.bool)
    assert pseudoseg.joint_norm(p, m, valid=nothing).item() == 0
    ones_along_channels(pseudoseg.calibrated_fusion(p, m, valid=nothing))


def test_an_unknown_norm_is_refused():
    with pytest.raises(ValueError, match="use image or batch"):
        pseudoseg.joint_norm(normal(1, 2, 2, 2), normal(1, 2, 2, 2), "pixel")  # type: ignore[arg-type]


# -- sharpen ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.2, 0.5, 1.0, 3.0])
def test_sharpen_equals_its_slow_twin(temperature):
    soft = normal(5, 2, 3).softmax(dim=0)
    found = pseudoseg.sharpen(soft, temperature)
    for row, column in np.ndindex(2, 3):
        expected = slow.sharpen(soft[:, row, column].tolist(), temperature)
        np.testing.assert_allclose(found[:, row, column].numpy(), expected, **CLOSE)


def test_a_temperature_of_one_is_the_identity_and_near_one_near_it():
    soft = normal(2, 5, 2, 3).softmax(dim=1)
    torch.testing.assert_close(pseudoseg.sharpen(soft, 1.0), soft, **CLOSE)
    torch.testing.assert_close(pseudoseg.sharpen(soft, 1 - 1e-6), soft, rtol=1e-4, atol=1e-5)


def test_a_small_temperature_leaves_the_greatest_and_equals_share():
    soft = torch.tensor([0.4, 0.4, 0.2, 0.0]).reshape(4, 1, 1)
    found = pseudoseg.sharpen(soft, 1e-3).flatten()
    torch.testing.assert_close(found, torch.tensor([0.5, 0.5, 0.0, 0.0]))


def test_a_great_temperature_makes_all_equal_that_is_above_zero():
    soft = torch.tensor([0.7, 0.2, 0.1, 0.0], dtype=torch.float64).reshape(4, 1, 1)
    found = pseudoseg.sharpen(soft, 1e9).flatten().tolist()
    assert found == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0.0])


def test_small_probabilities_under_a_small_temperature_do_not_vanish():
    soft = torch.tensor([1e-6, 2e-6]).reshape(2, 1, 1)  # 1e-60 would be no float32
    assert pseudoseg.sharpen(soft, 0.1).flatten().tolist() == pytest.approx([1 / 1025, 1024 / 1025], rel=1e-4)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_a_temperature_that_is_not_above_zero_is_refused(temperature):
    with pytest.raises(ValueError, match="above 0"):
        pseudoseg.sharpen(normal(2, 2, 2).softmax(dim=0), temperature)


# -- calibrated_fusion --------------------------------------------------------------------------------------


@pytest.mark.parametrize("per", ["image", "batch"])
@pytest.mark.parametrize(("g", "temperature"), [(0.5, 0.5), (0.3, 1.0), (0.0, 0.5), (1.0, 0.25)])
def test_calibrated_fusion_equals_its_slow_twin(per, g, temperature):
    p, m, valid = normal(2, 4, 2, 3) * 9, normal(2, 4, 2, 3, seed=1), some(2, 2, 3, share=0.8)
    found = pseudoseg.calibrated_fusion(p, m, g=g, T=temperature, norm=per, valid=valid)
    expected = slow.calibrated_fusion(p.numpy(), m.numpy(), g, temperature, per, valid.numpy())
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6, atol=1e-9)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(2, 6), st.floats(0, 1), st.floats(0.05, 4), st.sampled_from(["image", "batch"]),
    st.sampled_from([0.0, 1e-6, 1.0, 1e3, 1e6]), st.integers(0, 99),
)  # fmt: skip
def test_fused_rows_sum_to_one_whatever_the_scores(channels, g, temperature, per, size, seed):
    p, m = normal(2, channels, 2, 3, seed=seed).float() * size, normal(2, channels, 2, 3, seed=seed + 100).float()
    found = pseudoseg.calibrated_fusion(p, m, g=g, T=temperature, norm=per)
    assert found.min() >= 0
    torch.testing.assert_close(found.sum(dim=1), torch.ones(2, 2, 3), rtol=1e-5, atol=1e-5)


def test_without_sharpening_the_label_is_the_mean_of_both_softmaxes():
    p, m = normal(1, 4, 2, 3) * 9, normal(1, 4, 2, 3, seed=1)
    norm = pseudoseg.joint_norm(p, m)
    expected = ((p / norm).softmax(dim=1) + (m / norm).softmax(dim=1)) / 2
    torch.testing.assert_close(pseudoseg.calibrated_fusion(p, m, T=1.0), expected, **CLOSE)


def test_swapping_the_sources_with_half_and_half_changes_nothing():
    p, m = normal(2, 4, 2, 3) * 9, normal(2, 4, 2, 3, seed=1)
    assert torch.equal(pseudoseg.calibrated_fusion(p, m), pseudoseg.calibrated_fusion(m, p))
    swapped = pseudoseg.calibrated_fusion(m, p, g=0.7)
    torch.testing.assert_close(pseudoseg.calibrated_fusion(p, m, g=0.3), swapped, **CLOSE)


def test_a_source_alone_is_its_own_sharpened_softmax_under_the_joint_norm():
    p, m = normal(1, 4, 2, 3) * 9, normal(1, 4, 2, 3, seed=1)
    scale = pseudoseg.joint_norm(p, m)
    for g, one in ((1.0, p), (0.0, m)):
        expected = pseudoseg.sharpen((one / scale).softmax(dim=1), 0.5)
        torch.testing.assert_close(pseudoseg.calibrated_fusion(p, m, g=g), expected, **CLOSE)


def test_the_norm_of_an_image_makes_its_label_independent_of_its_batch_mates():
    p, m = normal(3, 4, 2, 3), normal(3, 4, 2, 3, seed=1)
    loud = p.clone()
    loud[1:] *= 50
    norms: dict[Literal["image", "batch"], bool] = {"image": True, "batch": False}
    for norm, same in norms.items():
        whole = pseudoseg.calibrated_fusion(loud, m, norm=norm)
        alone = pseudoseg.calibrated_fusion(p[:1], m[:1], norm=norm)
        assert torch.equal(whole[:1], alone) == same


def test_padding_does_not_change_the_label_of_what_is_valid():
    p, m, valid = normal(1, 4, 2, 6), normal(1, 4, 2, 6, seed=1), torch.ones(1, 2, 6, dtype=torch.bool)
    valid[..., 4:] = False
    found = pseudoseg.calibrated_fusion(p * torch.where(valid[:, None], 1.0, 9.0), m, valid=valid)
    cut = pseudoseg.calibrated_fusion(p[..., :4], m[..., :4])
    torch.testing.assert_close(found[..., :4], cut, **CLOSE)


def test_the_scale_of_all_scores_together_does_not_matter():
    p, m = normal(1, 4, 2, 3), normal(1, 4, 2, 3, seed=1)
    found = pseudoseg.calibrated_fusion(p * 1000, m * 1000)
    torch.testing.assert_close(found, pseudoseg.calibrated_fusion(p, m), rtol=1e-6, atol=1e-8)


def test_scores_of_half_precision_are_fused_in_float32():
    p, m = (normal(1, 4, 2, 3, seed=i).half() * 300 for i in range(2))  # their squares are no float16
    found = pseudoseg.calibrated_fusion(p, m)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, pseudoseg.calibrated_fusion(p.float(), m.float()))


@pytest.mark.parametrize("g", [-0.1, 1.1, math.nan])
def test_a_share_outside_the_unit_interval_is_refused(g):
    with pytest.raises(ValueError, match="g in"):
        pseudoseg.calibrated_fusion(normal(1, 2, 2, 2), normal(1, 2, 2, 2), g=g)
