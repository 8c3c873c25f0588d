"""`wilss-masks verify`."""

import sys
from pathlib import Path

import click

from .common import store_argument


@click.command(epilog="\b\nExample:\n  wilss-masks verify masks/shapes-15-5/step-1.zarr")
@store_argument
def command(store: Path) -> None:
    """Compare every byte of a store with its digests.

    Exit code 0 when all is whole, 1 when anything is damaged or missing.
    """
    from wilss.store import MaskStore

    opened = MaskStore.open(store, allow_partial=True)
    damage = list(opened.verify())
    for part in damage:
        click.echo(f"damaged: {part.what}")
    if damage:
        click.echo(
            f"{store} is damaged in {len(damage)} places; make it again with `wilss-masks generate --overwrite`, "
            "or fetch another copy of it.",
            err=True,
        )
        sys.exit(1)
    pending = len(opened.pending_shards())
    state = "complete" if opened.is_complete else f"not complete, {pending} shards are missing"
    click.echo(f"{store}: {opened.layout.num_shards - pending} shards match their digests; the store is {state}")
    if not opened.is_complete:
        sys.exit(1)
