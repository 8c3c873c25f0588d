"""`wilss-masks sheet`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from wilss.console import FINISHED_WITH_FAILURES, is_quiet, manifest_option, require_png
from wilss.disk import Location, write_output
from wilss.errors import counted

from .common import store_argument

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

    from wilss.data.manifest import Manifest
    from wilss.store import MaskStore

    from ..inspect.sheet import Sheet
    from ..inspect.stages_sheet import StagesSheet

_WORDS = {
    "agreement": "worst agreement first",
    "confidence": "lowest confidence first",
    "spread": "evenly spread",
}


@click.command(
    epilog="""\b
Examples:
  wilss-masks sheet masks/shapes-15-5/step-1.zarr
  wilss-masks sheet step-1.zarr --manifest voc.yaml --images 2007_000033,2007_000042 --out two.png
  wilss-masks sheet step-1.zarr --spread --count 6 --out figure.png
  wilss-masks sheet step-1.zarr --stages --spread --out stages.png"""
)
@store_argument
@click.option("--out", type=click.Path(path_type=Path), help="The PNG to write.  [default: beside the store]")
@manifest_option
@click.option("--images", metavar="ID,ID", help="These images, all their classes.")
@click.option(
    "--worst",
    type=click.Choice(["agreement", "confidence"]),
    default="agreement",
    show_default=True,
    help="Which rows to show first: M_init and M_seeds disagree most (where masks are made of both), or the lowest "
    "confidence.",
)
@click.option("--spread", is_flag=True, help="Rows evenly spread over the store instead, good and bad.")
@click.option(
    "--stages",
    is_flag=True,
    help="A row per image instead, with the labels after every stage side by side, and how sure they are.",
)
@click.option("--count", type=click.IntRange(1, 200), default=12, show_default=True, help="How many rows.")
@click.option(
    "--cell",
    type=click.IntRange(260, 1024),
    default=280,
    show_default=True,
    help="Width of a panel in pixels.",
)
@click.option("--allow-partial", is_flag=True, help="Show what is there of a store that is not complete.")
def command(
    store: Location,
    out: Path | None,
    manifest_path: Path,
    images: str | None,
    worst: Literal["agreement", "confidence"],
    spread: bool,
    stages: bool,
    count: int,
    cell: int,
    allow_partial: bool,
) -> None:
    """A contact sheet: image, the maps that the mask is made of, mask and pixel label, a row per image and class.

    The maps are shown where the store kept them (`generate --keep scores`), the label where the manifest has
    one. "M_init was empty" stands where no score passed the threshold, so that all seeds are the best patch.
    --stages shows score, evidence, the labels after every stage of the store's parameters, sureness and masks.
    """  # fmt: skip
    from wilss.data.manifest import load_manifest
    from wilss.drawing import encoded
    from wilss.store import MaskStore

    from ..inspect.sheet import choose, order_for, rows_of

    target = require_png(out or (store if isinstance(store, Path) else Path(store.name)).with_suffix(".png"))
    opened = MaskStore.open(store, allow_partial=allow_partial)
    order = order_for(opened, "spread" if spread else worst)
    ids = [name.strip() for name in (images or "").split(",") if name.strip()]
    chosen = rows_of(opened, ids) if ids else choose(opened, order, count)
    sheet, picture = _drawn(opened, load_manifest(manifest_path), chosen, stages, cell)
    write_output(target, encoded(picture))
    if not is_quiet():
        how = "by id" if ids else _WORDS[order]
        click.echo(f"{target}: {counted(len(sheet.rows), 'row')}, {how}")
    for image, why in sheet.failed.items():
        click.echo(f"Failed: {image}: {why}", err=True)
    if sheet.failed:
        sys.exit(FINISHED_WITH_FAILURES)


def _drawn(
    store: "MaskStore", manifest: "Manifest", chosen: "Sequence[tuple[int, int]]", stages: bool, cell: int
) -> "tuple[Sheet | StagesSheet, Image]":
    """The rows of a sheet, and its picture.

    chosen: (image, category) positions, each of which is a row; with `stages`, each image is one.
    """
    from ..inspect.page import draw_page
    from ..inspect.sheet import collect
    from ..inspect.stages_page import draw_stages_page
    from ..inspect.stages_sheet import collect_stages

    if stages:
        of_stages = collect_stages(store, manifest, list(dict.fromkeys(image for image, _ in chosen)))
        return of_stages, draw_stages_page(of_stages, cell)
    of_classes = collect(store, manifest, chosen)
    return of_classes, draw_page(of_classes, cell)
