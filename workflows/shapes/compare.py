"""The table of methods: fine-tune, distill, WILSON, FMWISS and its ablations, joint training, and MiB and PLOP.

    python workflows/shapes/compare.py rows          # what is still to be trained, one line each
    python workflows/shapes/compare.py run           # train it; can be stopped, and goes on row by row
    python workflows/shapes/compare.py table         # read the reports and print the table
    python workflows/shapes/compare.py softmax       # MiB and PLOP from a base whose outputs are one softmax
    python workflows/shapes/compare.py tune          # settings of the step, judged on drawings that no table rests on

Every row of a seed starts from the same base checkpoint and takes the same number of optimiser steps; joint training
takes those of base and step together, since it begins at the beginning.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click
from runs import (
    HERE,
    RESULTS,
    ROOT,
    SEEDS,
    Cell,
    Job,
    Row,
    base,
    command,
    job,
    keep_figures,
    make_masks,
    row,
    scores_of,
    spread,
    train_all,
    write_manifest,
)

ROWS = (
    Row("finetune", "fine-tune", ("--method", "finetune")),
    Row("distill", "distill", ("--method", "distill")),
    Row("wilson", "WILSON, from tags alone", ("--method", "wilson")),
    Row("no-contrastive", "FMWISS without contrastive loss", ("--set", "contrastive=0")),
    Row("no-paste", "FMWISS without copy-paste", ("--set", "paste_probability=0")),
    Row("no-teacher", "FMWISS without teacher", ("--set", "teacher=false")),
    Row("init", "FMWISS whole, from M_init masks", (), "step-1-init.zarr"),
    Row("fmwiss", "FMWISS whole, from fused masks"),
    Row("distill-pixels", "distill, from pixel labels", ("--method", "distill"), "step-1-pixels.zarr"),
    Row("mib", "MiB, from pixel labels", ("--method", "mib"), "step-1-pixels.zarr"),
    # the base is one of sigmoids, whose logits are far below 0 for what is not there: their sum says nothing
    Row("plop", "PLOP, from pixel labels", ("--method", "plop", "--set", "pod_logits=0"), "step-1-pixels.zarr"),
)

#: From pixel labels, all of it with outputs that are one softmax.
SOFTMAX = (
    Row("softmax-mib", "MiB", ("--method", "mib"), "step-1-pixels.zarr", base="mib"),
    Row("softmax-plop", "PLOP", ("--method", "plop"), "step-1-pixels.zarr", base="mib"),
)
#: What the manifest's `weak` section was chosen from; the first is what stands there.
SETTINGS = (
    Row("shipped", "as shipped"),
    Row("lr-half", "learning rate 0.01", ("--lr", "0.01")),
    Row("lr-twice", "learning rate 0.04", ("--lr", "0.04")),
    Row("rows", "new rows from the background's", ("--set", "new_rows=background")),
    Row("norm", "batch norm frozen", ("--set", "batch_norm=frozen")),
    Row("warmup", "rates that stand still in the teacher's warm-up", ("--set", "warmup_rate=constant")),
)
_ENDS = {"old": "_old", "new": "_new", "all": ""}
TUNING_DATA = "generate: {with: shapes, train: 8, val: 150, seed: 2000}"


def joint(seed: int, epochs: int) -> Job:
    """The upper bound of a seed."""
    manifest = ("--manifest", str(HERE / "joint.yaml"))
    return job(RESULTS / f"joint-{seed}", seed, "joint.zarr", (*manifest, "--epochs", str(epochs)))


@click.group()
def main() -> None:
    """Train and tabulate."""


@main.command()
def rows() -> None:
    """What is still to be trained."""
    for one in _jobs():
        if not one.is_done:
            print("wilss-train", *one.words)


@main.command()
@click.option("--at-once", default=len(os.sched_getaffinity(0)), show_default="cores", help="Runs at a time.")
def run(at_once: int) -> None:
    """Masks, bases, then all rows, each on one thread."""
    _make_stores()
    train_all([base(seed) for seed in SEEDS], at_once)
    train_all(_jobs(), at_once)


@main.command()
def table() -> None:
    """Old, new and all mIoU of every row, into figures/learning.json."""
    keys = ["base", *(one.key for one in ROWS), "joint"]
    runs = {key: [RESULTS / f"{key}-{seed}" for seed in SEEDS] for key in keys}
    cells = {key: _by_step(folders) for key, folders in runs.items()}
    keep_figures("learning", cells, trained=[out for folders in runs.values() for out in folders])


@main.command()
@click.option("--at-once", default=len(os.sched_getaffinity(0)), show_default="cores", help="Runs at a time.")
def softmax(at_once: int) -> None:
    """Train a base by MiB and the methods that can start from it, into figures/learning-softmax.json."""
    _make_stores()
    bases = [base(seed, "mib") for seed in SEEDS]
    train_all(bases, at_once)
    train_all([row(one, seed) for seed in SEEDS for one in SOFTMAX], at_once)
    runs = {"base-mib": [one.out for one in bases]}
    runs |= {one.key: [row(one, seed).out for seed in SEEDS] for one in SOFTMAX}
    cells = {key: _by_step(folders) for key, folders in runs.items()}
    keep_figures("learning-softmax", cells, trained=[out for folders in runs.values() for out in folders])


@main.command()
@click.option("--at-once", default=len(os.sched_getaffinity(0)), show_default="cores", help="Runs at a time.")
def tune(at_once: int) -> None:
    """Train every setting with seed 0, and judge it on drawings of seed 2000, into figures/settings.json."""
    manifest = _tuning_manifest()
    jobs = [row(replace(one, key=f"tune-{one.key}"), 0) for one in SETTINGS]
    train_all(jobs, at_once)
    cells = {}
    for one, made in zip(SETTINGS, jobs, strict=True):
        scores = made.out / "tuning.json"
        command("wilss-eval", made.out, "-q", "--manifest", manifest, "--json", scores)
        told = json.loads(scores.read_text(encoding="utf-8"))
        cells[one.key] = {name: spread([told[f"mean_iou{end}"]]) for name, end in _ENDS.items()}
    keep_figures("settings", cells, seeds=1, trained=[base(0).out, *(made.out for made in jobs)])


def _tuning_manifest() -> Path:
    """The built-in manifest with other drawings to be judged on."""
    path = RESULTS / "tuning.yaml"
    write_manifest(path, {"generate:": TUNING_DATA, "path:": f"path: {ROOT / 'data/shapes-tuning-15-5'}"})
    return path


def _jobs() -> Iterator[Job]:
    yield from (base(seed) for seed in SEEDS)
    for seed in SEEDS:
        yield from (row(one, seed) for one in reversed(ROWS))
        yield joint(seed, _joint_epochs())


def _joint_epochs() -> int:
    """So many epochs that joint training takes the optimiser steps of base and step 1 together."""
    steps = {name: _steps(name) for name in ("step-0.zarr", "step-1.zarr")}
    epochs = {"step-0.zarr": _setting("base"), "step-1.zarr": _setting("weak")}
    wanted = sum(steps[name] * epochs[name] for name in steps)
    return round(wanted / _steps("joint.zarr"))


def _steps(store: str) -> int:
    """Optimiser steps of an epoch over a store."""
    from wilss.store import MaskStore, Status

    found = MaskStore.open(RESULTS / "masks" / store).vector("status")
    return max(1, int((found == Status.DONE).sum()) // _batch())


def _batch() -> int:
    return int(_manifest()["batch_size"])


def _setting(section: str) -> int:
    return int(_manifest()[section]["epochs"])


def _manifest() -> dict:  # type: ignore[type-arg]
    from wilss.data.manifest import load_manifest

    return dict(load_manifest(ROOT / "data_manifest.yaml").train)


def _make_stores() -> None:
    make_masks()
    masks = RESULTS / "masks"
    if not (masks / "step-1-init.zarr").exists():
        # M_init by itself at the cut that is best for it (workflows/shapes/README.md), as the paper would take it
        alone = ("fusion=init", "threshold=0.4", "classes=overlap", "boundaries=none")
        init = [word for value in alone for word in ("--set", value)]
        command("wilss-masks", "fuse", masks / "step-1.zarr", "--out", masks / "step-1-init.zarr", *init)
    pixels = ("--source", "annotation", "--out", masks / "step-1-pixels.zarr")
    command("wilss-masks", "generate", "--step", "1", *pixels)
    manifest = ("--manifest", HERE / "joint.yaml")
    command("wilss-masks", "generate", "--step", "0", "--out", masks / "joint.zarr", *manifest)


def _by_step(folders: list[Path]) -> dict[str, Cell]:
    """Old, new and all mIoU of the runs in these folders."""
    scores = scores_of(folders)
    return {name: spread(scores[name]) for name in _ENDS}


if __name__ == "__main__":
    main()
