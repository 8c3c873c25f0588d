"""The forms in which the weights of vision transformers are published, brought to timm's names.

DINO's and iBOT's checkpoints are unwrapped here. What does not fit then is given to the conversion that timm has
(Meta's DINOv2 with registers, DINOv3, PE; Google's TIPSv2; open_clip's towers), and must fit strictly afterwards.
"""

import contextlib
import inspect
import io
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from wilss.errors import WeightsError
from wilss.models.tensor_files import misfits, without_prefixes

NESTED = ("teacher", "state_dict", "model", "student")  # where checkpoints keep their network, best first
PREFIXES = ("module.", "teacher.", "student.", "backbone.", "_orig_mod.")
UNUSED = ("head.", "masked_embed", "mask_token", "last_layer.", "projector.")

_TABLES = ("pos_embed", "positional_embedding", "embed_positions.A.weight")
_KERNELS = ("patch_embed.proj.weight", "embeds.proj.weight")
_MOST_PREFIX_ROWS = 9


def fitting_tensors(network: nn.Module, content: Mapping[str, Any], model: str, source: Path) -> dict[str, Any]:
    """The tensors of a checkpoint in the names of `network`, where timm or this module knows its form.

    model: timm's name of it.  source: what messages call the checkpoint.
    Raises WeightsError where a conversion would change what the weights compute.
    """
    plain, wanted = teacher_tensors(content), network.state_dict()
    if not model or not misfits(wanted, plain):
        return plain
    given = backbone_tensors(content)
    converted = _by_timm(network, given, model)
    if misfits(wanted, converted) or _is_resampled(given, converted):
        return plain
    _require_all_biases(given, converted, model, source)
    return converted


def teacher_tensors(content: Mapping[str, Any]) -> dict[str, Any]:
    """The backbone's tensors in a DINO or iBOT checkpoint, in timm's names.

    The teacher is taken where a checkpoint holds both; prefixes of wrappers, the projection head and iBOT's
    `masked_embed` are dropped. A plain state dict passes through.
    """
    return _used(backbone_tensors(content))


def backbone_tensors(content: Mapping[str, Any]) -> dict[str, Any]:
    """The same with what only training uses."""
    nested = next((key for key in NESTED if isinstance(content.get(key), Mapping)), None)
    if nested:
        return backbone_tensors(content[nested])
    if any(name.startswith("teacher.") for name in content):
        content = {name: value for name, value in content.items() if name.startswith("teacher.")}
    return {without_prefixes(name, PREFIXES): value for name, value in content.items()}


def _used(tensors: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in tensors.items() if not name.startswith(UNUSED)}


# -- by timm ------------------------------------------------------------------------------------------------


def _by_timm(network: nn.Module, tensors: Mapping[str, Any], model: str) -> dict[str, Any]:
    """timm's conversion for the model; the tensors themselves where it has none, or fails on them."""
    from timm.models import model_entrypoint

    module = sys.modules[model_entrypoint(model).__module__]
    convert = getattr(module, "checkpoint_filter_fn", None)
    if convert is None:
        return dict(tensors)
    more = {"adapt_layer_scale": True} if "adapt_layer_scale" in inspect.signature(convert).parameters else {}
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it leaves out
            return _used(convert(dict(tensors), network, **more))
    except (KeyError, ValueError, RuntimeError, AttributeError, IndexError, TypeError, AssertionError):
        return dict(tensors)


def _is_resampled(given: Mapping[str, Any], converted: Mapping[str, Any]) -> bool:
    """Whether the position table or the patches were made to fit another size, which is a guess."""
    rows, kept = _row_counts(given), _row_counts(converted)
    if rows and kept and not max(kept) <= max(rows) <= max(kept) + _MOST_PREFIX_ROWS:
        return True
    sizes, kept_sizes = _patch_sizes(given), _patch_sizes(converted)
    return bool(sizes and kept_sizes) and sizes != kept_sizes


def _row_counts(tensors: Mapping[str, Tensor]) -> list[int]:
    """Of each position table: [L, D], [1, L, D], or NaFlex's [1, h, w, D]."""
    tables = [value for name, value in tensors.items() if name.endswith(_TABLES)]
    return [table.shape[1 if table.ndim > 2 else 0 : -1].numel() for table in tables]


def _patch_sizes(tensors: Mapping[str, Tensor]) -> set[int]:
    """Values of a patch, which a convolution has as [D, 3, p, p] and NaFlex as [D, 3 * p * p]."""
    return {value.shape[1:].numel() for name, value in tensors.items() if name.endswith(_KERNELS)}


def _require_all_biases(given: Mapping[str, Any], converted: Mapping[str, Any], model: str, source: Path) -> None:
    """WeightsError where biases of queries or values that are not zero would be left out (DINOv3)."""
    for name, bias in given.items():
        if name.endswith("attn.qkv.bias") and not any(key.endswith(("qkv.bias", "q_bias")) for key in converted):
            queries, _, values = bias.chunk(3)
            if bool(queries.any()) or bool(values.any()):
                raise WeightsError(
                    f"{source} has biases of queries and values, which {model} leaves out; use its namesake with "
                    "`_qkvb`."
                )
