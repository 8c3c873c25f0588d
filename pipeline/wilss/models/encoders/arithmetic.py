"""The precision of forward passes; on a CPU with a `linear` that is fast there, in fp32 by the faster of two libraries.

torch hands `linear` in fp32 to MKL, which on AMD's processors with AVX-512 runs at half of what oneDNN, the other one,
does with the same numbers (`workflows/benchmark/README.md`, stages); on one with AVX2 alone MKL was ahead. Both compute
in fp32; their last bits differ, as they do between two processors.
"""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from wilss.errors import EncoderError

Precision = Literal["fp32", "bf16"]
#: Of input [..., I], weight [O, I] and bias [O] or None.
Linear = Callable[..., Tensor]

_ATTENTION = inspect.signature(F.multi_head_attention_forward)
#: Weights in bf16, as long as those exist that they were rounded from.
_ROUNDED: MutableMapping[Tensor, Tensor] = WeakIdKeyDictionary()


def has_onednn_linear() -> bool:
    """Whether this torch has oneDNN's linear: the operator that its compiler uses, which is not promised to stay."""
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return available and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def is_onednn_faster() -> bool:
    """Whether oneDNN's linear is the faster one on this processor."""
    return has_onednn_linear() and torch.backends.cpu.get_cpu_capability() not in ("DEFAULT", "AVX2")


class LinearBy(TorchFunctionMode):
    """Within it, `linear` is another function of the same values, where no gradient is taken; in this thread alone.

    Also the two in `nn.MultiheadAttention`, which torch treats as one function, where it is plain self-attention. Its
    attention is the fused one then, which never forms an L x L map.
    """

    def __init__(self, linear: Linear) -> None:
        """linear: `mkl_linear`, `onednn_linear` or `bf16_linear`."""
        super().__init__()
        self._linear = linear

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """What torch calls for every function."""
        named = kwargs or {}
        if not torch.is_grad_enabled():
            if func is F.linear:
                return self._linear(*args, **named)
            if func is F.multi_head_attention_forward:
                bound = _ATTENTION.bind(*args, **named)
                bound.apply_defaults()
                if _is_plain_self_attention(bound.arguments) and self._takes(bound.arguments["attn_mask"]):
                    return _self_attention(bound.arguments, self._linear), None
        return func(*args, **named)

    def _takes(self, mask: Tensor | None) -> bool:
        """Whether attention with such a mask is computed here: in fp32 torch's own way stays, and so do its bits."""
        return mask is None or (self._linear is bf16_linear and mask.ndim == 2 and mask.is_floating_point())


def mkl_linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`linear` as torch has it, [..., I] to [..., O], but fast where the input is not contiguous.

    Of such an input with three axes torch makes a product for each entry of the first one, which takes far longer than
    a copy (`findings/transposed-batch-slows-linear.sh`).
    """
    return F.linear(input.contiguous(), weight, bias)


def bf16_linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`linear` within autocast to bf16, [..., I] to [..., O], of a weight that stays as it is.

    Autocast rounds a frozen weight again at every call; here it is kept. The input is laid out first, as in
    `mkl_linear`, since torch else copies the weight for each entry of the first axis (same finding).
    """
    if not torch.is_autocast_enabled(input.device.type):  # a network may switch it off for a part of itself
        return F.linear(input, weight, bias)
    return F.linear(input.contiguous(), _in_bf16(weight), None if bias is None else _in_bf16(bias))


def _in_bf16(weight: Tensor) -> Tensor:
    if weight.dtype != torch.float32:  # autocast sees to it; of bf16 the tensor itself would be kept for ever
        return weight
    if (kept := _ROUNDED.get(weight)) is None:
        kept = _ROUNDED[weight] = weight.to(torch.bfloat16)
    return kept


def onednn_linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`linear`, of float32 tensors on the CPU oneDNN's. input [..., I], weight [O, I], bias [O] or None."""
    tensors = (input, weight) if bias is None else (input, weight, bias)
    fits = input.ndim >= 2 and weight.ndim == 2 and input.numel() > 0
    if fits and all(one.dtype == torch.float32 and one.device.type == "cpu" for one in tensors):
        product: Tensor = torch.ops.mkldnn._linear_pointwise(input, weight, bias, "none", [], "")
        return product
    return F.linear(input, weight, bias)


def _is_plain_self_attention(given: Mapping[str, Any]) -> bool:
    """Nothing but W_o softmax(q k / sqrt(d) + mask) v with q, k, v of the same tokens."""
    same = given["query"] is given["key"] and given["key"] is given["value"]
    left_out = ("bias_k", "bias_v", "key_padding_mask", "static_k", "static_v")
    switched_off = ("add_zero_attn", "need_weights", "use_separate_proj_weight", "is_causal")
    dropout = given["training"] and given["dropout_p"] > 0
    return (
        same
        and given["query"].ndim == 3
        and all(given[name] is None for name in left_out)
        and not any(given[name] for name in switched_off)
        and not dropout
    )


def _self_attention(given: Mapping[str, Any], linear: Linear) -> Tensor:
    """query: [L, B, E], tokens first, as is the result; in memory images come first, as attention takes them.

    attn_mask: None, or what is added to q k / sqrt(d), [L, L].
    """
    query, heads, mask = given["query"], given["num_heads"], given["attn_mask"]
    length, batch, width = query.shape
    projected = linear(query.transpose(0, 1).contiguous(), given["in_proj_weight"], given["in_proj_bias"])
    queries, keys, values = projected.view(batch, length, 3, heads, width // heads).permute(2, 0, 3, 1, 4).unbind(0)
    mask = None if mask is None else mask.to(queries.dtype)
    attended = F.scaled_dot_product_attention(queries, keys, values, mask).transpose(1, 2)
    attended = attended.reshape(batch, length, width)
    return linear(attended, given["out_proj_weight"], given["out_proj_bias"]).transpose(0, 1)


def precision_for(device: torch.device, precision: Precision | None) -> Precision:
    """`precision`, or where it is None bf16 on CUDA and fp32 elsewhere."""
    if precision not in (None, "fp32", "bf16"):
        raise EncoderError(f"there is no precision {precision!r}; use fp32 or bf16.")
    return precision or ("bf16" if device.type == "cuda" else "fp32")


@contextlib.contextmanager
def precision_context(device: torch.device, precision: Precision) -> Iterator[None]:
    """Autocast to bf16, or none, whatever surrounds it; on a CPU with a `linear` that is fast there."""
    by_faster = LinearBy(_fast_linear(precision)) if device.type == "cpu" else contextlib.nullcontext()
    with (
        torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"),
        by_faster,
    ):
        yield


def _fast_linear(precision: Precision) -> Linear:
    """What a CPU is to take."""
    if precision == "bf16":
        return bf16_linear
    return onednn_linear if is_onednn_faster() else mkl_linear
