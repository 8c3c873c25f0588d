"""`wilss-masks fuse`."""

from pathlib import Path

import click

from wilss.console import ProgressDisplay, is_quiet, pasted
from wilss.errors import counted

from .common import store_argument


@click.command(
    epilog="""\b
Examples:
  wilss-masks fuse step-1.zarr --out intersection.zarr --set fusion=intersection
  wilss-masks fuse step-1.zarr --out std.zarr --set keep=std --set keep_amount=0.5 --set threshold=0.6"""
)
@store_argument
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The store to write.")
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="fusion, keep, keep_amount or threshold; what is not set stays as it was.",
)
@click.option("--overwrite", is_flag=True, help="Throw an existing store at --out away.")
def command(store: Path, out: Path, assignments: tuple[str, ...], overwrite: bool) -> None:
    """A new store from the kept score and attention maps, with other fusion, K or thresholds.

    No forward pass and no weights. Needs a store made with `generate --keep scores`. Seeds stay those that
    were drawn at the first threshold.
    """  # fmt: skip
    from wilss.params import parse_assignments
    from wilss.store import MaskStore

    from ..inspect.fuse import fuse, new_params

    opened, values = MaskStore.open(store), parse_assignments(assignments)
    params = new_params(opened, values)
    with ProgressDisplay() as display:
        fused = fuse(opened, out, values, overwrite=overwrite, progress=display)
    if not is_quiet():
        click.echo(
            f"{out}: {counted(fused.layout.num_images, 'image')} fused by {params.fusion} (keep "
            f"{params.keep_amount:g} by {params.keep}, threshold {params.threshold:g})\n"
            f"Next: {pasted('wilss-masks evaluate', out)}"
        )
