"""Where mask generation spends its time, stage by stage, beside what the machine could do: one lane, one thread.

The real `generate` runs with timers around named functions (`stopwatch`), shard after shard, so that stages add up;
what they leave of the whole is a row of its own. Bytes and operations are counted in a run of their own.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from measure import Figure, cpu_seconds, figure, ratios, wall_seconds

import wilss.models.encoders.clip.encoder
import wilss.models.encoders.vit.encoder
from wilss.disk.folder import LocalFolder
from wilss.equations import fmwiss, kernels
from wilss.models.encoders.clip.encoder import DenseClip
from wilss.models.encoders.vit.encoder import SeedViT
from wilss.store import MaskStoreWriter, shards
from wilss_masks.make import generate as generation
from wilss_masks.make import job, run
from wilss_masks.sources import fmwiss_proposer, placing
from wilss_masks.sources.fmwiss_proposer import FmwissProposer
from wilss_masks.sources.placing import MapMaker

from .common import built_in_source, end_to_end, large_source, manifest_over, row
from .limits import Rates, rates
from .stage_table import REST, Stage, Table, stages_of
from .stopwatch import Place, Stopwatch

ONCE = "once a store: begin, seal, sum up"

#: A function is named where it is called: a module that has imported it would go on with what is not timed.
PLACES: tuple[Place, ...] = (
    (fmwiss_proposer, "read_image", "decode"),
    (fmwiss_proposer, "resize_uint8", "resize"),
    (FmwissProposer, "_stack", "resize"),
    (wilss.models.encoders.clip.encoder, "normalise", "normalise"),
    (wilss.models.encoders.vit.encoder, "normalise", "normalise"),
    (DenseClip, "features", "CLIP"),
    (SeedViT, "last_blocks", "ViT"),
    (kernels, "score_map", "score"),
    (fmwiss, "foreground_score", "score"),
    (MapMaker, "_seeds", "seeds"),
    (MapMaker, "_attention", "attention"),
    (MapMaker, "_spread", "attention"),
    (placing, "refine", "binarise, upsample, fuse"),
    (placing, "on_its_way", "confidence, agreement, area"),
    (MapMaker, "content_on_its_way", "between the equations"),
    (FmwissProposer, "propose", "between the equations"),
    (FmwissProposer, "load", "between the equations"),
    (run, "_opened", "find the opened networks"),
    (shards, "encode_shard", "encode"),
    (LocalFolder, "write", "write"),
    (run, "write_shard", "digest and receipt"),
    (MaskStoreWriter, "commit", "commit"),
    (generation, "selection_for", "lists and plan"),
    (generation, "plan_for", "lists and plan"),
    (generation, "attributes_of", "lists and plan"),
    (generation, "keeping_what_is_kept", ONCE),
    (generation, "compatible", ONCE),
    (generation, "require_writable", ONCE),
    (generation, "create_or_resume", ONCE),
    (generation, "summary_of", ONCE),
    (MaskStoreWriter, "seal", ONCE),
)
#: What a GPU would do where there is one; the rest but decoding and the forward passes stays with the CPU.
FORWARDS = ("CLIP", "ViT", "normalise")
DECODING = ("decode", "resize")
ON_DEVICE = ("score", "attention", "binarise, upsample, fuse", "confidence, agreement, area")
#: Stages whose bytes go to disk, and the files that they sync at least for a shard.
WRITTEN = {"write": 1.0, "commit": 1.0}


def measure(scratch: Path, quick: bool) -> list[dict[str, Any]]:
    """Both encoder sizes."""
    limits = rates(1, scratch, tries=1 if quick else 7, smaller=8 if quick else 1)
    return [
        *_of(scratch, limits, built_in_source, 16 if quick else 192, 1 if quick else 5, "built-in encoders"),
        *([] if quick else _of(scratch, limits, large_source, 32, 3, "ViT-B/16 at 224")),
    ]


def _of(
    scratch: Path, limits: Rates, make_source: Callable[..., Any], count: int, repeats: int, name: str
) -> list[dict[str, Any]]:
    manifest = manifest_over(scratch, count)
    source = make_source(manifest)
    watch = Stopwatch()

    def whole() -> None:
        end_to_end(manifest, source, scratch / "stages.zarr")

    def watched() -> None:
        with watch.around(PLACES):
            whole()

    with one_lane():
        whole()  # networks are opened, which no stage is
        counted = Stopwatch(counting=True)
        with counted.around(PLACES):
            whole()
        taken, spent = timed(watch, {"plain": whole, "watched": watched}, repeats)
    shard_files = -(-count // 32)
    stages = stages_of(spent, counted.spent, taken["watched"], count, limits, "fp32", shard_files, WRITTEN)
    table = Table(title=f"Masks, {name}", images=count, stages=stages, rates=limits, precision="fp32")
    beside = [stage for stage in stages if stage.name not in FORWARDS + DECODING]
    return [
        *rows_of(table, taken),
        row(f"{table.title}: processor time beside decode, resize and forwards, ms/image", total(beside),
            "at most 1"),
        row(f"{table.title}: of it what a GPU would do where there is one, ms/image",
            total([stage for stage in beside if stage.name in ON_DEVICE])),
    ]  # fmt: skip


def total(stages: Sequence[Stage]) -> Figure:
    """Processor milliseconds of several stages together."""
    low, median, high = (sum(getattr(stage.cpu, name) for stage in stages) for name in ("low", "median", "high"))
    return Figure(median=median, low=low, high=high, repeats=min(stage.cpu.repeats for stage in stages))


def timed(
    watch: Stopwatch, actions: dict[str, Callable[[], object]], repeats: int
) -> tuple[dict[str, list[tuple[float, float]]], list[dict[str, Any]]]:
    """Wall and processor seconds of the actions in turn, and what the watch saw in every round."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in actions}
    spent = []
    for turn in range(repeats + 1):
        watch.spent = {}
        for name, action in actions.items():
            found = both_clocks(action)
            if turn:
                taken[name].append(found)
        if turn:
            spent.append(watch.spent)
    return taken, spent


def both_clocks(action: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor seconds of one call."""
    wall: list[float] = []
    cpu = cpu_seconds(lambda: wall.append(wall_seconds(action)))
    return wall[0], cpu


def rows_of(table: Table, taken: dict[str, list[tuple[float, float]]]) -> list[dict[str, Any]]:
    """A row per stage, what they leave, and what the timers cost."""
    known = [stage for stage in table.stages if stage.name != REST]
    rest = [stage for stage in table.stages if stage.name == REST]
    title = table.title
    timers = ratios([w for w, _ in taken["watched"]], [w for w, _ in taken["plain"]])
    whole = figure([1000 * wall / table.images for wall, _ in taken["plain"]])
    rows = [
        row(f"{title}: {stage.name}, ms/image", stage.wall, stage=stage.as_json(), table=title)
        for stage in (*known, *rest)
    ]
    return [
        *rows,
        row(
            f"{title}: end to end, one lane, ms/image",
            whole,
            rates=table.rates_json(),
            precision=table.precision,
            table=title,
        ),
        row(f"{title}: not in any stage, % of the time", table.share_of(REST), "a few"),
        row(f"{title}: with timers / without", timers, "near 1"),
    ]


@contextlib.contextmanager
def one_lane() -> Iterator[None]:
    """One thread, one lane, and no shard begun before the one before is committed."""
    before, ahead = job._batches_at_once, run._SHARDS_AHEAD
    threads = torch.get_num_threads()
    job._batches_at_once = lambda device, options: 1
    run._SHARDS_AHEAD = 1
    torch.set_num_threads(1)
    try:
        yield
    finally:
        job._batches_at_once, run._SHARDS_AHEAD = before, ahead
        torch.set_num_threads(threads)
