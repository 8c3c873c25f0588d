"""`wilss-masks bank`."""

from typing import Any

import click

from wilss.console import StorePlace, manifest_option
from wilss.disk import Location

from .common import store_argument
from .making import features_option, make_masks, making_options


@click.command(
    epilog="""\b
Examples:
  wilss-masks bank step-1.zarr --out step-1b.zarr
  wilss-masks bank step-1.zarr --out step-1b.zarr --set features=clip --set first=0.3
  wilss-masks bank step-1.zarr --out step-1b.zarr --set boundaries=pamr --devices 0,1
  wilss-masks bank step-1.zarr --out step-1b.zarr --features-from step-1.zarr --set features=keys"""
)
@store_argument
@click.option("--out", type=StorePlace(), required=True, help="The store to write.")
@manifest_option
@features_option
@making_options
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="A parameter of the second pass, e.g. neighbours=10.",
)
def command(store: Location, **arguments: Any) -> None:
    """A second pass over a store: masks by the vote of what all of its masks say together.

    From the sure part of every mask come features of a frozen encoder, the bank; then every patch of every image takes
    the vote of those in the bank, of other images, that are most like it. The new store is made as `generate` makes
    one: the same command goes on where it stopped. The store that is read is left as it is.
    """  # fmt: skip
    from wilss.data.manifest import load_manifest
    from wilss.params import parse_assignments
    from wilss.store import MaskStore

    from ..sources import BankSource

    first = MaskStore.open(store, allow_partial=True)  # refused in the source's own words
    manifest = load_manifest(arguments["manifest_path"])
    values = {**parse_assignments(arguments["assignments"]), "store": str(store)}
    source = BankSource.from_manifest(manifest, first.step, values, arguments["seed"])
    attributes = first.attributes
    of_first = {"step": first.step, "split": attributes.get("split", "train"), "limit": attributes.get("limit")}
    make_masks(manifest, source, {**arguments, **of_first})
