"""What this machine can do at most, measured: matrix products, convolutions, memory, disk. And a stage's limit by it.

A stage needs at least its floating-point operations over the matrix rate, and the bytes that it must read and write
over the bandwidth of where they lie; its limit is the larger of the two. What is measured is the best of a few tries:
a limit that other work on the machine has lowered would flatter the stages.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

GEMM_SIDE = 1536
CONV = (8, 256, 48)  # images, channels, side; 3 x 3
MEMORY = 256 * 2**20  # bytes of one array: far more than the caches
FILE = 16 * 2**20


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Per second. gemm, conv: floating-point operations by precision. copy, triad: bytes read and written.

    disk: bytes written and fsynced; sync: seconds of a small file that is written, fsynced, renamed, and its folder.
    """

    threads: int
    gemm: dict[str, float]
    conv: dict[str, float]
    copy: float
    triad: float
    disk: float
    sync: float

    def flops(self, precision: str) -> float:
        """The best matrix rate there is, of either kind."""
        return max(self.gemm[precision], self.conv[precision])

    @property
    def memory(self) -> float:
        """The best bandwidth there is."""
        return max(self.copy, self.triad)

    def limit(
        self, *, flops: float = 0.0, nbytes: float = 0.0, written: float = 0.0, files: float = 0.0, precision: str
    ) -> float:
        """Seconds that a stage needs at least. nbytes: through memory; written: to disk, in so many synced files."""
        return max(flops / self.flops(precision), nbytes / self.memory, written / self.disk + files * self.sync)


def rates(threads: int, folder: Path, *, tries: int = 7, smaller: int = 1) -> Rates:
    """Measure them with so many threads. smaller: divides the sizes, to see that it runs."""
    torch.set_num_threads(threads)
    side, elements = GEMM_SIDE // smaller, MEMORY // 4 // smaller**2
    images, channels, edge = CONV[0], CONV[1] // smaller, CONV[2] // smaller
    kinds = {"fp32": torch.float32, "bf16": torch.bfloat16}
    with torch.inference_mode():
        gemm = {name: 2 * side**3 / _best(_product(side, kind), tries) for name, kind in kinds.items()}
        gemm["fp32"] = max(gemm["fp32"], 2 * side**3 / _best(_onednn_product(side), tries))
        work = 2 * images * edge**2 * channels**2 * 9
        conv = {name: work / _best(_convolution(images, channels, edge, kind), tries) for name, kind in kinds.items()}
        copy, triad = _memory(elements, tries)
    return Rates(
        threads=threads,
        gemm=gemm,
        conv=conv,
        copy=copy,
        triad=triad,
        disk=FILE / smaller / _best(lambda: _write(folder, FILE // smaller), tries),
        sync=_best(lambda: _write(folder, 4096), tries),
    )


def _best(action: Callable[[], object], tries: int) -> float:
    action()
    taken = []
    for _ in range(tries):
        started = time.perf_counter()
        action()
        taken.append(time.perf_counter() - started)
    return min(taken)


def _product(side: int, kind: torch.dtype) -> Callable[[], Any]:
    a, b = torch.rand(side, side).to(kind), torch.rand(side, side).to(kind)
    return lambda: a @ b


def _onednn_product(side: int) -> Callable[[], Any]:
    """By the other library that torch carries; MKL leaves half of a processor unused that is not Intel's."""
    a, b = torch.rand(side, side), torch.rand(side, side)
    return lambda: torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")


def _convolution(images: int, channels: int, side: int, kind: torch.dtype) -> Callable[[], Any]:
    layout = torch.channels_last
    x = torch.rand(images, channels, side, side).to(kind).contiguous(memory_format=layout)
    weight = torch.rand(channels, channels, 3, 3).to(kind).contiguous(memory_format=layout)
    return lambda: torch.nn.functional.conv2d(x, weight, padding=1)


def _memory(elements: int, tries: int) -> tuple[float, float]:
    a, b, c = (torch.ones(elements) for _ in range(3))
    size = 4 * elements
    return (
        2 * size / _best(lambda: a.copy_(b), tries),
        3 * size / _best(lambda: torch.add(b, c, alpha=3.0, out=a), tries),
    )


def _write(folder: Path, size: int) -> None:
    """As the store writes a file: under another name, fsync, rename, fsync of the folder."""
    path, data = folder / "limit", os.urandom(4096) * (size // 4096)
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    path.replace(folder / "limit.done")
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
