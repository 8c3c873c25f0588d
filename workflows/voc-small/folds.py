"""The table of few shots on photographs: PASCAL-5i's folds, frozen features of EfficientNet-Lite0, nothing trained.

    python workflows/voc-small/folds.py --voc ~/data/VOC2012 run     # judge; goes on where it was
    python workflows/voc-small/folds.py table

Pictures of both lists together, since a class has as few as six: supports and queries come from the same 592.
"""

import json
from pathlib import Path
from typing import Any

import click
import numpy as np
from places import HERE, WEIGHTS, Place, tables

from wilss.data.manifest import Manifest, load_manifest
from wilss.data.supports.simulate import Kind
from wilss.models.networks.embedding import backbone_embedding
from wilss.models.networks.embedding_spec import EmbeddingSpec
from wilss.models.networks.named_backbone import FrozenParams
from wilss_train.data.episodes.features import FeatureBank
from wilss_train.data.episodes.images import labelled_split
from wilss_train.results.episodes.bias import fit_bias
from wilss_train.results.episodes.evaluate import EpisodeParams, evaluate_episodes
from wilss_train.results.episodes.judge import held_out

FOLDS = (0, 1, 2, 3)
KINDS: tuple[Kind, ...] = ("mask", "box", "scribble")
SHOTS, MAPS = (1, 5), (1, 2)
SPLIT = "trainval"
_FITTED = ", bias fitted on the other classes"
#: The shorter side of a picture, in pixels; as `generate --source panet` takes it.
SIZE = 448


@click.group()
@click.option("--voc", type=click.Path(path_type=Path, file_okay=False), help="VOC2012, with SegmentationClassAug.")
@click.option(
    "--weights", default=WEIGHTS, help="ImageNet weights of tf_efficientnet_lite0: a file, `timm` or a package's."
)
@click.pass_context
def main(context: click.Context, voc: Path | None, weights: str) -> None:
    """Judge and tabulate."""
    context.obj = place = Place()
    if voc is not None:
        place.lay_out(voc.expanduser(), weights, tuple(f"5i-{fold}" for fold in FOLDS))


@main.command()
@click.option("--episodes", default=200, show_default=True, help="Of every fold, kind and number of shots.")
@click.option("--bias", is_flag=True, help="Also with a bias of the background, fitted on the other 15 classes.")
@click.pass_obj
def run(place: Place, episodes: int, bias: bool) -> None:
    """Every fold; what is there with as many episodes stays."""
    torch_on_one_thread()
    for fold in FOLDS:
        for maps in MAPS:
            _judge(place, fold, maps, episodes, fitted=bias)


def torch_on_one_thread() -> None:
    """As every other row of these tables is measured."""
    import torch

    torch.set_num_threads(1)


def _judge(place: Place, fold: int, maps: int, episodes: int, *, fitted: bool) -> None:
    manifest = load_manifest(place.manifest(f"5i-{fold}"))
    names, bank, embedding = held_out(manifest, 0), None, None
    for shots in SHOTS:
        for kind in KINDS:
            params = EpisodeParams(episodes=episodes, runs=1, shots=shots, support=kind)
            for with_bias in (False, True) if fitted else (False,):
                out = _file(place, fold, maps, params, with_bias=with_bias)
                if out.exists():
                    continue
                if bank is None or embedding is None:
                    embedding = _embedding(manifest, maps)
                    every = {
                        one: manifest.taxonomy.name_of(one) for step in (0, 1) for one in manifest.protocol.new(step)
                    }
                    records = manifest.evaluation(SPLIT).records
                    images, others = (labelled_split(records, some, SPLIT) for some in (names, set(every) - set(names)))
                    bank = FeatureBank(embedding, labelled_split(records, every, SPLIT), mib=6000)
                used = params
                if with_bias:
                    seen = {one: every[one] for one in every if one not in names}
                    found = fit_bias(embedding, others, seen, params, bank=bank)
                    used = EpisodeParams(**{**params.as_json(), "bias": found.bias})
                judged = evaluate_episodes(embedding, images, names, used, bank=bank)
                out.parent.mkdir(parents=True, exist_ok=True)
                out.write_text(json.dumps(judged.as_json()), encoding="utf-8")
                click.echo(f"{out.stem}: {100 * judged.mean_ious[0]:.1f}")


def _file(place: Place, fold: int, maps: int, params: EpisodeParams, *, with_bias: bool) -> Path:
    end = "-bias" if with_bias else ""
    return place.folder / f"few-shot/{fold}-{maps}-{params.support}-{params.shots}-{params.episodes}{end}.json"


def _embedding(manifest: Manifest, maps: int) -> Any:
    given = {key: value for key, value in manifest.masks["panet"].items() if key != "preset"}
    named = FrozenParams(**{**given, "maps": maps}).named(manifest.path.parent)
    assert named is not None
    return backbone_embedding(named, maps=maps, spec=EmbeddingSpec(size=SIZE))


@main.command()
@click.option("--episodes", default=200, show_default=True)
@click.pass_obj
def table(place: Place, episodes: int) -> None:
    """Mean of the four folds, into figures/few-shot.json."""
    rows = []
    for with_bias in (False, True):
        for maps, name in zip(MAPS, ("last feature map", "last two feature maps"), strict=True):
            named = {"key": f"{maps}{'-bias' * with_bias}", "name": f"{name}{_FITTED * with_bias}"}
            rows.append({**named, **_cells(place, maps, episodes, with_bias=with_bias)})
    if not any(len(row) > 2 for row in rows):
        raise SystemExit("nothing has been judged on all four folds yet; see folds.py run.")
    command = f"python workflows/voc-small/folds.py run --episodes {episodes} --bias"
    figures = {
        "title": "Folds of PASCAL-5i on 592 photographs, frozen features; foreground mIoU in percent, mean of four",
        "measured": tables.measured_now(command, seeds=1),
        "heading": "",
        "columns": {f"{kind}-{shots}": f"{shots} {_plural(kind, shots)}" for shots in SHOTS for kind in KINDS},
        "rows": rows,
    }
    print(tables.table_of(figures))
    (HERE / "figures/few-shot.json").write_text(tables.as_text(figures), encoding="utf-8")


def _cells(place: Place, maps: int, episodes: int, *, with_bias: bool) -> dict[str, float]:
    """What is judged on all folds, in percent."""
    cells = {}
    for shots in SHOTS:
        for kind in KINDS:
            params = EpisodeParams(episodes=episodes, runs=1, shots=shots, support=kind)
            files = [_file(place, fold, maps, params, with_bias=with_bias) for fold in FOLDS]
            if all(file.exists() for file in files):
                found = [json.loads(file.read_text(encoding="utf-8"))["mean_iou"]["mean"] for file in files]
                cells[f"{kind}-{shots}"] = 100 * float(np.mean(found))
    return cells


def _plural(kind: Kind, count: int) -> str:
    return kind if count == 1 else f"{kind}es" if kind == "box" else f"{kind}s"


if __name__ == "__main__":
    main()
