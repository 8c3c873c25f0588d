"""The table of speed: the rows of figures.json that a reader wants first, in words of their own."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

_BUILT_IN, _LARGE = "built-in encoders", "ViT-B/16 at 224"
_SCALING = "devices of 100 images/s, shards of"

#: Row by row: what a page calls it, and its part and name in figures.json.
LINES = (
    ("masks: end to end over the two bare forward passes, built-in encoders", "forward",
     f"{_BUILT_IN}: end to end / two bare forward passes, images/s"),
    ("masks: pipeline over a research script, built-in encoders", "scripts",
     f"{_BUILT_IN}: pipeline over a research script, images/s"),
    ("masks: pipeline over a research script, ViT-B/16 at 224", "scripts",
     f"{_LARGE}: pipeline over a research script, images/s"),
    ("masks in bf16: pipeline over a research script in fp32, built-in encoders", "scripts",
     f"{_BUILT_IN}: pipeline in bf16 over a research script, images/s"),
    ("the same, ViT-B/16 at 224", "scripts", f"{_LARGE}: pipeline in bf16 over a research script, images/s"),
    ("masks in bf16 over fp32, by the processor's time, built-in encoders", "precision",
     f"{_BUILT_IN}: bf16 over fp32, images a second of the processor"),
    ("the same, ViT-B/16 at 224", "precision", f"{_LARGE}: bf16 over fp32, images a second of the processor"),
    ("pixels on which these masks agree, built-in encoders, %", "precision",
     f"{_BUILT_IN}: masks by bf16 and by fp32, % of pixels that agree"),
    ("the same, ViT-B/16 at 224, untrained weights, %", "precision",
     f"{_LARGE}: masks by bf16 and by fp32, % of pixels that agree"),
    ("processor time per image beside decode, resize and forwards, ms", "stages",
     f"Masks, {_BUILT_IN}: processor time beside decode, resize and forwards, ms/image"),
    ("of it the method's own arithmetic (attention, fusion), which a GPU would do", "stages",
     f"Masks, {_BUILT_IN}: of it what a GPU would do where there is one, ms/image"),
    ("images against processor time, 1,000 to 64,000 images, without networks: exponent", "growth-records",
     "without networks, 1000 to 64000 images: exponent of the processor time"),
    ("the same by the clock", "growth-records", "without networks, 1000 to 64000 images: exponent of the time"),
    ("peak memory for every further image, 1,000 to 16,000 images, bytes", "growth-records",
     "without networks, 1000 to 16000 images: peak memory, bytes for every further image"),
    ("peak memory for every further image, 1,000 to 64,000 images, bytes", "growth-records",
     "without networks, 1000 to 64000 images: peak memory, bytes for every further image"),
    ("relabelling from features over an image pass of 0.2.0, ViT-B/16 at 224", "features",
     f"{_LARGE}: relabelling from features over an image pass of another build, images/s"),
    ("the same by the settings of today, image pass of this build", "features",
     f"{_LARGE}, settings of today: relabelling from features over an image pass, images/s"),
    ("pixels of masks that are the same then, untrained weights, %", "features",
     f"{_LARGE}, settings of today: relabelling, pixels of masks that are the same, %"),
    ("relabelling from features over an image pass of 0.2.0, built-in encoders", "features",
     f"{_BUILT_IN}: relabelling from features over an image pass of another build, images/s"),
    ("the same by the settings of today, image pass of this build, built-in encoders", "features",
     f"{_BUILT_IN}, settings of today: relabelling from features over an image pass, images/s"),
    ("pixels of masks that are the same then, built-in encoders, %", "features",
     f"{_BUILT_IN}, settings of today: relabelling, pixels of masks that are the same, %"),
    ("random read of one image's mask, ms", "read", "random read of one image's mask, store, ms"),
    ("the same from a PNG", "read", "random read of one image's mask, png, ms"),
    ("the same from an npz", "read", "random read of one image's mask, npz, ms"),
    ("`wilss-masks --help`, s", "start", "wilss-masks --help, s"),
    ("a second run that finds 10,000 images done, s", "start", "warm second run of 10000 images, s"),
    ("`open_masks` of a store of 10,000 images, s", "start", "open_masks, 10000 images, s"),
    ("the same over `xarray.open_zarr`, which has no label map", "start",
     "open_masks / xarray.open_zarr, 10000 images"),
    ("100 images added to 4,016 in shards of 32: images made", "update",
     "100 images added to 4016, shards of 32: images made"),
    ("8 workers over one, each with a device of 100 images/s that sleeps", "scaling",
     f"{_SCALING} 32: 8 workers over one"),
    ("their scheduler, % of a core, shards of 32 images", "scaling",
     f"{_SCALING} 32: 8 workers, of it the scheduler, % of a core"),
    ("their scheduler, % of a core, shards of 128 images", "scaling",
     f"{_SCALING} 128: 8 workers, of it the scheduler, % of a core"),
    ("training over a bare loop on batches in memory, built-in network", "training",
     "trainer / bare loop on batches in memory, images/s"),
    ("waiting for the loader, % of training, first epoch not cached", "training",
     "waiting for the loader, % of the time, first epoch not cached"),
    ("saving a state, s", "training", "saving a state, s"),
    ("saving a state every ten minutes, % of the time", "training", "saving a state every ten minutes, % of the time"),
    ("two processes with gloo over one, the same cores", "processes", "two processes / one, the same cores, images/s"),
    ("evaluation over bare forward passes, images of many sizes", "evaluation",
     "evaluation / bare forward passes, images/s, whole images of many sizes"),
    ("evaluation over bare forward passes, 512 x 512", "evaluation",
     "evaluation / bare forward passes, images/s, 512 x 512"),
    ("PseudoSeg's training over its bare passes", "pseudoseg",
     "pseudoseg / bare forward and backward passes, images/s"),
    ("1-shot episodes, judged, over a bare loop on cached features", "episodes", "judging 1-shot episodes"),
    ("1-shot episodes, trained on, over a bare loop on cached features", "episodes", "training on 1-shot episodes"),
    ("seeds' rows of DINOv3-S at 512 over DINO-S, per GFLOP", "encoders",
     "seeds' rows at 512, DINOv3-S over DINO-S, GFLOP/s"),
    ("one model for both jobs over two of its size, EVA02-B-16 at 224", "encoders",
     "EVA02-B-16, one model for both jobs over two of its size, images/s"),
    ("memory that a 2048 x 2048 input takes beside DINOv3-S, MiB", "encoders",
     "peak memory for an input of 2048 x 2048, DINOv3-S, MiB beside the network"),
    ("on a GPU: end to end over both bare forward passes, ViT-B/16 at 448", "gpu",
     "end to end / both bare forwards, images/s"),
    ("on a GPU: pixels on which masks by bf16 and by fp32 agree, %", "gpu",
     "masks by bf16 and by fp32, % of pixels that agree"),
    ("on a GPU: both forward passes, `torch.compile` over plain", "gpu",
     "both forwards: torch.compile over plain, images/s"),
    ("on a GPU: training over a bare loop on batches in memory", "gpu",
     "trainer / bare loop on batches in memory, images/s"),
)  # fmt: skip
#: The same work by this build over an older one, see `builds`.
BUILDS = (
    ("`generate`, built-in encoders, images/s", "builds",
     f"generate, {_BUILT_IN}: images/s, this build over the other"),
    ("the same by the processor's time", "builds",
     f"generate, {_BUILT_IN}: images a second of the processor, this build over the other"),
    ("pixels of these masks on which both builds agree, %", "builds",
     f"generate, {_BUILT_IN}: pixels of masks on which the builds agree, %"),
    ("`generate`, ViT-B/16 at 224, images/s", "builds", f"generate, {_LARGE}: images/s, this build over the other"),
    ("the same by the processor's time", "builds",
     f"generate, {_LARGE}: images a second of the processor, this build over the other"),
    ("pixels of these masks on which both builds agree, untrained weights, %", "builds",
     f"generate, {_LARGE}: pixels of masks on which the builds agree, %"),
    ("`generate`, built-in encoders, this build in bf16, images/s", "builds",
     f"generate, {_BUILT_IN}, in bf16: images/s, this build over the other"),
    ("the same by the processor's time", "builds",
     f"generate, {_BUILT_IN}, in bf16: images a second of the processor, this build over the other"),
    ("pixels of these masks on which both builds agree, %", "builds",
     f"generate, {_BUILT_IN}, in bf16: pixels of masks on which the builds agree, %"),
    ("`generate`, ViT-B/16 at 224, this build in bf16, images/s", "builds",
     f"generate, {_LARGE}, in bf16: images/s, this build over the other"),
    ("the same by the processor's time", "builds",
     f"generate, {_LARGE}, in bf16: images a second of the processor, this build over the other"),
    ("pixels of these masks on which both builds agree, untrained weights, %", "builds",
     f"generate, {_LARGE}, in bf16: pixels of masks on which the builds agree, %"),
    ("training, the demo's step 1, images/s", "builds-training",
     "training, the demo's step 1: images/s, this build over the other"),
    ("the same by the processor's time", "builds-training",
     "training, the demo's step 1: images a second of the processor, this build over the other"),
    ("training, the demo's step 1, both builds in bf16, images/s", "builds-training",
     "training, the demo's step 1, both in bf16: images/s, this build over the other"),
    ("the same by the processor's time", "builds-training",
     "training, the demo's step 1, both in bf16: images a second of the processor, this build over the other"),
    ("`make demo` after the set-up, wall time", "builds-demo",
     "make demo after the set-up: wall time, this build over the other"),
    ("ViT-B/16 at 224 over a research script, of its own each", "builds-own",
     f"scripts: {_LARGE}: pipeline over a research script, images/s, this build over the other"),
    ("training over a bare loop, of its own each", "builds-own",
     "training: trainer / bare loop on batches in memory, images/s, this build over the other"),
    ("scheduler's share of a core, 8 workers, shards of 32 images", "builds-own",
     f"scaling: {_SCALING} 32: 8 workers, of it the scheduler, % of a core, this build over the other"),
    ("memory of every further image, 1,000 to 16,000", "builds-own",
     "growth-records: without networks, 1000 to 16000 images: peak memory, bytes for every further image, this build "
     "over the other"),
)  # fmt: skip


def markdown(rows: Sequence[Mapping[str, Any]], measured: Mapping[str, Any]) -> str:
    """What of `LINES` was measured; a star stands behind what another version gave."""
    return "\n".join([*_table(LINES, rows, measured), *_cards(rows)])


def builds_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The same of `BUILDS`, beside which commit and by which version: the rows' own, since they are measured apart.

    "" where nothing of it was measured. A star stands behind what another version gave than most rows; all are named.
    """
    shown = {(part, what) for _, part, what in BUILDS}
    rows = [row for row in rows if "beside" in row and (row["part"], row["what"]) in shown]
    if not rows:
        return ""
    others = ", ".join(sorted({row["beside"] for row in rows}))
    most, *fewer = sorted(counts := Counter(row["version"] for row in rows), key=lambda name: (-counts[name], name))
    stars = f"; a star: by {', '.join(fewer)}" if fewer else ""
    told = f"\nBeside {others}, by wilss {most}{stars}; at 1 both are as fast."
    return "\n".join([*_table(BUILDS, rows, {"version": most}), told])


def _table(
    lines: Sequence[tuple[str, str, str]], rows: Sequence[Mapping[str, Any]], measured: Mapping[str, Any]
) -> list[str]:
    found = {(row["part"], row["what"]): row for row in rows}
    table = ["| | measured | target |", "|---|---|---|"]
    for title, part, what in lines:
        if (row := found.get((part, what))) is not None:
            star = " *" if row.get("version", measured["version"]) != measured["version"] else ""
            table.append(f"| {title}{star} | {row['figure']} | {row['asked']} |".replace("|  |", "| |"))
    return table


def _cards(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """On which GPUs, where there were any."""
    cards = sorted({row["card"] for row in rows if row.get("card")})
    return [f"\nOn a GPU: {'; '.join(cards)}."] if cards else []
