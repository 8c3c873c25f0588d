"""Classes that come one or two at a time: 15-1, 10-2 and 19-1 on the built-in data, three seeds, mean and spread.

    python workflows/shapes/steps.py rows          # what is still to be trained, one line each
    python workflows/shapes/steps.py run           # masks and training; can be stopped, and goes on step by step
    python workflows/shapes/steps.py judge         # what is trained so far, beside `run`, which else does it at the end
    python workflows/shapes/steps.py table         # read the reports: figures/steps.json and figures/protocols.json
    python workflows/shapes/steps.py table --only 10-2 --only 19-1   # of these chains alone
    python workflows/shapes/steps.py run --tune    # 15-1 in another order of classes, on drawings of seed 2000
    python workflows/shapes/steps.py table --tune  # what that came to: figures/steps-tuning.json
    python workflows/shapes/steps.py run --only 15-1 --seed 0 --set precision=fp32   # one of them

A step is trained from the one before it, so what is lost is lost for all that come later. Rows that are done are not
trained again; `rm -r workflows/shapes/results/steps` starts again.
"""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import yaml
from runs import (
    HERE,
    RESULTS,
    ROOT,
    SEEDS,
    Cell,
    Job,
    command,
    job,
    keep_figures,
    seconds,
    spread,
    train_all,
    write_manifest,
)

STEPS = RESULTS / "steps"
#: What wilss-eval says of a run, in its folder.
JUDGED = "eval.json"
#: Of later steps whose classes have heads of their own, which learn at the full rate.
OWN: tuple[str, ...] = ("--epochs", "15", "--set", "heads=step")
#: Where classes share a head few pictures at the rate of many lose more of what is known than they gain.
SHARED = ("--lr", "0.005", "--set", "heads=shared")
PLAIN = (*SHARED, "--set", "logit_adjustment=never", "--set", "batch_norm=train")
#: Fifteen classes, then five steps of one, none of them one of the reported five.
_TUNED_STEPS = [[*range(6, 21)], *([one] for one in range(1, 6))]
_TUNED_DATA = "generate: {with: shapes, train: 400, val: 200, seed: 2000}"


@dataclass(frozen=True)
class Chain:
    """Steps that follow each other. words: for wilss-train, in later steps. cut: for `fuse`, of other masks."""

    key: str
    title: str
    protocol: str
    words: tuple[str, ...]
    tuned: bool = False
    cut: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Of manifest, masks and bases, which chains of one protocol share."""
        return STEPS / ("tuning" if self.tuned else self.protocol)

    @property
    def manifest(self) -> Path:
        return self.folder / "data_manifest.yaml"

    def out(self, step: int, seed: int) -> Path:
        return self.folder / (f"{self.key}-{seed}/step-{step}" if step else f"base-{seed}")

    def masks(self, step: int) -> Path:
        return self.folder / f"masks{f'-{self.key}' if step and self.cut else ''}/step-{step}.zarr"


ONE = Chain("15-1", "15-1: five steps of one class, a head for each", "15-1", OWN)
#: As long as the manifest says.
LONG = Chain("long", "15-1: the same, 25 epochs a step", "15-1", ("--set", "heads=step"))
ONE_HEAD = Chain("shared", "15-1 with one head for all classes", "15-1", SHARED)
CHAINS = (
    ONE,
    LONG,
    ONE_HEAD,
    Chain("plain", "15-1 with one head, neither logits adjusted nor statistics kept", "15-1", PLAIN),
    Chain("10-2", "10-2: five steps of two classes", "10-2", OWN),
    Chain("19-1", "19-1: one step of one class", "19-1", OWN),
)
#: Chains with a table of their own, which tells of every step.
TABLES = {"steps": ONE, "steps-long": LONG, "steps-shared": ONE_HEAD}
TUNING = (
    Chain("tuning", "heads of their own", "15-1", OWN, tuned=True),
    Chain("tuning-shared", "one head for all classes", "15-1", SHARED, tuned=True),
)
tuned = click.option("--tune", is_flag=True, help="The other drawings and classes, which settings are chosen on.")
seeded = click.option("--seed", "seeds", multiple=True, type=int, default=SEEDS, show_default=True, help="Of training.")
only = click.option("--only", multiple=True, type=click.Choice([one.key for one in CHAINS]), help="These chains alone.")
set_values = click.option("--set", "values", multiple=True, help="A parameter of every run, such as precision=fp32.")


@click.group()
def main() -> None:
    """Train and tabulate."""


@main.command()
@tuned
@only
@seeded
def rows(tune: bool, only: Sequence[str], seeds: Sequence[int]) -> None:
    """What is still to be trained."""
    for chain in _chosen(tune, only):
        _write_manifest(chain)
        for one in (each for seed in seeds for each in _jobs(chain, seed) if not each.is_done):
            print("wilss-train", *one.words)


@main.command()
@tuned
@only
@seeded
@set_values
@click.option("--at-once", default=len(os.sched_getaffinity(0)), show_default="cores", help="Chains at a time.")
def run(tune: bool, only: Sequence[str], seeds: Sequence[int], values: Sequence[str], at_once: int) -> None:
    """Masks, bases, then all chains, each on one thread."""
    run_chains(_chosen(tune, only), seeds, at_once, values)


def run_chains(chains: Sequence[Chain], seeds: Sequence[int], at_once: int, values: Sequence[str] = ()) -> None:
    """Masks, bases, then all chains, each on one thread. values: parameters of every run, `name=value`."""
    for chain in chains:
        _make_masks(chain)
    jobs = {(chain, seed): list(_jobs(chain, seed, values)) for seed in seeds for chain in chains}
    train_all({steps[0].out: steps[0] for steps in jobs.values()}.values(), at_once)
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(_train_chain, jobs.values()))
        runs = {one.out: one for steps in jobs.values() for one in steps}  # chains share their base
        list(pool.map(_judge, runs.values()))


@main.command()
@tuned
@only
@seeded
def judge(tune: bool, only: Sequence[str], seeds: Sequence[int]) -> None:
    """Judge what is trained by now, while `run` trains on; without it `run` does so at the end."""
    for chain in _chosen(tune, only):
        for seed in seeds:
            for one in _jobs(chain, seed):
                _judge(one)


@main.command()
@tuned
@only
def table(tune: bool, only: Sequence[str]) -> None:
    """Every step of 15-1 into tables of their own; what the other chains end with into figures/protocols.json."""
    if tune:
        runs = [run for chain in TUNING for run in trained(chain)]
        keep_figures("steps-tuning", _tuned_cells(), seeds=len(finished(TUNING[0])), trained=runs)
        return
    chains = _chosen(tune, only)
    for chain in chains:
        _write_manifest(chain)
    for name, chain in TABLES.items():
        if chain in chains:
            keep_figures(name, _by_step(chain), seeds=len(finished(chain)), trained=trained(chain))
    _keep_ends([chain for chain in chains if chain not in TABLES.values()])


def _keep_ends(chains: Sequence[Chain]) -> None:
    """What these chains end with, and nothing of the others, into protocols.json, once all have as many seeds."""
    if not chains:
        return
    counts = {chain.key: len(finished(chain)) for chain in chains}
    if waiting := [key for key, count in counts.items() if not count]:
        print(f"protocols.json stays as it is: there is nothing yet for {', '.join(waiting)}", file=sys.stderr)
        return
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{key} {count}" for key, count in counts.items())
        print(f"protocols.json stays as it is: not all have as many seeds ({told})", file=sys.stderr)
        return
    (HERE / "figures/protocols.json").write_text(json.dumps(_ends(chains), ensure_ascii=False), encoding="utf-8")
    runs = [run for chain in chains for run in trained(chain)]
    cells = {chain.key: at_the_end(chain) for chain in chains}
    keep_figures("protocols", cells, seeds=next(iter(counts.values())), trained=runs)


def _chosen(tune: bool, only: Sequence[str]) -> tuple[Chain, ...]:
    return TUNING if tune else tuple(chain for chain in CHAINS if not only or chain.key in only)


def _jobs(chain: Chain, seed: int, values: Sequence[str] = ()) -> Iterator[Job]:
    """The runs of a chain, each of which needs the one before. values: parameters of all of them, `name=value`."""
    given = [word for value in values for word in ("--set", value)]
    for step in range(protocol_of(chain).num_steps):
        later = ("--from", str(chain.out(step - 1, seed)), *chain.words) if step else ()
        words = ("--manifest", str(chain.manifest), "--split", "none", *given, *later)
        yield job(chain.out(step, seed), seed, str(chain.masks(step)), words)


def _train_chain(jobs: Sequence[Job]) -> None:
    """One after the other, as far as each is done."""
    for one in jobs:
        train_all([one], 1)
        if not one.is_done:
            return


def _judge(one: Job) -> None:
    """Once: `wilss-train` would judge the network of the step before as well, which is judged already."""
    if one.is_done and _told(one.out) is None:
        manifest = one.words[one.words.index("--manifest") + 1]
        command("wilss-eval", one.out, "-q", "--manifest", manifest, "--json", one.out / JUDGED)


def _told(run: Path) -> dict[str, Any] | None:
    """The scores of a run, as wilss-train or wilss-eval wrote them; None where neither has."""
    if (run / JUDGED).exists():
        scores: dict[str, Any] = json.loads((run / JUDGED).read_text(encoding="utf-8"))
        return scores
    if (report := run / "report.json").exists():
        scores = json.loads(report.read_text(encoding="utf-8"))["scores"]
        return scores
    return None


def _seconds(run: Path) -> float:
    """How long the optimiser steps took, those before a stop included."""
    lines = (json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines())
    return float(max(line["timing"]["seconds"] for line in lines if "timing" in line))


def _make_masks(chain: Chain) -> None:
    _write_manifest(chain)
    whole, given = replace(chain, cut=()), ("--manifest", chain.manifest)
    for step in range(protocol_of(chain).num_steps):
        more = ("--keep", "scores") if step else ()
        command("wilss-masks", "generate", "--step", step, "--out", whole.masks(step), *given, *more)
        masks = chain.masks(step)
        if not step or (judged := masks.with_suffix(".json")).exists():
            continue
        if chain.cut:
            words = (word for one in chain.cut for word in ("--set", one))
            command("wilss-masks", "fuse", whole.masks(step), "--out", masks, "--overwrite", *given, *words)
        command("wilss-masks", "evaluate", masks, *given, "--json", judged)


def _write_manifest(chain: Chain) -> None:
    """The built-in one with another protocol, or other drawings as well."""
    data = ROOT / f"data/shapes{'-steps' * chain.tuned}"
    changed = {
        "name:": f"name: shapes-{chain.folder.name}",
        "path:": f"path: {data}",
        "protocol:": f"protocol: {chain.protocol}",
    }
    if chain.tuned:
        steps = [{"classes": ids, "supervision": "tags" if step else "pixel"} for step, ids in enumerate(_TUNED_STEPS)]
        changed["protocol:"] = yaml.safe_dump({"steps": steps}, default_flow_style=None).strip()
        changed["generate:"] = _TUNED_DATA
    write_manifest(chain.manifest, changed)


def protocol_of(chain: Chain) -> Any:
    from wilss.data.manifest import load_manifest

    return load_manifest(chain.manifest).protocol


def finished(chain: Chain) -> list[int]:
    """The seeds whose last step is done."""
    last = protocol_of(chain).num_steps - 1
    return [seed for seed in SEEDS if _told(chain.out(last, seed)) is not None]


def trained(chain: Chain) -> list[Path]:
    """The runs that its table rests on: those of finished seeds, or what there is by now."""
    runs = (chain.out(step, seed) for seed in finished(chain) or SEEDS for step in range(protocol_of(chain).num_steps))
    return [run for run in runs if _told(run) is not None]


def _by_step(chain: Chain) -> dict[str, dict[str, Cell]]:
    """Masks, old, new, first, later and all mIoU after every step, by the name of its class; of seeds that are done.

    first: of the base's classes. later: of the classes of this step and of those before it, but for the base's.
    """
    protocol, seeds = protocol_of(chain), finished(chain) or SEEDS
    cells = {}
    for step in range(protocol.num_steps):
        key = protocol.taxonomy.name_of(protocol.new(step)[0]) if step else "base"
        judged = chain.masks(step).with_suffix(".json")
        masks = json.loads(judged.read_text(encoding="utf-8"))["mean_iou"] if judged.exists() else None
        runs = [chain.out(step, seed) for seed in seeds]
        told = [scores for run in runs if (scores := _told(run)) is not None]
        scores = {
            name: spread([one.get(f"mean_iou{end}") for one in told])
            for name, end in (("old", "_old"), ("new", "_new"), ("all", ""))
        }
        since = [one for each in range(1, step + 1) for one in protocol.new(each)]
        scores["first"] = spread([_mean_of(one, protocol, protocol.new(0)) for one in told])
        scores["later"] = spread([_mean_of(one, protocol, since) for one in told])
        took = seconds([_seconds(run) for run in runs if (run / "log.jsonl").exists()])
        cells[key] = {"masks": spread([masks]), **scores, "seconds": took} if told else {}
    return cells


def _tuned_cells() -> dict[str, dict[str, Cell]]:
    """mIoU after every step with heads of their own, and beside it as far as there is one head."""
    own, shared = (_by_step(chain) for chain in TUNING)
    scores = ("first", "later", "new", "all")
    return {
        key: {
            **{name: cell.get(name) for name in ("masks", *scores)},
            **{f"{name}_shared": shared[key].get(name) for name in scores},
        }
        for key, cell in own.items()
    }


def at_the_end(chain: Chain) -> dict[str, Cell]:
    """mIoU of the base's classes before and after all steps, of all later ones, and of all with the background."""
    protocol = protocol_of(chain)
    seeds = finished(chain)
    told = [scores for seed in seeds if (scores := _told(chain.out(protocol.num_steps - 1, seed))) is not None]
    bases = [scores for seed in seeds if (scores := _told(chain.out(0, seed))) is not None]
    later = [identity for step in range(1, protocol.num_steps) for identity in protocol.new(step)]
    return {
        "base": spread([_mean_of(one, protocol, protocol.new(0)) for one in bases]),
        "first": spread([_mean_of(one, protocol, protocol.new(0)) for one in told]),
        "later": spread([_mean_of(one, protocol, later) for one in told]),
        "all": spread([one["mean_iou"] for one in told]),
    }


def _mean_of(scores: dict[str, Any], protocol: Any, ids: Sequence[int]) -> float | None:
    """Mean IoU of those of the classes `ids` that were judged."""
    iou = scores.get("iou", {})
    known = [iou[name] for one in ids if (name := protocol.taxonomy.name_of(one)) in iou]
    return float(np.mean(known)) if known else None


def _ends(chains: Sequence[Chain]) -> dict[str, Any]:
    """figures/protocols.json of these chains, without a figure."""
    chosen = "".join(f" --only {chain.key}" for chain in chains)
    return {
        "title": "One or two classes at a time on the built-in data: mIoU in percent",
        "measured": {"command": f"python workflows/shapes/steps.py run{chosen}"},
        "columns": {
            "base": "base: its classes",
            "first": "after the last step",
            "later": "later classes",
            "all": "all",
        },
        "rows": [{"key": chain.key, "name": chain.title} for chain in chains],
    }


if __name__ == "__main__":
    main()
