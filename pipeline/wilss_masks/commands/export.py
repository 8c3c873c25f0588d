"""`wilss-masks export voc` and `wilss-masks export coco`."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wilss.console import FINISHED_WITH_FAILURES, is_quiet, manifest_option_with
from wilss.errors import counted

from .common import store_argument

if TYPE_CHECKING:
    from ..inspect.export import Exported

_shared: tuple[Any, ...] = (
    click.option("--overwrite", is_flag=True, help="Replace files that are there."),
    click.option("--allow-partial", is_flag=True, help="Export what is there of an incomplete store."),
)


def _with_shared(function: Any) -> Any:
    for option in reversed(_shared):
        function = option(function)
    return function


@click.group(
    epilog="""\b
Examples:
  wilss-masks export voc masks/shapes-15-5/step-1.zarr out/
  wilss-masks export coco masks/shapes-15-5/step-1.zarr step-1.json --instances connected"""
)
def command() -> None:
    """Masks in the forms that other tools read."""


@command.command(epilog="\b\nExample:\n  wilss-masks export voc masks/shapes-15-5/step-1.zarr out/")
@store_argument
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@click.option("--grey", is_flag=True, help="8 bits without a palette, for readers that turn a palette into colours.")
@_with_shared
def voc(store: Path, out: Path, grey: bool, overwrite: bool, allow_partial: bool) -> None:
    """Palette PNGs in the VOC layout.

    Writes OUT/SegmentationClass/ID.png (taxonomy ids, 255 void), OUT/ImageSets/Segmentation/SPLIT.txt, OUT/classes.txt
    and OUT/labelmap.txt, from which CVAT and datumaro know the names. Where masks overlap, the more confident class
    wins.
    """
    from wilss.store import MaskStore

    from ..inspect.export import export_voc

    opened = MaskStore.open(store, allow_partial=allow_partial)
    exported = export_voc(opened, out, grey=grey, overwrite=overwrite)
    _report(exported, out, "label map", _resolved(exported))


@command.command(epilog="\b\nExample:\n  wilss-masks export coco masks/shapes-15-5/step-1.zarr step-1.json")
@store_argument
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
@manifest_option_with(
    "Take file names from here, and the numbers of images and classes where the data are COCO's.  [default: ID.jpg]"
)
@click.option("--instances", type=click.Choice(["class", "connected"]), default="class", show_default=True,
              help="An annotation for each class of an image, or for each connected part of its mask.")  # fmt: skip
@click.option("--overlaps", is_flag=True, help="Keep pixels in the masks of several classes, as in the store.")
@click.option("--no-void", is_flag=True, help="Leave void out; readers take it for background.")
@click.option("--min-area", type=click.IntRange(min=0), default=0, show_default=True,
              help="Leave out masks, or connected parts, of fewer pixels.")  # fmt: skip
@_with_shared
def coco(
    store: Path,
    out: Path,
    manifest_path: Path | None,
    instances: Any,
    overlaps: bool,
    no_void: bool,
    min_area: int,
    overwrite: bool,
    allow_partial: bool,
) -> None:
    """COCO json with RLE annotations; needs the extra `coco`.

    Category ids are taxonomy ids, or those of the data's own COCO json. Where masks overlap, the more confident class
    wins, as in `export voc`. Void is an annotation of a category `void` with iscrowd 1.
    """  # fmt: skip
    from wilss.data.manifest import load_manifest
    from wilss.store import MaskStore

    from ..inspect.export import holds_void
    from ..inspect.export_coco import CocoNames, export_coco, names_of

    opened = MaskStore.open(store, allow_partial=allow_partial)
    names = names_of(opened, load_manifest(manifest_path)) if manifest_path else CocoNames()
    exported = export_coco(
        opened,
        out,
        names=names,
        instances=instances,
        overlaps=overlaps,
        void=not no_void,
        min_area=min_area,
        overwrite=overwrite,
    )
    notes = [] if overlaps else _resolved(exported)
    if holds_void(opened):
        how = "in no annotation: readers take them for background" if no_void else "annotations of the category `void`"
        notes.append(f"The store's void pixels are {how}.")
    _report(exported, out, "annotation", notes)


def _resolved(exported: "Exported") -> list[str]:
    if not exported.overlapping:
        return []
    return [
        f"In {counted(exported.overlapping, 'image')} masks of two classes overlap; the more confident class has "
        "these pixels."
    ]


def _report(exported: "Exported", out: Path, noun: str, notes: Iterable[str]) -> None:
    for image, why in exported.refused.items():
        click.echo(f"Failed: {image!r}: {why}", err=True)
    if not is_quiet():
        click.echo(f"{out}: {counted(exported.annotations, noun)} of {counted(exported.images, 'image')}")
        if exported.without_masks:
            click.echo(
                f"{counted(exported.without_masks, 'image')} of the store without masks to export (failed, without a "
                "tag of this step, or not made)"
            )
        for note in notes:
            click.echo(note)
    if exported.refused:
        sys.exit(FINISHED_WITH_FAILURES)
