"""`wilss-masks export voc` and `wilss-masks export coco`."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wilss.console import FINISHED_WITH_FAILURES, is_quiet

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
  wilss-masks export coco masks/shapes-15-5/step-1.zarr step-1.json"""
)
def command() -> None:
    """Masks in the forms that other tools read."""


@command.command(epilog="\b\nExample:\n  wilss-masks export voc masks/shapes-15-5/step-1.zarr out/")
@store_argument
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@_with_shared
def voc(store: Path, out: Path, overwrite: bool, allow_partial: bool) -> None:
    """Palette PNGs in the VOC layout.

    Writes OUT/SegmentationClass/ID.png (taxonomy ids, 255 void), OUT/ImageSets/Segmentation/SPLIT.txt and
    OUT/classes.txt. Where masks overlap, the more confident class wins.
    """
    from wilss.store import MaskStore

    from ..inspect.export import export_voc

    opened = MaskStore.open(store, allow_partial=allow_partial)
    _report(export_voc(opened, out, overwrite=overwrite), out, "label maps")


@command.command(epilog="\b\nExample:\n  wilss-masks export coco masks/shapes-15-5/step-1.zarr step-1.json")
@store_argument
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--manifest",
    "manifest_path",
    type=click.Path(path_type=Path),
    envvar="WILSS_MANIFEST",
    show_envvar=True,
    help="Take the images' file names from here.  [default: ID.jpg]",
)
@_with_shared
def coco(store: Path, out: Path, manifest_path: Path | None, overwrite: bool, allow_partial: bool) -> None:
    """COCO json with one RLE annotation per image and class; needs the extra `coco`.

    Category ids are taxonomy ids. Masks of two classes may overlap, as in the store. Void is in no annotation, so a
    reader takes it for background; `export voc` keeps it.
    """  # fmt: skip
    from wilss.store import MaskStore

    from ..inspect.export import export_coco, holds_void, plain_file_name

    opened = MaskStore.open(store, allow_partial=allow_partial)
    file_name = _file_names(opened, manifest_path) if manifest_path else plain_file_name
    exported = export_coco(opened, out, file_name=file_name, overwrite=overwrite)
    if holds_void(opened) and not is_quiet():
        click.echo(
            f"{store} holds void pixels, which are in no annotation: readers of {out} take them for background; "
            "`wilss-masks export voc` keeps them.",
            err=True,
        )
    _report(exported, out, "annotations")


def _file_names(store: Any, manifest_path: Path) -> Callable[[str], str]:
    from wilss.data.manifest import load_manifest
    from wilss.store.records import records_for

    records = records_for(store, load_manifest(manifest_path))
    return lambda image_id: records[image_id].path.name


def _report(exported: "Exported", out: Path, noun: str) -> None:
    for image, why in exported.refused.items():
        click.echo(f"Failed: {image!r}: {why}", err=True)
    if not is_quiet():
        click.echo(f"{out}: {exported.annotations} {noun} of {exported.images} images")
        if exported.without_masks:
            click.echo(
                f"{exported.without_masks} images of the store have no masks to export (failed, without a "
                "tag of this step, or not made)"
            )
    if exported.refused:
        sys.exit(FINISHED_WITH_FAILURES)
