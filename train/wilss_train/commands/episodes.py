"""`wilss-eval --episodes`: how well an embedding does on classes that it was not trained on."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from wilss.console import ProgressDisplay, percent, show_figures
from wilss.errors import counted

if TYPE_CHECKING:
    from wilss.data.manifest import Manifest
    from wilss.models.networks.embedding import Embedding
    from wilss.models.networks.embedding_spec import EmbeddingSpec

    from ..results.episodes.bias import FittedBias
    from ..results.episodes.evaluate import EpisodeEvaluation, EpisodeParams


def _bias(context: click.Context, parameter: click.Parameter, value: str | None) -> str | float | None:
    """The word `fit` as it is, `none` as 0, else the number."""
    if value is None or value == "fit":
        return value
    try:
        number = 0.0 if value == "none" else float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise click.BadParameter(f"{value!r} is neither fit nor none nor a number.")
    return number


_OPTIONS = (
    click.option(
        "--frozen",
        is_flag=True,
        help="Judge the manifest's frozen features: the ViT's, or those of masks.panet's backbone; no checkpoint.",
    ),
    click.option("--episodes", type=click.IntRange(1), help="Of a run, for an embedding.  [default: 1000]"),
    click.option("--runs", type=click.IntRange(1), help="How many times, each with other episodes.  [default: 5]"),
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
    click.option(
        "--bias",
        callback=_bias,
        metavar="fit|none|NUMBER",
        help="By how much the background's score is raised: fitted on episodes of the trained classes, in training "
        "images with pixel labels; not at all, as published; or by this number.  [default: none]",
    ),
    click.option("--seed", type=int, help="Names the episodes and the scribbles.  [default: 0]"),
)
_NAMES = ("episodes", "runs", "ways", "shots", "support", "metric", "bias", "seed")
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
    from wilss.data.manifest import load_manifest, told_overlap

    from ..results.episodes.judge import table_of

    for name, option in _SEGMENTERS_ONLY.items():
        if options[name] is not None:
            raise click.UsageError(f"{option} is for segmenters, and episodes judge an embedding; leave it out.")
    manifest, split = load_manifest(manifest_path), options["split"]
    for warning in manifest.evaluation(split).warnings:
        click.echo(f"Warning: {warning}", err=True)
    embedding, step, title = _opened(checkpoint, manifest, options["device"])
    if checkpoint is not None and (overlap := told_overlap(manifest, split, step)) is not None:
        click.echo(f"Warning: {overlap}", err=True)
    params, fitted = _params(embedding, step, manifest, options)
    evaluation = _judged(embedding, step, manifest, split, params)
    figures = evaluation.as_json()
    lines = [*_heading(title, manifest, split, evaluation), *_told(params, fitted), "", *table_of(figures)]
    failed = {**(fitted.failed if fitted else {}), **evaluation.failed}
    fit = {"bias_fit": fitted.as_json()} if fitted else {}
    show_figures(lines, {**title, "split": split, **figures, **fit}, options["json"], failed)


def _opened(checkpoint: Path | None, manifest: "Manifest", device: str) -> "tuple[Embedding, int, dict[str, Any]]":
    """The embedding, the step that it has learnt, and what tells it from others."""
    from wilss.models.devices import resolve_device
    from wilss.models.networks.checkpoint import read_info
    from wilss.models.networks.embedding import load_embedding

    where = resolve_device(device)
    if checkpoint is None:
        embedding = _frozen(manifest, where)
        return embedding, 0, {"embedding": dict(embedding.identity)}
    info = read_info(checkpoint)
    embedding = load_embedding(info, manifest.encoders.vit, where)
    info.require_same_classes(manifest)
    title = {"checkpoint": {"path": str(info.path), "sha256": info.digest, "method": info.method}}
    return embedding, info.step, {**title, "embedding": dict(embedding.identity)}


def _frozen(manifest: "Manifest", device: str) -> "Embedding":
    """The features that the manifest's section of panet names, else the ViT's; without positions where it says so."""
    from wilss.models.networks.debiasing import DebiasParams, without_positions
    from wilss.models.networks.embedding import backbone_embedding, frozen_embedding
    from wilss.models.networks.named_backbone import OF_BACKBONE, FrozenParams
    from wilss.params import with_values

    spec, given, where = _frozen_spec(manifest), manifest.masks.get("panet", {}), f"{manifest.path}: masks.panet"
    values = {name: value for name, value in given.items() if name in OF_BACKBONE}
    params = with_values(FrozenParams(), values, where=where)
    lost = with_values(DebiasParams(), {name: given[name] for name in ("debias",) if name in given}, where=where)
    backbone = params.named(manifest.path.parent)
    if backbone is None:
        embedding = frozen_embedding(manifest.encoders.vit, device, spec=spec)
    else:
        if doubt := backbone.statistics[2]:
            click.echo(f"Warning: {doubt}", err=True)
        embedding = backbone_embedding(backbone, device, maps=params.maps, spec=spec)
    return without_positions(embedding, lost.debias)


def _frozen_spec(manifest: "Manifest") -> "EmbeddingSpec":
    """The features as `wilss-masks generate --source panet` takes them."""
    from wilss.models.networks.embedding_spec import FROZEN_SIZE, EmbeddingSpec
    from wilss.params import with_values

    names = {"features": "features", "vit_size": "size", "longest": "longest"}
    values = {names[name]: value for name, value in manifest.masks.get("panet", {}).items() if name in names}
    return with_values(EmbeddingSpec(size=FROZEN_SIZE), values, where=f"{manifest.path}: masks.panet")


def _params(
    embedding: "Embedding", step: int, manifest: "Manifest", options: Mapping[str, Any]
) -> "tuple[EpisodeParams, FittedBias | None]":
    """How to judge, and where the bias comes from if it is fitted."""
    from ..results.episodes.bias import with_fitted_bias
    from ..results.episodes.evaluate import EpisodeParams

    given = {name: options[name] for name in _NAMES if options[name] is not None}
    if given.get("bias") != "fit":
        return EpisodeParams(**given), None
    with ProgressDisplay("episodes for the bias", "ep") as display:
        return with_fitted_bias(embedding, step, manifest, EpisodeParams(**{**given, "bias": 0.0}), progress=display)


def _told(params: "EpisodeParams", fitted: "FittedBias | None") -> list[str]:
    """A line about the bias, if there is one."""
    if fitted is None:
        return [f"background's score {params.bias:+g}"] if params.bias else []
    line = (
        f"background's score {fitted.bias:+.2f}, fitted on {counted(fitted.episodes, 'episode')} of "
        f"{counted(len(fitted.classes), 'trained class', 'trained classes')}: foreground mIoU there "
        f"{percent(fitted.before)}, with it {percent(fitted.after)}"
    )
    return [line, *(["No more than that is tried; the best may lie beyond."] if fitted.at_end else [])]


def _judged(
    embedding: "Embedding", step: int, manifest: "Manifest", split: str, params: "EpisodeParams"
) -> "EpisodeEvaluation":
    from ..results.episodes.judge import judge_embedding

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
