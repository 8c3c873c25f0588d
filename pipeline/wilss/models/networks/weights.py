"""A backbone's weights from a local file, never from a network, and never by running code."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wilss.errors import WeightsError
from wilss.models.tensor_files import misfits, read_tensors, told

_NESTED = ("state_dict", "model", "network", "teacher")  # where checkpoints keep their network
_PREFIXES = ("module.", "_orig_mod.", "backbone.", "encoder.", "network.", "model.")
_UNUSED = (
    "fc.",
    "head.",
    "head_dist.",
    "fc_norm.",
    "classifier.",
    "aux_classifier.",
    "linear1000.",
    "body.",
    "mask_token",
)
_COUNTER = "num_batches_tracked"  # older files have none, and nothing reads it with a fixed momentum


def load_backbone(segmenter: nn.Module, path: Path | str) -> None:
    """Fill the backbone of `segmenter` with the weights at `path`; its head stays as it is.

    A checkpoint of this package, of timm or of torchvision fits: wrappers' prefixes are taken off and
    classifiers left out. Every other tensor must be there, be known and have its shape.
    Raises WeightsError naming the file and what does not fit.
    """
    source = Path(path)
    wanted = segmenter.get_submodule("backbone").state_dict(keep_vars=False)
    homes = {_key(name): name for name in wanted}
    tensors = {
        _key(name): tensor for name, tensor in _tensors_in(read_tensors(source), source).items() if not _is_unused(name)
    }
    _check_fit({key: wanted[name] for key, name in homes.items()}, tensors, source)
    with torch.no_grad():
        for key, name in homes.items():
            if key in tensors:
                wanted[name].copy_(tensors[key])


def _key(name: str) -> str:
    """A tensor's name without wrappers; dots and underlines are one, as timm's wrapper flattens some names."""
    return _bare(name).replace(".", "_")


def _bare(name: str) -> str:
    while prefix := next((one for one in _PREFIXES if name.startswith(one)), None):
        name = name.removeprefix(prefix)
    return name


def _is_unused(name: str) -> bool:
    return _bare(name).startswith(_UNUSED)


def _tensors_in(content: Any, path: Path) -> dict[str, Tensor]:
    """The state dict of a checkpoint, which may lie one level down."""
    if isinstance(content, Mapping):
        nested = next((content[key] for key in _NESTED if isinstance(content.get(key), Mapping)), None)
        if nested is not None:
            return _tensors_in(nested, path)
        tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
        if tensors:
            return tensors
    raise WeightsError(f"{path} holds no state dict; save the network's state dict as .safetensors.")


def _check_fit(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor], source: Path) -> None:
    """WeightsError unless every tensor wanted is given, no other is, and all have their shape and are finite."""
    needed = {name: tensor for name, tensor in wanted.items() if name in given or not name.endswith(_COUNTER)}
    faults = misfits(needed, given)
    # Of the right shape alone: a view of one number may claim to be any size.
    shared = [name for name in sorted(set(wanted) & set(given)) if given[name].shape == wanted[name].shape]
    if broken := [name for name in shared if not bool(given[name].isfinite().all())]:
        faults["not finite"] = broken
    if faults:
        raise WeightsError(f"{source} does not fit the backbone: {told(faults)}; name the model it belongs to.")
