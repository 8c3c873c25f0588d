"""The table of methods: fine-tune, distill, FMWISS and its ablations, joint training; three seeds, mean and spread.

    python workflows/shapes/compare.py rows          # what is still to be trained, one line each
    python workflows/shapes/compare.py run           # train it; can be stopped, and goes on row by row
    python workflows/shapes/compare.py table         # read the reports and print the table
    python workflows/shapes/compare.py tune          # settings of the step, judged on drawings that no table rests on

Every row of a seed starts from the same base checkpoint and takes the same number of optimiser steps; joint training
takes those of base and step together, since it begins at the beginning.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RESULTS = HERE / "results"
SEEDS = (0, 1, 2)
JOINT = "joint training, pixel labels of all 20 classes"


@dataclass(frozen=True)
class Row:
    """One line of the table: its title, the words for wilss-train, and the store of its masks."""

    key: str
    title: str
    words: tuple[str, ...] = ()
    masks: str = "step-1.zarr"


ROWS = (
    Row("finetune", "fine-tune", ("--method", "finetune")),
    Row("distill", "distill", ("--method", "distill")),
    Row("no-contrastive", "FMWISS without contrastive loss", ("--set", "contrastive=0")),
    Row("no-paste", "FMWISS without copy-paste", ("--set", "paste_probability=0")),
    Row("no-teacher", "FMWISS without teacher", ("--set", "teacher=false")),
    Row("init", "FMWISS whole, from M_init masks", (), "step-1-init.zarr"),
    Row("fmwiss", "FMWISS whole, from fused masks"),
)

#: What the manifest's `weak` section was chosen from; the first is what stands there.
SETTINGS = (
    Row("shipped", "as shipped"),
    Row("lr-half", "learning rate 0.01", ("--lr", "0.01")),
    Row("lr-twice", "learning rate 0.04", ("--lr", "0.04")),
    Row("rows", "new rows from the background's", ("--set", "new_rows=background")),
    Row("norm", "batch norm frozen", ("--set", "batch_norm=frozen")),
)
TUNING_DATA = "generate: {with: shapes, train: 8, val: 150, seed: 2000}"


@dataclass(frozen=True)
class Job:
    """A training run: its folder, its words, and the run that has to be there before it."""

    out: Path
    words: tuple[str, ...]

    @property
    def is_done(self) -> bool:
        """Whether its report is there."""
        return (self.out / "done.json").exists()


def base(seed: int) -> Job:
    """Step 0 of a seed."""
    return _job(RESULTS / f"base-{seed}", seed, "step-0.zarr", ())


def row(one: Row, seed: int) -> Job:
    """A row of a seed, from that seed's base."""
    parent = ("--from", str(RESULTS / f"base-{seed}"))
    return _job(RESULTS / f"{one.key}-{seed}", seed, one.masks, (*parent, *one.words))


def joint(seed: int, epochs: int) -> Job:
    """The upper bound of a seed."""
    manifest = ("--manifest", str(HERE / "joint.yaml"))
    return _job(RESULTS / f"joint-{seed}", seed, "joint.zarr", (*manifest, "--epochs", str(epochs)))


def _job(out: Path, seed: int, masks: str, words: Sequence[str]) -> Job:
    given = ("--masks", str(RESULTS / "masks" / masks), "--seed", str(seed), "--out", str(out), "--resume")
    return Job(out, (*given, "--threads", "1", *words))


@click.group()
def main() -> None:
    """Train and tabulate."""


@main.command()
def rows() -> None:
    """What is still to be trained."""
    for job in _jobs():
        if not job.is_done:
            print("wilss-train", *job.words)


@main.command()
@click.option("--at-once", default=len(os.sched_getaffinity(0)), show_default="cores", help="Runs at a time.")
def run(at_once: int) -> None:
    """Masks, bases, then all rows, each on one thread."""
    _make_masks()
    for stage in ([base(seed) for seed in SEEDS], [job for job in _jobs() if not job.out.name.startswith("base")]):
        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(_train, [job for job in stage if not job.is_done]))


@main.command()
def table() -> None:
    """The table in Markdown, and results/compare.json."""
    found = {title: _scores(keys) for title, keys in _keys()}
    (RESULTS / "compare.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print("| | old | new | all | seconds |\n|---|---|---|---|---|")
    for title, scores in found.items():
        cells = [_mean_and_spread(scores[name]) for name in ("old", "new", "all")]
        print(f"| {title} | {' | '.join(cells)} | {_range(scores['seconds'])} |")


@main.command()
@click.option("--at-once", default=len(os.sched_getaffinity(0)), show_default="cores", help="Runs at a time.")
def tune(at_once: int) -> None:
    """Train every setting with seed 0, judge it on drawings of seed 2000, and print old, new and all mIoU."""
    manifest = _tuning_manifest()
    jobs = [row(replace(one, key=f"tune-{one.key}"), 0) for one in SETTINGS]
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(_train, [job for job in jobs if not job.is_done]))
    print("| | old | new | all |\n|---|---|---|---|")
    for one, job in zip(SETTINGS, jobs, strict=True):
        found = job.out / "tuning.json"
        _command("wilss-eval", job.out, "-q", "--manifest", manifest, "--json", found)
        told = json.loads(found.read_text(encoding="utf-8"))
        cells = [f"{100 * told[name]:.1f}" for name in ("mean_iou_old", "mean_iou_new", "mean_iou")]
        print(f"| {one.title} | {' | '.join(cells)} |", flush=True)


def _tuning_manifest() -> Path:
    """The built-in manifest with other drawings to be judged on."""
    path = RESULTS / "tuning.yaml"
    lines = (ROOT / "data_manifest.yaml").read_text(encoding="utf-8").splitlines()
    changed = {"generate:": TUNING_DATA, "path:": f"path: {ROOT / 'data/shapes-tuning-15-5'}"}
    path.write_text("\n".join(changed.get(line.split(" ")[0], line) for line in lines) + "\n", encoding="utf-8")
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
    from wilss.manifest import load_manifest

    return dict(load_manifest(ROOT / "data_manifest.yaml").train)


def _make_masks() -> None:
    masks = RESULTS / "masks"
    _command("wilss-masks", "generate", "--step", "0", "--out", masks / "step-0.zarr")
    _command("wilss-masks", "generate", "--step", "1", "--out", masks / "step-1.zarr", "--keep", "scores")
    if not (masks / "step-1-init.zarr").exists():
        # M_init at the cut that is best for it (workflows/shapes/README.md), not at the one that is best for the union
        init = ("--set", "fusion=init", "--set", "threshold=0.4")
        _command("wilss-masks", "fuse", masks / "step-1.zarr", "--out", masks / "step-1-init.zarr", *init)
    manifest = ("--manifest", HERE / "joint.yaml")
    _command("wilss-masks", "generate", "--step", "0", "--out", masks / "joint.zarr", *manifest)


def _train(job: Job) -> None:
    started = time.perf_counter()
    try:
        _command("wilss-train", "-q", *job.words)
    except subprocess.CalledProcessError:  # it has said why; the other rows go on
        return
    print(f"{job.out.name}: {time.perf_counter() - started:.0f} s", flush=True)


def _command(name: str, *words: object) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([Path(sys.executable).with_name(name), *map(str, words)], cwd=ROOT, env=environment, check=True)


def _keys() -> Iterator[tuple[str, list[Path]]]:
    yield "base, before the step (15 classes)", [RESULTS / f"base-{seed}" for seed in SEEDS]
    for one in ROWS:
        yield one.title, [RESULTS / f"{one.key}-{seed}" for seed in SEEDS]
    yield JOINT, [RESULTS / f"joint-{seed}" for seed in SEEDS]


def _scores(folders: Sequence[Path]) -> dict[str, list[float | None]]:
    """Old, new and all mIoU of every seed, and how long training took."""
    found: dict[str, list[float | None]] = {"old": [], "new": [], "all": [], "seconds": []}
    for folder in folders:
        if not (folder / "report.json").exists():
            continue
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        old, new = _by_step(report)
        found["old"].append(old)
        found["new"].append(new)
        found["all"].append(report["scores"]["mean_iou"])
        found["seconds"].append(report["training"]["seconds"])
    return found


def _by_step(report: dict) -> tuple[float | None, float | None]:  # type: ignore[type-arg]
    """Mean IoU of the 15 base classes and of the 5 new ones, whichever step brought them."""
    from wilss.manifest import load_manifest

    manifest = load_manifest(ROOT / "data_manifest.yaml")
    iou = report["scores"]["iou"]
    means = []
    for step in (0, 1):
        known = [iou[name] for i in manifest.protocol.new(step) if (name := manifest.taxonomy.name_of(i)) in iou]
        means.append(float(np.mean(known)) if known else None)
    return means[0], means[1]


def _mean_and_spread(values: Sequence[float | None]) -> str:
    known = [100 * value for value in values if value is not None]
    if not known:
        return "-"
    spread = f" ± {np.std(known, ddof=1):.1f}" if len(known) > 1 else ""
    return f"{np.mean(known):.1f}{spread}"


def _range(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{min(known):.0f} to {max(known):.0f}" if known else "-"


if __name__ == "__main__":
    main()
