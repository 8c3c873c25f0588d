"""15-5 on photographs, the new classes from five annotated pictures of each and nothing else: no tag, no other label.

    python workflows/voc-small/few_supports.py --voc ~/data/VOC2012 choose   # confidences, judged on choosing.txt
    python workflows/voc-small/few_supports.py --voc ~/data/VOC2012 run      # goes on row by row
    python workflows/voc-small/few_supports.py table

Bases and annotated pictures are those of walk.py. Every picture of the list is looked at, whatever it shows.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
from places import Place
from runs import Cell, Job, command, spread, train_all
from training import cells_of, judge, keep_figures, require_laid_out, seeds_option, voc_group, words_of
from walk import base, from_supports

PROTOCOL = "15-5"
COMMAND = "python workflows/voc-small/few_supports.py"


@dataclass(frozen=True)
class Row:
    """One line of the table: whose masks, and the confidence below which they are not learnt from."""

    key: str
    title: str
    source: str
    least: float


#: One confidence of each source is chosen.
CHOICES = tuple(
    Row(f"{source}-{least}", f"{name}, confidence {least} and more", source, least)
    for source, name, values in (("panet", "PANet", (0.6, 0.7, 0.8)), ("insid3", "INSID3", (0.3, 0.4, 0.5)))
    for least in values
)
ALONE = Row("supports", "FMWISS, the five annotated pictures of each class alone", "panet", 1.0)
CHOSEN = ("panet-0.7", "insid3-0.3")
ROWS = (*(one for one in CHOICES if one.key in CHOSEN), ALONE)
main = voc_group("few_supports.py", (PROTOCOL,))


@main.command()
@click.pass_obj
def choose(place: Place) -> None:
    """Learn from masks of each confidence, one seed, judged on `choosing`: figures/few-supports-choices.json."""
    _train(place, (*CHOICES, ALONE), seeds=1, split="choosing")
    _keep(place, "few-supports-choices", "choose", (*CHOICES, ALONE), "choosing")


@main.command()
@seeds_option
@click.pass_obj
def run(place: Place, seeds: int) -> None:
    """Masks and runs, one after the other, each on one thread."""
    _train(place, ROWS, seeds, "val")


@main.command()
@click.pass_obj
def table(place: Place) -> None:
    """How right the masks are, and old, new and all mIoU, into figures/few-supports.json."""
    _keep(place, "few-supports", "run", ROWS, "val")


def _train(place: Place, rows: Sequence[Row], seeds: int, split: str) -> None:
    require_laid_out(place, PROTOCOL)
    for job in _jobs(place, rows, seeds):
        train_all([job], 1)
        judge(job, split)


def _jobs(place: Place, rows: Sequence[Row], seeds: int) -> Iterator[Job]:
    """Seed by seed, and of a seed the base first."""
    for seed in range(seeds):
        yield base(place, PROTOCOL, seed)
        yield from (_job(place, one, seed) for one in rows)


def _job(place: Place, row: Row, seed: int) -> Job:
    store = _store(place, row.source, seed)
    untagged = ("--source", row.source, "--set", "tags=false")
    before = from_supports(place, PROTOCOL, seed, store, *untagged)
    more = ("--from", str(place.run(PROTOCOL, "base", seed)), "--set", f"least_confidence={row.least}")
    return Job(place.run(PROTOCOL, row.key, seed), (*words_of(place, PROTOCOL, store, row.key, seed), *more), before)


def _store(place: Place, source: str, seed: int) -> Path:
    return place.masks(f"{PROTOCOL}-1-{source}-untagged-{seed}")


def _keep(place: Place, name: str, what: str, rows: Sequence[Row], split: str) -> None:
    titles = {"base": "base, 15 classes from pixel labels", **{one.key: one.title for one in rows}}
    cells = [cells_of(place, PROTOCOL, *one, split) for one in titles.items()]
    masks = {f"{PROTOCOL}-{one.key}": _quality(place, one.source, cells[0]["seeds"]) for one in rows if one.least < 1}
    cells = [{**one, "masks": masks.get(one["key"])} for one in cells]
    title = f"15-5 on photographs, new classes from five annotated pictures of each and nothing else; mIoU on {split}"
    keep_figures(name, title, f"{COMMAND} {what}", cells, ("masks", "old", "new", "all", "steps"))


def _quality(place: Place, source: str, seeds: int) -> Cell:
    """mIoU of all masks of a source, whatever their confidence; the annotated pictures left out."""
    found = []
    for seed in range(seeds):
        store = _store(place, source, seed)
        if not (judged := store.with_suffix(".json")).exists():
            command("wilss-masks", "evaluate", store, "--manifest", place.manifest(PROTOCOL), "--json", judged)
        found.append(float(json.loads(judged.read_text(encoding="utf-8"))["mean_iou"]))
    return spread(found)


if __name__ == "__main__":
    main()
