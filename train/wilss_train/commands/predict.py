"""`wilss-predict`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wilss.console import (
    ProgressDisplay,
    aligned,
    batch_size_option,
    device_option,
    finish,
    is_quiet,
    percent,
)
from wilss.disk import refuse_existing

if TYPE_CHECKING:
    from wilss.models.networks.checkpoint import CheckpointInfo

    from ..data.image_lists import Found, Target
    from ..results.label_files import Written

_NAMES_SHOWN = 12


@click.command(
    epilog="""\b
Examples:
  wilss-predict runs/shapes-15-5/step-1 photos/ --out labels/
  wilss-predict runs/voc-15-5/step-1 a.jpg b.jpg --out labels/ --no-overlays
  find photos -name '*.jpg' > list.txt; wilss-predict runs/voc-15-5/step-1 --list list.txt --out labels/"""
)
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("images", nargs=-1, type=click.Path(path_type=Path))
@click.option("--list", "list", type=click.Path(path_type=Path), metavar="FILE", help="More images, one path per line.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="The folder to write to.")
@click.option("--overlays/--no-overlays", default=True, show_default=True, help="Also draw the classes over the image.")
@click.option("--overwrite", is_flag=True, help="Replace files that are there.")
@batch_size_option
@device_option
def command(**options: Any) -> None:
    """Label maps of IMAGES, which are files or folders.

    CHECKPOINT is the folder of a run or its model.safetensors. Writes OUT/NAME.png (VOC's palette, taxonomy
    ids, the image's own size) and OUT/NAME.overlay.jpg; sub-folders are kept. Images that cannot be used are
    named and left out.
    """  # fmt: skip
    from wilss.models.networks.checkpoint import read_info

    info, out = read_info(options["checkpoint"]), options["out"]
    listing = _found(options["images"], options["list"], out)
    targets = _targets(listing, out, options["overlays"], options["overwrite"])
    written = _written(info, targets, options)
    if not is_quiet():
        click.echo("\n".join(_report(info, written, listing, out, options["overlays"])))
    finish(written.failed, "fix these first, and run the same command again with --overwrite.")


def _found(images: Sequence[Path], listed: Path | None, out: Path) -> "Found":
    from ..data.image_lists import find_images, read_list

    named = [*images, *(read_list(listed) if listed is not None else [])]
    if not named:
        raise click.UsageError("name images or folders, or a --list of them.")
    return find_images(named, out)


def _targets(listing: "Found", out: Path, overlays: bool, overwrite: bool) -> "tuple[Target, ...]":
    """Refuses what is there already before anything is computed."""
    from ..data.image_lists import targets_of

    targets = targets_of(listing.images, out)
    for target in targets:
        for path in (target.labels, target.overlay) if overlays else (target.labels,):
            refuse_existing(path, overwrite)
    return targets


def _written(info: "CheckpointInfo", targets: "tuple[Target, ...]", options: dict[str, Any]) -> "Written":
    from wilss.models.devices import resolve_device
    from wilss.models.networks.checkpoint import load_segmenter

    from ..results.label_files import write_label_files

    device = resolve_device(options["device"])
    same = {key: options[key] for key in ("overlays", "batch_size")}
    with ProgressDisplay() as display:
        return write_label_files(load_segmenter(info, device), info, targets, device=device, progress=display, **same)


def _report(info: "CheckpointInfo", written: "Written", listing: "Found", out: Path, overlays: bool) -> list[str]:
    what = "label maps and overlays" if overlays else "label maps"
    rate = f"{written.count / written.seconds:.1f} images/s" if written.seconds else ""
    lines = [f"{out}: {what} of {written.count} images, {len(written.failed)} failed; {rate}"]
    if listing.others:
        lines.append(
            f"{listing.others} other files in the folders were left out: no images by their endings, or below OUT"
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
