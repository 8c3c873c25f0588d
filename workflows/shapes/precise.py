"""Masks that are cut for precision, in steps of one class: smaller ones, and ones whose unsure pixels are void.

    python workflows/shapes/precise.py run     # 15-1 in another order, on other drawings; goes on step by step
    python workflows/shapes/precise.py table   # figures/precise.json

Bases and masks as they are otherwise are those of `steps.py run --tune`.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import replace

import click
import numpy as np
from runs import Cell, keep_figures, spread
from steps import TUNING, Chain, at_the_end, finished, protocol_of, run_chains, seeded, trained

WHOLE = TUNING[0]
#: Cuts at more standard deviations above the mean than the manifest's 0.8, and void where masks are less sure.
CUTS = {
    "cut-1.2": "keep_amount=1.2",
    "cut-1.6": "keep_amount=1.6",
    "unsure-0.55": "unsure=0.55",
    "unsure-0.6": "unsure=0.6",
}
CHAINS = (WHOLE, *(replace(WHOLE, key=f"tuning-{key}", cut=(value,)) for key, value in CUTS.items()))


@click.group()
def main() -> None:
    """Train and tabulate."""


@main.command()
@seeded
@click.option("--at-once", default=len(os.sched_getaffinity(0)), show_default="cores", help="Chains at a time.")
def run(seeds: Sequence[int], at_once: int) -> None:
    """Masks, bases, then all chains, each on one thread."""
    run_chains(CHAINS, seeds, at_once)


@main.command()
def table() -> None:
    """How masks are cut, how right they are then, and what five steps end with."""
    cells = {
        key: {**_of_masks(chain), **at_the_end(chain)} for key, chain in zip(("whole", *CUTS), CHAINS, strict=True)
    }
    runs = [run for chain in CHAINS for run in trained(chain)]
    keep_figures("precise", cells, seeds=min(len(finished(chain)) for chain in CHAINS), trained=runs)


def _of_masks(chain: Chain) -> dict[str, Cell]:
    """How right the masks of all steps are, in the mean; void counts as background."""
    judged = (chain.masks(step).with_suffix(".json") for step in range(1, protocol_of(chain).num_steps))
    told = [json.loads(path.read_text(encoding="utf-8")) for path in judged]
    return {
        name: spread([float(np.mean([list(one[name].values())[1] for one in told]))])
        for name in ("iou", "precision", "recall")
    }


if __name__ == "__main__":
    main()
