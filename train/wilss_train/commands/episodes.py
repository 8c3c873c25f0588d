"""`wilss-eval --episodes`: how well an embedding does on classes that it was not trained on."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from wilss.console import ProgressDisplay, show_figures

if TYPE_CHECKING:
    from wilss.data.manifest import Manifest
    from wilss.models.networks.embedding import Embedding
    from wilss.models.networks.embedding_spec import EmbeddingSpec

    from ..results.episodes.evaluate import EpisodeEvaluation

_OPTIONS = (
    click.option("--frozen", is_flag=True, help="Judge the manifest's frozen ViT features, without a checkpoint."),
    click.option("--episodes", type=click.IntRange(1), help="Of a run, for an embedding.  [default: 1000]"),
    click.option("--runs", type=click.IntRange(1), help="How often over, with other episodes.  [default: 5]"),
    click.option("--ways", type=click.IntRange(1), help="Classes of an episode.  [default: 1]"),
    click.option("--shots", type=click.IntRange(1), help="Annotated images of each of them.  [default: 1]"),
    click.option(
        "--support",
        type=click.Choice(["mask", "box", "scribble"]),
        help="How these are annotated; boxes and scribbles are drawn from pixel labels.  [default: mask]",
    ),
    click.option(
        "--metric",
        type=click.Choice(["wilss", "panet"]),
        help="Count false positives in every episode, or all as PANet's public code does.  [default: wilss]",
    ),
    click.option("--seed", type=int, help="Names the episodes and the scribbles.  [default: 0]"),
)
_NAMES = ("episodes", "runs", "ways", "shots", "support", "metric", "seed")
_SEGMENTERS_ONLY = {"protocol": "--protocol", "confusion": "--confusion"}
F = TypeVar("F", bound=Callable[..., Any])


def episode_options(command: F) -> F:
    """The options of episodes, put on a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def wants_episodes(checkpoint: Path | None, options: Mapping[str, Any]) -> bool:
    """Whether the words ask for episodes: they say so, or the checkpoint is an embedding."""
    if options["frozen"]:
        if checkpoint is not None:
            raise click.UsageError("--frozen judges the manifest's features and takes no CHECKPOINT; leave one out.")
        return True
    if checkpoint is None:
        raise click.UsageError("Missing argument 'CHECKPOINT'; name a run's folder, or say --frozen.")
    from wilss.models.networks.checkpoint import read_info

    return any(options[name] is not None for name in _NAMES) or read_info(checkpoint).kind == "embedding"


def judge_episodes(checkpoint: Path | None, manifest_path: Path, options: Mapping[str, Any]) -> None:
    """Judge, tell, and leave with 3 where images could not be read."""
    from wilss.data.manifest import load_manifest

    from ..results.episodes.judge import table_of

    for name, option in _SEGMENTERS_ONLY.items():
        if options[name] is not None:
            raise click.UsageError(f"{option} is for segmenters, and episodes judge an embedding; leave it out.")
    manifest, split = load_manifest(manifest_path), options["split"]
    for warning in manifest.evaluation(split).warnings:
        click.echo(f"Warning: {warning}", err=True)
    embedding, step, title = _opened(checkpoint, manifest, options["device"])
    evaluation = _judged(embedding, step, manifest, split, options)
    figures = evaluation.as_json()
    lines = [*_heading(title, manifest, split, evaluation), "", *table_of(figures)]
    show_figures(lines, {**title, "split": split, **figures}, options["json"], evaluation.failed)


def _opened(checkpoint: Path | None, manifest: "Manifest", device: str) -> "tuple[Embedding, int, dict[str, Any]]":
    """The embedding, the step that it has learnt, and what tells it from others."""
    from wilss.models.devices import resolve_device
    from wilss.models.networks.checkpoint import read_info
    from wilss.models.networks.embedding import frozen_embedding, load_embedding

    where = resolve_device(device)
    if checkpoint is None:
        embedding = frozen_embedding(manifest.encoders.vit, where, spec=_frozen_spec(manifest))
        return embedding, 0, {"embedding": dict(embedding.identity)}
    info = read_info(checkpoint)
    embedding = load_embedding(info, manifest.encoders.vit, where)
    info.require_same_classes(manifest)
    title = {"checkpoint": {"path": str(info.path), "sha256": info.digest, "method": info.method}}
    return embedding, info.step, {**title, "embedding": dict(embedding.identity)}


def _frozen_spec(manifest: "Manifest") -> "EmbeddingSpec":
    """The features as `wilss-masks generate --source panet` takes them."""
    from wilss.models.networks.embedding_spec import FROZEN_SIZE, EmbeddingSpec
    from wilss.params import with_values

    names = {"features": "features", "vit_size": "size", "longest": "longest"}
    values = {names[name]: value for name, value in manifest.masks.get("panet", {}).items() if name in names}
    return with_values(EmbeddingSpec(size=FROZEN_SIZE), values, where=f"{manifest.path}: masks.panet")


def _judged(
    embedding: "Embedding", step: int, manifest: "Manifest", split: str, options: Mapping[str, Any]
) -> "EpisodeEvaluation":
    from ..results.episodes.evaluate import EpisodeParams
    from ..results.episodes.judge import judge_embedding

    params = EpisodeParams(**{name: options[name] for name in _NAMES if options[name] is not None})
    with ProgressDisplay("episodes", "ep") as display:
        return judge_embedding(embedding, step, manifest, split, params, progress=display)


def _heading(title: Mapping[str, Any], manifest: "Manifest", split: str, evaluation: "EpisodeEvaluation") -> list[str]:
    params = evaluation.params
    name = title["checkpoint"]["path"] if "checkpoint" in title else "frozen features"
    count = params.runs * params.episodes
    return [
        f"{name}: {manifest.name} {manifest.protocol.name}, {split}, {', '.join(evaluation.names.values())}",
        f"{params.ways}-way {params.shots}-shot, supports as {params.support}, {params.runs} x {params.episodes} "
        f"episodes; {count / max(evaluation.seconds, 1e-9):.0f} episodes/s",
    ]
