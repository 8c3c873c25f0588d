"""Where a run computes: devices by name, refused with a sentence when they are not there."""

import re

from wilss.errors import ParameterError

from .cluster import require_usable_address
from .options import Options

__all__ = ["require_means", "resolve_device"]


def resolve_device(device: str, option: str | None = None) -> str:
    """`auto` as "cuda" where there is one, else "cpu"; a device that is not there is refused.

    option: what asked for it, for the error; `--device` by default.
    """
    if device == "cpu":
        return device
    _require_device_word(device)
    number = device.partition(":")[2]
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        return "cuda" if count else "cpu"
    if int(number or 0) >= count:
        found = f"{count or 'no'} CUDA device{'' if count == 1 else 's'}"
        raise ParameterError(
            f"{option or f'--device {device}'}: torch finds {found} here; name others, or use --device cpu."
        )
    return device


def _require_device_word(device: str) -> None:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise ParameterError(f"--device {device} is no device; use auto, cpu or cuda.")


def require_means(options: Options) -> None:
    """Refuse devices that are not there and a scheduler that must not be talked to, before anything is done."""
    cluster = options.cluster
    if cluster.is_elsewhere:
        require_usable_address(cluster)
    _require_device_word(options.device)
    if options.device != "auto" and not cluster.is_elsewhere:
        resolve_device(options.device)
    said = f"--devices {','.join(map(str, cluster.devices))}"
    if cluster.devices and options.device == "cpu":
        raise ParameterError(f"{said} and --device cpu ask for different things; leave one of them out.")
    for index in cluster.devices:
        if index < 0 or cluster.devices.count(index) > 1:
            raise ParameterError(f"{said} is no list of different GPUs; name each once, as in --devices 0,1.")
        resolve_device(f"cuda:{index}", said)
