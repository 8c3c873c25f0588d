"""Where torch computes: devices by name, refused with a sentence when they are not there; numbers back from them."""

import re
from typing import TYPE_CHECKING, Any

from wilss.errors import ParameterError

if TYPE_CHECKING:
    from torch import Tensor


#: What torch calls the instructions of x86 for products of bf16; ARM's have not been tried.
_BF16 = ("amx_bf16", "avx512_bf16")


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


def has_bf16(device: str) -> bool:
    """Whether a device ("cpu", "cuda", ...) is made for bf16.

    torch computes it on every processor, but on one that is not in many times as long as fp32 takes. A torch that does
    not tell of the instructions themselves is asked for AVX-512.
    """
    import torch

    if device != "cpu":
        return True
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    if not hasattr(torch.cpu, "get_capabilities"):
        return torch.backends.cpu.get_cpu_capability() not in ("DEFAULT", "AVX2")
    return any(torch.cpu.get_capabilities().get(name) for name in _BF16)


def require_device_word(device: str) -> None:
    """Raise ParameterError unless `device` is auto, cpu, cuda or cuda:N; torch is not asked."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise ParameterError(f"--device {device} is no device; use auto, cpu or cuda.")


class Fetched:
    """Numbers of a device on their way to the host, where nobody waits for them before they are asked for.

    Reading a number where it is computed (`item`, `bool`, `nonzero`) waits until the device has nothing left to do.
    """

    def __init__(self, values: "Tensor") -> None:
        """values: of any shape. On a CPU they are there."""
        import torch

        self._values = values.detach().to("cpu", non_blocking=True)
        self._arrived: Any = None
        if values.is_cuda:
            self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._arrived.record(torch.cuda.current_stream(values.device))  # by default the first GPU's, whoever copies

    def numbers(self) -> list[Any]:
        """As a list, once they are there; what was asked of the device after them is not waited for."""
        return list(self.tensor().tolist())

    def tensor(self) -> "Tensor":
        """As a tensor on the CPU, once they are there."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._values
