"""`wilss-masks export voc`, `coco`, `cvat` and so on: a command for each form that other tools read."""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wilss.console import FINISHED_WITH_FAILURES, is_quiet, manifest_option_with
from wilss.errors import counted

from .common import store_argument

if TYPE_CHECKING:
    from wilss.store import MaskStore

    from ..exchange.common import Exported
    from ..exchange.naming import CocoNames
    from ..exchange.pieces import PieceOptions

_overwrite = click.option("--overwrite", is_flag=True, help="Replace files that are there.")
_partial = click.option("--allow-partial", is_flag=True, help="Export what is there of an incomplete store.")
_paths = manifest_option_with("Take file names and paths of the images from here.  [default: ID.jpg]")
_unused = manifest_option_with(
    "Not needed: files are named by the ids of images, and classes by the store.", expose_value=False
)
_shapes = click.option(
    "--shapes", type=click.Choice(["mask", "polygon", "box"]), default="mask", show_default=True,
    help="What a person is to edit. Boxes lose the pixels.",
)  # fmt: skip
_overlaps = click.option(
    "--overlaps", is_flag=True, help="Keep pixels in the masks of several classes, as in the store."
)
_no_void = click.option("--no-void", is_flag=True, help="Leave void out; readers take it for background.")
_min_area = click.option(
    "--min-area", type=click.IntRange(min=0), default=0, show_default=True,
    help="Leave out masks, or connected parts, of fewer pixels.",
)  # fmt: skip


def _instances(default: str) -> Callable[[Any], Any]:
    return click.option(
        "--instances", type=click.Choice(["class", "connected"]), default=default, show_default=True,
        help="An annotation for each class of an image, or for each connected part of its mask.",
    )  # fmt: skip


def _with(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def add(function: Any) -> Any:
        for option in reversed((*options, _overwrite, _partial)):
            function = option(function)
        return function

    return add


class _Forms(click.Group):
    """Takes the form as a command, and as the option --format of any place in the line."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """`export STORE OUT --format cvat` is `export cvat STORE OUT`."""
        for place, word in enumerate(args):
            name, found, value = word.partition("=")
            if name == "--format":
                taken = [value] if found else args[place + 1 : place + 2]
                args = [*taken, *args[:place], *args[place + 1 + (not found) :]]
                break
        return super().parse_args(ctx, args)


@click.group(
    cls=_Forms,
    epilog="""\b
Examples:
  wilss-masks export voc masks/shapes-15-5/step-1.zarr out/
  wilss-masks export masks/shapes-15-5/step-1.zarr step-1.zip --format cvat""",
)
def command() -> None:
    """Masks in the forms that other tools read; `export STORE OUT --format NAME` is the same."""


@command.command(epilog="\b\nExample:\n  wilss-masks export voc masks/shapes-15-5/step-1.zarr out/")
@store_argument
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@click.option("--grey", is_flag=True, help="8 bits without a palette, for readers that turn a palette into colours.")
@_unused
@_with()
def voc(store: Path, out: Path, grey: bool, overwrite: bool, allow_partial: bool) -> None:
    """Palette PNGs in the VOC layout.

    Writes OUT/SegmentationClass/ID.png (taxonomy ids, 255 void), OUT/ImageSets/Segmentation/SPLIT.txt, OUT/classes.txt
    and OUT/labelmap.txt, from which CVAT and datumaro know the names. Where masks overlap, the more confident class
    wins.
    """
    from ..exchange.folders import export_voc

    exported = export_voc(_opened(store, allow_partial), out, grey=grey, overwrite=overwrite)
    _report(exported, out, "label map", _resolved(exported))


@command.command(epilog="\b\nExample:\n  wilss-masks export cityscapes masks/shapes-15-5/step-1.zarr out/")
@store_argument
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@_unused
@_with()
def cityscapes(store: Path, out: Path, overwrite: bool, allow_partial: bool) -> None:
    """Grey PNGs in Cityscapes' layout.

    Writes OUT/gtFine/SPLIT/ID_gtFine_labelIds.png (taxonomy ids, 255 void), ID_gtFine_color.png and OUT/labelmap.txt.
    Where masks overlap, the more confident class wins.
    """
    from ..exchange.folders import export_cityscapes

    exported = export_cityscapes(_opened(store, allow_partial), out, overwrite=overwrite)
    _report(exported, out, "label map", _resolved(exported))


@command.command(epilog="\b\nExample:\n  wilss-masks export ade20k masks/shapes-15-5/step-1.zarr out/")
@store_argument
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@_unused
@_with()
def ade20k(store: Path, out: Path, overwrite: bool, allow_partial: bool) -> None:
    """Grey PNGs in the layout of ADE20K's scene parsing.

    Writes OUT/annotations/training/ID.png (0 background, taxonomy ids, 255 void), OUT/objectInfo.txt and
    OUT/labelmap.txt. Where masks overlap, the more confident class wins.
    """
    from ..exchange.folders import export_ade20k

    exported = export_ade20k(_opened(store, allow_partial), out, overwrite=overwrite)
    _report(exported, out, "label map", _resolved(exported))


@command.command(epilog="\b\nExample:\n  wilss-masks export coco masks/shapes-15-5/step-1.zarr step-1.json")
@store_argument
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
@manifest_option_with(
    "Take file names from here, and the numbers of images and classes where the data are COCO's.  [default: ID.jpg]"
)
@_with(_instances("class"), _overlaps, _no_void, _min_area)
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
    """
    from ..exchange.coco import export_coco

    opened = _opened(store, allow_partial)
    exported = export_coco(
        opened,
        out,
        names=_names(opened, manifest_path),
        instances=instances,
        overlaps=overlaps,
        void=not no_void,
        min_area=min_area,
        overwrite=overwrite,
    )
    _report(exported, out, "annotation", [*_kept_or_resolved(exported, overlaps), *_about_void(opened, no_void)])


@command.command(epilog="\b\nExample:\n  wilss-masks export panoptic masks/shapes-15-5/step-1.zarr panoptic.json")
@store_argument
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
@manifest_option_with(
    "Take file names from here, and the numbers of images and classes where the data are COCO's.  [default: ID.jpg]"
)
@_with(_instances("class"), _no_void, _min_area)
def panoptic(
    store: Path,
    out: Path,
    manifest_path: Path | None,
    instances: Any,
    no_void: bool,
    min_area: int,
    overwrite: bool,
    allow_partial: bool,
) -> None:
    """COCO panoptic: OUT, a json, and a folder of PNGs beside it with the same name.

    Numbers are those of `export coco`. Where masks overlap, the more confident class wins.
    """
    from ..exchange.panoptic import export_panoptic

    opened = _opened(store, allow_partial)
    exported = export_panoptic(
        opened,
        out,
        names=_names(opened, manifest_path),
        instances=instances,
        void=not no_void,
        min_area=min_area,
        overwrite=overwrite,
    )
    _report(exported, out, "segment", [*_resolved(exported), *_about_void(opened, no_void)])


@command.command(epilog="\b\nExample:\n  wilss-masks export cvat masks/shapes-15-5/step-1.zarr step-1.zip")
@store_argument
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
@_paths
@_with(_shapes, _instances("class"), _overlaps, _no_void, _min_area)
def cvat(
    store: Path, out: Path, manifest_path: Path | None, shapes: Any, overwrite: bool, allow_partial: bool, **pieces: Any
) -> None:
    """Pre-annotations for CVAT (images 1.1): OUT is an xml or a zip.

    OUT.labels.json beside it has the labels of the task, with an attribute `verdict` to judge each mask by.
    """
    from ..exchange.cvat import export_cvat

    opened, options = _opened(store, allow_partial), _options(**pieces)
    exported = export_cvat(
        opened, out, names=_names(opened, manifest_path), shapes=shapes, options=options, overwrite=overwrite
    )
    _report(exported, out, "shape", _of_pieces(opened, exported, options))


@command.command(epilog="\b\nExample:\n  wilss-masks export labelstudio masks/shapes-15-5/step-1.zarr tasks.json")
@store_argument
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
@_paths
@click.option("--images-at", default="/data/local-files/?d=", show_default=True,
              help="What stands before an image's name in its address, e.g. s3://bucket/images/.")  # fmt: skip
@_with(_shapes, _instances("class"), _overlaps, _no_void, _min_area)
def labelstudio(
    store: Path,
    out: Path,
    manifest_path: Path | None,
    images_at: str,
    shapes: Any,
    overwrite: bool,
    allow_partial: bool,
    **pieces: Any,
) -> None:
    """Tasks with predictions for Label Studio, with `score` and `model_version`.

    OUT.config.xml beside it is the labeling interface under which they are shown, with a verdict for each mask.
    """
    from ..exchange.label_studio import export_label_studio

    opened, options = _opened(store, allow_partial), _options(**pieces)
    names = _names(opened, manifest_path)
    exported = export_label_studio(
        opened, out, names=names, shapes=shapes, options=options, images_at=images_at, overwrite=overwrite
    )
    _report(exported, out, "shape", _of_pieces(opened, exported, options))


@command.command(epilog="\b\nExample:\n  wilss-masks export labelme masks/shapes-15-5/step-1.zarr labelme/")
@store_argument
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@_paths
@_with(_shapes, _instances("class"), _overlaps, _no_void, _min_area)
def labelme(
    store: Path, out: Path, manifest_path: Path | None, shapes: Any, overwrite: bool, allow_partial: bool, **pieces: Any
) -> None:
    """A json for each image for labelme, OUT/ID.json.

    With --manifest the images are named where they lie; without it, put the files beside the images.
    """
    from ..exchange.labelme import export_labelme

    opened, options = _opened(store, allow_partial), _options(**pieces)
    names = _names(opened, manifest_path)
    exported = export_labelme(opened, out, names=names, shapes=shapes, options=options, overwrite=overwrite)
    _report(exported, out, "shape", _of_pieces(opened, exported, options))


@command.command(epilog="\b\nExample:\n  wilss-masks export fiftyone masks/shapes-15-5/step-1.zarr fiftyone/")
@store_argument
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@_paths
@_with(_instances("class"), _overlaps, _no_void, _min_area)
def fiftyone(
    store: Path, out: Path, manifest_path: Path | None, overwrite: bool, allow_partial: bool, **pieces: Any
) -> None:
    """A dataset in FiftyOne's own layout: masks by path, with confidence; OUT/load.py loads it."""
    from ..exchange.fiftyone import export_fiftyone

    opened, options = _opened(store, allow_partial), _options(**pieces)
    names = _names(opened, manifest_path)
    exported = export_fiftyone(opened, out, names=names, options=options, overwrite=overwrite)
    _report(exported, out, "mask", _of_pieces(opened, exported, options))


@command.command(epilog="\b\nExample:\n  wilss-masks export huggingface masks/shapes-15-5/step-1.zarr dataset/")
@store_argument
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@_paths
@_with()
def huggingface(store: Path, out: Path, manifest_path: Path | None, overwrite: bool, allow_partial: bool) -> None:
    """Parquet files for Hugging Face's `datasets`: image, mask, tags; needs the extra `datasets`.

    The images themselves go in where --manifest says where they lie. Where masks overlap, the more confident class
    wins.
    """
    from ..exchange.huggingface import export_huggingface

    opened = _opened(store, allow_partial)
    exported = export_huggingface(opened, out, names=_names(opened, manifest_path), overwrite=overwrite)
    _report(exported, out, "label map", _resolved(exported))


@command.command(epilog="\b\nExample:\n  wilss-masks export sam masks/shapes-15-5/step-1.zarr regions/")
@store_argument
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@_paths
@_with(_instances("connected"), _min_area)
def sam(
    store: Path,
    out: Path,
    manifest_path: Path | None,
    instances: Any,
    min_area: int,
    overwrite: bool,
    allow_partial: bool,
) -> None:
    """Masks without classes, a json for each image as in SA-1B; needs the extra `coco`."""
    from ..exchange.sam import export_sam

    opened = _opened(store, allow_partial)
    names = _names(opened, manifest_path)
    exported = export_sam(opened, out, names=names, instances=instances, min_area=min_area, overwrite=overwrite)
    _report(exported, out, "mask", [])


def _opened(store: Path, allow_partial: bool) -> "MaskStore":
    from wilss.store import MaskStore

    opened = MaskStore.open(store, allow_partial=allow_partial)
    _tell_verdicts_beside(opened)
    return opened


def _tell_verdicts_beside(store: "MaskStore") -> None:
    """Warn of what people said of the masks, which `revise` makes a new store of, and which is not in this one."""
    from ..review.beside import verdicts_beside

    if told := verdicts_beside(store):
        click.echo(f"Warning: {told}", err=True)


def _names(store: "MaskStore", manifest_path: Path | None) -> "CocoNames":
    from wilss.data.manifest import load_manifest

    from ..exchange.naming import CocoNames, names_of

    return names_of(store, load_manifest(manifest_path)) if manifest_path else CocoNames()


def _options(*, instances: Any, overlaps: bool, no_void: bool, min_area: int) -> "PieceOptions":
    from ..exchange.pieces import PieceOptions

    return PieceOptions(instances=instances, overlaps=overlaps, void=not no_void, min_area=min_area)


def _of_pieces(store: "MaskStore", exported: "Exported", options: "PieceOptions") -> list[str]:
    return [*_kept_or_resolved(exported, options.overlaps), *_about_void(store, not options.void)]


def _kept_or_resolved(exported: "Exported", overlaps: bool) -> list[str]:
    return [] if overlaps else _resolved(exported)


def _about_void(store: "MaskStore", no_void: bool) -> list[str]:
    from ..exchange.common import holds_void

    if not holds_void(store):
        return []
    how = "in no annotation: readers take them for background" if no_void else "annotations of the category `void`"
    return [f"The store's void pixels are {how}."]


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
        for note in (*notes, *exported.notes):
            click.echo(note)
    if exported.refused:
        sys.exit(FINISHED_WITH_FAILURES)
