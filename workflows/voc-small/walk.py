"""The table of steps on photographs: 15-5 and 10-10, new classes from labels, tags or five annotated pictures each.

    python workflows/voc-small/walk.py --voc ~/data/VOC2012 rows     # what is still to be trained, one line each
    python workflows/voc-small/walk.py --voc ~/data/VOC2012 run      # train it; can be stopped, and goes on row by row
    python workflows/voc-small/walk.py table                         # read the reports and print the tables

All rows of seed 0 come first. Every row of a protocol and seed starts from the same base and takes as many epochs.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from places import ALL, HERE, WEIGHTS, Place, tables
from runs import Cell, Job, command, spread, train_all

PROTOCOLS = ("15-5", "10-10")
SHOTS = 5
#: One picture in so many is labelled in the rows of few labels.
PART = 8


@dataclass(frozen=True)
class Row:
    """One line of the table: its title, the store of its masks, and words for wilss-train."""

    key: str
    title: str
    masks: str
    words: tuple[str, ...] = ()


ROWS = (
    Row("finetune", "fine-tune, from the masks of cam", "cam", ("--method", "finetune")),
    Row("wilson", "WILSON, from tags alone", "cam", ("--method", "wilson")),
    Row("panet", "FMWISS, masks of PANet from five annotated pictures a class, and tags", "panet"),
    Row("cam", "FMWISS, masks of cam from tags", "cam"),
    Row("pixels", "FMWISS, pixel labels", "pixels"),
)

_PSEUDOSEG = ("--method", "pseudoseg")
SEMI = (
    Row("none", "labelled pictures alone", "labels", (*_PSEUDOSEG, "--set", "target=none")),
    Row("fused", "PseudoSeg", "labels", _PSEUDOSEG),
    Row("unimatch", "UniMatch V2", "labels", ("--method", "unimatch")),
)


def base(place: Place, protocol: str, seed: int) -> Job:
    """Step 0 of a protocol and seed."""
    store = place.masks(f"{protocol}-0")
    before = (_generate(place, protocol, 0, store),)
    return Job(place.run(protocol, "base", seed), (*_words(place, protocol, store, "base", seed),), before)


def row(place: Place, protocol: str, one: Row, seed: int) -> Job:
    """A row of a protocol and seed, from its base."""
    store, before = _store_of(place, protocol, one.masks, seed)
    parent = ("--from", str(place.run(protocol, "base", seed)))
    return Job(
        place.run(protocol, one.key, seed),
        (*_words(place, protocol, store, one.key, seed), *parent, *one.words),
        before,
    )


def semi(place: Place, one: Row, seed: int) -> Job:
    """A row of few labels, of all 20 classes at once."""
    store = place.masks(f"{ALL}-0")
    words = ("--labelled", str(_labelled(place, seed)), *one.words)
    before = (_generate(place, ALL, 0, store),)
    return Job(place.run(ALL, one.key, seed), (*_words(place, ALL, store, one.key, seed), *words), before)


def _words(place: Place, protocol: str, store: Path, key: str, seed: int) -> tuple[str, ...]:
    out = place.run(protocol, key, seed)
    given = ("--masks", str(store), "--manifest", str(place.manifest(protocol)), "--seed", str(seed))
    return (*given, "--out", str(out), "--resume", "--threads", "1", "--split", "none")


def _store_of(place: Place, protocol: str, masks: str, seed: int) -> tuple[Path, tuple[tuple[object, ...], ...]]:
    """A store of step 1 and what makes it; five pictures of each class are drawn anew for each seed."""
    if masks != "panet":
        store = place.masks(f"{protocol}-1-{masks}")
        source = ("--source", "annotation" if masks == "pixels" else masks)
        return store, (_generate(place, protocol, 1, store, *source),)
    store, folder = place.masks(f"{protocol}-1-panet-{seed}"), place.folder / f"supports/{protocol}-{seed}"
    manifest = ("--manifest", place.manifest(protocol))
    draw = (
        "wilss-masks",
        "supports",
        "draw",
        "--step",
        1,
        "--shots",
        SHOTS,
        "--fewer",
        "--seed",
        seed,
        "--out",
        folder,
        *manifest,
    )
    made = _generate(place, protocol, 1, store, "--source", "panet", "--supports", folder)
    return store, (made,) if (folder / "supports.yaml").exists() else (draw, made)


def _generate(place: Place, protocol: str, step: int, store: Path, *words: object) -> tuple[object, ...]:
    """What is there already is left as it is."""
    given = ("--step", step, "--manifest", place.manifest(protocol), "--out", store)
    return ("wilss-masks", "generate", *given, "--device", "cpu", "-q", *words)


def _labelled(place: Place, seed: int) -> Path:
    return place.folder / f"labelled-{PART}-{seed}.txt"


@click.group()
@click.option("--voc", type=click.Path(path_type=Path, file_okay=False), help="VOC2012, with SegmentationClassAug.")
@click.option(
    "--weights", default=WEIGHTS, help="ImageNet weights of tf_efficientnet_lite0: a file, `timm` or a package's."
)
@click.pass_context
def main(context: click.Context, voc: Path | None, weights: str) -> None:
    """Train and tabulate."""
    context.obj = place = Place()
    if voc is not None:
        place.lay_out(voc.expanduser(), weights, (*PROTOCOLS, ALL))
        for seed in range(3):
            _write_labelled(place, seed)


_seeds = click.option("--seeds", default=3, show_default=True, help="How many, from 0.")
_split = click.option("--split", default="val", show_default=True, help="val, or choosing, to choose settings on.")
_only = click.option("--only", multiple=True, metavar="KEY", help="These rows alone, as in 15-5-cam or semi-fused.")


@main.command()
@_seeds
@_only
@click.pass_obj
def rows(place: Place, seeds: int, only: Sequence[str]) -> None:
    """What is still to be trained."""
    for one in _jobs(place, seeds, only):
        if not one.is_done:
            print("wilss-train", *one.words)


@main.command()
@_seeds
@_only
@_split
@click.pass_obj
def run(place: Place, seeds: int, only: Sequence[str], split: str) -> None:
    """Masks and runs, one after the other, each on one thread."""
    if not place.manifest(PROTOCOLS[0]).exists():
        raise SystemExit("name VOC's folder first: walk.py --voc ~/data/VOC2012 run")
    for job in _jobs(place, seeds, only):
        train_all([job], 1)
        _judge(job, split)


@main.command()
@_split
@click.pass_obj
def table(place: Place, split: str) -> None:
    """Old, new and all mIoU of every row, into figures/steps.json and figures/semi.json."""
    steps = [_cells(place, protocol, *one, split) for protocol in PROTOCOLS for one in _titles(protocol)]
    if split != "val":  # what is chosen on it is no result
        print("\n".join(f"{cell['key']}: {cell}" for cell in steps if cell["seeds"]))
        return
    title = "New classes on 592 photographs of VOC 2012; mIoU in percent on 108 of them"
    _keep("steps", title, steps, ("old", "new", "all", "minutes"))
    semi = [_cells(place, ALL, one.key, one.title, split) for one in SEMI]
    title = f"All 20 classes at once, 1/{PART} of 374 photographs labelled; mIoU in percent on 108 others"
    _keep("semi", title, semi, ("all", "minutes"))


def _titles(protocol: str) -> Iterator[tuple[str, str]]:
    """Keys and names of a protocol's rows."""
    yield "base", f"**{protocol}**: base, {protocol.partition('-')[0]} classes from pixel labels"
    yield from ((one.key, one.title) for one in ROWS)


def _judge(job: Job, split: str) -> None:
    """By whole pictures; once."""
    out = _judged(job.out, split)
    if job.is_done and not out.exists():
        manifest = job.words[job.words.index("--manifest") + 1]
        command("wilss-eval", job.out, "-q", "--manifest", manifest, "--split", split, "--json", out)


def _judged(run: Path, split: str) -> Path:
    return run / f"eval-{split}.json"


def _jobs(place: Place, seeds: int, only: Sequence[str]) -> Iterator[Job]:
    """Seed by seed, and of a seed the base first."""
    for seed in range(seeds):
        found = [
            *(
                (f"{protocol}-{key}", job)
                for protocol in PROTOCOLS
                for key, job in (
                    ("base", base(place, protocol, seed)),
                    *((one.key, row(place, protocol, one, seed)) for one in reversed(ROWS)),
                )
            ),
            *((f"semi-{one.key}", semi(place, one, seed)) for one in SEMI),
        ]
        yield from (job for key, job in found if not only or key in only)


def _write_labelled(place: Place, seed: int) -> None:
    """One picture in PART of the training list, drawn until every class is on one at least."""
    from wilss.data.layouts import read_label_of
    from wilss.data.manifest import load_manifest
    from wilss.randomness import numpy_generator_for

    if _labelled(place, seed).exists():
        return
    records = load_manifest(place.manifest(ALL)).images(0).records
    shown = [{int(value) for value in set(read_label_of(record).ravel().tolist())} - {0, 255} for record in records]
    wanted, count = set().union(*shown), round(len(records) / PART)
    for attempt in range(100_000):
        drawn = numpy_generator_for(seed, "labelled", attempt).permutation(len(records))[:count]
        if set().union(*(shown[place] for place in drawn)) == wanted:
            break
    else:
        raise SystemExit(f"no {count} pictures show every class.")
    names = sorted(records[place].image_id for place in drawn)
    _labelled(place, seed).write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def _cells(place: Place, protocol: str, key: str, title: str, split: str) -> dict[str, Any]:
    """A row: old, new and all mIoU in percent over the seeds that are there, and how long training took on average."""
    found: dict[str, list[Any]] = {"old": [], "new": [], "all": [], "minutes": []}
    for seed in range(3):
        run = place.run(protocol, key, seed)
        if not _judged(run, split).exists():
            break
        means = _by_step(place, json.loads(_judged(run, split).read_text(encoding="utf-8")), protocol)
        for name, value in means.items():
            found[name].append(value)
        found["minutes"].append(_seconds(run) / 60)
    cells: dict[str, Cell] = {name: spread(found[name]) for name in ("old", "new", "all")}
    cells["minutes"] = round(float(np.mean(found["minutes"])), 4) if found["minutes"] else None
    return {"key": f"{protocol}-{key}", "name": title, **cells, "seeds": len(found["all"])}


def _seconds(run: Path) -> float:
    """How long the optimiser steps took, those before a stop included."""
    lines = (json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines())
    return float(max(line["timing"]["seconds"] for line in lines if "timing" in line))


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


def _keep(name: str, title: str, rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    """Put what has been measured into figures/NAME.json, and print it; what is there stays where nothing has been."""
    counts = {row["seeds"] for row in rows if row["seeds"]}
    if not counts:
        click.echo(f"{name}.json stays as it is: nothing of it has been measured here", err=True)
        return
    if len(counts) > 1:
        raise SystemExit(f"some rows have more seeds than others ({sorted(counts)}); train the missing ones first.")
    figures = {
        "title": title,
        "measured": tables.measured_now("python workflows/voc-small/walk.py run", seeds=min(counts)),
        "heading": "",
        "columns": {one: one for one in columns},
        "rows": [{one: row[one] for one in ("key", "name", *columns)} for row in rows],
    }
    print(tables.table_of(figures))
    (HERE / f"figures/{name}.json").write_text(tables.as_text(figures), encoding="utf-8")


if __name__ == "__main__":
    main()
