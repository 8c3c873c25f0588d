"""The options that say how masks are made, and not which."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wilss.console import StorePlace

if TYPE_CHECKING:
    from ...make.options import Options

_LARGEST_SHARD = 65_536
#: By default; what --devices and schedulers feed makes a hundred images a second and more.
_SHARD, _SHARD_ON_GPUS = 32, 128
_MOST_THREADS = 1024


def _devices(ctx: click.Context, option: click.Parameter, value: str | None) -> tuple[int, ...]:
    if not value:
        return ()
    try:
        return tuple(int(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a list of GPU numbers; write e.g. 0,1.") from None


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
        help="How features are reduced to that many numbers.",
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


def options_of(arguments: dict[str, Any]) -> "Options":
    """What the options of `making_options` say."""
    from wilss.params import of_fields

    from ...make.cluster import ClusterOptions
    from ...make.options import Options

    cluster = of_fields(ClusterOptions, arguments)
    # where shards come quickly each should hold more, so that the coordinator keeps up
    size = _SHARD_ON_GPUS if cluster.devices or cluster.is_elsewhere else _SHARD
    own = {"shard_size": arguments["shard_size"] or size, "keep_scores": "scores" in arguments["keep"]}
    own["keep_features"] = "features" in arguments["keep"]
    return of_fields(Options, {**arguments, **own, "cluster": cluster})
