"""Five masks of each new class, or tags on every image? Stores from both, and the same training from each.

    python workflows/shapes/few_or_all.py run        # supports, stores, trainings; goes on row by row
    python workflows/shapes/few_or_all.py table      # masks of the stores, and what was learnt from them
    python workflows/shapes/few_or_all.py run --table few-masks   # PANet's and INSID3's masks of the same supports
    python workflows/shapes/few_or_all.py tune       # how confident INSID3's masks have to be, on other drawings

A row's supports are drawn anew for every seed, from the pixel labels of the step's own images. Without tags the
store holds masks of all 400 training images, whatever is on them; with tags, of those that show a new class, and a
mask only of what is tagged.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
from runs import (
    RESULTS,
    ROOT,
    SEEDS,
    Cell,
    Job,
    base,
    command,
    job,
    keep_figures,
    make_masks,
    scores_of,
    seconds,
    spread,
    train_all,
    write_manifest,
)

STORES = RESULTS / "few"
#: Without tags all 400 images have masks, so that 25 optimiser steps are an epoch; nine of them are as long as a row.
WITHOUT_TAGS = ("--epochs", "9")


@dataclass(frozen=True)
class Way:
    """A way to come by the masks of step 1.

    kind: of the supports; None for FMWISS, which takes tags alone. source: who makes masks of them; values: its
    parameters beside those of the manifest, as `name=value`. masks_of: the way whose stores it takes, "" for its own.
    least: the confidence below which masks are not learnt from; a support's own mask has 1. more: for wilss-train.
    learnt: whether a student learns from the masks, or they are judged alone.
    """

    key: str
    title: str
    kind: str | None = None
    shots: int = 5
    tags: bool = False
    source: str = "panet"
    values: tuple[str, ...] = ()
    masks_of: str = ""
    least: float = 0.0
    more: tuple[str, ...] = ()
    learnt: bool = True

    @property
    def masks(self) -> str:
        """What its stores are called."""
        return self.masks_of or self.key

    @property
    def given(self) -> tuple[str, ...]:
        """For wilss-masks generate: who makes the masks, and how."""
        values = (f"tags={str(self.tags).lower()}", *self.values)
        return ("--source", self.source, *(word for value in values for word in ("--set", value)))

    @property
    def words(self) -> tuple[str, ...]:
        """For wilss-train."""
        if self.least:
            return ("--set", f"least_confidence={self.least}", *self.more)
        return () if self.tags else WITHOUT_TAGS


WAYS = (
    Way("fmwiss", "tags on all images (FMWISS)", tags=True),
    Way("mask-5-tags", "tags on all images, and five masks of each class", "mask", tags=True),
    Way("box-5-tags", "tags on all images, and five boxes of each class", "box", tags=True),
    Way("scribble-5-tags", "tags on all images, and five scribbles of each class", "scribble", tags=True),
    Way("mask-1-tags", "tags on all images, and one mask of each class", "mask", shots=1, tags=True),
    Way("mask-5", "five masks of each class, nothing else", "mask"),
)
#: From the same five masks PANet's and INSID3's, which takes the settings of the built-in manifest, chosen on others.
FIVE_MASKS = (
    Way("mask-5", "five masks of each class, nothing else: PANet", "mask"),
    Way("insid3", "five masks of each class, nothing else: INSID3", "mask", source="insid3"),
    Way("insid3-sure", "the same, confidence 0.25 and more", "mask", source="insid3", masks_of="insid3", least=0.25),
    Way("supports", "the five masks of each class alone", "mask", source="insid3", masks_of="insid3", least=1.0),
    Way("insid3-tags", "tags on all images, and five masks of each class: INSID3", "mask", tags=True, source="insid3"),
)
#: Of which one is chosen on other drawings.
CONFIDENCES = (0.2, 0.25, 0.3, 1.0)
TUNING = STORES / "tuning.yaml"
TUNING_DATA = "generate: {with: shapes, train: 400, val: 150, seed: 2000}"
TABLES = {"few-or-all": WAYS, "few-masks": FIVE_MASKS}
seeded = click.option("--seeds", default=len(SEEDS), show_default=True, help="How many, from 0.")
of_table = click.option(
    "--table", "name", type=click.Choice(list(TABLES)), default="few-or-all", show_default=True, help="Whose rows."
)


@click.group()
def main() -> None:
    """Make and tabulate."""


@main.command()
@of_table
@seeded
@click.option("--at-once", default=len(os.sched_getaffinity(0)), show_default="cores", help="Runs at a time.")
def run(name: str, seeds: int, at_once: int) -> None:
    """Stores and bases of every seed, then the trainings; bases and FMWISS's row are those of compare.py."""
    make_masks()
    train_ways(TABLES[name], SEEDS[:seeds], at_once)


@main.command()
@of_table
@seeded
def table(name: str, seeds: int) -> None:
    """mIoU of the masks, and old, new and all of what was learnt from them, into figures/NAME.json."""
    keep_ways(name, TABLES[name], SEEDS[:seeds])


@main.command()
@click.option("--at-once", default=len(os.sched_getaffinity(0)), show_default="cores", help="Runs at a time.")
def tune(at_once: int) -> None:
    """Train from INSID3's masks of other drawings by each confidence, one seed, into figures/few-choices.json."""
    make_masks()
    train_all([base(0)], at_once)
    way, store = FIVE_MASKS[1], STORES / "tuning.zarr"
    make_tuning_store(way, store)
    jobs = {str(least): tuned(store, RESULTS / f"few-tuning-{least}", least) for least in CONFIDENCES}
    train_all(jobs.values(), at_once)
    keep_tuned("few-choices", jobs)


def train_ways(ways: Sequence[Way], seeds: Sequence[int], at_once: int) -> None:
    """Stores and bases of every seed, then the trainings."""
    for seed in seeds:
        for way in ways:
            _make_store(way, seed)
    train_all((base(seed) for seed in seeds), at_once)
    train_all((_training(way, seed) for seed in seeds for way in ways if way.learnt), at_once)


def keep_ways(name: str, ways: Sequence[Way], seeds: Sequence[int]) -> None:
    """mIoU of masks, and what was learnt from them, into figures/NAME.json."""
    cells = {}
    for way in ways:
        scores = scores_of([_training(way, seed).out for seed in seeds if way.learnt])
        qualities = [quality(way, seed) for seed in (seeds if way.kind else seeds[:1])]
        masks = None if way.least else spread(qualities)  # of all that is in the store
        cells[way.key] = {"masks": masks, **_learnt(scores)}
    runs = [_training(way, seed).out for way in ways for seed in seeds if way.learnt]
    keep_figures(name, cells, seeds=len(seeds), trained=[*(base(seed).out for seed in seeds), *runs])


def make_tuning_store(way: Way, store: Path) -> None:
    """Masks of other drawings, from five supports of each class that are drawn once."""
    write_manifest(TUNING, {"generate:": TUNING_DATA, "path:": f"path: {ROOT / 'data/shapes-tuning-few'}"})
    supports = STORES / "tuning-supports"
    given = ("--manifest", TUNING, "-q", "--step", "1")
    if not (supports / "supports.yaml").exists():
        command("wilss-masks", "supports", "draw", *given, "--kind", "mask", "--shots", "5", "--out", supports)
    command("wilss-masks", "generate", *given, *way.given, "--supports", supports, "--out", store)


def tuned(store: Path, out: Path, least: float) -> Job:
    """Training from masks of other drawings of a confidence, with seed 0."""
    given = ("--manifest", str(TUNING), "--masks", str(store), "--seed", "0", "--out", str(out), "--resume")
    return Job(out, (*given, "--threads", "1", "--from", str(base(0).out), "--set", f"least_confidence={least}"))


def keep_tuned(name: str, jobs: Mapping[str, Job]) -> None:
    """What was learnt on other drawings, a row a key, into figures/NAME.json."""
    cells = {key: _learnt(scores_of([one.out])) for key, one in jobs.items()}
    keep_figures(name, cells, seeds=1, trained=[base(0).out, *(one.out for one in jobs.values())])


def _learnt(scores: Mapping[str, Sequence[float | None]]) -> dict[str, Cell]:
    """Old, new and all mIoU over seeds, and in how many optimiser steps that was learnt."""
    return {**{key: spread(scores[key]) for key in ("old", "new", "all")}, "steps": seconds(scores["steps"])}


def _training(way: Way, seed: int) -> Job:
    """The incremental step from the store, as the manifest has it; FMWISS's is the one of compare.py."""
    if way.kind is None:
        return job(RESULTS / f"fmwiss-{seed}", seed, "step-1.zarr", ("--from", str(base(seed).out)))
    out = RESULTS / f"few-{way.key}-{seed}"
    given = ("--masks", str(_store(way, seed)), "--seed", str(seed), "--out", str(out), "--resume", "--threads", "1")
    return Job(out, (*given, "--from", str(base(seed).out), *way.words))


def _store(way: Way, seed: int) -> Path:
    return RESULTS / "masks/step-1.zarr" if way.kind is None else STORES / f"{way.masks}-{seed}.zarr"


def _make_store(way: Way, seed: int) -> None:
    if way.kind is not None:
        supports = STORES / f"supports-{way.kind}-{way.shots}-{seed}"
        if not (supports / "supports.yaml").exists():
            drawn = ("--kind", way.kind, "--shots", way.shots, "--seed", seed, "--out", supports, "--overwrite")
            command("wilss-masks", "supports", "draw", "-q", "--step", "1", *drawn)
        made = ("--supports", supports, "--out", _store(way, seed))
        command("wilss-masks", "generate", "-q", "--step", "1", *way.given, *made)
    evaluate(_store(way, seed), _told(way, seed))


def evaluate(store: Path, told: Path, *given: object) -> None:
    """What pixel labels say of a store's masks, into the file `told`, once. given: further words."""
    if not told.exists():
        told.parent.mkdir(parents=True, exist_ok=True)
        command("wilss-masks", "evaluate", "-q", store, "--json", told, *given)


def _told(way: Way, seed: int) -> Path:
    return STORES / f"{way.masks}-{seed if way.kind else 0}.json"


def quality(way: Way, seed: int) -> float | None:
    """mIoU of the store's masks, background counted."""
    return told_quality(_told(way, seed))


def told_quality(told: Path) -> float | None:
    """mIoU as `evaluate` wrote it; None where it has not."""
    return json.loads(told.read_text(encoding="utf-8"))["mean_iou"] if told.exists() else None


if __name__ == "__main__":
    main()
