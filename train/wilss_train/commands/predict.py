"""`wilss-predict`."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wilss.console import (
    DataPlace,
    ProgressDisplay,
    aligned,
    batch_size_option,
    device_option,
    finish,
    going_on,
    is_quiet,
    percent,
)
from wilss.disk import UrlPath, refuse_existing
from wilss.errors import counted

if TYPE_CHECKING:
    from wilss.models.networks.checkpoint import CheckpointInfo

    from ..data.image_lists import Found, Target
    from ..results.label_files import Written
    from ..results.predict import Sample

_NAMES_SHOWN, _STRAYS_SHOWN = 12, 5


@click.command(
    epilog="""\b
Examples:
  wilss-predict runs/shapes-15-5/step-1 photos/ --out labels/
  wilss-predict runs/voc-15-5/step-1 a.jpg b.jpg --out labels/ --no-overlays
  wilss-predict runs/voc-15-5/step-1 photos/ --out labels/ --probabilities float16 --resume
  find photos -name '*.jpg' > list.txt; wilss-predict runs/voc-15-5/step-1 --list list.txt --out labels/"""
)
@click.argument("checkpoint", type=DataPlace(), metavar="CHECKPOINT")
@click.argument("images", nargs=-1, type=DataPlace(), metavar="[IMAGES]...")
@click.option("--list", "lists", type=DataPlace(), metavar="FILE", multiple=True,
              help="More images, one path per line; may be given again.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="The folder to write to.")
@click.option("--overlays/--no-overlays", default=True, show_default=True, help="Also draw the classes over the image.")
@click.option("--probabilities", type=click.Choice(["float16", "float32", "uint8"]),
              help="Also write how probable every class is, [C, H, W] in an npz; uint8 has 255 for 1.")  # fmt: skip
@click.option("--resume", is_flag=True, help="Leave out images whose files this model has written since they changed.")
@click.option("--overwrite", is_flag=True, help="Replace files that are there.")
@batch_size_option
@device_option
def command(**options: Any) -> None:
    """Label maps of IMAGES, which are files or folders.

    CHECKPOINT is the folder of a run or its model.safetensors. Writes OUT/NAME.png (taxonomy ids
    with a palette, the image's own size) and OUT/NAME.overlay.jpg; sub-folders are kept, links out of a folder are not
    entered. Images that cannot be used are named and left out.
    """  # fmt: skip
    from wilss.data.layouts import odd_looks
    from wilss.models.networks.checkpoint import read_info

    if options["resume"] and options["overwrite"]:
        raise click.UsageError("--resume keeps what is there and --overwrite replaces it; give one of them.")
    _require_there(options["images"])
    info, out = read_info(options["checkpoint"]), options["out"]
    listing = _found(options["images"], options["lists"], out, info.bits)
    targets = _targets(info, listing, out, options)
    if not targets:
        if not is_quiet():
            click.echo(f"{out}: nothing to do, {counted(len(listing.images), 'image')} with all files there.")
        return
    written = _written(info, targets, options)
    if not is_quiet():
        click.echo("\n".join(_report(info, written, listing, len(listing.images) - len(targets), options)))
    for sentence in odd_looks([target.record for target in targets]):
        click.echo(f"Warning: {sentence}", err=True)
    finish(written.failed, "fix these first, and run the same command again with --resume.")


def _require_there(images: Sequence[Path]) -> None:
    """Refuse words that name nothing; a line of a list that does is an image that failed."""
    for path in images:
        if not (path.exists() if isinstance(path, UrlPath) else os.path.lexists(path)):
            raise click.UsageError(f"{path} is not there; give the path of an image, or of a folder of images.")


def _found(images: Sequence[Path], lists: Sequence[Path], out: Path, bits: int) -> "Found":
    from ..data.image_lists import find_images, read_list

    named = [*images, *(path for listed in lists for path in read_list(listed))]
    if not named:
        raise click.UsageError("name images or folders, or a --list of them.")
    return find_images(named, out, bits)


def _targets(info: "CheckpointInfo", listing: "Found", out: Path, options: dict[str, Any]) -> "tuple[Target, ...]":
    """What is to be made. Refuses what is there already, and is not to be kept or replaced, before it computes."""
    from ..data.image_lists import targets_of
    from ..results.label_files import files_by_other_names, files_of, is_made

    overlays, probabilities = options["overlays"], options["probabilities"]
    targets = targets_of(listing.images, out)
    _tell_strays(files_by_other_names(targets))
    if options["resume"]:
        made = partial(is_made, info=info, overlays=overlays, probabilities=probabilities)
        return tuple(target for target in targets if not made(target))
    for target in targets:
        for path in files_of(target, overlays=overlays, probabilities=probabilities is not None):
            refuse_existing(path, options["overwrite"], resumes=True)
    return targets


def _tell_strays(paths: Sequence[Path]) -> None:
    """Warn of label maps that would be taken for those of images, which have others by now."""
    if paths:
        listed = ", ".join(map(str, paths[:_STRAYS_SHOWN])) + (", ..." if len(paths) > _STRAYS_SHOWN else "")
        click.echo(
            f"Warning: {counted(len(paths), 'label map')} of an earlier run, with other images of the same names but "
            f"for their endings, will stay and not be brought up to date ({listed}); label maps of these images are "
            "called otherwise now, so remove the old ones.",
            err=True,
        )


def _written(info: "CheckpointInfo", targets: "tuple[Target, ...]", options: dict[str, Any]) -> "Written":
    from wilss.models.devices import resolve_device
    from wilss.models.networks.checkpoint import load_segmenter

    from ..results.label_files import write_label_files

    device = resolve_device(options["device"])
    same = {key: options[key] for key in ("overlays", "probabilities", "batch_size")}
    with going_on(lambda: _going_on(options)), ProgressDisplay() as display:
        network = load_segmenter(info, device)
        return write_label_files(network, info, targets, device=device, progress=display, on_large=_tell_large, **same)


def _tell_large(sample: "Sample") -> None:
    """That it takes a while until there is progress again."""
    height, width = sample.image.shape[:2]
    if not is_quiet():
        click.echo(f"{sample.record.path} is {width} x {height} pixels, which takes a while", err=True)


def _going_on(options: dict[str, Any]) -> str:
    how = "--resume in the place of --overwrite" if options["overwrite"] else "--resume"
    return f"run the same command with {how} to make what is missing."


def _report(
    info: "CheckpointInfo", written: "Written", listing: "Found", kept: int, options: dict[str, Any]
) -> list[str]:
    kinds = [("label maps", True), ("overlays", options["overlays"]), ("probabilities", options["probabilities"])]
    *others, last = [name for name, wanted in kinds if wanted]
    what = f"{', '.join(others)} and {last}" if others else last
    rate = f"{written.count / written.seconds:.1f} images/s" if written.seconds else ""
    lines = [f"{options['out']}: {what} of {counted(written.count, 'image')}, {len(written.failed)} failed; {rate}"]
    if kept:
        lines.append(f"{counted(kept, 'image')} had theirs already")
    if listing.others:
        lines.append(
            f"{counted(listing.others, 'other file')} in the folders left out: no images by their endings, or below OUT"
        )
    if listing.label_maps:
        lines.append(
            f"{counted(listing.label_maps, 'label map')} beside images left out; name their folder to have them, too"
        )
    if listing.links:
        lines.append(
            f"{counted(listing.links, 'link')} to other folders not entered; name those folders to have them, too"
        )
    return [*lines, "", *_classes(info, written)] if written.count else lines


def _classes(info: "CheckpointInfo", written: "Written") -> list[str]:
    """The classes found, in the order of the channels, and the names of the others."""
    names = dict(zip(info.seen, info.channel_names, strict=True))
    total = sum(written.pixels.values())
    rows = [
        (name, str(written.images[identity]), percent(written.pixels[identity] / total))
        for identity, name in names.items()
        if identity in written.images
    ]
    absent = [name for identity, name in names.items() if identity not in written.images]
    more = f" and {len(absent) - _NAMES_SHOWN} more" if len(absent) > _NAMES_SHOWN else ""
    note = [f"not found: {', '.join(absent[:_NAMES_SHOWN])}{more}"] if absent else []
    return [*aligned([("class", "images", "% of pixels"), *rows], {1}), *note]
