"""Grad-CAM's equations against slow twins, and their limits."""

import numpy as np
import pytest
import torch

from tests.references import gradcam as slow
from wilss.equations.gradcam import class_maps, greatest_of_names, log_odds


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("tags", [1, 3, 6])
def test_log_odds_equal_the_slow_twin(tags: int) -> None:
    logits = 3 * drawn(6)
    np.testing.assert_allclose(log_odds(logits, tags), slow.log_odds(logits.double().tolist(), tags), atol=1e-5)
    assert log_odds(logits.expand(4, 6), tags).shape == (4, tags)


@pytest.mark.parametrize("sure", [0.0, 5.0, 60.0, -60.0])
def test_their_gradient_is_that_of_the_probability_but_for_its_size(sure: float) -> None:
    """Also where the probability is 1 or 0 to the last bit of float32."""
    logits = drawn(5)
    logits[0] += sure
    (found,) = torch.autograd.grad(log_odds(logits.requires_grad_(), 1).sum(), logits)
    exact = logits.detach().double()
    others = exact[1:].exp() / exact[1:].exp().sum()
    torch.testing.assert_close(found.double(), torch.cat([torch.ones(1).double(), -others]), atol=1e-6, rtol=0)
    if abs(sure) < 10:
        probability = exact.requires_grad_().softmax(dim=0)[0]
        (own,) = torch.autograd.grad(probability, exact)
        torch.testing.assert_close(
            found.double() * probability.detach() * (1 - probability.detach()), own, atol=1e-6, rtol=0
        )


def test_one_word_alone_says_nothing() -> None:
    with pytest.raises(ValueError, match="two words at least"):
        log_odds(torch.zeros(1), 1)


def test_class_maps_equal_the_slow_twin() -> None:
    gradients, features = drawn(3, 10, 4), drawn(10, 4, seed=1)
    found = class_maps(gradients, features)
    expected = [slow.class_map(one, features.double().numpy()) for one in gradients.double().numpy()]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.amax(dim=-1).tolist() == [1.0] * 3
    torch.testing.assert_close(class_maps(1e-20 * gradients, features), found, atol=1e-6, rtol=0)


def test_a_map_that_is_nowhere_above_zero_stays_zero() -> None:
    assert class_maps(-torch.ones(2, 3), torch.ones(2, 3)).tolist() == [0.0, 0.0]


def test_the_greatest_name_of_a_class_answers() -> None:
    values = drawn(6, 2, 3)
    found = greatest_of_names(values, (2, 1, 3))
    np.testing.assert_array_equal(found, slow.greatest_of_names(values.numpy(), (2, 1, 3)))
    assert torch.equal(greatest_of_names(values[None], (1,) * 6), values[None])
