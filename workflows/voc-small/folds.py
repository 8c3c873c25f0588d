"""The table of few shots on photographs: PASCAL-5i's folds, frozen features of EfficientNet-Lite0, nothing trained.

    python workflows/voc-small/folds.py --voc ~/data/VOC2012 run     # judge; goes on where it was
    python workflows/voc-small/folds.py table

Pictures of both lists together, since some classes have as few as six: supports and queries come from the same 592.
Train is in two of them, too few for five supports and a query: it is left out where episodes are judged and where the
bias is fitted.
"""

import itertools
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from places import HERE, Place, tables
from runs import Cell, spread
from training import require_laid_out, seeds_option, voc_group

from wilss.data.manifest import Manifest, load_manifest
from wilss.data.supports.simulate import Kind
from wilss.models.networks.embedding import backbone_embedding
from wilss.models.networks.embedding_spec import EmbeddingSpec
from wilss.models.networks.named_backbone import FrozenParams
from wilss_train.data.episodes.features import FeatureBank
from wilss_train.data.episodes.images import LabelledSplit, labelled_split
from wilss_train.results.episodes.bias import fit_bias
from wilss_train.results.episodes.evaluate import EpisodeParams, evaluate_episodes
from wilss_train.results.episodes.judge import held_out

FOLDS = (0, 1, 2, 3)
PROTOCOLS = tuple(f"5i-{fold}" for fold in FOLDS)
KINDS: tuple[Kind, ...] = ("mask", "box", "scribble")
SHOTS, MAPS = (1, 5), (1, 2)
SPLIT = "trainval"
_FITTED = ", bias fitted on the other classes"
#: The shorter side of a picture, in pixels; as `generate --source panet` takes it.
SIZE = 448


main = voc_group("folds.py", PROTOCOLS)


@main.command()
@click.option("--episodes", default=200, show_default=True, help="Of every fold, kind and number of shots.")
@click.option("--bias", is_flag=True, help="Also with a bias of the background, fitted on the other 15 classes.")
@click.option(
    "--maps", multiple=True, type=click.IntRange(1, 2), default=MAPS, show_default=True, help="On so many feature maps."
)
@seeds_option
@click.pass_obj
def run(place: Place, episodes: int, bias: bool, maps: Sequence[int], seeds: int) -> None:
    """Every fold; what is there with as many episodes stays."""
    require_laid_out(place, *PROTOCOLS)
    torch_on_one_thread()
    for count in maps:
        _judge(place, count, list(_judged_of(episodes, seeds, fitted=bias)))


def torch_on_one_thread() -> None:
    """As every other row of these tables is measured."""
    import torch

    torch.set_num_threads(1)


@dataclass(frozen=True)
class Judged:
    """What is judged at once: the episodes of a fold, and whether with a fitted bias."""

    fold: int
    params: EpisodeParams
    with_bias: bool


def _judge(place: Place, maps: int, asked: Sequence[Judged]) -> None:
    cells = [cell for cell in asked if not _file(place, maps, cell).exists()]
    if not cells:
        return
    manifest = load_manifest(place.manifest(f"5i-{cells[0].fold}"))
    classes = {one: manifest.taxonomy.name_of(one) for step in (0, 1) for one in manifest.protocol.new(step)}
    images = labelled_split(manifest.evaluation(SPLIT).records, classes, SPLIT)
    enough = {one: name for one, name in classes.items() if len(images.index[one]) > max(SHOTS)}
    embedding = _embedding(manifest, maps)
    bank = FeatureBank(embedding, images, mib=6000)
    for cell in cells:
        held = held_out(load_manifest(place.manifest(f"5i-{cell.fold}")), 0)
        unseen, seen = ({one: enough[one] for one in enough if (one in held) is wanted} for wanted in (True, False))
        params = cell.params
        if cell.with_bias:
            found = fit_bias(embedding, _only(images, seen), seen, params, bank=bank)
            params = EpisodeParams(**{**params.as_json(), "bias": found.bias})
        judged = evaluate_episodes(embedding, _only(images, unseen), unseen, params, bank=bank)
        out = _file(place, maps, cell)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(judged.as_json()), encoding="utf-8")
        click.echo(f"{out.stem}: {100 * judged.mean_ious[0]:.1f}")


def _only(images: LabelledSplit, classes: Collection[int]) -> LabelledSplit:
    return replace(images, index={one: images.index[one] for one in classes})


def _judged_of(episodes: int, seeds: int, *, fitted: bool) -> Iterator[Judged]:
    for seed, fold, shots, kind in itertools.product(range(seeds), FOLDS, SHOTS, KINDS):
        params = EpisodeParams(episodes=episodes, runs=1, shots=shots, support=kind, seed=seed)
        for with_bias in (False, True) if fitted else (False,):
            yield Judged(fold, params, with_bias)


def _file(place: Place, maps: int, cell: Judged) -> Path:
    params, end = cell.params, "-bias" if cell.with_bias else ""
    name = f"{cell.fold}-{maps}-{params.support}-{params.shots}-{params.episodes}-{params.seed}{end}"
    return place.folder / f"few-shot/{name}.json"


def _embedding(manifest: Manifest, maps: int) -> Any:
    given = {key: value for key, value in manifest.masks["panet"].items() if key != "preset"}
    named = FrozenParams(**{**given, "maps": maps}).named(manifest.path.parent)
    assert named is not None
    return backbone_embedding(named, maps=maps, spec=EmbeddingSpec(size=SIZE))


@main.command()
@click.option("--episodes", default=200, show_default=True)
@seeds_option
@click.pass_obj
def table(place: Place, episodes: int, seeds: int) -> None:
    """Mean of the four folds, into figures/few-shot.json."""
    rows = []
    for with_bias in (False, True):
        for maps, name in zip(MAPS, ("last feature map", "last two feature maps"), strict=True):
            named = {"key": f"{maps}{'-bias' * with_bias}", "name": f"{name}{_FITTED * with_bias}"}
            rows.append({**named, **_row(place, maps, episodes, seeds, with_bias=with_bias)})
    if not any(len(row) > 2 for row in rows):
        raise SystemExit("nothing has been judged on all four folds yet; see folds.py run.")
    command = f"python workflows/voc-small/folds.py run --episodes {episodes} --bias"
    figures = {
        "title": "Folds of PASCAL-5i on 592 photographs, frozen features; foreground mIoU in percent, mean of four",
        "measured": tables.measured_now(command, seeds=seeds),
        "heading": "",
        "columns": {f"{kind}-{shots}": f"{shots} {_plural(kind, shots)}" for shots in SHOTS for kind in KINDS},
        "rows": rows,
    }
    print(tables.table_of(figures))
    (HERE / "figures/few-shot.json").write_text(tables.as_text(figures), encoding="utf-8")


def _row(place: Place, maps: int, episodes: int, seeds: int, *, with_bias: bool) -> dict[str, Cell]:
    """What is judged on all folds with each seed, in percent."""
    found = dict[str, dict[int, list[float]]]()
    for episode in _judged_of(episodes, seeds, fitted=with_bias):
        file = _file(place, maps, episode)
        if episode.with_bias is with_bias and file.exists():
            params, judged = episode.params, json.loads(file.read_text(encoding="utf-8"))
            by_seed = found.setdefault(f"{params.support}-{params.shots}", {})
            by_seed.setdefault(params.seed, []).append(judged["mean_iou"]["mean"])
    return {
        key: spread([float(np.mean(values)) for values in by_seed.values()])
        for key, by_seed in found.items()
        if len(by_seed) == seeds and all(len(values) == len(FOLDS) for values in by_seed.values())
    }


def _plural(kind: Kind, count: int) -> str:
    return kind if count == 1 else f"{kind}es" if kind == "box" else f"{kind}s"


if __name__ == "__main__":
    main()
