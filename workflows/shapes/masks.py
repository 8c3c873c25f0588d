"""The tables of mask quality on the 300 held-out pictures: the levers, the paper's ablation, and controls.

    python workflows/shapes/masks.py          # prints the ablation, writes figures/masks.json
    python workflows/shapes/masks.py levers   # the recipe lever by lever, with time; writes figures/levers.json
    python workflows/shapes/masks.py tune     # the choice of parameters, on pictures of another seed

Rows that are done are not made again. Parameters come from held-out.yaml, where `tune` suggested them.
"""

import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

import click
from controls import ClassActivation, TrueSeeds, WholeImage
from runs import HERE, RESULTS, SEEDS, Cell, keep_figures, spread
from torch import Tensor

import wilss
from wilss.data.images import to_pixels
from wilss.data.manifest import EncoderSpec, Manifest
from wilss.equations import fmwiss
from wilss.equations.metrics import Scores, confusion
from wilss.params import parse_assignments
from wilss.store import MaskStore, label_map
from wilss.store.records import records_for
from wilss_masks import FmwissSource, Options, generate
from wilss_masks.inspect.evaluate import evaluate
from wilss_masks.inspect.fuse import fuse
from wilss_masks.inspect.kept_scores import KeptMaps, KeptReader
from wilss_masks.make.request import plan_for

THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
KEEPS: tuple[tuple[Literal["mass", "locations", "std"], float], ...] = (
    ("std", 0.5), ("std", 0.75), ("std", 1.0), ("std", 1.25), ("std", 1.5), ("mass", 0.3), ("mass", 0.5), ("mass", 0.7),
)  # fmt: skip
#: Where M_init is best cut on the tuning pictures when it stands alone or is intersected; the method wants surer seeds.
BEST_CUT = {"init": 0.4, "intersection": 0.2}
CAM_THRESHOLDS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.4)


#: The recipe from before there were stages, on which the paper's ablation is made: seeds drawn where M_init is sure.
FORMER = {
    "preset": "paper", "clip_size": 0, "vit_size": 224, "threshold": 0.9, "keep": "std", "keep_amount": 1.0, "draws": 5,
}  # fmt: skip
SOFT = {"vit_size": 192, "placing": "soft", "power": 1.0, "fusion": "seeds", "keep_amount": 0.8}
#: One lever after the other, from the former recipe to the one of held-out.yaml.
ADDED: dict[str, Mapping[str, Any]] = {
    "former": FORMER,
    "soft": FORMER | SOFT,
    "twice": FORMER | SOFT | {"passes": 2},
    "compete": FORMER | SOFT | {"passes": 2, "classes": "compete"},
    "default": {},
}
#: The recipe of held-out.yaml without one of them, and with others that were tried.
CHANGED: dict[str, Mapping[str, Any]] = {
    "no-soft": {"placing": "drawn", "threshold": 0.9, "draws": 5},
    "no-twice": {"passes": 1},
    "no-compete": {"classes": "overlap"},
    "no-guided": {"boundaries": "none"},
    "symmetric": {"balance": "symmetric"},
    "sinkhorn": {"balance": "sinkhorn"},
    "squared": {"squared": "true"},
    "qq+kk": {"affinity": "qq+kk"},
    "kk": {"affinity": "kk", "negatives": "cut", "sharpness": 5},
    "vv": {"affinity": "vv", "negatives": "cut", "sharpness": 5},
    "outputs": {"affinity": "outputs", "negatives": "cut", "sharpness": 10},
    "blocks": {"attention_blocks": 2},
    "clip-attention": {"clip_attention": "true"},
    "pamr": {"boundaries": "pamr", "pamr_rounds": 20},
    "margin": {"background": "margin", "power": 2.0},
    "gradcam": {"score": "gradcam"},
    "neighbour": {"form": "neighbour"},
    "proxy": {"form": "proxy"},
    "superpixels": {"regions": "felzenszwalb"},
}


@click.group(invoke_without_command=True)
@click.pass_context
def main(context: click.Context) -> None:
    """Print the table; `tune` chooses parameters."""
    if context.invoked_subcommand is None:
        table()


def table() -> None:
    """All rows, on held-out.yaml's `val`, into figures/masks.json."""
    manifest = wilss.load_manifest(HERE / "held-out.yaml")
    rows: dict[str, dict[str, Cell]] = {}
    for key, figures in _rows(manifest, "val"):
        rows[key] = {name: spread([value]) for name, value in figures.items()}
    keep_figures("masks", rows, seeds=1)


def _rows(manifest: Manifest, split: str) -> Iterator[tuple[str, dict[str, float]]]:
    """Key and figures of every row of the table; M_init and the intersection stand at their own best cut as well."""
    ids = manifest.protocol.new(0)
    method = FmwissSource.from_manifest(manifest, step=0, values=FORMER)
    whole = judged(manifest, split, method, "method", ablation=True)
    yield "union", whole["union"]
    yield "seeds", whole["seeds"]
    yield "init", whole["init"]
    yield "init-cut", _refused(manifest, "method", "init")
    yield "intersection", whole["intersection"]
    yield "intersection-cut", _refused(manifest, "method", "intersection")

    one_draw = replace(method, params=replace(method.params, draws=1))
    yield "one-draw", judged(manifest, split, one_draw, "one-draw")["stored"]
    ways: tuple[Literal["mass", "locations"], ...] = ("mass", "locations")
    for keep in ways:
        literal = replace(method, params=replace(method.params, keep=keep, keep_amount=0.7))
        yield keep, judged(manifest, split, literal, keep)["stored"]
    keys = replace(method, params=replace(method.params, affinity="kk"))
    yield "kk", judged(manifest, split, keys, "kk")["stored"]
    value = replace(method, params=replace(method.params, form="value"))
    yield "value", judged(manifest, split, value, "value")["stored"]

    untrained = judged(manifest, split, replace(method, vit=_untrained(method.vit)), "untrained-vit", ablation=True)
    yield "untrained-vit", untrained["union"]
    yield "untrained-vit-seeds", untrained["seeds"]
    yield "whole-image", judged(manifest, split, WholeImage(), "whole-image")["stored"]
    cam = RESULTS / "cam.safetensors"
    if cam.exists():
        threshold = float((RESULTS / "cam-threshold.txt").read_text())
        source = ClassActivation(weights=cam, threshold=threshold, category_ids=ids)
        yield "cam", judged(manifest, split, source, "cam")["stored"]
    perfect = judged(manifest, split, TrueSeeds(method=method, category_ids=ids), "true-seeds", ablation=True)
    yield "true-seeds", perfect["seeds"]


@main.command()
def levers() -> None:
    """One lever after the other, and the recipe without one or with another, into figures/levers.json."""
    manifest = wilss.load_manifest(HERE / "held-out.yaml")
    cells: dict[str, dict[str, Cell]] = {}
    for key, values in (ADDED | CHANGED).items():
        sources = [FmwissSource.from_manifest(manifest, step=0, values=values, seed=seed) for seed in SEEDS]
        if sources[0].params.placing == "soft":  # nothing is drawn
            del sources[1:]
        found = [
            judged(manifest, "val", source, f"lever-{key}-{seed}")["stored"] for seed, source in enumerate(sources)
        ]
        cells[key] = {name: spread([one[name] for one in found]) for name in ("mean_iou", "mean_iou_classes")}
        cells[key]["ms"] = _cost(manifest, sources[0])
    keep_figures("levers", cells)


def _cost(manifest: Manifest, source: FmwissSource, count: int = 48) -> float:
    """Processor time of an image in ms, from the networks' inputs to masks, on one thread: the least of three."""
    source = source.prepare("cpu")
    plan = plan_for(manifest, 0, source, manifest.records(0, "val").records[:count], Options())
    proposer = source.open("cpu", 1)
    shards = map(plan.shard, range(plan.layout.num_shards))
    batches = [[shard.images[i] for i in batch] for shard in shards for batch in shard.batches]
    loaded = [[proposer.load(task) for task in tasks] for tasks in batches]
    seconds = []
    for _ in range(3):
        started = time.process_time()
        for tasks, inputs in zip(batches, loaded, strict=True):
            proposer.propose(tasks, inputs)
        seconds.append(time.process_time() - started)
    return 1000 * min(seconds) / sum(map(len, batches))


def _refused(manifest: Manifest, name: str, fusion: str) -> dict[str, float]:
    """The kept maps of a store under another fusion, with M_init cut where it is best for that."""
    store = RESULTS / "stores" / f"{manifest.name}-{name}.zarr"
    other = store.with_name(f"{manifest.name}-{name}-{fusion}.zarr")
    values = {"fusion": fusion, "threshold": BEST_CUT[fusion]}
    return _means(evaluate(fuse(MaskStore.open(store), other, values, overwrite=True), manifest).scores["stored"])


def _untrained(vit: EncoderSpec) -> EncoderSpec:
    return vit.model_copy(update={"file": None, "sha256": None, "pretrained": "random:0"})


def judged(
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
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="As in wilss-masks generate.")
@click.option("--limit", type=int, help="Only so many pictures.")
def tune(assignments: tuple[str, ...], limit: int | None) -> None:
    """The best cuts of both maps for every fusion, and CAM's, on the tuning pictures."""
    manifest = wilss.load_manifest(HERE / "tuning.yaml")
    source = FmwissSource.from_manifest(manifest, step=0, values=parse_assignments(assignments))
    name = "-".join(["tuning", *(value.replace("=", "_") for value in assignments)])
    store = RESULTS / "stores" / f"{manifest.name}-{name}.zarr"
    generate(manifest, step=0, source=source, out=store, options=Options(split="val", keep_scores=True, limit=limit))
    found = _grid(MaskStore.open(store), manifest)
    for fusion in ("init", "seeds", "union", "intersection"):
        ranked = sorted((pair for pair in found.items() if pair[0][0] == fusion), key=lambda pair: -pair[1])
        for (_, threshold, keep, amount), score in ranked[:4]:
            print(f"{fusion:12} threshold {threshold:<5g} {keep} {amount:<5g} {100 * score:5.1f}")
    if not assignments:
        _tune_cam(manifest)


def _grid(store: MaskStore, manifest: Manifest) -> dict[tuple[str, float, str, float], float]:
    """Mean IoU by (fusion, threshold, keep, amount), from the kept maps; each image's maps are upsampled once."""
    reader, records, ids = KeptReader(store), records_for(store, manifest), store.vector("category_id")
    matrices: dict[tuple[str, float, str, float], Any] = {}
    for row, name in enumerate(store.image_ids):
        maps, label = reader.read(row), records[name].label
        assert label is not None
        truth, named = label.read(), ids[list(maps.categories)]
        for key, masks, score in _candidates(maps):
            labels = label_map(masks.numpy(), named, fmwiss.confidence(score, masks).numpy())
            matrices[key] = matrices.get(key, 0) + confusion(truth, labels, store.category_ids)
    names = ("background", *store.category_names)
    return {key: float(Scores(names=names, matrix=matrix).mean_iou) for key, matrix in matrices.items()}


def _candidates(maps: KeptMaps) -> Iterator[tuple[tuple[str, float, str, float], Tensor, Tensor]]:
    """All masks of one image that the grid compares, with the score that decides overlaps."""
    score, attention = maps.score.float(), maps.attention.float()
    score_pixels, attention_pixels = (to_pixels(soft, maps.height, maps.width) for soft in (score, attention))
    init = {threshold: score_pixels >= threshold for threshold in THRESHOLDS}
    seeds = {
        (keep, amount): attention_pixels >= fmwiss.keep_top(attention, amount, by=keep)[:, None, None]
        for keep, amount in KEEPS
    }
    for threshold, mask in init.items():
        yield ("init", threshold, "", 0.0), mask, score_pixels
    for (keep, amount), where in seeds.items():
        yield ("seeds", 0.0, keep, amount), where, score_pixels
        for threshold, what in init.items():
            yield ("union", threshold, keep, amount), what | where, score_pixels
            yield ("intersection", threshold, keep, amount), what & where, score_pixels


def _tune_cam(manifest: Manifest) -> None:
    cam = RESULTS / "cam.safetensors"
    if not cam.exists():
        print("no results/cam.safetensors: train it with `train_encoders.py cam` to have its row")
        return
    ids = manifest.protocol.new(0)
    found = {}
    for threshold in CAM_THRESHOLDS:
        source = ClassActivation(weights=cam, threshold=threshold, category_ids=ids)
        found[threshold] = judged(manifest, "val", source, f"cam-{threshold:g}")["stored"]["mean_iou"]
        print(f"CAM cut at {threshold:<5g} {100 * found[threshold]:5.1f}")
    (RESULTS / "cam-threshold.txt").write_text(f"{max(found, key=lambda t: found[t])}\n")


if __name__ == "__main__":
    main()
