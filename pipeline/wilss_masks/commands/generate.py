"""`wilss-masks generate`."""

from typing import TYPE_CHECKING, Any

import click

from wilss.console import StorePlace, manifest_option

from .making import features_option, make_masks, making_options

if TYPE_CHECKING:
    from ..make.options import Part

_DEFAULT_SOURCES = {"pixel": "annotation", "tags": "fmwiss", "shots": "panet"}
#: Options that stand for the source's parameters of the same names.
_SHORT_FORMS = ("shots", "supports", "checkpoint")


def _part(ctx: click.Context, option: click.Parameter, value: str | None) -> "Part | None":
    if value is None:
        return None
    from wilss.errors import ParameterError

    from ..make.options import Part

    try:
        return Part.parse(value)
    except ParameterError as error:
        raise click.BadParameter(str(error)) from None


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
@click.option("--limit", type=click.IntRange(min=1), help="Only this many images, the first ones.")
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


def _source(manifest: Any, arguments: dict[str, Any]) -> Any:
    from wilss.data.taxonomy import closest
    from wilss.params import parse_assignments

    from ..sources import SOURCES

    supervision = manifest.supervision(arguments["step"])
    name = arguments["source_name"] or _DEFAULT_SOURCES[supervision]
    if name not in SOURCES:
        raise click.UsageError(f"there is no source {name!r}{closest(name, SOURCES)}.")
    short = {key: arguments[key] for key in _SHORT_FORMS if arguments[key] is not None}
    assigned = parse_assignments(arguments["assignments"])
    values = {**assigned, **short}
    blamed = {"where": " / ".join(f"--{key}" for key in (*(["set"] if assigned else []), *short))} if short else {}
    return SOURCES[name].from_manifest(manifest, arguments["step"], values, arguments["seed"], **blamed)
