"""What decides the outcome of a run, to the bit on a CPU: it is resumed only where all of this is the same."""

from collections.abc import Mapping
from typing import Any

from accelerate import Accelerator

from wilss.data.images import IMAGENET_MEAN, IMAGENET_STD
from wilss.data.manifest import Manifest
from wilss.digests import version_of

from ..inputs import RunInputs, digest_of_backbone
from ..memory import MemoryBank
from ..methods import Method
from ..params import TrainParams

_LIBRARIES = ("torch", "torchvision", "timm", "accelerate", "numpy", "pillow")

#: What of the parameters changes nothing that is learnt, or stands in the identity under another name.
_NO_MATTER = ("save_minutes", "save_steps", "cache_mib", "backbone_sha256", "backbone_mean", "backbone_std")


def identity_of(
    inputs: RunInputs, method: Method, params: TrainParams, seed: int, machine: dict[str, Any]
) -> dict[str, Any]:
    """Everything that decides the outcome, to the bit on a CPU. Of files it is what they hold, not where they lie."""
    parent = inputs.parent
    files = method.input_digests(inputs.manifest)
    return {
        "method": method.name,
        "method_params": {name: value for name, value in method.deciding(inputs.step).items() if name not in files},
        "method_inputs": dict(files),
        "params": _outcome(params),
        "seed": seed,
        "step": inputs.step,
        "masks": inputs.store_digest,
        "parent": None if parent is None else parent.digest,
        "memory": None if inputs.memory is None else MemoryBank.open(inputs.memory).digest,
        "weights": digest_of_weights(inputs, params),
        "manifest": inputs.manifest.digest,
        "machine": machine,
        **_input_of(params),
        "versions": {name: version_of(name) for name in _LIBRARIES},
    }


def as_noted_now(
    noted: Mapping[str, Any], *, wanted: Mapping[str, Any], method: Method, manifest: Manifest
) -> dict[str, Any]:
    """The identity of a run that is there, as the same run would note it today.

    What is the same by another digest has that of today; parameters of `wanted` that came after the run have the
    values that it ran with, and those that decide nothing, which `wanted` leaves out, are left out.
    """
    inputs = noted.get("method_inputs")
    if noted.get("method") != method.name or not isinstance(inputs, Mapping):
        return dict(noted)
    now = {**noted, "method_inputs": dict(method.inputs_as_noted_now(inputs, manifest))}
    for section, before in (("params", TrainParams.before()), ("method_params", method.before())):
        if isinstance(values := noted.get(section), Mapping):
            named = {name: value for name, value in values.items() if name in wanted[section] or name not in before}
            now[section] = {**{name: before[name] for name in wanted[section] if name in before}, **named}
    return now


def _outcome(params: TrainParams) -> dict[str, Any]:
    """The parameters that decide the outcome."""
    return {name: value for name, value in params.as_json().items() if name not in _NO_MATTER}


def _input_of(params: TrainParams) -> dict[str, Any]:
    """Mean and standard deviation of the input where they are not ImageNet's, which runs did not use to name."""
    if (params.mean, params.std) == (IMAGENET_MEAN, IMAGENET_STD):
        return {}
    return {"input": {"mean": list(params.mean), "std": list(params.std)}}


def machine_of(accelerator: Accelerator, threads: int, *, deterministic: bool) -> dict[str, Any]:
    """What of the machine touches the bits: how many processes and threads, which kind of device and precision."""
    return {
        "processes": accelerator.num_processes,
        "threads": threads if accelerator.device.type == "cpu" else None,
        "device": accelerator.device.type,
        "precision": accelerator.mixed_precision,
        "deterministic": deterministic,
    }


def digest_of_weights(inputs: RunInputs, params: TrainParams) -> str | None:
    """sha256 of the backbone's file, where a run starts from one."""
    if inputs.parent is not None or not params.backbone_weights:
        return None
    return digest_of_backbone(params, inputs.manifest)
