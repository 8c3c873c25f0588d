"""The table of steps on photographs: 15-5 and 10-10, new classes from labels, tags or five annotated pictures each.

    python workflows/voc-small/walk.py --voc ~/data/VOC2012 rows     # what is still to be trained, one line each
    python workflows/voc-small/walk.py --voc ~/data/VOC2012 run      # train it; can be stopped, and goes on row by row
    python workflows/voc-small/walk.py table                         # read the reports and print the table
    python workflows/voc-small/walk.py --voc ~/data/VOC2012 choose   # settings of a later step, on choosing.txt

All rows of seed 0 come first. Every row of a protocol and seed starts from the same base and takes as many epochs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
from places import Place
from runs import Job, train_all
from training import cells_of, generate, judge, keep_figures, require_laid_out, seeds_option, voc_group, words_of

PROTOCOLS = ("15-5", "10-10")
SHOTS = 5
COMMAND = "python workflows/voc-small/walk.py run"


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
#: Settings of 15-5's step from pixel labels, of which the first are those of `manifest init`.
CHOICES = (
    Row("pixels", "as `manifest init` writes them", "pixels"),
    Row("pixels-rows", "new rows from the background's", "pixels", ("--set", "new_rows=background")),
    Row("pixels-head-3", "heads at three times the rate", "pixels", ("--set", "head_lr=3")),
    Row("pixels-head-30", "heads at thirty times the rate", "pixels", ("--set", "head_lr=30")),
    Row("pixels-short", "`epoch_steps: 15`", "pixels", ("--set", "epoch_steps=15")),
    Row("pixels-long", "`epoch_steps: 60`", "pixels", ("--set", "epoch_steps=60")),
)


def base(place: Place, protocol: str, seed: int) -> Job:
    """Step 0 of a protocol and seed."""
    store = place.masks(f"{protocol}-0")
    before = (generate(place, protocol, 0, store),)
    return Job(place.run(protocol, "base", seed), words_of(place, protocol, store, "base", seed), before)


def row(place: Place, protocol: str, one: Row, seed: int) -> Job:
    """A row of a protocol and seed, from its base."""
    store, before = _store_of(place, protocol, one.masks, seed)
    parent = ("--from", str(place.run(protocol, "base", seed)))
    return Job(
        place.run(protocol, one.key, seed),
        (*words_of(place, protocol, store, one.key, seed), *parent, *one.words),
        before,
    )


def _store_of(place: Place, protocol: str, masks: str, seed: int) -> tuple[Path, tuple[tuple[object, ...], ...]]:
    """A store of step 1 and what makes it; five pictures of each class are drawn anew for each seed."""
    if masks != "panet":
        store = place.masks(f"{protocol}-1-{masks}")
        source = ("--source", "annotation" if masks == "pixels" else masks)
        return store, (generate(place, protocol, 1, store, *source),)
    store = place.masks(f"{protocol}-1-panet-{seed}")
    return store, from_supports(place, protocol, seed, store, "--source", "panet")


def from_supports(
    place: Place, protocol: str, seed: int, store: Path, *words: object
) -> tuple[tuple[object, ...], ...]:
    """What makes a store of step 1 from five annotated pictures of each class, which every store of a seed shares."""
    folder, manifest = place.folder / f"supports/{protocol}-{seed}", ("--manifest", place.manifest(protocol))
    draw = ("supports", "draw", "--step", 1, "--shots", SHOTS, "--fewer", "--seed", seed, "--out", folder, *manifest)
    made = generate(place, protocol, 1, store, "--supports", folder, *words)
    return (made,) if (folder / "supports.yaml").exists() else (("wilss-masks", *draw), made)


main = voc_group("walk.py", PROTOCOLS)
_split = click.option("--split", default="val", show_default=True, help="val, or choosing, to choose settings on.")
_only = click.option("--only", multiple=True, metavar="KEY", help="These rows alone, as in 15-5-cam.")


@main.command()
@seeds_option
@_only
@click.pass_obj
def rows(place: Place, seeds: int, only: Sequence[str]) -> None:
    """What is still to be trained."""
    for one in _jobs(place, seeds, only):
        if not one.is_done:
            print("wilss-train", *one.words)


@main.command()
@seeds_option
@_only
@_split
@click.pass_obj
def run(place: Place, seeds: int, only: Sequence[str], split: str) -> None:
    """Masks and runs, one after the other, each on one thread."""
    require_laid_out(place, *PROTOCOLS)
    for job in _jobs(place, seeds, only):
        train_all([job], 1)
        judge(job, split)


@main.command()
@_split
@click.pass_obj
def table(place: Place, split: str) -> None:
    """Old, new and all mIoU of every row, into figures/steps.json."""
    steps = [cells_of(place, protocol, *one, split) for protocol in PROTOCOLS for one in _titles(protocol)]
    if split != "val":  # what is chosen on it is no result
        print("\n".join(f"{cell['key']}: {cell}" for cell in steps if cell["seeds"]))
        return
    title = "New classes on 592 photographs of VOC 2012; mIoU in percent on 108 of them"
    keep_figures("steps", title, COMMAND, steps, ("old", "new", "all", "minutes"))


@main.command()
@click.pass_obj
def choose(place: Place) -> None:
    """Settings of a later step, one seed, judged on choosing.txt, into figures/step-settings.json."""
    protocol = PROTOCOLS[0]
    require_laid_out(place, protocol)
    for job in (base(place, protocol, 0), *(row(place, protocol, one, 0) for one in CHOICES)):
        train_all([job], 1)
        judge(job, "choosing")
    cells = [cells_of(place, protocol, one.key, one.title, "choosing") for one in CHOICES]
    title = "Settings of 15-5's step from pixel labels on photographs, one seed; mIoU in percent on choosing.txt"
    columns = ("old", "new", "all", "steps")
    keep_figures("step-settings", title, "python workflows/voc-small/walk.py choose", cells, columns)


def _titles(protocol: str) -> Iterator[tuple[str, str]]:
    """Keys and names of a protocol's rows."""
    yield "base", f"**{protocol}**: base, {protocol.partition('-')[0]} classes from pixel labels"
    yield from ((one.key, one.title) for one in ROWS)


def _jobs(place: Place, seeds: int, only: Sequence[str]) -> Iterator[Job]:
    """Seed by seed, and of a seed the base first."""
    for seed in range(seeds):
        for protocol in PROTOCOLS:
            jobs = {one.key: row(place, protocol, one, seed) for one in reversed(ROWS)}
            for key, job in {"base": base(place, protocol, seed), **jobs}.items():
                if not only or f"{protocol}-{key}" in only:
                    yield job


if __name__ == "__main__":
    main()
