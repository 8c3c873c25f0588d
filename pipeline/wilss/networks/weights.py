"""A backbone's weights from a local file, never from a network, and never by running code."""

import pickle
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wilss.errors import WeightsError

__all__ = ["load_backbone", "read_tensors"]

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
    given = {_key(name): tensor for name, tensor in read_tensors(source).items() if not _is_unused(name)}
    _check_fit({key: wanted[name] for key, name in homes.items()}, given, source)
    with torch.no_grad():
        for key, name in homes.items():
            if key in given:
                wanted[name].copy_(given[key])


def _key(name: str) -> str:
    """A tensor's name without wrappers; dots and underlines are one, as timm's wrapper flattens some names."""
    return _bare(name).replace(".", "_")


def _bare(name: str) -> str:
    while prefix := next((one for one in _PREFIXES if name.startswith(one)), None):
        name = name.removeprefix(prefix)
    return name


def _is_unused(name: str) -> bool:
    return _bare(name).startswith(_UNUSED)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors, .pt, .pth or .bin file by name.

    Raises WeightsError if it is missing, damaged, of another kind, or would have to run code.
    """
    if not path.is_file():
        raise WeightsError(f"{path} {'is not a file' if path.exists() else 'is not there'}; name a local weights file.")
    if path.suffix.lower() == ".safetensors":
        return _read_safetensors(path)
    if path.suffix.lower() in (".pt", ".pth", ".bin"):
        return _tensors_in(_read_pickle(path), path)
    raise WeightsError(f"{path} has no ending that wilss reads; convert it to .safetensors.")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is no whole safetensors file ({_first_line(error)}); fetch it again.") from error


def _read_pickle(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about pickle protocols; a failure says enough
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} is no plain checkpoint: it is damaged, or holds objects that could run code, which are never "
            "loaded; save its state dict as .safetensors."
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        raise WeightsError(f"{path} is no whole checkpoint ({_first_line(error)}); fetch it again.") from error


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
    shared = sorted(set(wanted) & set(given))
    faults = {
        "missing": sorted(name for name in set(wanted) - set(given) if not name.endswith(_COUNTER)),
        "unexpected": sorted(set(given) - set(wanted)),
        "of another shape": [
            f"{name} is {list(given[name].shape)}, the network has {list(wanted[name].shape)}"
            for name in shared
            if given[name].shape != wanted[name].shape
        ],
        "not finite": [name for name in shared if not bool(given[name].isfinite().all())],
    }
    told = [f"{len(names)} {fault} ({_names(names)})" for fault, names in faults.items() if names]
    if told:
        raise WeightsError(f"{source} does not fit the backbone: {', '.join(told)}; name the model it belongs to.")


def _names(names: Iterable[str], most: int = 4) -> str:
    listed = list(names)
    return ", ".join(listed[:most]) + (", ..." if len(listed) > most else "")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200].rstrip(".")
