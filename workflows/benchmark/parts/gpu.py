"""On a GPU: bare forwards by batch and resolution, end to end, bf16 against fp32, torch.compile, memory, the trainer.

`--device cpu --quick` runs the same code where there is no GPU, to see that it does; its figures mean nothing.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import Figure, figure, interleaved, ratios
from numpy.typing import NDArray

from wilss.data.manifest import Manifest
from wilss.store import ImageContent
from wilss_masks import FmwissSource, generate

from .common import built_in_source, large_source, loaded_batches, manifest_over, options, plan_of, row
from .learning import Learning, folder_of, over_bare
from .standin import linked_manifest

BATCHES, SIDES, SHARD = (1, 8, 32, 128), (224, 448), 128
ENOUGH = 99.5  # percent of pixels on which bf16 and fp32 must agree


def measure(scratch: Path, quick: bool, device: str = "cuda") -> list[dict[str, Any]]:
    """Everything, or one row that says that there is no GPU."""
    if device == "cuda" and not torch.cuda.is_available():
        return [row("no GPU here", "nothing measured")]
    manifest = manifest_over(scratch, 8 if quick else 128)
    make = built_in_source if quick else large_source
    return [
        *_by_batch(manifest, make, device, quick),
        *_end_to_end(scratch, make, device, quick),
        *_agreement(manifest, device),
        *_compiled(manifest, make, device, quick),
        *_trainer(scratch, device, quick),
    ]


def about(device: str) -> str:
    """The card and what drives it."""
    if device != "cuda":
        return device
    cudnn = torch.backends.cudnn.version()
    return f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, cuDNN {cudnn}"


def _by_batch(manifest: Manifest, make: Callable[..., Any], device: str, quick: bool) -> list[dict[str, Any]]:
    proposer, rows = make(manifest).open(device, 1), []
    for side in (96,) if quick else SIDES:
        for batch in (2,) if quick else BATCHES:
            images = torch.randint(0, 256, (batch, 3, side, side), dtype=torch.uint8, device=device)
            forget_peak(device)
            seconds = _seconds(partial(pair, proposer, images), device, 1 if quick else 7)
            rows.append(
                row(f"both forwards, {side} x {side}, batch {batch}, images/s", _rate(seconds, batch), "",
                    card=about(device), peak_mib=peak_mib(device))
            )  # fmt: skip
    return rows


def pair(proposer: Any, images: torch.Tensor) -> None:
    """Both forward passes."""
    with torch.inference_mode():
        proposer.clip.features(images)
        proposer.vit.last_block(images)


def _end_to_end(scratch: Path, make: Callable[..., Any], device: str, quick: bool) -> list[dict[str, Any]]:
    """Decode to fsynced store over the bare passes on the same batches, which lie on the device already."""
    manifest = linked_manifest(scratch, 16 if quick else 4096)
    source, batch = make(manifest), 4 if quick else 32
    told = {"batch_size": batch, "shard_size": 8 if quick else SHARD, "device": device}
    proposer = source.open(device, 1)
    plan = plan_of(manifest, source, **told)
    batches = [(c.to(device), v.to(device)) for _, c, v in loaded_batches(plan, proposer)]

    def bare() -> None:
        with torch.inference_mode():
            for clip, vit in batches:
                proposer.clip.features(clip)
                proposer.vit.last_block(vit)
        wait(device)

    def whole() -> None:
        generate(manifest, step=0, source=source, out=scratch / "gpu.zarr", options=options(**told))

    forget_peak(device)
    taken = interleaved({"bare": bare, "whole": whole}, 1 if quick else 3)
    count = len(plan.images)
    return [
        row("end to end / both bare forwards, images/s", ratios(taken["bare"], taken["whole"]), "at least 0.9",
            card=about(device), peak_mib=peak_mib(device)),
        row("end to end, images/s", figure([count / seconds for seconds in taken["whole"]])),
    ]  # fmt: skip


def _agreement(manifest: Manifest, device: str) -> list[dict[str, Any]]:
    """The built-in encoders, whose weights are trained: random maps have no edges to agree on."""
    source = built_in_source(manifest)
    masks = [_masks(with_precision(source, name), manifest, device) for name in ("fp32", "bf16")]
    equal, pixels = agreement(*masks)
    percent = 100 * equal.sum() / pixels.sum()
    said = f"{percent:.2f} (worst image {100 * (equal / pixels).min():.2f})"
    return [row("masks by bf16 and by fp32, % of pixels that agree", said, f"at least {ENOUGH}", percent=percent)]


def with_precision(source: FmwissSource, precision: Any) -> FmwissSource:
    """The same source, its encoders in this precision."""
    return replace(source, params=replace(source.params, precision=precision))


def _masks(source: FmwissSource, manifest: Manifest, device: str) -> list[ImageContent]:
    proposer = source.open(device, 1)
    plan, made = plan_of(manifest, source), list[ImageContent]()
    for shard in map(plan.shard, range(plan.layout.num_shards)):
        for batch in shard.batches:
            images = [shard.images[i] for i in batch]
            made += proposer.propose(images, [proposer.load(image) for image in images])
    return made


def agreement(
    some: Sequence[ImageContent], others: Sequence[ImageContent]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pixels of all masks of an image that are equal, and how many there are; an entry per image."""
    equal, pixels = np.zeros(len(some)), np.zeros(len(some))
    for place, (a, b) in enumerate(zip(some, others, strict=True)):
        for position, mask in a.planes["mask"].items():
            equal[place] += np.sum(mask == b.planes["mask"][position])
            pixels[place] += mask.size
    return equal, pixels


def _compiled(manifest: Manifest, make: Callable[..., Any], device: str, quick: bool) -> list[dict[str, Any]]:
    plain, other = (make(manifest).open(device, 1) for _ in range(2))
    batch, side = (2, 96) if quick else (32, 224)
    images = torch.randint(0, 256, (batch, 3, side, side), dtype=torch.uint8, device=device)
    other.clip = replace(other.clip, path=torch.compile(other.clip.path))
    for block in other.vit.network.blocks:
        block.compile()
    started = time.perf_counter()
    try:
        pair(other, images)
    except Exception as error:  # no compiler on the machine, or one that is too old
        return [row("torch.compile", f"does not run here: {type(error).__name__}")]
    wait(device)
    first = time.perf_counter() - started
    actions = {"plain": lambda: _and_wait(plain, images, device), "compiled": lambda: _and_wait(other, images, device)}
    taken = interleaved(actions, 2 if quick else 9)
    return [
        row("both forwards: torch.compile over plain, images/s", ratios(taken["plain"], taken["compiled"])),
        row("the first pass with torch.compile, s", f"{first:.1f}"),
    ]


def _trainer(scratch: Path, device: str, quick: bool) -> list[dict[str, Any]]:
    run = Learning(folder=folder_of(scratch), epochs=1 if quick else 8, device=device)
    forget_peak(device)
    taken, timings = over_bare(run, 1 if quick else 3)
    return [
        row("trainer / bare loop on batches in memory, images/s", ratios(taken["bare"], taken["trainer"]),
            "at least 0.97", card=about(device), peak_mib=peak_mib(device)),
        row("trainer, images/s", figure([timings[0].images / seconds for seconds in taken["trainer"]])),
    ]  # fmt: skip


def _seconds(action: Callable[[], object], device: str, repeats: int) -> list[float]:
    def timed() -> None:
        action()
        wait(device)

    return interleaved({"it": timed}, repeats)["it"]


def _rate(seconds: list[float], images: int) -> Figure:
    return figure([images / one for one in seconds])


def _and_wait(proposer: Any, images: torch.Tensor, device: str) -> None:
    pair(proposer, images)
    wait(device)


def wait(device: str) -> None:
    """Until the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def forget_peak(device: str) -> None:
    """Begin to look for a new peak of memory."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()


def peak_mib(device: str) -> int | None:
    """The peak of memory on the device since then."""
    return round(torch.cuda.max_memory_allocated() / 2**20) if device == "cuda" else None
