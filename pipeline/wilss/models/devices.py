"""Where torch computes: devices by name, refused with a sentence when they are not there."""

import re

from wilss.errors import ParameterError


def resolve_device(device: str, option: str | None = None) -> str:
    """`auto` as "cuda" where there is one, else "cpu"; a device that is not there is refused.

    option: what asked for it, for the error; `--device` by default.
    """
    if device == "cpu":
        return device
    require_device_word(device)
    number = device.partition(":")[2]
    count = count_cuda()
    if device == "auto":
        return "cuda" if count else "cpu"
    if int(number or 0) >= count:
        available = f"{count or 'no'} CUDA device{'' if count == 1 else 's'}"
        raise ParameterError(
            f"{option or f'--device {device}'}: torch finds {available} here; name others, or use --device cpu."
        )
    return device


def count_cuda() -> int:
    """How many CUDA devices torch finds here."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def require_device_word(device: str) -> None:
    """Raise ParameterError unless `device` is auto, cpu, cuda or cuda:N; torch is not asked."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise ParameterError(f"--device {device} is no device; use auto, cpu or cuda.")
