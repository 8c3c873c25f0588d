"""Masks in bf16 over masks in fp32 on this processor, where it has instructions for it: end to end, and what agrees."""

from pathlib import Path
from typing import Any

import torch
from measure import cpu_seconds, interleaved, ratios

from wilss.models.devices import has_bf16

from .builds import masks_alike
from .common import built_in_source, end_to_end, large_source, manifest_over, row
from .gpu import ENOUGH, with_precision

PRECISIONS = ("fp32", "bf16")


def measure(scratch: Path, quick: bool) -> list[dict[str, Any]]:
    """Both sizes of encoders, one thread; a row that says so where the processor has no such instructions."""
    if not has_bf16("cpu"):
        return [row("no instructions for bf16 here", "nothing measured")]
    torch.set_num_threads(1)
    kinds = (("built-in encoders", built_in_source, 160), ("ViT-B/16 at 224", large_source, 36))
    return [
        one
        for name, make_source, count in kinds
        for one in _measured(scratch, name, make_source, 4 if quick else count, 1 if quick else 3)
    ]


def _measured(scratch: Path, name: str, make_source: Any, count: int, repeats: int) -> list[dict[str, Any]]:
    """By the processor's time, since one thread does all and others may want the cores too."""
    manifest = manifest_over(scratch, count)
    source = make_source(manifest)
    stores = {precision: scratch / f"{precision}.zarr" for precision in PRECISIONS}

    def make(precision: str) -> None:
        end_to_end(manifest, with_precision(source, precision), stores[precision])

    work = {precision: (lambda precision=precision: make(precision)) for precision in PRECISIONS}
    taken = interleaved(work, repeats, cpu_seconds)
    percent, worst = masks_alike(stores["bf16"], stores["fp32"])
    return [
        row(f"{name}: bf16 over fp32, images a second of the processor", ratios(taken["fp32"], taken["bf16"]),
            images=count),
        row(f"{name}: masks by bf16 and by fp32, % of pixels that agree", f"{percent:.2f} (worst image {worst:.2f})",
            f"at least {ENOUGH}", percent=percent),
    ]  # fmt: skip
