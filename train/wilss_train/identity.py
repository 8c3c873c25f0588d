"""What decides the outcome of a run, to the bit on a CPU: a run goes on only where all of it is as it was."""

import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wilss.encoders.weights import resolve
from wilss.errors import WeightsError

from .beginning import Beginning
from .methods.base import Method
from .params import TrainParams

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["identity_of", "machine_of", "weights_path"]

_LIBRARIES = ("torch", "torchvision", "timm", "accelerate", "numpy", "pillow")


def identity_of(
    beginning: Beginning, method: Method, params: TrainParams, seed: int, machine: dict[str, Any]
) -> dict[str, Any]:
    """Everything that decides the outcome, to the bit on a CPU."""
    parent = beginning.parent
    return {
        "method": method.name,
        "method_params": dict(method.parameters()),
        "params": {k: v for k, v in params.as_json().items() if k not in ("save_minutes", "save_steps", "cache_mib")},
        "seed": seed,
        "step": beginning.step,
        "masks": beginning.store_digest,
        "parent": None if parent is None else parent.digest,
        "weights": _digest_of_weights(beginning, params),
        "manifest": beginning.manifest.digest,
        "machine": machine,
        "versions": {name: version(name) for name in _LIBRARIES},
    }


def machine_of(accelerator: "Accelerator", threads: int, *, deterministic: bool) -> dict[str, Any]:
    """What of the machine touches the bits: how many processes and threads, which kind of device and precision."""
    return {
        "processes": accelerator.num_processes,
        "threads": threads if accelerator.device.type == "cpu" else None,
        "device": accelerator.device.type,
        "precision": accelerator.mixed_precision,
        "deterministic": deterministic,
    }


def _digest_of_weights(beginning: Beginning, params: TrainParams) -> str | None:
    """sha256 of the backbone's file, where a run starts from one."""
    if beginning.parent is not None or not params.backbone_weights:
        return None
    path = weights_path(params.backbone_weights, beginning)
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(
            f"{path} cannot be read ({error.strerror or error}); say where the backbone's weights are with --set "
            "backbone_weights=FILE, or start without any by --set backbone_weights=."
        ) from None


def weights_path(word: str, beginning: Beginning) -> Path:
    """A file in the package for `builtin:`, else a path relative to the manifest."""
    if word.startswith("builtin:"):
        return resolve(word)
    return beginning.manifest.path.parent / Path(word).expanduser()
