"""Processor time per image that is neither decoding nor a forward pass.

On one core: two forward passes at once take each other's cache, which would be counted as the pipeline's own time.
"""

import os
from pathlib import Path
from typing import Any

import torch
from measure import cpu_seconds, figure, interleaved

from .common import built_in_source, end_to_end, loaded_batches, manifest_over, plan_of, row


def measure(scratch: Path, quick: bool) -> list[dict[str, Any]]:
    """End to end minus decoding and resizing minus the two forward passes, one thread each, in processor time."""
    count, repeats = (32, 1) if quick else (256, 3)
    manifest = manifest_over(scratch, count)
    source = built_in_source(manifest)
    proposer = source.open("cpu", 1)
    plan = plan_of(manifest, source)
    batches = loaded_batches(plan, proposer)

    def decode() -> None:
        for task in plan.images:
            proposer.load(task)

    def forward() -> None:
        for _, clip, vit in batches:
            proposer.clip.features(clip)
            proposer.vit.last_block(vit)

    def whole() -> None:
        end_to_end(manifest, source, scratch / "host.zarr")

    torch.set_num_threads(1)
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        taken = interleaved({"decode": decode, "forward": forward, "whole": whole}, repeats, clock=cpu_seconds)
    finally:
        os.sched_setaffinity(0, cores)
    rest = [
        1000 * (w - d - f) / count for w, d, f in zip(taken["whole"], taken["decode"], taken["forward"], strict=True)
    ]
    return [
        row("host processor time beside decode and forward, ms/image", figure(rest), "at most 1", images=count),
        row("of it decode and resize, ms/image", figure([1000 * d / count for d in taken["decode"]])),
        row("of it both forward passes, ms/image", figure([1000 * f / count for f in taken["forward"]])),
    ]
