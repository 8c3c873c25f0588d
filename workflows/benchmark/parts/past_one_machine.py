"""What 1 M and 1 G images cost, and where the first wall stands: arithmetic on measured figures, none typed in.

Reads benchmark.json (the parts `scaling`, `growth-records`, `stages` and, where there was a GPU, `gpu`), and measures
what a store's files and bytes grow by, with one mask of a small image in each.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wilss_masks import generate

from .common import options, row
from .standin import SleepingSource, linked_manifest

COUNTS = (10**6, 10**9)
SHARD = 128  # as on GPUs
ASSUMED_GPU = 100.0  # images/s of one, where none was measured: that of the part `scaling`
MEMORY, DAY = 64e9, 86400.0  # a coordinator's memory in bytes; seconds
GPUS = 64


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What the arithmetic rests on.

    gpu: images/s of one GPU. core: images/s of one CPU core with ViT-B/16. commit: coordinator's processor seconds a
    shard. listed: seconds an image of lists and plan, which nobody shares. memory: coordinator's bytes an image.
    stored, inodes: bytes an image, and files and folders a shard, in the store.
    """

    gpu: float
    gpu_measured: bool
    core: float
    commit: float
    listed: float
    memory: float
    stored: float
    inodes: float


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What so many images cost. walls: hours of the coordinator's processor, for lists and for commits."""

    images: int
    gpu_hours: float
    core_hours: float
    nbytes: float
    inodes: float
    list_hours: float
    commit_hours: float
    memory: float


def cost(images: int, figures: Measured, shard: int = SHARD) -> Cost:
    """The formulas, one a line."""
    shards = images / shard
    return Cost(
        images=images,
        gpu_hours=images / figures.gpu / 3600,
        core_hours=images / figures.core / 3600,
        nbytes=images * figures.stored,
        inodes=shards * figures.inodes,
        list_hours=images * figures.listed / 3600,
        commit_hours=shards * figures.commit / 3600,
        memory=images * figures.memory,
    )


def walls(figures: Measured, shard: int = SHARD) -> dict[str, float]:
    """How far one store and one coordinator reach, by what stops them; in images, or in GPUs at once."""
    return {
        "images until the coordinator's lists fill 64 GB": MEMORY / figures.memory,
        "images until reading lists takes a day": DAY / figures.listed,
        "GPUs until commits fill the coordinator's core": shard / figures.commit / figures.gpu,
        f"images in a day on {GPUS} GPUs": GPUS * figures.gpu * DAY,
    }


def measure(scratch: Path, quick: bool, results: Path) -> list[dict[str, Any]]:
    """The table; a part that was not measured yet is asked for by name."""
    rows = json.loads(results.read_text(encoding="utf-8"))["rows"] if results.exists() else []
    figures = figures_of(rows, *store_growth(scratch, *((64, 128) if quick else (1024, 4096))))
    said = "measured" if figures.gpu_measured else "assumed, no GPU was at hand"
    return [
        row(f"one GPU, images/s ({said})", f"{figures.gpu:.0f}", ""),
        *(row(f"{count:.0e} images", _told(cost(count, figures)), "", plan=vars(cost(count, figures)),
              figures=vars(figures)) for count in COUNTS),
        *(row(what, f"{far:.2g}", "", wall=far) for what, far in walls(figures).items()),
    ]  # fmt: skip


def figures_of(rows: Sequence[Mapping[str, Any]], stored: float, inodes: float) -> Measured:
    """The figures out of benchmark.json's rows."""
    gpu = _median(rows, "gpu", "end to end, images/s")
    return Measured(
        gpu=gpu or ASSUMED_GPU,
        gpu_measured=gpu is not None,
        core=1000 / _needed(rows, "stages", "Masks, ViT-B/16 at 224: end to end, one lane, ms/image"),
        commit=_needed(rows, "scaling", "devices of 100 images/s, shards of 128: 8 workers, coordinator, ms a shard")
        / 1000,
        listed=_needed(rows, "growth-records", "of it lists and plan, ms for every further image") / 1000,
        memory=_needed(rows, "growth-records", "peak memory, bytes for every further image"),
        stored=stored,
        inodes=inodes,
    )


def store_growth(scratch: Path, fewer: int, more: int) -> tuple[float, float]:
    """Bytes an image and files and folders a shard that a longer store has more."""
    found = []
    for count in (fewer, more):
        store = scratch / f"plan-{count}.zarr"
        generate(
            linked_manifest(scratch, count),
            step=0,
            source=SleepingSource(),
            out=store,
            options=options(shard_size=min(SHARD, fewer // 2)),
        )
        paths = list(store.rglob("*"))
        found.append((sum(path.stat().st_size for path in paths if path.is_file()), len(paths)))
    images = more - fewer
    shards = images / min(SHARD, fewer // 2)
    return (found[1][0] - found[0][0]) / images, (found[1][1] - found[0][1]) / shards


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table for the README, with the formulas beside it."""
    plans = [one["plan"] for one in rows if "plan" in one]
    (used,) = {json.dumps(one["figures"]) for one in rows if "figures" in one}
    figures = Measured(**json.loads(used))
    heads = " | ".join(f"{plan['images']:,} images" for plan in plans)
    lines = [f"| | {heads} | from |", f"|---|{'---:|' * len(plans)}---|"]
    for name, key, scale, unit, formula in _LINES:
        values = " | ".join(f"{_short(plan[key] / scale)} {unit}" for plan in plans)
        lines.append(f"| {name} | {values} | {formula.format(**vars(figures), shard=SHARD)} |")
    said = "measured" if figures.gpu_measured else "assumed: no GPU was at hand"
    reach = "\n".join(f"| {one['what']} | {_short(one['wall'])} |" for one in rows if "wall" in one)
    return "\n".join(lines) + (
        f"\n\nOne GPU: {figures.gpu:.0f} images/s ({said}).\n\n| how far one store and one coordinator reach | |\n"
        f"|---|---:|\n{reach}"
    )


_LINES = (
    ("GPU hours", "gpu_hours", 1.0, "h", "N / {gpu:.0f} per s"),
    ("CPU core hours, ViT-B/16", "core_hours", 1.0, "h", "N / {core:.2g} per s"),
    ("store", "nbytes", 1e9, "GB", "N x {stored:.0f} bytes (small images, one mask each)"),
    ("files and folders", "inodes", 1e3, "thousand", "N / {shard} x {inodes:.1f}"),
    ("coordinator: lists and plan", "list_hours", 1.0, "h", "N x {listed:.1e} s, one core"),
    ("coordinator: tasks and commits", "commit_hours", 1.0, "h", "N / {shard} x {commit:.1e} s, one core"),
    ("coordinator: memory", "memory", 1e9, "GB", "N x {memory:.0f} bytes"),
)


def _short(value: float) -> str:
    """Three digits, without an exponent where the number is large."""
    return f"{value:.3g}" if value < 1000 else f"{float(f'{value:.3g}'):,.0f}"


def _told(found: Cost) -> str:
    return (
        f"{found.gpu_hours:.3g} GPU hours, {found.nbytes / 1e9:.3g} GB in {found.inodes:.2g} files and folders, "
        f"coordinator {found.list_hours:.2g} + {found.commit_hours:.2g} h and {found.memory / 1e9:.2g} GB"
    )


def _median(rows: Sequence[Mapping[str, Any]], part: str, ending: str) -> float | None:
    found = [one["values"]["median"] for one in rows if one["part"] == part and one["what"].endswith(ending)]
    return float(found[0]) if found else None


def _needed(rows: Sequence[Mapping[str, Any]], part: str, ending: str) -> float:
    found = _median(rows, part, ending)
    if found is None:
        raise SystemExit(f"benchmark.json has no row {ending!r}; run `run.py --only {part}` first.")
    return found
