"""The table of few labels beside many images: PseudoSeg, its two halves alone, FixMatch's rule, and labels alone.

    python workflows/shapes/semi.py rows          # what is still to be trained, one line each
    python workflows/shapes/semi.py run           # train it; can be stopped, and goes on row by row
    python workflows/shapes/semi.py table         # read the reports and print the table
    python workflows/shapes/semi.py --tuning run --seeds 1    # the same on the pictures that settings are chosen on
    python workflows/shapes/semi.py tune          # what was to be chosen with 1/8 labelled, on those pictures
    python workflows/shapes/semi.py sure          # the decoder's labels by how sure they are, with 1/8 labelled
    python workflows/shapes/semi.py --epochs 36 run --part 8 --only none --only fused --only unimatch    # for longer

All rows of a seed and part learn from the same labelled pictures for the same number of optimiser steps, with as many
labelled pictures in each; they differ in what the other pictures are good for.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
from runs import HERE, ROOT, Cell, Job, command, excess_of_background, keep_figures, seconds, spread, train_all

PARTS = (16, 8)
#: Every class is in so many of the labelled pictures at least: of three classes in one picture each, no row of the
#: tuning pictures ever found two.
LEAST = 2
#: Chosen on the pictures of semi-tuning.yaml, for all rows alike (README.md).
EPOCHS, BATCH = 12, 8
#: Tried with 1/8 labelled.
LONG = 36
#: How soft labels are made, while training and offline.
LABELS = ("present=0.05", "share=0.7", "temperature=0.25")
TRAINING = (*LABELS, "supervised_epochs=2")
#: Of UniMatch V2; the published average of 0.996 looks back over half of so short a run.
UNIMATCH = ("supervised_epochs=2", "average=0.99")
STORED = "stored"


@dataclass(frozen=True)
class Row:
    """One line of the table: its title, what is made of the pictures without labels, and by which method.

    target: of pseudoseg, "" for another method. more: parameters beside those that all rows of the method have. parts:
    1/PART labelled, of the tables that have the row.
    """

    key: str
    title: str
    target: str
    method: str = "pseudoseg"
    more: tuple[str, ...] = ()
    parts: tuple[int, ...] = PARTS

    @property
    def settings(self) -> tuple[str, ...]:
        """Parameters of the method."""
        return (*((f"target={self.target}", *TRAINING) if self.target else UNIMATCH), *self.more)


NONE = Row("none", "labelled pictures alone", "none")
DECODER = Row("decoder", "decoder's soft labels alone", "decoder")
FUSED = Row("fused", "PseudoSeg: both, fused while training", "fused")
OWN, ALIGNED = ("strong_norm=own",), ("align=1",)
_AS_DRAWN = "the same, aligned with the drawn labels"
DECODER_ALIGNED = replace(DECODER, key="decoder-aligned", title=_AS_DRAWN, more=ALIGNED, parts=(8,))
FUSED_ALIGNED = replace(FUSED, key="fused-aligned", title=_AS_DRAWN, more=ALIGNED, parts=(8,))
MEAN_TEACHER = Row("unimatch", "UniMatch V2: a mean teacher's hard labels where it is surer than 0.95", "", "unimatch")
ROWS = (
    NONE,
    Row("fixmatch", "decoder's hard labels where it is surer than 0.95 (FixMatch)", "fixmatch"),
    DECODER,
    DECODER_ALIGNED,
    Row("sgc", "attention maps' soft labels alone", "sgc"),
    FUSED,
    FUSED_ALIGNED,
    MEAN_TEACHER,
    Row(STORED, "the same labels from a store of a trained PseudoSeg", "fused"),
)
#: Hard labels of the decoder where it is surer than so much; the table's FixMatch is one of 0.95.
SURE = tuple(Row(f"sure-{sure}", f"surer than {sure}", "fixmatch", more=(f"threshold={sure}",)) for sure in (0, 0.8))
#: What was to be chosen with 1/8 labelled.
CHOICES = (
    NONE,
    DECODER,
    replace(DECODER, key="decoder-own", more=OWN),
    DECODER_ALIGNED,
    FUSED,
    replace(FUSED, key="fused-own", more=OWN),
    FUSED_ALIGNED,
    replace(MEAN_TEACHER, key="unimatch-published", more=("average=0.996",)),
    MEAN_TEACHER,
)


@dataclass(frozen=True)
class Place:
    """Where a table's data and results are.

    epochs: how often a run goes over the pictures that are not labelled. precision: of the runs, "" for the manifest's.
    """

    manifest: Path
    results: Path
    epochs: int
    precision: str = ""

    @property
    def masks(self) -> Path:
        """Pixel labels of step 0."""
        return self.results / "step-0.zarr"

    def labelled(self, part: int, seed: int) -> Path:
        """The list of labelled pictures."""
        return self.results / f"labelled-{part}-{seed}.txt"

    def soft(self, part: int, seed: int) -> Path:
        """The store of soft labels that the fused run of this part and seed made."""
        return self.results / f"soft-{part}-{seed}.zarr"

    def run(self, part: int, row: str, seed: int) -> Path:
        """A run's folder."""
        return self.results / f"{part}-{row}-{seed}"


def job(place: Place, part: int, row: Row, seed: int) -> Job:
    """A row of a seed."""
    given = ("--manifest", str(place.manifest), "--masks", str(place.masks), "--seed", str(seed), "--threads", "1")
    out = place.run(part, row.key, seed)
    words = ("--method", row.method, "--labelled", str(place.labelled(part, seed)), "--out", str(out), "--resume")
    own = [word for setting in row.settings for word in ("--set", setting)]
    before: tuple[tuple[object, ...], ...] = ()
    if row.key == STORED:
        soft = place.soft(part, seed)
        own += ["--targets", str(soft)]
        before = (_make_soft(place, part, seed, soft),)
    settings = ["--epochs", str(place.epochs), "--batch-size", str(BATCH)]
    settings += ["--precision", place.precision] if place.precision else []
    return Job(out, (*words, *given, *settings, *own), before)


def _make_soft(place: Place, part: int, seed: int, soft: Path) -> tuple[object, ...]:
    trained = place.run(part, "fused", seed)
    words = ("--step", "0", "--source", "pseudoseg", "--checkpoint", trained, "--keep", "scores", "--out", soft)
    own = [word for setting in LABELS for word in ("--set", setting)]
    return ("wilss-masks", "generate", "--manifest", place.manifest, *words, *own)


@click.group()
@click.option("--tuning", is_flag=True, help="On the pictures that settings are chosen on.")
@click.option("--precision", default="", metavar="WORD", help="Of the runs.  [default: the manifest's]")
@click.option("--epochs", default=EPOCHS, show_default=True, help="Of the runs, over the pictures not labelled.")
@click.pass_context
def main(context: click.Context, tuning: bool, precision: str, epochs: int) -> None:
    """Train and tabulate."""
    context.obj = place_of(precision, epochs, tuning=tuning)


def place_of(precision: str = "", epochs: int = EPOCHS, *, tuning: bool) -> Place:
    """Of the table, or of the pictures that settings are chosen on; precision, epochs: see `Place`."""
    name = ("semi-tuning" if tuning else "semi") + (f"-{precision}" if precision else "")
    name += _longer(epochs)
    manifest = HERE / "semi-tuning.yaml" if tuning else ROOT / "data_manifest.yaml"
    return Place(manifest, HERE / "results" / name, epochs, precision)


def _longer(epochs: int) -> str:
    """What the names of results and figures end in, where runs are of another length than the tables'."""
    return f"-{epochs}" if epochs != EPOCHS else ""


_seeds = click.option("--seeds", default=3, show_default=True, help="How many.")
_only = click.option("--only", multiple=True, metavar="KEY", help="These rows alone.")
_part = click.option("--part", type=int, multiple=True, default=PARTS, show_default=True, help="1/PART is labelled.")
_at_once = click.option("--at-once", default=len(os.sched_getaffinity(0)), show_default="cores", help="Runs at a time.")


@main.command()
@_seeds
@_only
@_part
@click.pass_obj
def rows(place: Place, seeds: int, only: Sequence[str], part: Sequence[int]) -> None:
    """What is still to be trained."""
    for one in _jobs(place, seeds, only, part):
        if not one.is_done:
            print("wilss-train", *one.words)


@main.command()
@_seeds
@_only
@_part
@_at_once
@click.pass_obj
def run(place: Place, seeds: int, only: Sequence[str], part: Sequence[int], at_once: int) -> None:
    """Labels and lists, then all rows but those from stores, then those; each on one thread."""
    _prepare(place, seeds)
    found = [one for one in _jobs(place, seeds, only, part) if not one.is_done]
    for stage in ([one for one in found if not one.before], [one for one in found if one.before]):
        train_all(stage, at_once)


@main.command()
@_seeds
@_only
@_part
@click.pass_obj
def table(place: Place, seeds: int, only: Sequence[str], part: Sequence[int]) -> None:
    """mIoU with and without background, into figures/semi-PART[-EPOCHS].json; what the tuning pictures give is printed.

    Rows that are not among those named by --only lose their figures.
    """
    for one in part:
        rows = _rows(one, only)
        cells = {row.key: _cells(place, one, row, seeds) for row in rows}
        print(f"soft labels of the 1/{one} stores, mIoU: {spread(soft_scores(place, one, seeds))}")
        if place.manifest == ROOT / "data_manifest.yaml":
            keep_figures(
                f"semi-{one}{_longer(place.epochs)}",
                cells,
                seeds,
                emptied={row.key for row in _rows(one, ())} - set(cells),
                trained=[run for row in rows for run in _trained(place, one, row, seeds)],
            )
        else:
            print("\n".join(f"{one}-{key}: {figures}" for key, figures in cells.items()))


@main.command()
@_at_once
@click.pass_obj
def tune(place: Place, at_once: int) -> None:
    """Train what was to be chosen with 1/8 labelled, on the tuning pictures, into figures/semi-choices.json."""
    if place.epochs != EPOCHS:
        raise click.UsageError(f"tune trains for {EPOCHS} and for {LONG} epochs; leave --epochs out.")
    cells, runs = dict[str, dict[str, Cell]](), list[Path]()
    for epochs, rows in ((EPOCHS, CHOICES), (LONG, (NONE, MEAN_TEACHER))):
        there = place_of(place.precision, epochs, tuning=True)
        _prepare(there, seeds=1)
        train_all((job(there, 8, one, 0) for one in rows), at_once)
        cells |= {f"{one.key}-{epochs}": _cells(there, 8, one, seeds=1) for one in rows}
        runs += [there.run(8, one.key, 0) for one in rows]
    keep_figures("semi-choices", cells, seeds=1, trained=runs)


@main.command()
@_seeds
@_at_once
@click.pass_obj
def sure(place: Place, seeds: int, at_once: int) -> None:
    """Learn from the decoder's hard labels down to other sureness, with 1/8 labelled, into figures/semi-8-sure.json."""
    _prepare(place, seeds)
    for seed in range(seeds):
        train_all((job(place, 8, one, seed) for one in SURE), at_once)
    cells = {one.key: _cells(place, 8, one, seeds) for one in SURE}
    runs = [run for one in SURE for run in _trained(place, 8, one, seeds)]
    keep_figures("semi-8-sure", cells, seeds, trained=runs)


def _prepare(place: Place, seeds: int) -> None:
    place.results.mkdir(parents=True, exist_ok=True)
    command("wilss-masks", "generate", "--manifest", place.manifest, "--step", "0", "--out", place.masks)
    for seed in range(seeds):
        _write_lists(place, seed)


def _cells(place: Place, part: int, row: Row, seeds: int) -> dict[str, Cell]:
    scores = _scores(place, part, row, seeds)
    figures = {name: spread(scores[name]) for name in ("mean_iou", "mean_iou_new", "background")}
    steps = seconds([_steps(place, part) for _ in scores["seconds"]])
    return {**figures, "steps": steps, "seconds": seconds(scores["seconds"])}


def _jobs(place: Place, seeds: int, only: Sequence[str], parts: Sequence[int]) -> Iterator[Job]:
    """Seed by seed, so that a whole row of tables is there early."""
    for seed in range(seeds):
        for part in parts:
            yield from (job(place, part, row, seed) for row in _rows(part, only))


def _rows(part: int, only: Sequence[str]) -> list[Row]:
    """Those of the table of 1/PART labelled, or of them those whose keys are named."""
    return [row for row in ROWS if part in row.parts and (not only or row.key in only)]


def _write_lists(place: Place, seed: int) -> None:
    """Labelled pictures of every part; a smaller part's are among a larger one's."""
    from wilss.randomness import numpy_generator_for
    from wilss.store import MaskStore

    store = MaskStore.open(place.masks)
    tags = store.vector("tags")
    counts = {part: round(len(tags) / part) for part in PARTS}
    for attempt in range(100_000):
        order = numpy_generator_for(seed, "labelled", attempt).permutation(len(tags))
        if (tags[order[: min(counts.values())]].sum(axis=0) >= LEAST).all():
            break
    else:
        raise SystemExit(f"no {min(counts.values())} pictures show every class {LEAST} times.")
    for part, count in counts.items():
        names = sorted(store.image_ids[row] for row in order[:count])
        place.labelled(part, seed).write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def _scores(place: Place, part: int, row: Row, seeds: int) -> dict[str, list[float]]:
    """mIoU with and without background of every seed, how much background is too much, how long training took."""
    found: dict[str, list[float]] = {"mean_iou": [], "mean_iou_new": [], "background": [], "seconds": []}
    for run in _trained(place, part, row, seeds):
        report = json.loads((run / "report.json").read_text(encoding="utf-8"))
        for name in ("mean_iou", "mean_iou_new"):
            found[name].append(report["scores"][name])
        found["background"].append(excess_of_background(report["scores"]))
        found["seconds"].append(report["training"]["seconds"])
    return found


def _trained(place: Place, part: int, row: Row, seeds: int) -> list[Path]:
    """The runs of a row that have a report."""
    runs = (place.run(part, row.key, seed) for seed in range(seeds))
    return [run for run in runs if (run / "report.json").exists()]


def _steps(place: Place, part: int) -> int:
    """Optimiser steps of every row with 1/PART labelled: an epoch goes once over the pictures that are not labelled."""
    from wilss.store import MaskStore
    from wilss_train.data.batch_source import Order

    count = len(MaskStore.open(place.masks).image_ids)
    order = Order(count=count - round(count / part), batch=BATCH, seed=0)
    return place.epochs * order.steps_per_epoch


def soft_scores(place: Place, part: int, seeds: int) -> list[float]:
    """mIoU of the stored soft labels' masks, on all training pictures."""
    found = []
    for store in (place.soft(part, seed) for seed in range(seeds)):
        if store.exists():
            out = store.with_suffix(".json")
            command("wilss-masks", "evaluate", store, "--manifest", place.manifest, "--json", out)
            found.append(float(json.loads(out.read_text(encoding="utf-8"))["mean_iou"]))
    return found


if __name__ == "__main__":
    main()
