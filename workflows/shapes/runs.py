"""What the tables of this folder share: training runs that are done once, and the figures in their reports."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent))
import tables  # noqa: E402
from versions import note_version  # noqa: E402

#: A figure of a table, see `tables.shown`.
Cell = float | str | dict[str, Any] | None
RESULTS = HERE / "results"
#: What a row without figures has.
_NAMING = ("key", "name", "bold")
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Row:
    """One line of the table: its title, the words for wilss-train, the store of its masks, and its base's method."""

    key: str
    title: str
    words: tuple[str, ...] = ()
    masks: str = "step-1.zarr"
    base: str = ""


@dataclass(frozen=True)
class Job:
    """A training run: its folder, the words for wilss-train, and commands that have to be run before it."""

    out: Path
    words: tuple[str, ...]
    before: tuple[tuple[object, ...], ...] = ()

    @property
    def is_done(self) -> bool:
        """Whether its report is there."""
        return (self.out / "done.json").exists()


def make_masks() -> None:
    """The walk's stores, where they are not there yet: labels of step 0, FMWISS's masks of step 1 with their scores."""
    masks = RESULTS / "masks"
    command("wilss-masks", "generate", "--step", "0", "--out", masks / "step-0.zarr")
    command("wilss-masks", "generate", "--step", "1", "--out", masks / "step-1.zarr", "--keep", "scores")


def write_manifest(path: Path, changed: Mapping[str, str]) -> None:
    """The built-in manifest with other lines. changed: the whole line, by its first word, as in `path:`."""
    lines = (ROOT / "data_manifest.yaml").read_text(encoding="utf-8").splitlines()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(changed.get(line.split(" ")[0], line) for line in lines) + "\n", encoding="utf-8")


def base(seed: int, method: str = "") -> Job:
    """Step 0 of a seed, by the default method or another."""
    out, words = (f"base-{method}-{seed}", ("--method", method)) if method else (f"base-{seed}", ())
    return job(RESULTS / out, seed, "step-0.zarr", words)


def row(one: Row, seed: int) -> Job:
    """A row of a seed, from that seed's base."""
    parent = ("--from", str(base(seed, one.base).out))
    return job(RESULTS / f"{one.key}-{seed}", seed, one.masks, (*parent, *one.words))


def job(out: Path, seed: int, masks: str, words: Sequence[str]) -> Job:
    given = ("--masks", str(RESULTS / "masks" / masks), "--seed", str(seed), "--out", str(out), "--resume")
    return Job(out, (*given, "--threads", "1", *words))


def train_all(jobs: Iterable[Job], at_once: int) -> None:
    """Train what is not done, each on one thread; a run that fails says why, and the others go on."""
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(_train, [one for one in jobs if not one.is_done]))


def _train(one: Job) -> None:
    started = time.perf_counter()
    note_version(one.out)
    try:
        for words in one.before:
            command(*words)
        command("wilss-train", "-q", *one.words)
    except subprocess.CalledProcessError:  # it has said why; the other rows go on
        return
    print(f"{one.out.name}: {time.perf_counter() - started:.0f} s", flush=True)


def command(name: object, *words: object) -> None:
    """Run one of the package's commands on one thread."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([Path(sys.executable).with_name(str(name)), *map(str, words)], cwd=ROOT, env=environment, check=True)


def scores_of(folders: Sequence[Path]) -> dict[str, list[float | None]]:
    """Old, new and all mIoU of every seed, how long training took, and how many optimiser steps."""
    found: dict[str, list[float | None]] = {"old": [], "new": [], "all": [], "seconds": [], "steps": []}
    for folder in folders:
        if not (folder / "report.json").exists():
            continue
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        old, new = _by_step(report)
        found["old"].append(old)
        found["new"].append(new)
        found["all"].append(report["scores"]["mean_iou"])
        for name in ("seconds", "steps"):
            found[name].append(report["training"][name])
    return found


def _by_step(report: dict) -> tuple[float | None, float | None]:  # type: ignore[type-arg]
    """Mean IoU of the 15 base classes and of the 5 new ones, whichever step brought them."""
    from wilss.data.manifest import load_manifest

    manifest = load_manifest(ROOT / "data_manifest.yaml")
    iou = report["scores"]["iou"]
    means = []
    for step in (0, 1):
        known = [iou[name] for i in manifest.protocol.new(step) if (name := manifest.taxonomy.name_of(i)) in iou]
        means.append(float(np.mean(known)) if known else None)
    return means[0], means[1]


def spread(values: Sequence[float | None]) -> Cell:
    """A figure in percent over seeds, as a table's cell; None where there is none."""
    known = [round(100 * value, 4) for value in values if value is not None]
    if len(known) < 2:
        return known[0] if known else None
    return {"mean": float(np.mean(known)), "sd": float(np.std(known, ddof=1)), "values": known}


def excess_of_background(scores: Mapping[str, Any]) -> float:
    """The share of pixels that a network gives to the background, less the share that the labels give to it.

    scores: of `wilss-eval`, with a row of `pixels` for what is labelled and a column for what is found.
    """
    pixels = np.array(scores["confusion"]["pixels"], np.float64)
    return float((pixels[:, 0].sum() - pixels[0].sum()) / pixels.sum())


def seconds(values: Sequence[float | None]) -> Cell:
    """From the least to the most."""
    known = [value for value in values if value is not None]
    return {"low": min(known), "high": max(known)} if known else None


def keep_figures(
    name: str,
    cells: Mapping[str, Mapping[str, Cell]],
    seeds: int = len(SEEDS),
    emptied: Collection[str] = (),
    trained: Collection[Path] = (),
) -> None:
    """Put measured cells, by row and column, into figures/NAME.json, and print the table.

    Nothing is written as long as rows are missing: figures of two measurements would stand side by side. emptied: rows
    that lose their figures instead, and are in no table until they are measured again. trained: the runs that the
    figures rest on, whose versions the table names; without them they are this version's.
    """
    path = HERE / "figures" / f"{name}.json"
    figures = json.loads(path.read_text(encoding="utf-8"))
    known, measured = {row["key"] for row in figures["rows"]}, {key for key, row in cells.items() if any(row.values())}
    figures["rows"] = [
        {**row, **cells[row["key"]]} if row["key"] in measured else {part: row[part] for part in _NAMING if part in row}
        for row in figures["rows"]
        if row["key"] in {*measured, *emptied}
    ]
    command = figures["measured"]["command"]
    figures["measured"] = (
        tables.measured_by(command, trained, seeds=seeds) if trained else tables.measured_now(command, seeds=seeds)
    )
    print(tables.table_of(figures))
    if missing := sorted((known - set(emptied)) ^ measured):
        print(f"{path.name} stays as it is: there is nothing yet for {', '.join(missing)}", file=sys.stderr)
    else:
        path.write_text(tables.as_text(figures), encoding="utf-8")
        print(f"{path.name} written; `make tables` puts it into the pages", file=sys.stderr)
