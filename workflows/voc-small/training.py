"""What the tables of training on photographs share: words for the commands, judging, and figures of what was judged."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from places import HERE, WEIGHTS, Place, tables
from runs import Cell, Job, command, excess_of_background, seconds, spread

SEEDS = 3
#: Of columns whose names do not say it all.
_HEADINGS = {"background": "too much background, % of pixels", "steps": "optimiser steps"}
seeds_option = click.option("--seeds", default=SEEDS, show_default=True, help="How many, from 0.")


def voc_group(name: str, protocols: Sequence[str], then: Callable[[Place], None] = lambda place: None) -> click.Group:
    """The commands of a script, given the Place. `--voc` lays out the manifests of `protocols`, and calls `then`."""
    help_of_weights = "ImageNet weights of tf_efficientnet_lite0: a file, `timm` or a package's."

    @click.group(name, help="Measure and tabulate.")
    @click.option("--voc", type=click.Path(path_type=Path, file_okay=False), help="VOC2012, with SegmentationClassAug.")
    @click.option("--weights", default=WEIGHTS, help=help_of_weights)
    @click.pass_context
    def group(context: click.Context, voc: Path | None, weights: str) -> None:
        context.obj = place = Place()
        if voc is not None:
            place.lay_out(voc.expanduser(), weights, tuple(protocols))
            then(place)

    return group


def require_laid_out(place: Place, *protocols: str) -> None:
    """UsageError unless `--voc` has been given here, or before, for manifests of these protocols."""
    if not all(place.manifest(one).exists() for one in protocols):
        raise click.UsageError("name VOC's folder first, before the command: --voc ~/data/VOC2012")


def words_of(place: Place, protocol: str, store: Path, key: str, seed: int) -> tuple[str, ...]:
    """What every run is given; each is judged by `judge`, and not at its end."""
    out = place.run(protocol, key, seed)
    given = ("--masks", str(store), "--manifest", str(place.manifest(protocol)), "--seed", str(seed))
    return (*given, "--out", str(out), "--resume", "--threads", "1", "--split", "none")


def generate(place: Place, protocol: str, step: int, store: Path, *words: object) -> tuple[object, ...]:
    """What is there already is left as it is."""
    given = ("--step", step, "--manifest", place.manifest(protocol), "--out", store)
    return ("wilss-masks", "generate", *given, "--device", "cpu", "-q", *words)


def judge(job: Job, split: str) -> None:
    """By whole pictures; once."""
    out = _judged(job.out, split)
    if job.is_done and not out.exists():
        manifest = job.words[job.words.index("--manifest") + 1]
        command("wilss-eval", job.out, "-q", "--manifest", manifest, "--split", split, "--json", out)


def _judged(run: Path, split: str) -> Path:
    return run / f"eval-{split}.json"


def cells_of(place: Place, protocol: str, key: str, title: str, split: str) -> dict[str, Any]:
    """A row over its seeds: old, new and all mIoU and background in percent; mean minutes, steps; the runs."""
    found: dict[str, list[Any]] = {"old": [], "new": [], "all": [], "background": [], "minutes": [], "steps": []}
    runs = []
    for seed in range(SEEDS):
        run = place.run(protocol, key, seed)
        if not _judged(run, split).exists():
            break
        scores = json.loads(_judged(run, split).read_text(encoding="utf-8"))
        for name, value in _by_step(place, scores, protocol).items():
            found[name].append(value)
        found["background"].append(excess_of_background(scores))
        found["minutes"].append(_seconds(run) / 60)
        found["steps"].append(max(line.get("step", 0) for line in _log(run)))
        runs.append(run)
    cells: dict[str, Cell] = {name: spread(found[name]) for name in ("old", "new", "all", "background")}
    cells["minutes"] = round(float(np.mean(found["minutes"])), 4) if found["minutes"] else None
    cells["steps"] = seconds(found["steps"])
    return {"key": f"{protocol}-{key}", "name": title, **cells, "seeds": len(runs), "runs": runs}


def _seconds(run: Path) -> float:
    """How long the optimiser steps took, those before a stop included."""
    return float(max(line["timing"]["seconds"] for line in _log(run) if "timing" in line))


def _log(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def _by_step(place: Place, scores: dict[str, Any], protocol: str) -> dict[str, float | None]:
    """Mean IoU without background of the classes of step 0 and of step 1, and of all with background."""
    from wilss.data.manifest import load_manifest

    manifest = load_manifest(place.manifest(protocol))
    means: dict[str, float | None] = {"all": scores["mean_iou"]}
    for name, step in (("old", 0), ("new", 1)):
        known = []
        for identity in manifest.protocol.new(step) if step < manifest.protocol.num_steps else ():
            value = scores["iou"].get(manifest.taxonomy.name_of(identity))
            known += [] if value is None else [value]
        means[name] = sum(known) / len(known) if known else None
    return means


def keep_figures(name: str, title: str, how: str, rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    """Put what has been measured into figures/NAME.json, and print it; what is there stays where nothing has been.

    how: the command that measures it.
    """
    counts = {row["seeds"] for row in rows if row["seeds"]}
    if not counts:
        click.echo(f"{name}.json stays as it is: nothing of it has been measured here", err=True)
        return
    if len(counts) > 1:
        raise SystemExit(f"some rows have more seeds than others ({sorted(counts)}); train the missing ones first.")
    figures = {
        "title": title,
        "measured": tables.measured_by(how, [run for row in rows for run in row["runs"]], seeds=min(counts)),
        "heading": "",
        "columns": {one: _HEADINGS.get(one, one) for one in columns},
        "rows": [{one: row[one] for one in ("key", "name", *columns)} for row in rows],
    }
    print(tables.table_of(figures))
    (HERE / f"figures/{name}.json").write_text(tables.as_text(figures), encoding="utf-8")
