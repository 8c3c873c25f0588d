"""Five masks of each new class and no tags, on the features of the backbone that the student has.

    python workflows/shapes/few_backbone.py choose   # parameters of the masks, and confidences, on other drawings
    python workflows/shapes/few_backbone.py run      # stores and trainings of three seeds; goes on row by row
    python workflows/shapes/few_backbone.py table    # figures/few-backbone.json

few_or_all.py does the same on the features of the manifest's encoders, whose supports and bases these are.
"""

import json
import os
from typing import Any

import click
import yaml
from few_or_all import (
    STORES,
    TUNING,
    Way,
    evaluate,
    keep_tuned,
    keep_ways,
    make_tuning_store,
    told_quality,
    train_ways,
    tuned,
)
from runs import RESULTS, ROOT, SEEDS, base, keep_figures, make_masks, spread, train_all

at_once = click.option("--at-once", default=len(os.sched_getaffinity(0)), show_default="cores", help="Runs at a time.")


def _backbone() -> dict[str, Any]:
    """The student's, with the weights that its base starts from, in the words of `generate --set`."""
    train = yaml.safe_load((ROOT / "data_manifest.yaml").read_text(encoding="utf-8"))["train"]
    weights, stride = train["backbone_weights"], train["output_stride"]
    return {
        "backbone": train["backbone"],
        "backbone_args": json.dumps(train["backbone_args"]),
        "weights": weights,
        "stride": stride,
    }


def _values(**values: Any) -> tuple[str, ...]:
    return tuple(f"{name}={value}" for name, value in {**_backbone(), **values}.items())


def _panet(**values: Any) -> Way:
    return Way("panet-backbone", "", "mask", values=_values(**{"vit_size": 224, "bias": 2, **values}), learnt=False)


def _insid3(**values: Any) -> Way:
    plain = {"encoder": "vit", "features": "tokens", "groups": "same", "vit_size": 224, "tau": 0.9, "least": 0.3}
    return Way("insid3-backbone", "", "mask", source="insid3", values=_values(**{**plain, **values}), learnt=False)


#: What was looked at on other drawings, by the names of the rows.
SETTINGS = {
    "panet-224-0": _panet(bias=0),
    "panet-224-1": _panet(bias=1),
    "panet-224-2": _panet(),
    "panet-224-3": _panet(bias=3),
    "panet-0-2": _panet(vit_size=0),
    "panet-288-2": _panet(vit_size=288),
    "panet-two": _panet(maps=2),
    "insid3-0.6": _insid3(tau=0.6, least=0.15),
    "insid3-0.8": _insid3(tau=0.8, least=0.15),
    "insid3-0.9": _insid3(least=0.15),
    "insid3-least": _insid3(),
}
CONFIDENCES = {"panet-224-2": (0.6, 0.7, 0.8), "insid3-least": (0.3, 0.4, 0.5, 0.6)}
#: Of the chosen parameters all masks, which are judged alone: few-masks.json says what all masks of such stores teach.
STORED = (_panet(), _insid3())
#: Those that are confident enough, and the supports alone, with about as many optimiser steps as INSID3's.
LEARNT = (
    *(
        Way(f"{way.key}-sure", "", "mask", source=way.source, values=way.values, masks_of=way.key, least=sure)
        for way, sure in zip(STORED, (0.8, 0.4), strict=True)
    ),
    Way("supports-backbone", "", "mask", masks_of=STORED[1].key, least=1.0, more=("--set", "epoch_steps=16")),
)


@click.group()
def main() -> None:
    """Make and tabulate."""


@main.command()
@at_once
def choose(at_once: int) -> None:
    """Masks of other drawings by each setting, and what those of the chosen ones teach; one seed."""
    make_masks()
    stores = {key: STORES / f"tuning-backbone-{key}.zarr" for key in SETTINGS}
    for key, way in SETTINGS.items():
        make_tuning_store(way, stores[key])
        evaluate(stores[key], stores[key].with_suffix(".json"), "--manifest", TUNING)
    qualities = {key: told_quality(store.with_suffix(".json")) for key, store in stores.items()}
    keep_figures("few-backbone-settings", {key: {"masks": spread([one])} for key, one in qualities.items()}, seeds=1)
    train_all([base(0)], at_once)
    jobs = {
        f"{key}-{least}": tuned(stores[key], RESULTS / f"few-tuning-backbone-{key}-{least}", least)
        for key, values in CONFIDENCES.items()
        for least in values
    }
    train_all(jobs.values(), at_once)
    keep_tuned("few-backbone-choices", jobs)


@main.command()
@at_once
def run(at_once: int) -> None:
    """Stores and bases of every seed, then the trainings; supports and bases are those of few_or_all.py."""
    make_masks()
    train_ways((*STORED, *LEARNT), SEEDS, at_once)


@main.command()
def table() -> None:
    """mIoU of the masks, and old, new and all of what was learnt from them."""
    keep_ways("few-backbone", (*STORED, *LEARNT), SEEDS)


if __name__ == "__main__":
    main()
