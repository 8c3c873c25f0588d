"""The table of mask quality on the 300 held-out pictures: the method, its ablation, and the controls beside it.

    python workflows/shapes/masks.py          # prints the table, writes results/masks.json
    python workflows/shapes/masks.py tune     # the choice of parameters, on pictures of another seed

Rows that are done are not made again. Parameters come from held-out.yaml, where `tune` suggested them.
"""

import itertools
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from controls import ClassActivation, TrueSeeds, WholeImage

import wilss
from wilss.manifest import EncoderSpec, Manifest
from wilss.store import MaskStore, label_map
from wilss_masks import FmwissSource, Options, generate
from wilss_masks.confusion import Scores, confusion
from wilss_masks.evaluate import evaluate
from wilss_masks.kept import KeptReader
from wilss_masks.origin import records_of
from wilss_masks.sources.params import FusionParams

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
CAM_THRESHOLDS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.4)


@click.group(invoke_without_command=True)
@click.pass_context
def main(context: click.Context) -> None:
    """Print the table; `tune` chooses parameters."""
    if context.invoked_subcommand is None:
        table()


def table() -> None:
    """All rows, on held-out.yaml's `val`."""
    manifest = wilss.load_manifest(HERE / "held-out.yaml")
    rows = dict(_rows(manifest, "val"))
    for name, figures in rows.items():
        print(f"{name:58} {100 * figures['mean_iou']:5.1f}  {100 * figures['mean_iou_classes']:5.1f}")
    (RESULTS / "masks.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def _rows(manifest: Manifest, split: str) -> Iterator[tuple[str, dict[str, float]]]:
    method = FmwissSource.from_manifest(manifest, step=0)
    ids = manifest.protocol.new(0)
    whole = _scores(manifest, split, method, "method", ablation=True)
    print(f"{'':58} {'mIoU':>5}  {'without background':>5}")
    names = {"init": "M_init: CLIP alone", "seeds": "M_seeds: seed attention alone",
             "intersection": "intersection", "union": "union, the method"}  # fmt: skip
    for key, name in names.items():
        yield name, whole[key]
    untrained = replace(method, vit=_untrained(method.vit))
    shown = _scores(manifest, split, untrained, "untrained-vit", ablation=True)
    yield "untrained ViT: seed attention alone", shown["seeds"]
    yield "untrained ViT: union", shown["union"]
    perfect = _scores(manifest, split, TrueSeeds(method=method, category_ids=ids), "true-seeds", ablation=True)
    yield "seeds from the true masks: seed attention alone", perfect["seeds"]
    yield "seeds from the true masks: union", perfect["union"]
    literal = replace(method, params=replace(method.params, keep="mass", keep_amount=0.7))
    yield "union, K = 70 % of the mass (the paper's K)", _scores(manifest, split, literal, "mass")["stored"]
    literal = replace(method, params=replace(method.params, keep="locations", keep_amount=0.7))
    yield "union, K = 70 % of the locations", _scores(manifest, split, literal, "locations")["stored"]
    yield "whole image = tag", _scores(manifest, split, WholeImage(), "whole-image")["stored"]
    cam = HERE / "results/cam.safetensors"
    if cam.exists():
        threshold = float((RESULTS / "cam-threshold.txt").read_text())
        source = ClassActivation(weights=cam, threshold=threshold, category_ids=ids)
        yield f"CAM of a small CNN, cut at {threshold:g}", _scores(manifest, split, source, "cam")["stored"]


def _untrained(vit: EncoderSpec) -> EncoderSpec:
    return replace(vit, file=None, sha256=None, sha256_from="", pretrained="random:0")


def _scores(
    manifest: Manifest, split: str, source: Any, name: str, *, ablation: bool = False
) -> dict[str, dict[str, float]]:
    """Mean IoU of a source's masks, and of the ablation's, by name."""
    store = RESULTS / "stores" / f"{manifest.name}-{name}.zarr"
    options = Options(split=split, keep_scores=ablation)
    print(f"  {name} ...", file=sys.stderr, flush=True)
    generate(manifest, step=0, source=source, out=store, options=options)
    found = evaluate(MaskStore.open(store), manifest, ablation=ablation)
    return {key: _means(scores) for key, scores in found.scores.items()}


def _means(scores: Scores) -> dict[str, float]:
    return {"mean_iou": float(scores.mean_iou), "mean_iou_classes": float(scores.mean_iou_classes)}


@main.command()
def tune() -> None:
    """The best threshold, K and CAM cut on the tuning pictures, with the ablation at each of the best."""
    manifest = wilss.load_manifest(HERE / "tuning.yaml")
    method = FmwissSource.from_manifest(manifest, step=0)
    grid = [
        FusionParams(threshold=threshold, keep="std", keep_amount=amount, fusion=fusion)
        for threshold, amount, fusion in itertools.product(
            (0.5, 0.55, 0.6, 0.65, 0.7, 0.75), (0.5, 1.0, 1.5, 2.0), ("init", "seeds", "union", "intersection")
        )
    ]
    for affinity in ("qk", "kk"):
        source = replace(method, params=replace(method.params, affinity=affinity))
        _scores(manifest, "train", source, f"tuning-{affinity}", ablation=True)
        store = MaskStore.open(RESULTS / "stores" / f"{manifest.name}-tuning-{affinity}.zarr")
        ranked = sorted(((_score_of(store, manifest, params), params) for params in grid), key=lambda pair: -pair[0])
        best: dict[str, int] = {}
        for score, params in ranked:
            if best.setdefault(params.fusion, 0) < 3:
                best[params.fusion] += 1
                print(
                    f"{affinity}  {params.fusion:12} threshold {params.threshold:<5g} std {params.keep_amount:<4g} {100 * score:5.1f}"
                )
    _tune_cam(manifest)


def _score_of(store: MaskStore, manifest: Manifest, params: FusionParams) -> float:
    """Mean IoU of the store's kept maps under other fusion parameters."""
    from wilss.equations import fmwiss

    reader, records = KeptReader(store), records_of(store, manifest)
    ids = store.vector("category_id")
    matrix: Any = 0
    for row, name in enumerate(store.image_ids):
        maps = reader.read(row)
        refined = maps.refine(params)
        confidence = fmwiss.confidence(refined.score, refined.fused)
        labels = label_map(refined.fused.numpy(), ids[list(maps.categories)], confidence.numpy())
        label = records[name].label
        assert label is not None
        matrix = matrix + confusion(label.read(), labels, store.category_ids)
    return float(Scores(names=("background", *store.category_names), matrix=matrix).mean_iou)


def _tune_cam(manifest: Manifest) -> None:
    cam = RESULTS / "cam.safetensors"
    if not cam.exists():
        print("no results/cam.safetensors: train it with `train_encoders.py cam` to have its row")
        return
    ids = manifest.protocol.new(0)
    found = {}
    for threshold in CAM_THRESHOLDS:
        source = ClassActivation(weights=cam, threshold=threshold, category_ids=ids)
        found[threshold] = _scores(manifest, "train", source, f"cam-{threshold:g}")["stored"]["mean_iou"]
        print(f"CAM cut at {threshold:<5g} {100 * found[threshold]:5.1f}")
    (RESULTS / "cam-threshold.txt").write_text(f"{max(found, key=lambda t: found[t])}\n")


if __name__ == "__main__":
    main()
