"""`wilss-masks manifest init|check|lock`."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wilss.console import FINISHED_WITH_FAILURES, DataPlace, ProgressDisplay, is_quiet, manifest_option, pasted
from wilss.errors import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wilss.data.manifest import Manifest

    from ..manifest_tools.check import CheckReport, Counts
    from ..manifest_tools.validation import DrawnSplit

_SHOWN = 20
_OF_NO_USE = 2


@click.group(epilog="\b\nExample:\n  wilss-masks manifest check --manifest data_manifest.yaml")
def command() -> None:
    """Write, check or lock a data_manifest.yaml."""


@command.command(epilog="\b\nExample:\n  wilss-masks manifest init --layout voc VOCdevkit/VOC2012 --protocol 10-10")
@click.argument("data", type=DataPlace(), metavar="DATA")
@click.option("--layout", type=click.Choice(["voc", "coco", "folder"]), default="voc", show_default=True,
              help="How the data lies on disk.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), default=Path("data_manifest.yaml"), show_default=True,
              help="Where the manifest is written.")  # fmt: skip
@click.option("--protocol", help="19-1, 15-5, 15-1, 10-10, 10-5, 10-2 or coco-voc; 15-5 for VOC's 20 classes.")
@click.option("--setting", type=click.Choice(["overlap", "disjoint"]), default="overlap", show_default=True,
              help="Which images a step gets.")  # fmt: skip
@click.option("--device", default="auto", show_default=True,
              help="What `train` is written for: cpu, cuda, or auto for what is here.")  # fmt: skip
@click.option("--val", type=click.FloatRange(0, 0.9), default=0.2, show_default=True,
              help="Share of labelled images to judge on where there is no validation split; 0 for none.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Of the draw of --val.")
@click.option("--table", metavar="FILE", help="A folder's table of tags, where there are several.")
@click.option("--columns", metavar="NAMES", help="Its columns of tags, with commas between.")
@click.option("--separator", type=click.Choice([",", ";", "tab", "|"]), help="What stands between its columns.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
def init(
    data: Path,
    layout: str,
    out: Path,
    protocol: str | None,
    setting: str,
    device: str,
    val: float,
    seed: int,
    table: str | None,
    columns: str | None,
    separator: str | None,
    force: bool,
) -> None:
    """Write a first manifest for the data in the folder DATA."""
    from wilss.data.manifest import load_manifest

    from ..manifest_tools.init import init_manifest, require_free, save_manifest
    from ..manifest_tools.validation import draw_validation, save_lists

    between = "\t" if separator == "tab" else separator
    described = {
        "file": table,
        "columns": columns and [name.strip() for name in columns.split(",")],
        "separator": between,
    }
    known = {key: value for key, value in described.items() if value}
    if known and layout != "folder":
        raise click.UsageError("--table, --columns and --separator are for --layout folder.")
    require_free(out, overwrite=force)  # before the data are looked through, which may take long
    text = init_manifest(layout, data, out, protocol=protocol, setting=setting, device=device, table=known)
    save_manifest(text, out, overwrite=force)
    manifest = load_manifest(out)
    drawn = draw_validation(manifest, text, share=val, seed=seed)
    if drawn is not None:
        save_lists(drawn.lists, overwrite=force)
        save_manifest(drawn.text, out, overwrite=True)
    _tell_written(out, manifest, text, drawn)


def _tell_written(out: Path, manifest: "Manifest", text: str, drawn: "DrawnSplit | None") -> None:
    """What was found, doubtful or left out. text: of the manifest at `out`, before a split was drawn."""
    from wilss.data.layouts import odd_looks

    from ..manifest_tools.init import GUESSED_STEPS, doubts_of
    from ..manifest_tools.tables import folder_classes, table_reports
    from ..manifest_tools.unread import unread_of

    reports = list(table_reports(manifest))
    for doubt in [*doubts_of(text), *(doubt for report in reports for doubt in report.doubts())]:
        click.echo(f"Doubtful: {doubt}", err=True)
    looks = odd_looks(manifest.images(0).records)  # as 16-bit images whose `bits` nobody but their owner knows
    for warning in [*(warning for report in reports for warning in report.warnings), *unread_of(manifest), *looks]:
        click.echo(f"Warning: {warning}", err=True)
    if not is_quiet():
        classes = counted(len(manifest.taxonomy.class_ids), "class", "classes")
        said = [f"Wrote {out}: {classes} in {counted(manifest.protocol.num_steps, 'step')}."]
        said += [*(report.form for report in reports), *folder_classes(manifest)]
        said += [drawn.sentence] if drawn else []
        if GUESSED_STEPS in text:
            said.append(f"Its steps are a guess: {GUESSED_STEPS} Write others where all classes come with labels.")
        click.echo("\n".join([*said, f"Look it through, then: {pasted('wilss-masks manifest check', manifest=out)}"]))


@command.command(epilog="\b\nExample:\n  wilss-masks manifest check --manifest data_manifest.yaml")
@manifest_option
@click.option("--no-labels", is_flag=True, help="Do not read label maps (quicker).")
@click.option("--images", is_flag=True, help="Decode every image to its end (slower), not its header alone.")
@click.option("--no-weights", is_flag=True, help="Do not open encoders and backbone (quicker).")
@click.option("--source", metavar="NAME", help="Masks will be made by this source: look at the encoders that it needs.")
@click.option("--json", "as_json", is_flag=True, help="Everything as one JSON object.")
def check(
    manifest_path: Path, no_labels: bool, images: bool, no_weights: bool, source: str | None, as_json: bool
) -> None:
    """Find whatever would stop a later command: in lists, images, labels, tags, parameters, encoders.

    Counts the classes of every step. Exit code 3 when some images cannot be used, 2 when a list, a section or an
    encoder is of no use. Nothing is fetched from the hub.
    """
    from wilss.data.manifest import load_manifest

    from ..manifest_tools.check import check_manifest
    from ..sources.section import require_source

    if source is not None:
        require_source(source)
    manifest = load_manifest(manifest_path)
    with ProgressDisplay() as display:
        report = check_manifest(
            manifest, labels=not no_labels, images=images, weights=not no_weights, source=source, progress=display
        )
    click.echo(json.dumps(asdict(report), indent=2, ensure_ascii=False) if as_json else _told(report, decoded=images))
    for fault in report.faults:
        click.echo(f"Error: {fault}", err=True)
    if report.faults or report.findings:
        sys.exit(_OF_NO_USE if report.faults else FINISHED_WITH_FAILURES)


@command.command(epilog="\b\nExample:\n  wilss-masks manifest lock --manifest data_manifest.yaml")
@manifest_option
@click.option("--no-weights", is_flag=True, help="Do not read the encoders' weights.")
@click.option("--no-contents", is_flag=True, help="Do not read images and labels (quicker).")
def lock(manifest_path: Path, no_weights: bool, no_contents: bool) -> None:
    """Keep the sha256 of lists, images, labels and weights beside the manifest; later runs refuse what changed.

    Lists and weights are compared by every run, images and labels with --check-digests.
    """
    from wilss.data.manifest import load_manifest

    from ..manifest_tools.lock import lock_manifest

    report = lock_manifest(
        load_manifest(manifest_path, check_lock=False), weights=not no_weights, contents=not no_contents
    )
    for warning in report.warnings:
        click.echo(f"Warning: {warning}", err=True)
    if not is_quiet():
        for name, digest in {**report.lists, **report.contents, **report.weights}.items():
            click.echo(f"{digest}  {name}")
        click.echo(f"Wrote {report.path}.")


def _told(report: "CheckReport", *, decoded: bool) -> str:
    lines = [line for counts in report.counts for line in _table(counts)]
    lines += [f"Warning: {warning}" for warning in report.warnings]
    lines += [f"{finding.part}, {finding.image_id}: {finding.sentence}" for finding in report.findings[:_SHOWN]]
    if len(report.findings) > _SHOWN:
        lines.append(f"... and {len(report.findings) - _SHOWN} more; all of them with --json.")
    bad = len(report.findings)
    how = "" if decoded else "; of each the header alone was read, --images decodes all"
    lines.append(f"{counted(report.images, 'image')}, {bad or 'none'} of them unusable{how}.")
    return "\n".join(lines)


def _table(counts: "Counts") -> list[str]:
    """The classes of a step; of a split to judge on that has many, those that are amiss, and how often others come."""
    supervision = f", supervision: {counts.supervision}" if counts.supervision else ""
    without = f" ({counts.without} without its classes)" if counts.without else ""
    heading = f"{counts.part}: {counted(counts.images, 'image')}{without}{supervision}"
    is_long = not counts.supervision and len(counts.classes) > _SHOWN
    shown = [row for row in counts.classes if not is_long or _is_amiss(*row[2:])]
    others = [row for row in counts.classes if row not in shown]
    rows = _rows(shown, counts.supports) if shown else []
    return [heading, *rows, *([_of_others(others)] if others else []), ""]


def _rows(
    classes: "Sequence[tuple[int, str, int, int | None]]", supports: "Mapping[str, int] | None" = None
) -> list[str]:
    """A line for every class, under a heading. supports: of a step for which the manifest names some."""
    width = max(len(name) for _, name, *_ in classes)
    of_supports = {} if supports is None else {name: f"  {supports[name]:>8}" for _, name, *_ in classes}
    return [
        f"  {'id':>3}  {'class':<{width}}  {'tagged':>7}  {'labelled':>8}{'  supports' if of_supports else ''}",
        *(
            f"  {identity:>3}  {name:<{width}}  {tagged:>7}  {'-' if labelled is None else labelled:>8}"
            f"{of_supports.get(name, '')}"
            for identity, name, tagged, labelled in classes
        ),
    ]


def _is_amiss(tagged: int, labelled: int | None) -> bool:
    """Whether nothing is judged of a class, or its tags say something else than its labels."""
    return not tagged if labelled is None else not labelled or tagged not in (0, labelled)


def _of_others(classes: "Sequence[tuple[int, str, int, int | None]]") -> str:
    are_labelled = classes[0][3] is not None
    numbers = [tagged if labelled is None else labelled for _, _, tagged, labelled in classes]
    least, most = min(numbers), max(numbers)
    how_many = counted(most, "image") if least == most else f"{least} to {counted(most, 'image')}"
    each = "" if len(classes) == 1 else " each"
    return (
        f"  {counted(len(classes), 'other class', 'other classes')}: {'labelled' if are_labelled else 'tagged'} in "
        f"{how_many}{each}; all of them with --json"
    )
