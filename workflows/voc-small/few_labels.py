"""The table of few labels on photographs: 20 classes at once, one picture in eight labelled, the others without a word.

python workflows/voc-small/few_labels.py --voc ~/data/VOC2012 run       # train and judge; goes on where it was
python workflows/voc-small/few_labels.py table
python workflows/voc-small/few_labels.py --voc ~/data/VOC2012 choose    # what settings are chosen by, on choosing.txt
python workflows/voc-small/few_labels.py --voc ~/data/VOC2012 labels    # how good PseudoSeg's own labels are
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from places import ALL, Place
from runs import Job, command, spread, train_all
from training import SEEDS, cells_of, generate, judge, keep_figures, require_laid_out, seeds_option, voc_group, words_of

PART = 8
COLUMNS = ("all", "background", "minutes")
_PSEUDOSEG = ("--method", "pseudoseg")


@dataclass(frozen=True)
class Row:
    """One line of the table: its title, and words for wilss-train."""

    key: str
    title: str
    words: tuple[str, ...]


_LATER = (*_PSEUDOSEG, "--set", "supervised_epochs=3")
_DRAWINGS = ("--set", "present=0.05", "--set", "share=0.7", "--set", "temperature=0.25")
_NONE = Row("none", "labelled pictures alone", (*_PSEUDOSEG, "--set", "target=none"))
_FUSED = Row("fused", "PseudoSeg as published", _PSEUDOSEG)
_DECODER = Row("decoder", "the decoder's soft labels alone", (*_PSEUDOSEG, "--set", "target=decoder"))
_AS_ON_DRAWINGS = Row("fused-drawings", "PseudoSeg with the settings chosen on drawings", (*_LATER, *_DRAWINGS))
_ALIGNED = Row("fused-aligned", "PseudoSeg, soft labels aligned with the drawn ones", (*_PSEUDOSEG, "--set", "align=1"))
_UNIMATCH = Row("unimatch", "UniMatch V2 as published", ("--method", "unimatch"))
ROWS = (_NONE, _FUSED, _AS_ON_DRAWINGS, _UNIMATCH)
CHOICES = (
    _NONE,
    _FUSED,
    _ALIGNED,
    _DECODER,
    Row("fused-after", "PseudoSeg, from labelled pictures alone in the first three of 16 epochs", _LATER),
    _AS_ON_DRAWINGS,
    _UNIMATCH,
)
#: What soft labels can be made of.
KINDS = {"decoder": "decoder alone", "sgc": "attention maps alone", "fused": "both, fused"}


def job(place: Place, one: Row, seed: int) -> Job:
    """A row of a seed."""
    store = place.masks(f"{ALL}-0")
    words = ("--labelled", str(_labelled(place, seed)), *one.words)
    before = (generate(place, ALL, 0, store),)
    return Job(place.run(ALL, one.key, seed), (*words_of(place, ALL, store, one.key, seed), *words), before)


def _labelled(place: Place, seed: int) -> Path:
    return place.folder / f"labelled-{PART}-{seed}.txt"


def _write_lists(place: Place) -> None:
    for seed in range(SEEDS):
        _write_labelled(place, seed)


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


main = voc_group("few_labels.py", (ALL,), _write_lists)


@main.command()
@seeds_option
@click.pass_obj
def run(place: Place, seeds: int) -> None:
    """Seed by seed, one run after the other, each on one thread."""
    require_laid_out(place, ALL)
    for seed in range(seeds):
        for one in ROWS:
            _train(job(place, one, seed), "val")


@main.command()
@click.pass_obj
def choose(place: Place) -> None:
    """Seed 0 of every setting, judged on choosing.txt, into figures/semi-choices.json."""
    require_laid_out(place, ALL)
    for one in CHOICES:
        _train(job(place, one, 0), "choosing")
    cells = [cells_of(place, ALL, one.key, one.title, "choosing") for one in CHOICES]
    title = f"1/{PART} of 374 photographs labelled, one seed; mIoU in percent on the 110 of choosing.txt"
    keep_figures("semi-choices", title, "python workflows/voc-small/few_labels.py choose", cells, COLUMNS)


@main.command()
@click.pass_obj
def labels(place: Place) -> None:
    """What seed 0's PseudoSeg says of the 374 pictures, by both halves and fused, into figures/semi-labels.json."""
    run = place.run(ALL, _FUSED.key, 0)
    rows = [{**_labels_of(place, run, kind), "key": kind, "name": title} for kind, title in KINDS.items()]
    title = "Soft labels of PseudoSeg as published, seed 0, on the 374 photographs, 47 of them labelled; percent"
    columns = ("mIoU", "background: precision", "background: recall")
    keep_figures("semi-labels", title, "python workflows/voc-small/few_labels.py labels", rows, columns)


def _labels_of(place: Place, run: Path, kind: str) -> dict[str, Any]:
    store = place.masks(f"{ALL}-labels-{kind}")
    given, judged = ("--manifest", place.manifest(ALL)), store.with_suffix(".json")
    words = ("--step", "0", "--source", "pseudoseg", "--checkpoint", run, "--set", f"kind={kind}", "--out", store)
    command("wilss-masks", "generate", "-q", *words, *given)
    command("wilss-masks", "evaluate", store, "--json", judged, *given)
    scores = json.loads(judged.read_text(encoding="utf-8"))
    figures = {f"background: {name}": spread([scores[name]["background"]]) for name in ("precision", "recall")}
    return {"mIoU": spread([scores["mean_iou"]]), **figures, "seeds": 1, "runs": [run]}


def _train(one: Job, split: str) -> None:
    train_all([one], 1)
    judge(one, split)


@main.command()
@click.pass_obj
def table(place: Place) -> None:
    """MIoU of every row, into figures/semi.json."""
    cells = [cells_of(place, ALL, one.key, one.title, "val") for one in ROWS]
    title = f"All 20 classes at once, 1/{PART} of 374 photographs labelled; mIoU in percent on 108 others"
    keep_figures("semi", title, "python workflows/voc-small/few_labels.py run", cells, COLUMNS)


if __name__ == "__main__":
    main()
