"""End to end (decode to fsynced store) over the bare forward passes; and against the way research scripts do it."""

import functools
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from baseline import masks_of_one
from measure import interleaved, ratios

from wilss.models.devices import has_bf16

from .common import built_in_source, end_to_end, large_source, loaded_batches, manifest_over, plan_of, row
from .gpu import with_precision

CORES = len(os.sched_getaffinity(0))


def built_in(scratch: Path, quick: bool) -> list[dict[str, Any]]:
    """The built-in encoders."""
    return _over_bare(scratch, built_in_source, 32 if quick else 256, 2 if quick else 5, "built-in encoders")


def large(scratch: Path, quick: bool) -> list[dict[str, Any]]:
    """ViT-B/16 at 224."""
    return _over_bare(scratch, large_source, 8 if quick else 32, 1 if quick else 3, "ViT-B/16 at 224")


def _over_bare(scratch: Path, make_source: Any, count: int, repeats: int, name: str) -> list[dict[str, Any]]:
    """The bare passes use all cores through torch's own threads, as anybody would run them."""
    manifest = manifest_over(scratch, count)
    source = make_source(manifest)
    proposer = source.open("cpu", CORES)
    batches = loaded_batches(plan_of(manifest, source), proposer)

    def bare() -> None:
        torch.set_num_threads(CORES)
        with torch.inference_mode():
            for _, clip, vit in batches:
                proposer.clip.features(clip)
                proposer.vit.last_block(vit)

    def whole() -> None:
        torch.set_num_threads(1)
        end_to_end(manifest, source, scratch / "end-to-end.zarr")

    taken = interleaved({"bare": bare, "whole": whole}, repeats)
    rate = count / min(taken["whole"])
    return [
        row(f"{name}: end to end / two bare forward passes, images/s", ratios(taken["bare"], taken["whole"]),
            "at least 0.90", images=count, images_per_second=rate),
    ]  # fmt: skip


def scripts(scratch: Path, quick: bool) -> list[dict[str, Any]]:
    """Batch 1, the whole attention map, PNG writes; the same weights."""
    kinds = (("built-in encoders", built_in_source, 128), ("ViT-B/16 at 224", large_source, 16))
    return [
        one
        for name, make_source, count in kinds
        for one in _over_script(scratch, name, make_source, 8 if quick else count, 1 if quick else 3)
    ]


def _over_script(scratch: Path, name: str, make_source: Any, count: int, repeats: int) -> list[dict[str, Any]]:
    """The pipeline in fp32, and in bf16 where the processor has instructions for it; the script is in fp32 always."""
    manifest = manifest_over(scratch, count)
    source = make_source(manifest)
    proposer = source.open("cpu", CORES)
    images = plan_of(manifest, source).images

    def script() -> None:
        torch.set_num_threads(CORES)
        with tempfile.TemporaryDirectory() as folder:
            for task in images:
                masks_of_one(proposer, task, Path(folder))

    def pipeline(precision: str) -> None:
        torch.set_num_threads(1)
        end_to_end(manifest, with_precision(source, precision), scratch / "scripts.zarr")

    titles = {"fp32": "pipeline", **({"bf16": "pipeline in bf16"} if has_bf16("cpu") else {})}
    rows = []
    for precision, title in titles.items():  # not in turn with each other: a process keeps the networks of one source
        taken = interleaved({"script": script, "pipeline": functools.partial(pipeline, precision)}, repeats)
        told = ratios(taken["script"], taken["pipeline"])
        rows.append(row(f"{name}: {title} over a research script, images/s", told, "at least 1.3, aim 2", images=count))
    return rows
