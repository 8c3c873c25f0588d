"""`wilss-masks generate`."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wilss.console import (
    FINISHED_WITH_FAILURES,
    ProgressDisplay,
    StorePlace,
    is_quiet,
    manifest_option,
    pasted,
    tell_failures,
)
from wilss.errors import counted

from .common import as_interrupt
from .precision import precision_note

if TYPE_CHECKING:
    from ..make.options import Options, Part
    from ..make.summary import Summary

_FAILURES_SHOWN = 10
_LARGEST_SHARD = 65_536
#: By default; what --devices and schedulers feed makes a hundred images a second and more.
_SHARD, _SHARD_ON_GPUS = 32, 128
_DEFAULT_SOURCES = {"pixel": "annotation", "tags": "fmwiss", "shots": "panet"}
#: Options that stand for the source's parameters of the same names.
_SHORT_FORMS = ("shots", "supports", "checkpoint")
_MOST_THREADS = 1024


def _devices(ctx: click.Context, option: click.Parameter, value: str | None) -> tuple[int, ...]:
    if not value:
        return ()
    try:
        return tuple(int(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a list of GPU numbers; write e.g. 0,1.") from None


def _part(ctx: click.Context, option: click.Parameter, value: str | None) -> "Part | None":
    if value is None:
        return None
    from wilss.errors import ParameterError

    from ..make.options import Part

    try:
        return Part.parse(value)
    except ParameterError as error:
        raise click.BadParameter(str(error)) from None


#: How masks are made, whoever proposes them.
_MAKING = (
    click.option(
        "--workers",
        type=click.IntRange(1, _MOST_THREADS),
        default=1,
        show_default=True,
        help="Local worker processes on the CPU.",
    ),
    click.option("--devices", callback=_devices, metavar="0,1", help="GPUs to use, one process each."),
    click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda."),
    click.option("--scheduler", metavar="ADDRESS", help="A Dask scheduler that runs already."),
    click.option("--scheduler-file", type=click.Path(path_type=Path), help="The file that such a scheduler wrote."),
    click.option(
        "--dashboard",
        is_flag=True,
        help="Show Dask's page on 127.0.0.1:8787, or a free port (needs the extra `dashboard`).",
    ),
    click.option(
        "--keep",
        type=click.Choice(["scores", "features"]),
        multiple=True,
        help="Keep score maps, attention and seeds, for fuse and sheet; or what the encoders say of the images, for "
        "other classes, prompts and recipes without them (--features-from).",
    ),
    click.option(
        "--feature-dims",
        type=click.IntRange(min=1),
        default=128,
        show_default=True,
        help="Bytes that are kept of each patch with --keep features.",
    ),
    click.option(
        "--feature-projection",
        type=click.Choice(["pca", "random"]),
        default="pca",
        show_default=True,
        help="How features are brought to so few numbers.",
    ),
    click.option(
        "--feature-parts",
        type=click.Choice(["values", "outputs", "tokens"]),
        multiple=True,
        help="Keep these of the vision transformer's last block as well, for recipes that need them.",
    ),
    click.option("--seed", type=int, default=0, show_default=True, help="Names all random draws."),
    click.option(
        "--shard-size",
        type=click.IntRange(1, _LARGEST_SHARD),
        help=f"Images per shard.  [default: {_SHARD}; {_SHARD_ON_GPUS} with --devices or a scheduler]",
    ),
    click.option(
        "--batch-size", type=click.IntRange(min=1), default=8, show_default=True, help="Images per forward pass."
    ),
    click.option(
        "--threads",
        type=click.IntRange(1, _MOST_THREADS),
        default=1,
        show_default=True,
        help="CPU threads of a forward pass; rounding may depend on it.",
    ),
    click.option(
        "--shard-timeout",
        "shard_seconds",
        type=click.FloatRange(min=0),
        metavar="SECONDS",
        help="A worker process that takes longer for a shard is considered hung and restarted; 0 for never.  [default: "
        "a minute an image, at least half an hour]",
    ),
    click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing."),
    click.option("--overwrite", is_flag=True, help="Throw an existing store away."),
    click.option("--update", is_flag=True, help="Where images or labels changed: make only their shards again."),
    click.option(
        "--check-digests", is_flag=True, help="Read every image or label, also where size and time are the same."
    ),
    click.option("--retry-failed", is_flag=True, help="Try the failed images of a finished store again."),
)


#: Stores in the place of images.
features_option = click.option(
    "--features-from",
    multiple=True,
    type=StorePlace(),
    metavar="STORE",
    help="A store made with --keep features, which stands for the images that it has; may be given several times.",
)


def making_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say how masks are made, and not which."""
    for option in reversed(_MAKING):
        command = option(command)
    return command


@click.command(
    epilog="""\b
Examples:
  wilss-masks generate --step 1
  wilss-masks generate --step 1 --manifest voc.yaml --devices 0,1 --keep scores
  wilss-masks generate --step 1 --source panet --supports supports --shots 5
  wilss-masks generate --step 1 --part $SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT
  wilss-masks generate --step 1 --set draws=4 --set keep=locations --out step-1-locations.zarr"""
)
@click.option(
    "--step",
    type=click.IntRange(min=0),
    required=True,
    help="Which step of the protocol; 0 is the base step.",
)
@manifest_option
@click.option(
    "--source",
    "source_name",
    metavar="NAME",
    help="Who proposes the masks: fmwiss (default of a step with tags), annotation (of one with pixel labels), panet "
    "(of one with shots), insid3, cam, pseudoseg, sam3.",
)
@click.option(
    "--shots", type=click.IntRange(min=0), help="Annotated images per class, for panet and insid3.  [default: all]"
)
@click.option(
    "--supports", metavar="PATH", help="Annotated images for panet and insid3: a YAML file, or a folder with one."
)
@click.option("--checkpoint", metavar="PATH", help="A trained model, for a source that takes one.")
@click.option("--out", type=StorePlace(), help="The store to write.  [default: masks/NAME/step-N.zarr]")
@click.option("--split", default="train", show_default=True, help="Which split of the manifest to label.")
@features_option
@making_options
@click.option("--limit", type=click.IntRange(min=1), help="Only the first so many images.")
@click.option(
    "--part",
    callback=_part,
    metavar="K/N",
    help="Make the masks as the K-th of N independent processes (an array job), then what others have left.",
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="A parameter of the source, e.g. draws=4.",
)
def command(**arguments: Any) -> None:
    """Make the masks of a step, or go on where an earlier run stopped.

    A store that is complete is left alone. Images that cannot be used are named, marked as failed and left
    out; the rest is made.
    """  # fmt: skip
    from wilss.data.manifest import load_manifest

    manifest = load_manifest(arguments["manifest_path"])
    make_masks(manifest, _source(manifest, arguments), arguments)


def make_masks(manifest: Any, source: Any, arguments: dict[str, Any]) -> None:
    """Make the masks that a source proposes, or say what would be done; ends the process where something is missing.

    arguments: those of `making_options`, and manifest_path, step, split, out and limit.
    """
    from ..make.generate import generate

    options = _options(arguments)
    if arguments["dry_run"]:
        _dry_run(manifest, arguments, source, options)
        return
    if note := precision_note(source, options):
        _tell(note)
    before = signal.signal(signal.SIGTERM, as_interrupt)
    try:
        with ProgressDisplay() as display:
            summary = generate(
                manifest,
                step=arguments["step"],
                source=source,
                out=arguments["out"],
                options=options,
                features_from=arguments.get("features_from", ()),
                progress=display,
                tell=_tell,
            )
    except KeyboardInterrupt:
        click.echo(_stopped(manifest, arguments, options), err=True)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    _remember_weights(manifest, source)
    _report(summary, source, arguments)
    if summary.lost:
        sys.exit(1)
    if summary.failed:
        sys.exit(FINISHED_WITH_FAILURES)


def _tell(sentence: str) -> None:
    if not is_quiet():
        click.echo(sentence, err=True)


def _stopped(manifest: Any, arguments: dict[str, Any], options: "Options") -> str:
    """What an interrupted run leaves: the images of shards that were finished."""
    from wilss.errors import StoreError
    from wilss.store import MaskStore

    from ..make.generate import default_store, images_made

    size = options.shard_size
    try:
        path = arguments["out"] or default_store(manifest, arguments["step"], options.split)
        store = MaskStore.open(path, allow_partial=True)
        size = store.layout.shard_size
        made = images_made(store)
    except StoreError:
        made = 0
    if not made:
        return f"Stopped. Nothing was finished yet: images are kept {size} at a time. The same command begins again."
    without = ", without --overwrite," if arguments["overwrite"] else ""
    kept = f"{made} of {counted(store.layout.num_images, 'image')} {'is' if made == 1 else 'are'} kept"
    return f"Stopped. {kept}; run the same command again{without} to go on."


def _remember_weights(manifest: Any, source: Any) -> None:
    """Write the digests of weights from a hub beside the manifest at their first use; later runs must match."""
    from wilss.data.manifest import record_hub_digest

    for name, model in source.identity()["models"].items():
        if hasattr(manifest.encoders, name):  # a network that was trained here comes from no hub
            record_hub_digest(manifest, name, model["sha256"])


def _source(manifest: Any, arguments: dict[str, Any]) -> Any:
    from wilss.params import parse_assignments

    from ..sources import SOURCES

    supervision = manifest.supervision(arguments["step"])
    name = arguments["source_name"] or _DEFAULT_SOURCES[supervision]
    if name not in SOURCES:
        raise click.UsageError(f"there is no source {name!r}; choose one of {', '.join(SOURCES)}.")
    short = {key: arguments[key] for key in _SHORT_FORMS if arguments[key] is not None}
    values = {**parse_assignments(arguments["assignments"]), **short}
    blamed = {"where": " / ".join(f"--{key}" for key in short)} if short else {}
    return SOURCES[name].from_manifest(manifest, arguments["step"], values, arguments["seed"], **blamed)


def _options(arguments: dict[str, Any]) -> "Options":
    from wilss.params import of_fields

    from ..make.cluster import ClusterOptions
    from ..make.options import Options

    cluster = of_fields(ClusterOptions, arguments)
    # where shards come quickly each should hold more, so that the coordinator keeps up
    size = _SHARD_ON_GPUS if cluster.devices or cluster.is_elsewhere else _SHARD
    own = {"shard_size": arguments["shard_size"] or size, "keep_scores": "scores" in arguments["keep"]}
    own["keep_features"] = "features" in arguments["keep"]
    return of_fields(Options, {**arguments, **own, "cluster": cluster})


def _dry_run(manifest: Any, arguments: dict[str, Any], source: Any, options: "Options") -> None:
    from wilss.data.manifest import require_locked_contents

    from ..make.features import require_keepable_features, with_feature_parts, with_features_from
    from ..make.generate import (
        plan_for,
        require_known_names,
        require_other_than_read,
        selection_for,
        store_path,
        to_fetch,
    )
    from ..make.options import require_consistent
    from ..make.outlook import outlook
    from ..make.resume import keeping_what_is_kept

    require_consistent(options)
    if options.check_digests:
        require_locked_contents(manifest, arguments["step"], options.split)
    require_known_names(source, also_files=True)
    missing = to_fetch(source)
    path = store_path(manifest, arguments["step"], arguments["out"], options.split)
    stores = arguments.get("features_from", ())
    require_other_than_read(path, source, stores)
    options = keeping_what_is_kept(path, options)
    source = with_feature_parts(source, options)
    selection = selection_for(manifest, arguments["step"], source, options.split)
    if stores:
        source = with_features_from(source, stores, selection.records[: options.limit], click.echo)
    require_keepable_features(source, options)
    plan = plan_for(manifest, arguments["step"], source, selection.records[: options.limit], options)
    layout, problems = plan.layout, [problem for _, problem in sorted(plan.images.problems.items())]
    batches = sum(len(plan.shard(shard).batches) for shard in range(layout.num_shards))
    for warning in selection.warnings:
        click.echo(f"Warning: {warning}", err=True)
    click.echo(
        f"step {arguments['step']} of {manifest.name} by {source.name}: {counted(layout.num_images, 'image')}, "
        f"{counted(layout.num_shards, 'shard')} of {layout.shard_size}, {counted(batches, 'batch', 'batches')}, "
        f"canvas {layout.canvas[1]} x {layout.canvas[0]}\nclasses: {', '.join(plan.category_names)}\n"
        f"{_encoders_of(source)}images that cannot be used: {len(problems)}"
    )
    for problem in problems[:_FAILURES_SHOWN]:
        click.echo(f"  {problem}")
    if missing:
        click.echo(f"not here, will be fetched: {'; '.join(missing)}")
    click.echo(outlook(manifest, source, plan, path, options, can_compare=not missing))


def _encoders_of(source: Any) -> str:
    """A line with the networks that encode an image, "" for a source without any."""
    named = ", ".join(f"{name} {spec.title}" for name, spec in source.encoders)
    return f"encoders: {getattr(source, 'encoding', named)}\n" if named else ""


def _report(summary: "Summary", source: Any, arguments: dict[str, Any]) -> None:
    for warning in (*summary.warnings, *_warnings(summary, source, arguments)):
        click.echo(f"Warning: {warning}", err=True)
    for lost in summary.lost:
        click.echo(f"Error: {lost}", err=True)
    tell_failures(summary.failed, "see `wilss-masks info`.")
    if is_quiet():
        return
    click.echo(_what_happened(summary))
    click.echo("masks per class: " + ", ".join(f"{name} {count}" for name, count in summary.masks_per_class.items()))
    for line in summary.look.sentences():
        click.echo(line)
    click.echo(_next_step(summary, source, arguments))


def _warnings(summary: "Summary", source: Any, arguments: dict[str, Any]) -> list[str]:
    """What makes masks useless, with a remedy; masks that are the labels themselves are right."""
    if source.reads_labels or summary.lost:
        return []
    remedy = f"look at them: {pasted('wilss-masks sheet', summary.store, manifest=arguments['manifest_path'])}"
    if source.name == "fmwiss":
        command = pasted(f"wilss-masks tune --step {arguments['step']}", manifest=arguments["manifest_path"])
        remedy = f"for better parameters: {command}"
    return [f"{what}; {remedy}" for what in summary.look.warnings()]


def _what_happened(summary: "Summary") -> str:
    counts = f"{summary.done} done, {len(summary.failed)} failed, {summary.untagged} skipped (no tag of this step)"
    if summary.unlabelled:
        counts += f", {summary.unlabelled} without pixel labels"
    if not summary.made_now:
        return f"{summary.store} was complete already: {counts}; nothing to do ({summary.seconds:.1f} s)"
    made = f"{counted(summary.made_now, 'image')} in {summary.seconds:.1f} s"
    return f"{summary.store}: {counts}; {made}, {_rate(summary.made_now, summary.seconds)}"


def _rate(images: int, seconds: float) -> str:
    if images > seconds > 0:
        return f"{images / seconds:.1f} images/s"
    return f"{seconds / max(images, 1):.1f} s an image"


def _next_step(summary: "Summary", source: Any, arguments: dict[str, Any]) -> str:
    if summary.lost:
        return "Not complete: run the same command again to make what is missing."
    failed = "Fix the failed images and run the same command with --retry-failed"
    if getattr(source, "learns_from_all", False):
        failed = "Fix the failed images and run the same command with --overwrite, since it learns from all images"
    if summary.failed and not summary.done:
        return f"{failed}."
    manifest = arguments["manifest_path"]
    looks = [pasted("wilss-masks sheet", summary.store, manifest=manifest)]
    if summary.has_labels and not source.reads_labels:
        looks.append(pasted("wilss-masks evaluate", summary.store, manifest=manifest))
    trains = pasted("wilss-train --masks", summary.store, manifest=manifest)
    then = "\n      ".join([f"Next: {looks[0]}", *looks[1:], trains])
    if summary.left_out:
        then = (
            f"These are {summary.images} of {summary.images + summary.left_out} images (--limit); for all of them run "
            f"the same command with --update and without --limit.\n{then}"
        )
    return f"{failed}, or go on without them.\n{then}" if summary.failed else then
