"""`wilss-masks export voc`, `coco`, `cvat` and so on: a command for each form that other tools read."""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wilss.console import FINISHED_WITH_FAILURES, going_on, is_quiet, manifest_option_with
from wilss.disk import Location
from wilss.errors import counted

from .common import store_argument

if TYPE_CHECKING:
    from wilss.data.manifest import Manifest
    from wilss.store import MaskStore

    from ..exchange.common import Exported
    from ..exchange.naming import CocoNames
    from ..exchange.pieces import PieceOptions

_overwrite = click.option("--overwrite", is_flag=True, help="Replace files that are there.")
_partial = click.option("--allow-partial", is_flag=True, help="Export what is there of an incomplete store.")
_paths = manifest_option_with("Take file names and paths of the images from here.  [default: ID.jpg]")
_numbers = manifest_option_with(
    "Take file names from here, and the numbers of images and classes where the data are COCO's.  [default: ID.jpg]"
)
_pictures = manifest_option_with("Put the images in, too, from where they lie by this manifest.")
_compared = manifest_option_with(
    "Compare the images with those that the masks were made of, which reads those whose size and time are not noted "
    "yet; files are named by the ids of images."
)
#: Those without which files of images have names that somebody made up.
_NAMING = (_paths, _numbers)
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
_grey = click.option(
    "--grey", is_flag=True, help="8 bits without a palette, for readers that turn a palette into colours."
)
_images_at = click.option(
    "--images-at", default="/data/local-files/?d=", show_default=True,
    help="What stands before an image's name in its address, e.g. s3://bucket/images/.",
)  # fmt: skip
#: The options that become `PieceOptions`.
_PIECES = ("instances", "overlaps", "no_void", "min_area")


def _instances(default: str) -> Callable[[Any], Any]:
    return click.option(
        "--instances", type=click.Choice(["class", "connected"]), default=default, show_default=True,
        help="An annotation for each class of an image, or for each connected part of its mask.",
    )  # fmt: skip


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


def _form(out: str, noun: str, *options: Callable[[Any], Any]) -> Callable[[Callable[..., "Exported"]], click.Command]:
    """The command that writes a form: named as the function that does it, whose docstring is its help.

    The function is given the open store, OUT and its options; `names` and `options` (`PieceOptions`) in the place of
    those that say what things are called and how masks are cut. out: an example of OUT, a folder's with a slash.
    noun: what is counted.
    """
    is_folder = out.endswith("/")
    kind = click.Path(path_type=Path, file_okay=not is_folder, dir_okay=is_folder)

    def add(write: Callable[..., "Exported"]) -> click.Command:
        def run(store: Location, out: Path, allow_partial: bool, **given: Any) -> None:
            opened, manifest = _opened(store, allow_partial), _loaded(given.pop("manifest_path"))
            if _compared not in options:
                given["names"] = _names(opened, manifest)
            if manifest is not None:
                _tell_changes(opened, manifest)
            elif not set(_NAMING).isdisjoint(options):
                _tell_guessed(opened)
            pieces = {name: given.pop(name) for name in _PIECES if name in given}
            if pieces:
                given["options"] = _options(**pieces)
            with going_on(lambda: "the same command with --overwrite begins again." if out.exists() else ""):
                exported = write(opened, out, **given)
            resolved = [] if pieces.get("overlaps") else _resolved(exported)
            void = _about_void(opened, pieces["no_void"]) if "no_void" in pieces else []
            _report(exported, out, noun, [*resolved, *void])

        run.__doc__ = write.__doc__
        function: Any = run
        for option in reversed((store_argument, click.argument("out", type=kind), *options, _overwrite, _partial)):
            function = option(function)
        example = f"\b\nExample:\n  wilss-masks export {write.__name__} masks/shapes-15-5/step-1.zarr {out}"
        return command.command(write.__name__, epilog=example)(function)

    return add


@_form("out/", "label map", _grey, _compared)
def voc(*given: Any, **more: Any) -> "Exported":
    """Palette PNGs in the VOC layout.

    Writes OUT/SegmentationClass/ID.png (taxonomy ids, 255 void), OUT/ImageSets/Segmentation/SPLIT.txt, OUT/classes.txt
    and OUT/labelmap.txt, from which CVAT and datumaro know the names. Where masks overlap, the more confident class
    wins.
    """
    from ..exchange.folders import export_voc

    return export_voc(*given, **more)


@_form("out/", "label map", _compared)
def cityscapes(*given: Any, **more: Any) -> "Exported":
    """Grey PNGs in Cityscapes' layout.

    Writes OUT/gtFine/SPLIT/ID_gtFine_labelIds.png (taxonomy ids, 255 void), ID_gtFine_color.png and OUT/labelmap.txt.
    Where masks overlap, the more confident class wins.
    """
    from ..exchange.folders import export_cityscapes

    return export_cityscapes(*given, **more)


@_form("out/", "label map", _compared)
def ade20k(*given: Any, **more: Any) -> "Exported":
    """Grey PNGs in the layout of ADE20K's scene parsing.

    Writes OUT/annotations/training/ID.png (0 background, taxonomy ids, 255 void), OUT/objectInfo.txt and
    OUT/labelmap.txt. Where masks overlap, the more confident class wins.
    """
    from ..exchange.folders import export_ade20k

    return export_ade20k(*given, **more)


@_form("step-1.json", "annotation", _numbers, _instances("class"), _overlaps, _no_void, _min_area)
def coco(*given: Any, **more: Any) -> "Exported":
    """COCO json with RLE annotations; needs the extra `coco`.

    Category ids are taxonomy ids, or those of the data's own COCO json. Where masks overlap, the more confident class
    wins, as in `export voc`. Void is an annotation of a category `void` with iscrowd 1.
    """
    from ..exchange.coco import export_coco

    return export_coco(*given, **more)


@_form("panoptic.json", "segment", _numbers, _instances("class"), _no_void, _min_area)
def panoptic(*given: Any, **more: Any) -> "Exported":
    """COCO panoptic: OUT, a json, and a folder of PNGs beside it with the same name.

    Numbers are those of `export coco`. Where masks overlap, the more confident class wins.
    """
    from ..exchange.panoptic import export_panoptic

    return export_panoptic(*given, **more)


@_form("step-1.zip", "shape", _paths, _shapes, _instances("class"), _overlaps, _no_void, _min_area)
def cvat(*given: Any, **more: Any) -> "Exported":
    """Pre-annotations for CVAT (images 1.1): OUT is an xml or a zip.

    OUT.labels.json beside it has the labels of the task, with an attribute `verdict` to judge each mask by.
    """
    from ..exchange.cvat import export_cvat

    return export_cvat(*given, **more)


@_form("tasks.json", "shape", _paths, _images_at, _shapes, _instances("class"), _overlaps, _no_void, _min_area)
def labelstudio(*given: Any, **more: Any) -> "Exported":
    """Tasks with predictions for Label Studio, with `score` and `model_version`.

    OUT.config.xml beside it is the labeling interface under which they are shown, with a verdict for each mask.
    """
    from ..exchange.label_studio import export_label_studio

    return export_label_studio(*given, **more)


@_form("labelme/", "shape", _paths, _shapes, _instances("class"), _overlaps, _no_void, _min_area)
def labelme(*given: Any, **more: Any) -> "Exported":
    """A json for each image for labelme, OUT/ID.json.

    With --manifest the images are named where they lie; without it, put the files beside the images.
    """
    from ..exchange.labelme import export_labelme

    return export_labelme(*given, **more)


@_form("fiftyone/", "mask", _paths, _instances("class"), _overlaps, _no_void, _min_area)
def fiftyone(*given: Any, **more: Any) -> "Exported":
    """A dataset in FiftyOne's own layout: masks by path, with confidence; OUT/load.py loads it."""
    from ..exchange.fiftyone import export_fiftyone

    return export_fiftyone(*given, **more)


@_form("dataset/", "label map", _pictures)
def huggingface(*given: Any, **more: Any) -> "Exported":
    """Parquet files for Hugging Face's `datasets`: image, mask, tags; needs the extra `datasets`.

    The images themselves go in where --manifest says where they lie. Where masks overlap, the more confident class
    wins.
    """
    from ..exchange.huggingface import export_huggingface

    return export_huggingface(*given, **more)


@_form("regions/", "mask", _paths, _instances("connected"), _min_area)
def sam(*given: Any, **more: Any) -> "Exported":
    """Masks without classes, a json for each image as in SA-1B; needs the extra `coco`."""
    from ..exchange.sam import export_sam

    return export_sam(*given, **more)


def _opened(store: Location, allow_partial: bool) -> "MaskStore":
    from wilss.store import MaskStore

    opened = MaskStore.open(store, allow_partial=allow_partial)
    _tell_verdicts_beside(opened)
    return opened


def _tell_verdicts_beside(store: "MaskStore") -> None:
    """Warn of what people said of the masks, which `revise` makes a new store of, and which is not in this one."""
    from ..review.beside import verdicts_beside

    if told := verdicts_beside(store):
        click.echo(f"Warning: {told}", err=True)


def _tell_changes(store: "MaskStore", manifest: "Manifest") -> None:
    """Warn of images or labels that are not those any more that the masks were made of; of its own manifest alone."""
    from wilss.store.changes import told_changes
    from wilss.store.records import records_for

    is_of = store.attributes.get("manifest_sha256") == manifest.digest
    if is_of and (told := told_changes(store, records_for(store, manifest))) is not None:
        click.echo(f"Warning: {told}", err=True)


def _tell_guessed(store: "MaskStore") -> None:
    """Warn of names of files that are not known."""
    from ..exchange.naming import plain_file_name

    if store.image_ids:
        name = plain_file_name(store.image_ids[0])
        click.echo(
            f"Warning: a store does not know what the files of its images are called: they are named {name} and so on "
            "here; name the store's manifest with --manifest for their own names.",
            err=True,
        )


def _loaded(manifest_path: Path | None) -> "Manifest | None":
    from wilss.data.manifest import load_manifest

    return load_manifest(manifest_path) if manifest_path else None


def _names(store: "MaskStore", manifest: "Manifest | None") -> "CocoNames":
    from ..exchange.naming import CocoNames, names_of

    return names_of(store, manifest) if manifest else CocoNames()


def _options(*, no_void: bool = False, **more: Any) -> "PieceOptions":
    from ..exchange.pieces import PieceOptions

    return PieceOptions(void=not no_void, **more)


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
