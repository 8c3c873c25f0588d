"""oneDNN's linear in the place of MKL's: the same function, to the rounding of float32; and bf16 on a CPU."""

import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed.tensor  # assert_close imports it, and it asks for operators that are hidden here
import torch.nn.functional as F
from torch import Tensor, nn

from wilss.models.encoders import arithmetic
from wilss.models.encoders.arithmetic import LinearBy, has_onednn_linear, mkl_linear, onednn_linear

pytestmark = pytest.mark.skipif(not has_onednn_linear(), reason="this torch has no oneDNN")


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of what oneDNN's linear was given."""
    found: list[tuple[int, ...]] = []
    real = torch.ops.mkldnn._linear_pointwise

    class Counting:
        @staticmethod
        def _linear_pointwise(values: Tensor, *more: Any) -> Any:
            found.append(tuple(values.shape))
            return real(values, *more)

    class Ops:
        mkldnn = Counting

    monkeypatch.setattr("torch.ops", Ops)
    return found


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("shape", [(1, 5), (7, 5), (2, 3, 5), (2, 3, 4, 5)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_is_the_same_function(counted: list[tuple[int, ...]], shape: tuple[int, ...], bias: bool) -> None:
    layer = nn.Linear(5, 11, bias=bias)
    values = torch.randn(shape)
    with torch.inference_mode():
        expected = F.linear(values.double(), layer.weight.double(), layer.bias.double() if bias else None)
        with LinearBy(onednn_linear):
            close(layer(values), expected.float())
            close(F.linear(input=values, weight=layer.weight, bias=layer.bias), expected.float())
    assert counted == [shape, shape]


def test_self_attention_is_the_same_function(counted: list[tuple[int, ...]]) -> None:
    attention = nn.MultiheadAttention(12, 3, batch_first=True).eval()
    values = torch.randn(2, 7, 12)
    with torch.inference_mode():
        expected, _ = attention(values, values, values, need_weights=False)
        with LinearBy(onednn_linear):
            made, weights = attention(values, values, values, need_weights=False)
    close(made, expected)
    assert weights is None
    assert counted == [(2, 7, 12), (2, 7, 12)]


@pytest.mark.parametrize("batch_first", [True, False])
def test_self_attention_hands_contiguous_values_to_its_products(batch_first: bool) -> None:
    """Of others MKL makes a small product for every image."""
    attention = nn.MultiheadAttention(12, 3, batch_first=batch_first).eval()
    values, are_contiguous = torch.randn(2, 7, 12), list[bool]()

    def linear(values: Tensor, *more: Any) -> Tensor:
        are_contiguous.append(values.is_contiguous())
        return F.linear(values, *more)

    with torch.inference_mode():
        expected, _ = attention(values, values, values, need_weights=False)
        with LinearBy(linear):
            made, _ = attention(values, values, values, need_weights=False)
    close(made, expected)
    assert made.shape == expected.shape
    assert are_contiguous == [True, True]


@pytest.mark.parametrize("bias", [True, False])
def test_mkls_linear_takes_values_that_are_not_contiguous(bias: bool) -> None:
    layer, values = nn.Linear(5, 11, bias=bias), torch.randn(7, 2, 5).transpose(0, 1)
    with torch.inference_mode():
        expected = layer(values)
        with LinearBy(mkl_linear):
            made = layer(values)
    close(made, expected)
    assert made.is_contiguous()


def causal(length: int) -> Tensor:
    """What is added so that a token looks at those before it alone, as in CLIP's text tower, [L, L]."""
    return torch.full((length, length), -torch.inf).triu(1)


ELSEWISE: dict[str, Callable[[nn.MultiheadAttention, Tensor], Any]] = {
    "a mask": lambda attend, x: attend(x, x, x, need_weights=False, attn_mask=torch.eye(7).bool())[0],
    "a mask that is added": lambda attend, x: attend(x, x, x, need_weights=False, attn_mask=causal(7))[0],
    "weights asked for": lambda attend, x: attend(x, x, x)[1],
    "other keys": lambda attend, x: attend(x, x[:, :4], x[:, :4], need_weights=False)[0],
    "padding": lambda attend, x: attend(x, x, x, need_weights=False, key_padding_mask=torch.arange(7)[None] > 4)[0],
}


@pytest.mark.parametrize("name", ELSEWISE)
def test_other_attention_is_torchs_own(counted: list[tuple[int, ...]], name: str) -> None:
    attention = nn.MultiheadAttention(12, 3, batch_first=True).eval()
    values = torch.randn(1, 7, 12)
    with torch.inference_mode():
        expected = ELSEWISE[name](attention, values)
        with LinearBy(onednn_linear):
            assert torch.equal(ELSEWISE[name](attention, values), expected)
    assert not counted


def test_what_it_cannot_take_is_torchs_own(counted: list[tuple[int, ...]]) -> None:
    weight = torch.randn(3, 5)
    with LinearBy(onednn_linear):
        assert F.linear(torch.randn(2, 5, requires_grad=True), weight).requires_grad
        with torch.inference_mode():
            assert F.linear(torch.randn(2, 5).double(), weight.double()).dtype == torch.float64
            assert F.linear(torch.randn(2, 5).bfloat16(), weight.bfloat16()).dtype == torch.bfloat16
            assert F.linear(torch.randn(5), weight).shape == (3,)
            assert F.linear(torch.randn(0, 5), weight).shape == (0, 3)
    assert not counted


def test_it_ends_with_its_block_and_its_thread(counted: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arithmetic, "is_onednn_faster", lambda: True)
    layer, values = nn.Linear(5, 3), torch.randn(2, 5)
    with torch.inference_mode(), arithmetic.precision_context(torch.device("cpu"), "fp32"):
        layer(values)
        assert len(counted) == 1
        other = threading.Thread(target=lambda: torch.no_grad()(layer)(values))
        other.start()
        other.join()
    with torch.inference_mode():
        layer(values)
        with arithmetic.precision_context(torch.device("cpu"), "bf16"):
            layer(values)
    assert len(counted) == 1


def test_where_mkl_is_faster_it_multiplies_and_attention_is_still_fused(
    counted: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arithmetic, "is_onednn_faster", lambda: False)
    fused: list[tuple[int, ...]] = []
    attend = F.scaled_dot_product_attention

    def noted(queries: Tensor, keys: Tensor, values: Tensor, *more: Any, **named: Any) -> Tensor:
        fused.append(tuple(queries.shape))
        return attend(queries, keys, values, *more, **named)

    attention, values = nn.MultiheadAttention(12, 3, batch_first=True).eval(), torch.randn(2, 7, 12)
    with torch.inference_mode():
        expected, _ = attention(values, values, values, need_weights=False)
        monkeypatch.setattr(F, "scaled_dot_product_attention", noted)
        with arithmetic.precision_context(torch.device("cpu"), "fp32"):
            made, _ = attention(values, values, values, need_weights=False)
    close(made, expected)
    assert fused == [(2, 3, 7, 4)]
    assert not counted


def test_linear_in_bf16_is_autocasts_and_rounds_a_weight_once(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, values = nn.Linear(5, 11), torch.randn(2, 3, 5)
    tokens_first, rounded, kept = values.transpose(0, 1), [], len(arithmetic._ROUNDED)
    cast = Tensor.to
    with torch.inference_mode():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            expected = layer(values)
        monkeypatch.setattr(
            Tensor, "to", lambda self, *more, **named: (rounded.append(1), cast(self, *more, **named))[1]
        )
        with arithmetic.precision_context(torch.device("cpu"), "bf16"):
            assert torch.equal(layer(values), expected)
            assert torch.equal(layer(tokens_first), expected.transpose(0, 1))
    assert len(rounded) == 2  # the weight and the bias
    assert len(arithmetic._ROUNDED) == kept + 2
    del layer
    gc.collect()
    assert len(arithmetic._ROUNDED) == kept


def test_attention_in_bf16_never_multiplies_token_by_token(monkeypatch: pytest.MonkeyPatch) -> None:
    laid_out: list[bool] = []
    plain = F.linear
    attention, values = nn.MultiheadAttention(12, 3, batch_first=True).eval(), torch.randn(2, 7, 12)
    with torch.inference_mode():
        expected, _ = attention(values, values, values, need_weights=False)
        monkeypatch.setattr(F, "linear", lambda *given: (laid_out.append(given[0].is_contiguous()), plain(*given))[1])
        with arithmetic.precision_context(torch.device("cpu"), "bf16"):
            made, _ = attention(values, values, values, need_weights=False)
    assert laid_out == [True, True]
    assert made.dtype == torch.bfloat16
    torch.testing.assert_close(made.float(), expected, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("prompts", [1, 2, 8])
def test_masked_attention_in_bf16_is_fused_and_looks_at_the_tokens_before_alone(
    prompts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks: list[Tensor | None] = []
    fused = F.scaled_dot_product_attention

    def noted(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
        masks.append(mask)
        return fused(queries, keys, values, mask)

    attention, values = nn.MultiheadAttention(12, 3, batch_first=True).eval(), torch.randn(prompts, 7, 12)
    with torch.inference_mode():
        expected, _ = attention(values, values, values, need_weights=False, attn_mask=causal(7))
        monkeypatch.setattr(F, "scaled_dot_product_attention", noted)
        with arithmetic.precision_context(torch.device("cpu"), "bf16"):
            made, _ = attention(values, values, values, need_weights=False, attn_mask=causal(7))
            later = torch.cat([values[:, :4], torch.randn(prompts, 3, 12)], dim=1)
            other, _ = attention(later, later, later, need_weights=False, attn_mask=causal(7))
    assert [mask is not None and mask.dtype for mask in masks] == [torch.bfloat16] * 2
    torch.testing.assert_close(made.float(), expected, rtol=0.02, atol=0.02)
    assert torch.equal(made[:, :4], other[:, :4])


def test_in_bf16_what_is_no_float32_is_not_kept_and_parts_without_autocast_stay_in_fp32() -> None:
    layer, values, kept = nn.Linear(5, 11), torch.randn(2, 3, 5), len(arithmetic._ROUNDED)
    half = layer.weight.detach().bfloat16()
    with torch.inference_mode():
        whole = layer(values)
        with arithmetic.precision_context(torch.device("cpu"), "bf16"):
            F.linear(values, half)
            assert len(arithmetic._ROUNDED) == kept
            with torch.autocast("cpu", enabled=False):
                close(layer(values), whole)
