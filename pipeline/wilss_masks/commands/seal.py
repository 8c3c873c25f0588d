"""`wilss-masks seal`."""

import click

from wilss.console import is_quiet
from wilss.disk import Location
from wilss.errors import counted

from .common import store_argument


@click.command(epilog="\b\nExample:\n  wilss-masks seal masks/shapes-15-5/step-1.zarr")
@store_argument
def command(store: Location) -> None:
    """Close a store whose shards were all made by `wilss-masks generate --part`.

    The last part does this by itself; this is for a store whose last part was stopped just then. Every shard is
    compared with what its maker says of it. A store that is closed is left alone.
    """
    from wilss.store import MaskStore

    from ..make.parts import close

    was_complete = MaskStore.open(store, allow_partial=True).is_complete
    close(store)
    if not is_quiet():
        closed = MaskStore.open(store)
        what = "was complete already" if was_complete else "is complete"
        click.echo(f"{store} {what}: {counted(closed.layout.num_shards, 'shard')}, digest {closed.digest[:12]}")
