"""Masks from tags on photographs where no CLIP is at hand: the table of class activation maps, stage by stage.

    python workflows/photographs/cam.py cam.yaml cam.json --split val --cuts cam-cuts.json

Without --cuts all are tried, which is for choosing: `train` of the manifest must then leave the judged pictures out.
VOC names the folder of VOC 2012, where README.md says which lists. Rows are judged as they are asked for: tags
known, mean IoU of the classes that the pictures show and the background. A classifier that is there is not learnt
again, and the networks look at each picture once for all rows.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray

import wilss
from wilss.equations import fmwiss
from wilss.equations.metrics import Scores, confusion
from wilss.store import label_map
from wilss_masks.make.options import Options
from wilss_masks.make.request import plan_for, selection_for
from wilss_masks.sources.base import ImageTask
from wilss_masks.sources.cam import CamParams, CamSource
from wilss_masks.sources.cam.masks import refine_cam
from wilss_masks.sources.cam.proposer import CamProposer, Loaded, attention_of

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import tables

CUTS = (0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7)
NONE = {"affinity_from": "none", "patches": False, "classes": "overlap", "regions": "none", "boundaries": "none"}
AFFINITY, ONCE = {"affinity_from": "own"}, {"patches": True, "patch_rounds": 1}
PATCHES = {"patches": True, "patch_rounds": 12, "patch_again": 0.7}
COMPETE = {"classes": "compete"}
SUPERPIXELS = {"regions": "felzenszwalb", "region_size": 100}
SIZE = {"stage_size": 384}
ALL = {**AFFINITY, **PATCHES, **COMPETE, **SUPERPIXELS, "boundaries": "pamr"}


@dataclass(frozen=True)
class Row:
    key: str
    name: str
    values: Mapping[str, Any] = field(default_factory=dict)
    cut_of: str = ""  # the row whose cut it has, "" for its own
    cuts: tuple[float, ...] = CUTS  # that are tried; boundaries and regions are too slow for all


ROWS = (
    Row("cam", "class activation maps of a linear classifier on frozen features"),
    Row("affinity", "+ spread along the features' affinity", AFFINITY),
    Row("once", "+ patches learnt from the maps of all pictures", {**AFFINITY, **ONCE}),
    Row("patches", "+ and eleven times again from what was learnt before", {**AFFINITY, **PATCHES}),
    Row("compete", "+ classes compete", {**AFFINITY, **PATCHES, **COMPETE}),
    Row("superpixels", "+ regions: superpixels", {**ALL, "boundaries": "none"}, "pamr"),
    Row("pamr", "+ boundaries: PAMR", ALL, cuts=(0.5, 0.6, 0.7)),
    Row("no-affinity", "all, masks without the affinity", {**ALL, "affinity_from": "none"}, "pamr"),
    Row("no-patches", "all, without patches", {**ALL, "patches": False}, "affinity"),
    Row("no-again", "all, patches learnt once", {**ALL, **ONCE}, "once"),
    Row("no-compete", "all, overlaps by confidence", {**ALL, "classes": "overlap"}, "patches"),
    Row("no-superpixels", "all, without superpixels", {**ALL, "regions": "none"}, "compete"),
)


@dataclass(frozen=True)
class Asked:
    """What is measured. tried: cuts by row."""

    manifest_path: Path
    split: str
    tried: Mapping[str, tuple[float, ...]]

    @property
    def manifest(self) -> Any:
        return wilss.load_manifest(self.manifest_path)

    def sources(self, seed: int) -> dict[int, CamSource]:
        """By how often patches are learnt: each is a classifier of its own."""
        return {
            int(patches["patch_rounds"]): CamSource.from_manifest(self.manifest, 0, {**ALL, **SIZE, **patches}, seed)
            for patches in (ONCE, PATCHES)
        }


@click.command()
@click.argument("manifest_path", type=click.Path(path_type=Path, exists=True))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--split", default="val", show_default=True)
@click.option(
    "--cuts", type=click.Path(path_type=Path, exists=True), help="Figures whose cuts are taken; else all are tried."
)
@click.option("--seeds", default=1, show_default=True, help="How many seeds, from 0.")
@click.option("--processes", default=1, show_default=True, help="Which share the pictures.")
def main(manifest_path: Path, out: Path, split: str, cuts: Path | None, seeds: int, processes: int) -> None:
    tried: dict[str, tuple[float, ...]] = {row.key: row.cuts for row in ROWS if not row.cut_of}
    if cuts is not None:
        chosen = {row["key"]: row["cut"] for row in json.loads(cuts.read_text())["rows"]}
        tried = {row.key: (chosen[row.cut_of or row.key],) for row in ROWS}
    found = [_of_seed(Asked(manifest_path, split, tried), seed, processes) for seed in range(seeds)]
    rows = []
    for row in (row for row in ROWS if row.key in tried):
        means = {cut: [one[row.key, cut] for one in found] for cut in tried[row.key]}
        best = max(means, key=lambda cut: float(np.mean(means[cut])))
        rows.append({"key": row.key, "name": row.name, "miou": _cell(means[best]), "cut": best})
    words = f"workflows/photographs/cam.py {manifest_path.name} {out.name} --split {split}"
    command = (
        f"python {words}{'' if cuts is None else f' --cuts {cuts.name}'}{f' --seeds {seeds}' if seeds > 1 else ''}"
    )
    figures = {
        "title": "Masks of photographs from tags and a classifier, tags known",
        "measured": tables.measured_now(command, seeds=seeds),
        "heading": "",
        "columns": {"miou": "mIoU, 21 classes"},
        "rows": rows,
    }
    click.echo(tables.table_of(figures))
    out.write_text(tables.as_text(figures), encoding="utf-8")


def _cell(values: list[float]) -> Any:
    if len(values) == 1:
        return values[0]
    return {"mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1))}


def _of_seed(asked: Asked, seed: int, processes: int) -> dict[tuple[str, float], float]:
    """Mean IoU in percent by row and cut; pictures are shared out among so many processes."""
    sources = [source.prepare("cpu") for source in asked.sources(seed).values()]
    with ProcessPoolExecutor(processes) as pool:
        parts = list(pool.map(partial(_of_part, asked, seed, processes), range(processes)))
    names = ("background", *sources[0].classes)
    matrices = {key: np.sum([part[key] for part in parts], axis=0) for key in parts[0]}
    return {key: 100 * float(Scores(names=names, matrix=matrix).mean_iou) for key, matrix in matrices.items()}


def _of_part(asked: Asked, seed: int, processes: int, part: int) -> dict[tuple[str, float], NDArray[np.int64]]:
    """Confusion matrices of every so manyth picture."""
    sources = {rounds: source.prepare("cpu") for rounds, source in asked.sources(seed).items()}
    proposers = {rounds: source.open("cpu", 1) for rounds, source in sources.items()}
    source = next(iter(sources.values()))
    manifest = asked.manifest
    ids = np.array(manifest.protocol.new(0))
    records = selection_for(manifest, 0, source, asked.split).records
    plan = plan_for(manifest, 0, source, records, Options(split=asked.split))
    matrices: dict[tuple[str, float], NDArray[np.int64]] = {}
    with torch.inference_mode():
        for number, task in enumerate(plan.images[part::processes]):
            if not task.categories:
                continue
            assert task.record.label is not None
            truth, named = task.record.label.read(), ids[list(task.categories)]
            for key, labels in _labels(proposers, task, named, asked.tried):
                matrices[key] = matrices.get(key, 0) + confusion(truth, labels, tuple(ids.tolist()))
            if number % 5 == 4:
                click.echo(f"seed {seed}, part {part}: {number + 1} pictures", err=True)
    return matrices


def _labels(
    proposers: Mapping[int, CamProposer],
    task: ImageTask,
    named: NDArray[np.int64],
    tried: Mapping[str, tuple[float, ...]],
) -> Iterator[tuple[tuple[str, float], NDArray[np.uint8]]]:
    """Label maps of one picture by row and cut."""
    loaded: Loaded = next(iter(proposers.values())).load(task)
    seen = {rounds: proposer.look(loaded, list(task.categories)) for rounds, proposer in proposers.items()}
    for row in (row for row in ROWS if row.key in tried):
        for cut in tried[row.key]:
            how = replace(CamParams(), **{**SIZE, **NONE, **row.values, "cut": cut})
            here = seen.get(how.patch_rounds, seen[1])
            maps = attention_of(here if how.affinity_from == "own" else here._replace(compared=[]), how)
            refined = refine_cam(here.score, maps, task.height, task.width, how, loaded.picture)
            confidence = fmwiss.confidence(refined.score, refined.fused).numpy()
            yield (row.key, cut), label_map(refined.fused.numpy(), named, confidence)


if __name__ == "__main__":
    main()
