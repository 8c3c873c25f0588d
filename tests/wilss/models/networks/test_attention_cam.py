"""The labeller: maps of the classifier's rows, spread by attention; who carries gradients; the kinds of soft labels."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.references import pseudoseg as slow
from wilss.errors import ParameterError
from wilss.models.networks.attention_cam import Labeller, SoftLabelParams, hypercolumn, on_grid, soft_labels
from wilss.models.networks.norms import set_batch_norm
from wilss.models.networks.segmenter import Segmenter, build
from wilss.models.networks.spec import SegmenterSpec

CHANNELS = 4


def segmenter(seed: int = 0) -> Segmenter:
    spec = SegmenterSpec(backbone="resnet18", args={"channels": [8, 8, 6, 8]}, head_width=8, num_channels=CHANNELS)
    return build(spec, seed=seed).eval()


def labeller(seed: int = 0) -> Labeller:
    return Labeller.like(segmenter(), width=5, seed=seed).eval()


def stages(count: int = 2, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 6, 8, 10, generator=generator), torch.rand(count, 8, 4, 5, generator=generator)


def test_both_stages_of_a_backbone() -> None:
    """The last one is what it always was."""
    student = segmenter()
    images = torch.rand(2, 3, 48, 64)
    with torch.no_grad():
        previous, last = student.stages(images)
        assert torch.equal(last, student.features(images))
        assert torch.equal(student.logits(last), student(images))
    assert (student.previous_dim, student.feature_dim) == (6, 8) == (previous.shape[1], last.shape[1])
    assert not any("previous" in name for name in student.state_dict())


def test_scores_by_hand() -> None:
    """In loops, as the paper has it: CAM, attention with a skip, background, W_c."""
    made, (previous, last) = labeller(), stages(1)
    mixed: Any = made.mapping[0]
    norm: Any = made.mapping[1]
    norm.running_mean.copy_(torch.randn(CHANNELS))
    present = torch.tensor([[True, False, True]])
    with torch.no_grad():
        said = made(previous, last, present=present)
    weights, features = made.classes.weight.detach().numpy(), last[0].numpy().reshape(8, -1)
    maps = np.maximum(weights @ features, 0)
    maps = maps / np.maximum(maps.max(axis=1, keepdims=True), 1e-12) * present.numpy()[0][:, None]
    column = hypercolumn(previous, last)[0].numpy().reshape(14, -1)
    q, k = (one.weight.detach().numpy().reshape(5, 14) @ column for one in (made.queries, made.keys))
    spread = np.zeros_like(maps)
    for cell in range(20):
        row = np.exp(q[:, cell] @ k / np.sqrt(5))
        spread[:, cell] = maps @ (row / row.sum()) + maps[:, cell]
    whole = np.concatenate([2 - spread.max(axis=0, keepdims=True), spread])
    wanted = mixed.weight.detach().numpy().reshape(CHANNELS, CHANNELS) @ whole
    wanted = (wanted - norm.running_mean.numpy()[:, None]) / np.sqrt(1 + norm.eps)
    np.testing.assert_allclose(said.scores[0].numpy().reshape(CHANNELS, -1), wanted, atol=1e-4)
    tags = last.mean(dim=(2, 3)) @ made.classes.weight.T + made.classes.bias
    torch.testing.assert_close(said.tags, tags)


def test_the_published_batch_norm_after_the_maps_is_the_slow_twins() -> None:
    made = Labeller.like(segmenter(), width=5, norm="published", seed=0)
    norm: Any = made.mapping[1]
    norm.bias.data.copy_(torch.tensor([0.5, -1.0, 0.0, 2.0]))
    batches = [torch.randn(2, CHANNELS, 3, 4, dtype=torch.float64) * (1 + step) + step for step in range(3)]
    found = [norm.double().train()(batch) for batch in batches][-1]
    for channel in range(CHANNELS):
        values = [batch[:, channel].flatten().tolist() for batch in batches]
        last, mean, variance = slow.batch_norm_without_factor(values, norm.bias[channel].item(), 1e-3, 0.999)
        np.testing.assert_allclose(found[:, channel].detach().flatten(), last, rtol=1e-9)
        assert norm.running_mean[channel].item() == pytest.approx(mean, rel=1e-6)
        assert norm.running_var[channel].item() == pytest.approx(variance, rel=1e-6)


def test_the_published_batch_norm_has_no_factor_that_learns() -> None:
    made = Labeller.like(segmenter(), width=5, norm="published", seed=0)
    plain = labeller()
    assert made.state_dict().keys() == plain.state_dict().keys()
    for mode in ("train", "frozen", "train", "synchronised"):
        norm: Any = set_batch_norm(made, mode).mapping[1]
        assert (norm.weight == 1).all()
        assert (norm.eps, norm.momentum) == (1e-3, pytest.approx(0.001))
    assert not Labeller.like(segmenter(), norm="published", seed=0).mapping[1].weight.requires_grad
    with pytest.raises(ValueError, match="no batch norm 'other' after the attention maps"):
        Labeller.like(segmenter(), norm="other", seed=0)  # type: ignore[arg-type]


def test_activation_maps_lie_between_0_and_1() -> None:
    made, (_, last) = labeller(), stages(3)
    maps = made.activation(last)
    assert maps.shape == (3, CHANNELS - 1, 4, 5)
    assert maps.min() >= 0
    top = maps.amax(dim=(2, 3))
    assert (((top - 1).abs() < 1e-6) | (top == 0)).all()


def test_only_classes_that_are_surer_than_asked_have_a_map() -> None:
    made, (previous, last) = labeller(), stages(2)
    with torch.no_grad():
        probable = made(previous, last).tags.sigmoid()
        between = float(probable.flatten().sort().values[2:4].mean())
        found = made(previous, last, present=between).scores
        torch.testing.assert_close(found, made(previous, last, present=probable >= between).scores)
        torch.testing.assert_close(
            made(previous, last, present=0.0).scores,
            made(previous, last, present=torch.ones_like(probable, dtype=torch.bool)).scores,
        )
        assert not torch.equal(found, made(previous, last, present=0.0).scores)


def test_padding_says_nothing() -> None:
    """Neither to the classifier nor, through attention or a map's maximum, to the cells inside."""
    made, (previous, last) = labeller(), stages(1)
    previous = torch.nn.functional.interpolate(previous, last.shape[-2:])
    inside = torch.ones(1, 4, 5, dtype=torch.bool)
    inside[..., 3:] = False
    other_previous, other_last = (torch.where(inside, one, 3 * one.flip(-1)) for one in (previous, last))
    with torch.no_grad():
        before, after = made(previous, last, inside=inside), made(other_previous, other_last, inside=inside)
        everywhere = made(other_previous, other_last)
    torch.testing.assert_close(before.tags, after.tags)
    torch.testing.assert_close(before.scores[..., :3], after.scores[..., :3])
    assert not torch.allclose(before.tags, everywhere.tags)
    assert not torch.allclose(before.scores[..., :3], everywhere.scores[..., :3], atol=1e-4)
    with torch.no_grad():
        alone = made(previous[..., :3], last[..., :3])
    torch.testing.assert_close(before.tags, alone.tags)
    torch.testing.assert_close(before.scores[..., :3], alone.scores)
    nothing = made(previous, last, inside=torch.zeros_like(inside))
    assert bool(torch.isfinite(nothing.scores).all())


def test_where_an_image_is_on_the_grid() -> None:
    rows = torch.zeros(1, 8, 8, dtype=torch.bool)
    rows[:, :4] = True
    assert on_grid(rows, torch.zeros(1, 3, 4, 4)).tolist() == [[[True] * 4, [True] * 4, [False] * 4, [False] * 4]]


def test_who_carries_gradients() -> None:
    made = labeller().train()
    previous, last = (one.requires_grad_() for one in stages())
    made(previous, last).scores.square().sum().backward()
    assert previous.grad is None
    assert last.grad is None
    assert made.classes.weight.grad is None
    layers: Any = (made.queries, made.keys, made.mapping[0])
    assert all(bool(layer.weight.grad.abs().sum() > 0) for layer in layers)
    made(previous, last).tags.sum().backward()
    assert previous.grad is None
    assert last.grad is not None


def test_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(3)
    one = labeller(1).state_dict()
    torch.manual_seed(4)
    same, other = labeller(1).state_dict(), labeller(2).state_dict()
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["queries.weight"], other["queries.weight"])


@pytest.mark.parametrize("kind", ["fused", "decoder", "sgc"])
def test_soft_labels_sum_to_1_and_sharpen(kind: str) -> None:
    student, made, images = segmenter(), labeller(), torch.rand(2, 3, 64, 64)
    flat, sharp = (
        soft_labels(student, made, images, SoftLabelParams(kind=kind, temperature=T))  # type: ignore[arg-type]
        for T in (1.0, 0.25)
    )
    assert flat.shape == (2, CHANNELS, 8, 8) or flat.shape == (2, CHANNELS, 4, 4)
    torch.testing.assert_close(flat.sum(dim=1), torch.ones_like(flat[:, 0]))
    torch.testing.assert_close(sharp.sum(dim=1), torch.ones_like(flat[:, 0]))
    assert (sharp.amax(dim=1) >= flat.amax(dim=1) - 1e-6).all()
    assert not flat.requires_grad


def test_a_label_depends_on_no_batch_mate() -> None:
    student, made = segmenter(), labeller()
    first, second, third = (torch.rand(1, 3, 64, 64) for _ in range(3))
    for norm, same in (("image", True), ("batch", False)):
        params = SoftLabelParams(norm=norm)  # type: ignore[arg-type]
        one, other = (soft_labels(student, made, torch.cat([first, mate]), params)[0] for mate in (second, 4 * third))
        assert torch.allclose(one, other, atol=1e-6) == same


def test_the_decoder_alone_needs_no_labeller() -> None:
    student, images = segmenter(), torch.rand(1, 3, 64, 64)
    found = soft_labels(student, None, images, SoftLabelParams(kind="decoder", temperature=1.0))
    with torch.no_grad():
        torch.testing.assert_close(found, student(images).softmax(dim=1))


def test_parameters_without_meaning_are_refused() -> None:
    with pytest.raises(ParameterError, match=r"present is 2; it must be between 0 and 1"):
        SoftLabelParams(present=2)
    with pytest.raises(ParameterError, match=r"temperature is 0"):
        SoftLabelParams(temperature=0)
