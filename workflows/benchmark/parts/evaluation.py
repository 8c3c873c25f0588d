"""Evaluation (decode to IoU) over bare forward passes of the same images in the same batches, decoded beforehand."""

from pathlib import Path
from typing import Any

import torch
from measure import interleaved, ratios

import wilss
from wilss.data.images import normalise
from wilss.models.networks.checkpoint import load_segmenter, read_info
from wilss_train.results.evaluate import evaluate, read_labelled
from wilss_train.results.predict import _batches

from .common import row
from .learning import CORES, MANIFEST, folder_of

BATCH = 8


def measure(scratch: Path, quick: bool) -> list[dict[str, Any]]:
    """The built-in data's held-out images, whose sizes differ; and the same cut as WILSON does, in full batches."""
    folder = folder_of(scratch)
    info = read_info(folder / "step-0")
    segmenter = load_segmenter(info)
    manifest = wilss.load_manifest(MANIFEST)
    records = manifest.records(info.step, "val").records
    torch.set_num_threads(CORES)
    rows = []
    for mode, name, count in (("full", "whole images of many sizes", 300), ("wilson", "512 x 512", 48)):
        chosen = records[: 8 if quick else count]
        rows += _over_bare(segmenter, info, chosen, mode, name, 1 if quick else 5)
    return rows


def _over_bare(segmenter: Any, info: Any, records: Any, mode: Any, name: str, repeats: int) -> list[dict[str, Any]]:
    batches = [
        normalise(
            torch.stack([torch.from_numpy(one.image) for one in batch]).permute(0, 3, 1, 2), info.mean, info.std
        ).contiguous()
        for batch in _batches((read_labelled(record, mode=mode) for record in records), BATCH)
        if isinstance(batch, list)
    ]

    def bare() -> None:
        with torch.inference_mode():
            for images in batches:
                segmenter(images)

    def whole() -> None:
        found = evaluate(segmenter, info, records, mode=mode, batch_size=BATCH)
        if found.failed:
            raise SystemExit(f"the benchmark's own images failed: {found.failed}")

    taken = interleaved({"bare": bare, "whole": whole}, repeats)
    rate = len(records) / min(taken["whole"])
    return [
        row(f"evaluation / bare forward passes, images/s, {name}", ratios(taken["bare"], taken["whole"]),
            "at least 0.9", images=len(records), batches=len(batches), images_per_second=rate),
    ]  # fmt: skip
