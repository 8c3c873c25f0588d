"""What a classifier has learnt so far, on disk, so that a run that is killed loses a minute of it."""

import contextlib
import json
from pathlib import Path

import torch
from torch import Tensor

from wilss.disk import unlink, write_atomically
from wilss.models.networks.classifier import Classifier
from wilss.models.tensor_files import digest_of_tensors

_KEY = "wilss"
_WEIGHTS, _MOMENTA = "weights.", "momenta."


def write_state(path: Path | None, classifier: Classifier, optimiser: torch.optim.SGD, done: int) -> None:
    """Keep the weights and the momenta of `done` steps; where nothing can be written, nothing is kept."""
    from safetensors.torch import save

    if path is None:
        return
    weights = {f"{_WEIGHTS}{name}": tensor for name, tensor in classifier.state_dict().items()}
    momenta = {
        f"{_MOMENTA}{number}": state["momentum_buffer"]
        for number, state in optimiser.state_dict()["state"].items()
        if state.get("momentum_buffer") is not None
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in {**weights, **momenta}.items()}
    header = {"done": done, "sha256": digest_of_tensors(tensors)}
    with contextlib.suppress(OSError):
        write_atomically(path, save(tensors, {_KEY: json.dumps(header)}))


def read_state(path: Path | None, classifier: Classifier, optimiser: torch.optim.SGD) -> int:
    """Put back what was kept, and say how many steps that is: 0 where there is nothing, or nothing that fits."""
    from safetensors import safe_open

    if path is None or not path.is_file():
        return 0
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})[_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
    except Exception:  # safetensors raises its own kind for damage of any sort
        return 0
    if header.get("sha256") != digest_of_tensors(tensors):  # damaged: begun again
        return 0
    classifier.load_state_dict(_named(tensors, _WEIGHTS))
    momenta = _named(tensors, _MOMENTA)
    state = {int(number): {"momentum_buffer": buffer} for number, buffer in momenta.items()}
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
    return int(header["done"])


def forget_state(path: Path | None) -> None:
    """Remove it: what it led to is kept elsewhere."""
    if path is not None:
        with contextlib.suppress(OSError):
            unlink(path)


def _named(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
