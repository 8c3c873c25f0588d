"""The table of few-shot segmentation: PANet on four folds of the built-in data, three seeds, mean and spread.

    python workflows/shapes/few_shot.py run           # train and judge; can be stopped, and goes on where it was
    python workflows/shapes/few_shot.py table         # read the results and print the table

Every fold holds five classes out (5i-0 to 5i-3). What is compared are four embeddings: the frozen features as they
are, an untrained projection of them, and the same projection trained on the fifteen other classes, with and without
prototype alignment. All of them segment the same episodes, as published and, with `bias`, with a bias of the background
that is fitted on the fifteen trained classes for each kind and number of supports.

    python workflows/shapes/few_shot.py bias          # the frozen and the trained embeddings both ways
    python workflows/shapes/few_shot.py bias-table
    python workflows/shapes/few_shot.py par           # alignment by predicted masks, and by the labels
    python workflows/shapes/few_shot.py encoders      # frozen features of the ViT and of CLIP's image tower
"""

import json
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import click
import numpy as np
import torch
from runs import RESULTS as ALL_RESULTS
from runs import ROOT, Cell, keep_figures, spread
from versions import note_version

from wilss.data.manifest import Manifest, load_manifest
from wilss.models.networks.checkpoint import read_info
from wilss.models.networks.embedding import Embedding, frozen_embedding, load_embedding
from wilss.models.networks.embedding_spec import EmbeddingSpec
from wilss_masks.make.generate import generate
from wilss_masks.make.options import Options as MaskOptions
from wilss_masks.sources.annotation import AnnotationSource
from wilss_train.data.episodes.features import FeatureBank
from wilss_train.data.episodes.images import labelled_split
from wilss_train.inputs import open_inputs
from wilss_train.methods.panet import Panet
from wilss_train.params import TrainParams
from wilss_train.results.episodes.bias import fit_bias, trained_images
from wilss_train.results.episodes.evaluate import EpisodeParams, evaluate_episodes
from wilss_train.results.episodes.judge import held_out
from wilss_train.run.train import Options, run_training

RESULTS = ALL_RESULTS / "few-shot"
FOLDS, SEEDS = (0, 1, 2, 3), (0, 1, 2)
KINDS, SHOTS = ("mask", "box", "scribble"), (1, 5)
#: Chosen on drawings of another seed: the drawings' own size serves as well as twice that, at a third of the time.
METHOD = Panet(size=0, width=128, depth=2, episodes=400)
PARAMS = TrainParams(epochs=6, batch_size=8, optimiser="adamw", lr=3e-3, head_lr=1.0, precision="fp32")


@dataclass(frozen=True)
class Row:
    """One embedding of the table. par, mask: of the alignment loss, its weight is None where nothing is trained."""

    key: str
    title: str
    par: float | None = None
    mask: Literal["predicted", "labelled"] = "predicted"

    @property
    def seeds(self) -> tuple[int, ...]:
        """What is frozen has no seed."""
        return SEEDS[:1] if self.key == "frozen" else SEEDS


ROWS = (
    Row("frozen", "frozen ViT features"),
    Row("untrained", "projection, untrained"),
    Row("seg", "projection, trained without PAR", 0.0),
    Row("par", "projection, trained with PAR", 1.0),
)


#: Judged with a bias, too.
BOTH_WAYS = (ROWS[0], ROWS[3], ROWS[2])
#: What the alignment loss costs with one shot, and what of it.
ALIGNED = (ROWS[2], ROWS[3], Row("par-labelled", "trained with PAR, by the query's label", 1.0, "labelled"))


@dataclass(frozen=True)
class Fold:
    """Everything about one fold that its rows share."""

    number: int

    @property
    def folder(self) -> Path:
        """Where its results lie."""
        return RESULTS / f"fold-{self.number}"

    @cached_property
    def manifest(self) -> Manifest:
        """The built-in data set with the fold's protocol."""
        path = self.folder / "data_manifest.yaml"
        text = (ROOT / "data_manifest.yaml").read_text(encoding="utf-8")
        for old, new in (
            ("name: shapes-15-5", f"name: shapes-5i-{self.number}"),
            ("protocol: 15-5", f"protocol: 5i-{self.number}"),
            ("${WILSS_DATA:-./data}", f"${{WILSS_DATA:-{ROOT}/data}}"),
        ):
            if old not in text:
                raise SystemExit(f"data_manifest.yaml has no {old!r} any more; fix few_shot.py.")
            text = text.replace(old, new)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return load_manifest(path)

    @cached_property
    def frozen(self) -> Embedding:
        """The features without anything on them."""
        return frozen_embedding(self.manifest.encoders.vit, spec=EmbeddingSpec(size=METHOD.size))

    @cached_property
    def bank(self) -> FeatureBank:
        """The frozen features of the images that are judged, computed once for all rows."""
        names = held_out(self.manifest, 0)
        images = labelled_split(self.manifest.evaluation("val").records, names, "val")
        return FeatureBank(self.frozen, images, mib=2048)

    @cached_property
    def trained_classes(self) -> dict[int, str]:
        """The fifteen classes by id."""
        return trained_images(self.manifest, 0)[1]

    @cached_property
    def training_bank(self) -> FeatureBank:
        """The frozen features of the training images, with the fifteen classes alone in the index."""
        return FeatureBank(self.frozen, trained_images(self.manifest, 0)[0], mib=2048)

    @property
    def masks(self) -> Path:
        """The store of the fifteen classes, from pixel labels."""
        path = self.folder / "step-0.zarr"
        source = AnnotationSource.from_manifest(self.manifest, 0)
        generate(self.manifest, step=0, source=source, out=path, options=MaskOptions(device="cpu"))
        return path

    def embedding(self, row: Row, seed: int) -> Embedding:
        """The row's embedding; what is to be trained is trained."""
        if row.key == "frozen":
            return self.frozen
        if row.par is None:
            net = METHOD.network(self.manifest, seed=seed).eval()
            return replace(self.frozen, net=net, spec=net.spec, identity={**self.frozen.identity, "seed": seed})
        return load_embedding(read_info(self.trained(row, seed)), self.manifest.encoders.vit)

    def run(self, row: Row, seed: int) -> Path:
        """The folder of a run."""
        return self.folder / f"{row.key}-{seed}"

    def trained(self, row: Row, seed: int) -> Path:
        """The folder of a finished run."""
        out = self.run(row, seed)
        if not (out / "done.json").exists():
            started = time.perf_counter()
            assert row.par is not None  # frozen features are not trained
            inputs = open_inputs(self.manifest, self.masks, None, "panet")
            options = Options(seed=seed, threads=1, device="cpu", split=None, resume=True)
            note_version(out)
            run_training(inputs, replace(METHOD, par=row.par, par_mask=row.mask), PARAMS, out, options)
            print(f"{out.relative_to(RESULTS)}: trained in {time.perf_counter() - started:.0f} s", flush=True)
        return out


@click.group()
def main() -> None:
    """Train, judge and tabulate."""


@main.command()
@click.option("--episodes", default=1000, show_default=True, help="Of a run.")
@click.option("--runs", default=5, show_default=True, help="Of every embedding, kind and number of shots.")
@click.option("--seeds", default=len(SEEDS), show_default=True, help="How many.")
@click.option("--fold", "numbers", type=click.IntRange(0, 3), multiple=True, help="Only these.  [default: all]")
def run(episodes: int, runs: int, seeds: int, numbers: tuple[int, ...]) -> None:
    """All folds of the first seed, then those of the next."""
    torch.set_num_threads(1)
    folds = [Fold(number) for number in numbers or FOLDS]
    for seed in SEEDS[:seeds]:
        for fold in folds:
            for row in ROWS:
                if seed in row.seeds:
                    _judge(fold, row, seed, EpisodeParams(episodes=episodes, runs=runs))


def _judge(fold: Fold, row: Row, seed: int, params: EpisodeParams) -> None:
    """One embedding on supports of every kind; what is there with as many episodes stays."""
    path = fold.folder / f"{row.key}-{seed}.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    left = {key: one for key, one in _wanted(params).items() if not _serves(found.get(key), one)}
    if not left:
        return
    embedding, names = fold.embedding(row, seed), held_out(fold.manifest, 0)
    images: Any = fold.bank.images
    for key, one in left.items():
        found[key] = evaluate_episodes(embedding, images, names, one, bank=fold.bank).as_json()
    path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    said = ", ".join(f"{key} {100 * one['mean_iou']['mean']:.1f}" for key, one in found.items())
    print(f"{path.relative_to(RESULTS)}: {said}", flush=True)


def _wanted(params: EpisodeParams) -> dict[str, EpisodeParams]:
    return {
        f"{kind}-{shots}": replace(params, support=kind, shots=shots)  # type: ignore[arg-type]
        for kind in KINDS
        for shots in SHOTS
    }


def _serves(found: Mapping[str, Any] | None, wanted: EpisodeParams) -> bool:
    return found is not None and (found["episodes"]["episodes"], found["episodes"]["runs"]) == (
        wanted.episodes,
        wanted.runs,
    )


@main.command()
@click.option("--episodes", default=300, show_default=True, help="To fit on, and of a run.")
@click.option("--runs", default=1, show_default=True, help="Of every embedding, kind and number of shots, both ways.")
@click.option("--seeds", default=len(SEEDS), show_default=True, help="How many.")
def bias(episodes: int, runs: int, seeds: int) -> None:
    """The frozen and the trained embeddings with and without a bias, which their training images choose."""
    torch.set_num_threads(1)
    folds = [Fold(number) for number in FOLDS]
    for seed in SEEDS[:seeds]:
        for row in BOTH_WAYS:
            for fold in folds if seed in row.seeds else ():
                _judge_both_ways(fold, row, seed, EpisodeParams(episodes=episodes, runs=runs))


def _judge_both_ways(
    fold: Fold, row: Row, seed: int, params: EpisodeParams, keys: Collection[str] | None = None
) -> None:
    """Kept in a file beside the results as published, whose runs may be others. keys: see `_wanted`, None for all."""
    path = _biased(fold.number, row, seed)
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    wanted = {key: one for key, one in _wanted(params).items() if keys is None or key in keys}
    left = {key: one for key, one in wanted.items() if not _serves(found.get(key, {}).get("published"), one)}
    if not left:
        return
    embedding = fold.embedding(row, seed)
    for key, one in left.items():
        training: Any = fold.training_bank.images
        fitted = fit_bias(embedding, training, fold.trained_classes, one, bank=fold.training_bank)
        found[key] = {"fit": fitted.as_json()}
        for way, number in (("published", 0.0), ("fitted", fitted.bias)):
            images: Any = fold.bank.images
            names, judged = held_out(fold.manifest, 0), replace(one, bias=number)
            found[key][way] = evaluate_episodes(embedding, images, names, judged, bank=fold.bank).as_json()
    path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    said = ", ".join(
        f"{key} {100 * one['published']['mean_iou']['mean']:.1f} -> {100 * one['fitted']['mean_iou']['mean']:.1f} "
        f"({one['fit']['bias']:+.1f})"
        for key, one in found.items()
    )
    print(f"{path.relative_to(RESULTS)}: {said}", flush=True)


@main.command()
@click.option("--episodes", default=300, show_default=True, help="To fit on, and of a run.")
@click.option("--seeds", default=len(SEEDS), show_default=True, help="How many.")
def par(episodes: int, seeds: int) -> None:
    """Supports by mask, with a fitted bias: without alignment, by predictions, by labels; figures/few-shot-par.json."""
    torch.set_num_threads(1)
    keys, params = [f"mask-{shots}" for shots in SHOTS], EpisodeParams(episodes=episodes, runs=1)
    found: dict[str, list[list[dict[str, Any]]]] = {row.key: [] for row in ALIGNED}
    for seed in SEEDS[:seeds]:
        for row in ALIGNED:
            for fold in map(Fold, FOLDS):
                _judge_both_ways(fold, row, seed, params, keys)
            found[row.key].append(list(_both_ways(row, seed)))
        ious = {
            key: {name: spread([_mean_iou(folds, name) for folds in of_seeds]) for name in keys}
            for key, of_seeds in found.items()
        }
        runs = [Fold(number).run(row, one) for number in FOLDS for row in ALIGNED for one in SEEDS[: seed + 1]]
        keep_figures("few-shot-par", ious, seeds=seed + 1, trained=runs)


def _mean_iou(folds: Sequence[Mapping[str, Any]], key: str) -> float:
    return float(np.mean([one[key]["fitted"]["mean_iou"]["mean"] for one in folds]))


@main.command()
@click.option("--episodes", default=100, show_default=True, help="Of each fold, encoder and number of shots.")
def encoders(episodes: int) -> None:
    """PANet on frozen features of two encoders, supports by mask, one run; into figures/few-shot-encoders.json."""
    torch.set_num_threads(1)
    cells = {}
    for key, kind in (("vit-tokens", "tokens"), ("clip-keys", "keys")):
        values: dict[str, list[float]] = {"mask-1": [], "mask-5": []}
        for fold in map(Fold, FOLDS):
            given, names = fold.manifest.encoders, held_out(fold.manifest, 0)
            spec = EmbeddingSpec(size=METHOD.size, features=kind)  # type: ignore[arg-type]
            embedding = frozen_embedding(given.clip if key.startswith("clip") else given.vit, spec=spec)
            bank = FeatureBank(embedding, fold.bank.images, mib=2048)
            for column, shots in (("mask-1", 1), ("mask-5", 5)):
                params = EpisodeParams(episodes=episodes, runs=1, shots=shots)
                images: Any = bank.images
                found = evaluate_episodes(embedding, images, names, params, bank=bank)
                values[column].append(found.mean_ious[0])
            print(f"{key}, 5i-{fold.number}: {values}", flush=True)
        cells[key] = {column: 100 * float(np.mean(ious)) for column, ious in values.items()}
    keep_figures("few-shot-encoders", cells, seeds=1)


def _biased(number: int, row: Row, seed: int) -> Path:
    return RESULTS / f"fold-{number}" / f"{row.key}-{seed}-bias.json"


@main.command()
def bias_table() -> None:
    """Both ways and the biases' means, into figures/few-shot-bias.json."""
    rows: dict[str, dict[str, Cell]] = {}
    count = len(SEEDS)
    for row in BOTH_WAYS:
        seeds = [folds for seed in row.seeds if len(folds := list(_both_ways(row, seed))) == len(FOLDS)]
        count = min(count, len(seeds)) if len(row.seeds) > 1 and seeds else count
        for way in ("published", "fitted"):
            rows[f"{row.key}-{way}"] = {
                key: spread([float(np.mean([one[key][way]["mean_iou"]["mean"] for one in folds])) for folds in seeds])
                for key in _keys()
            }
        biases = {key: [one[key]["fit"]["bias"] for folds in seeds for one in folds] for key in _keys()}
        rows[f"{row.key}-bias"] = {key: round(float(np.mean(values)), 4) for key, values in biases.items() if values}
    keep_figures("few-shot-bias", rows, seeds=count, trained=_runs(SEEDS[:count]))


def _both_ways(row: Row, seed: int) -> Iterator[dict[str, Any]]:
    for number in FOLDS:
        if (path := _biased(number, row, seed)).exists():
            yield json.loads(path.read_text(encoding="utf-8"))


@main.command()
def table() -> None:
    """Foreground mIoU into figures/few-shot.json and, fold by fold, few-shot-folds.json; few-shot-binary.json."""
    for name, what in (("few-shot", "mean_iou"), ("few-shot-binary", "binary_iou")):
        rows = {row.key: {key: spread(_by_seed(row, key, what)) for key in _keys()} for row in ROWS}
        keep_figures(name, rows, trained=_runs(SEEDS))
    keep_figures("few-shot-folds", {f"5i-{number}": _of_fold(number) for number in FOLDS}, trained=_runs(SEEDS))


def _runs(seeds: Sequence[int]) -> list[Path]:
    """The folders of all that was trained."""
    rows = [row for row in ROWS if row.par is not None]
    return [Fold(number).run(row, seed) for number in FOLDS for row in rows for seed in seeds]


def _keys() -> list[str]:
    return [f"{kind}-{shots}" for kind in KINDS for shots in SHOTS]


def _by_seed(row: Row, key: str, what: str) -> list[float]:
    """Of every seed that is judged on all folds, the mean over the folds."""
    judged = [folds for seed in row.seeds if len(folds := list(_results(row, seed))) == len(FOLDS)]
    return [float(np.mean([one[key][what]["mean"] for one in folds])) for folds in judged]


def _results(row: Row, seed: int) -> Iterator[dict[str, Any]]:
    for number in FOLDS:
        path = RESULTS / f"fold-{number}" / f"{row.key}-{seed}.json"
        if path.exists():
            yield json.loads(path.read_text(encoding="utf-8"))


def _of_fold(number: int) -> dict[str, Cell]:
    """Mean over the seeds of the last row."""
    row = ROWS[-1]
    paths = [RESULTS / f"fold-{number}" / f"{row.key}-{seed}.json" for seed in row.seeds]
    found = [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.exists()]
    return {
        key: 100 * float(np.mean([one[key]["mean_iou"]["mean"] for one in found])) if found else None
        for key in ("mask-1", "mask-5")
    }


if __name__ == "__main__":
    main()
