"""What decides the outcome of a run, to the bit on a CPU: a run goes on only where all of it is as it was."""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from ..inputs import RunInputs, digest_of_backbone
from ..memory import MemoryBank
from ..methods.base import Method
from ..params import TrainParams

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["identity_of", "machine_of"]

_LIBRARIES = ("torch", "torchvision", "timm", "accelerate", "numpy", "pillow")


def identity_of(
    inputs: RunInputs, method: Method, params: TrainParams, seed: int, machine: dict[str, Any]
) -> dict[str, Any]:
    """Everything that decides the outcome, to the bit on a CPU. Of files it is what they hold, not where they lie."""
    parent = inputs.parent
    files = method.input_digests(inputs.manifest)
    return {
        "method": method.name,
        "method_params": {name: value for name, value in method.parameters().items() if name not in files},
        "method_inputs": dict(files),
        "params": {k: v for k, v in params.as_json().items() if k not in ("save_minutes", "save_steps", "cache_mib")},
        "seed": seed,
        "step": inputs.step,
        "masks": inputs.store_digest,
        "parent": None if parent is None else parent.digest,
        "memory": None if inputs.memory is None else MemoryBank.open(inputs.memory).digest,
        "weights": _digest_of_weights(inputs, params),
        "manifest": inputs.manifest.digest,
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


def _digest_of_weights(inputs: RunInputs, params: TrainParams) -> str | None:
    """sha256 of the backbone's file, where a run starts from one."""
    if inputs.parent is not None or not params.backbone_weights:
        return None
    return digest_of_backbone(params.backbone_weights, inputs.manifest)
