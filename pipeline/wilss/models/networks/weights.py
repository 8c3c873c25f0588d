"""A backbone's weights from a local file, never from a network, and never by running code."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wilss.disk import data_path
from wilss.errors import WeightsError
from wilss.models.networks.backbones import filter_of, whole_network
from wilss.models.networks.other_names import by_timms_names
from wilss.models.networks.spec import SegmenterSpec
from wilss.models.tensor_files import misfits, read_tensors, told, without_prefixes

_NESTED = ("state_dict", "model", "network", "teacher")  # where checkpoints keep their network
_PREFIXES = ("module.", "_orig_mod.", "backbone.", "encoder.", "network.", "model.")
#: Classifiers of torchvision, DINO and DeepLab, and a segmenter's head. timm's are known from its whole network.
_UNUSED = (
    "fc.",
    "head.",
    "head_dist.",
    "fc_norm.",
    "classifier.",
    "aux_classifier.",
    "pre_logits.",
    "linear1000.",
    "body.",
    "mask_token",
)
_COUNTER = "num_batches_tracked"  # older files have none, and nothing reads it with a fixed momentum


def load_backbone(segmenter: nn.Module, path: Path | str) -> None:
    """Fill the backbone of `segmenter` with the weights at `path`; its head stays as it is.

    A checkpoint of this package, of timm or of torchvision fits: wrappers' prefixes are taken off and
    classifiers left out, which are what timm's whole network has beyond the backbone. Every other tensor must be
    there, be known and have its shape. Raises WeightsError naming the file and what does not fit.
    """
    source = data_path(path)
    wanted = segmenter.get_submodule("backbone").state_dict(keep_vars=False)
    homes = {_key(name): name for name in wanted}
    tensors = _fitting(_tensors_in(read_tensors(source), source), homes, wanted, getattr(segmenter, "spec", None))
    network = _name_of(segmenter)
    if faults := _faults({key: wanted[name] for key, name in homes.items()}, tensors):
        raise WeightsError(
            f"{source} does not fit the backbone{network}: {told(faults)}; name the model it belongs to."
        )
    with torch.no_grad():
        for key, name in homes.items():
            if key in tensors:
                wanted[name].copy_(tensors[key])


def _name_of(segmenter: nn.Module) -> str:
    spec = getattr(segmenter, "spec", None)
    return f" {spec.backbone}" if isinstance(spec, SegmenterSpec) else ""


def _fitting(
    tensors: dict[str, Tensor], homes: Mapping[str, str], wanted: Mapping[str, Tensor], spec: Any
) -> dict[str, Tensor]:
    """The tensors that the backbone is to have, by key: as they are named or, if that fits better, as timm reads them.

    homes: the backbone's names by key. wanted: its tensors.
    """
    whole = whole_network(spec) if isinstance(spec, SegmenterSpec) else None
    if whole is None:
        return _used(tensors, homes, ())
    others = {_key(name) for name in whole.state_dict()} - set(homes)
    tensors = by_timms_names(tensors, whole)
    used = _used(tensors, homes, others)
    read = filter_of(spec.backbone)
    if read is None or not _faults({key: wanted[name] for key, name in homes.items()}, used):
        return used
    try:
        filtered = _used(read({_bare(name): value for name, value in tensors.items()}, whole), homes, others)
    except Exception:  # timm's filters expect their own files; what did not fit before is what is told
        return used
    return used if _faults({key: wanted[name] for key, name in homes.items()}, filtered) else filtered


def _used(tensors: Mapping[str, Tensor], homes: Mapping[str, str], others: Any) -> dict[str, Tensor]:
    """By key, without what belongs to a network's other parts. others: keys of those."""
    keyed = {_key(name): (name, tensor) for name, tensor in tensors.items()}
    return {
        key: tensor
        for key, (name, tensor) in keyed.items()
        if key in homes or not (key in others or _bare(name).startswith(_UNUSED))
    }


def _key(name: str) -> str:
    """A tensor's name without wrappers; dots and underlines are one, as timm's wrapper flattens some names."""
    return _bare(name).replace(".", "_")


def _bare(name: str) -> str:
    return without_prefixes(name, _PREFIXES)


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


def _faults(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """None where every tensor wanted is given, no other is, and all have their shape and are finite."""
    needed = {name: tensor for name, tensor in wanted.items() if name in given or not name.endswith(_COUNTER)}
    faults = misfits(needed, given)
    # Of the right shape alone: a view of one number may claim to be any size.
    shared = [name for name in sorted(set(wanted) & set(given)) if given[name].shape == wanted[name].shape]
    if broken := [name for name in shared if not bool(given[name].isfinite().all())]:
        faults["not finite"] = broken
    return faults
