"""`wilss-masks tune`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wilss.console import (
    DataPlace,
    ProgressDisplay,
    StorePlace,
    aligned,
    finish,
    is_quiet,
    manifest_option,
    pasted,
    percent,
    require_png,
)
from wilss.process import interrupted_by_queues

if TYPE_CHECKING:
    from ..tuning.calibrating import Calibration
    from ..tuning.sample import Sample
    from ..tuning.search import Ranked
    from ..tuning.tune import Tuning

#: Fewer images of a class than this say little.
_FEW = 10
_BY = {
    "labels": "pixel labels",
    "supports": "supports",
    "nothing": "guesses, since nothing is labelled",
}


@click.command(
    epilog="""\b
Examples:
  wilss-masks tune --step 1
  wilss-masks tune --step 1 --labelled labelled.txt --write
  wilss-masks tune --step 1 --manifest voc.yaml --supports supports --images 50"""
)
@click.option("--step", type=click.IntRange(min=0), required=True, help="The step whose masks are looked at.")
@manifest_option
@click.option("--split", default="train", show_default=True, help="The split whose images are drawn.")
@click.option(
    "--images", "count", type=click.IntRange(1, 100_000), default=200, show_default=True,
    help="How many images, drawn by name; the networks run over each once.",
)  # fmt: skip
@click.option("--labelled", type=DataPlace(), metavar="LIST", help="Images with pixel labels, an id a "
              "line, in the place of a draw.")  # fmt: skip
@click.option("--supports", type=DataPlace(), metavar="PATH",
              help="Judge by annotated images: a YAML file, or a folder with one.")  # fmt: skip
@click.option("--write", is_flag=True, help="Put the best setting into the manifest.")
@click.option("--out", type=click.Path(path_type=Path), help="The sheet to write.  [default: tune-step-N.png]")
@click.option("--rows", type=click.IntRange(1, 200), default=8, show_default=True, help="How many rows it has.")
@click.option("--cell", type=click.IntRange(80, 1024), default=240, show_default=True, help="Width of a panel in "
              "pixels.")  # fmt: skip
@click.option("--top", type=click.IntRange(1, 1000), default=8, show_default=True, help="How many settings are shown.")
@click.option("--seed", type=int, default=0, show_default=True, help="Names the draws, as in generate.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--threads", type=click.IntRange(1, 1024), default=1, show_default=True, help="CPU threads of a forward "
              "pass.")  # fmt: skip
@click.option("--scratch", type=click.Path(path_type=Path), metavar="FOLDER",
              help="Where the networks' answers are kept, from which a second run goes on.  [default: in the user's "
              "cache]")  # fmt: skip
@click.option("--features-from", multiple=True, type=StorePlace(), metavar="STORE",
              help="A store made with --keep features, which stands for the images that it has.")  # fmt: skip
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="A parameter, as with generate.")
def command(**arguments: Any) -> None:
    """Which parameters make the best masks of a step's images? The networks run once, the search without them.

    Judged by pixel labels where there are any, else by supports; without either by guesses: whether other seeds give
    the same mask, whether areas are plausible. The images are noted, and once the manifest names
    their list, `evaluate` leaves them out of every store of this source.
    """  # fmt: skip
    from wilss.data.manifest import load_manifest
    from wilss.disk import UrlPath

    from ..tuning.sample import draw_sample

    target = require_png(arguments["out"] or Path(f"tune-step-{arguments['step']}.png"))
    manifest = load_manifest(arguments["manifest_path"])
    if isinstance(manifest.path, UrlPath):  # told before the search
        raise click.UsageError(
            f"{manifest.path} lies in a bucket, and the list of the images is written beside the manifest; copy the "
            "manifest to disk. Its data may stay where they are: write their URL as `path`."
        )
    if arguments["labelled"] and arguments["supports"]:
        raise click.UsageError("--labelled and --supports say different things; leave one of them out.")
    names = ("split", "count", "seed", "labelled", "supports")
    sample = draw_sample(manifest, arguments["step"], **{name: arguments[name] for name in names})
    for warning in sample.warnings:
        click.echo(f"Warning: {warning}", err=True)
    if arguments["write"] and sample.kind == "nothing":
        raise click.UsageError(
            "nothing is labelled, so that settings can only be guessed at, and a guess is not written; leave out "
            "--write and look at the sheet, or label a few images (--labelled, --supports)."
        )
    tuning = _tuned(manifest, sample, arguments)
    if not is_quiet():
        click.echo("\n".join(_report(tuning, manifest, arguments)))
    _draw(tuning, manifest, arguments, target)
    _adopt(tuning, manifest, arguments)
    finish(tuning.found.failed, "correct them, or take them off the list.")


def _tuned(manifest: Any, sample: "Sample", arguments: dict[str, Any]) -> "Tuning":
    """The search, with bars; a signal ends it in a sentence."""
    from wilss.params import parse_assignments

    from ..tuning.tune import tune

    try:
        with interrupted_by_queues(), ProgressDisplay() as seen, ProgressDisplay("steps", "steps") as judged:
            return tune(
                manifest,
                arguments["step"],
                sample,
                values=parse_assignments(arguments["assignments"]),
                folder=arguments["scratch"],
                features_from=arguments["features_from"],
                seen=seen,
                judged=judged,
                **{name: arguments[name] for name in ("seed", "device", "threads")},
            )
    except KeyboardInterrupt:
        click.echo("Stopped. What the networks said is kept; run the same command again to go on.", err=True)
        raise


def _report(tuning: "Tuning", manifest: Any, arguments: dict[str, Any]) -> list[str]:
    found, sample = tuning.found, tuning.sample
    lines = [
        f"step {arguments['step']} of {manifest.name}, {arguments['split']}: {found.judged} of {sample.available} "
        f"images, {found.tried} settings, judged by {_BY[sample.kind]}",
        f"{tuning.scratch.folder}: what the networks said of them, {tuning.scratch.size / 1e6:.0f} MB",
        "",
        *_table(tuning, arguments["top"]),
        "",
        *_steps(tuning),
    ]
    if sample.kind == "nothing":
        lines += [
            "",
            "quality is stability x plausible area, which says little of how right a mask is: on drawn pictures, what",
            "it chose was mostly worse than `recommended` (see pipeline/README.md). Look at the sheet first. A few",
            "labelled images (--labelled), or supports, tell more.",
        ]
    elif found.crosswise[0] == found.crosswise[0]:
        lines += ["", *_on_others(tuning)]
    if tuning.calibration is not None:
        lines += ["", *_unsure(tuning.calibration)]
    return lines


def _steps(tuning: "Tuning") -> list[str]:
    """What was searched, and what it brought."""
    if tuning.sample.kind == "nothing":
        return ["searched: the paper's parameters alone; what was added to them draws nothing that could be guessed by"]
    rows = [("searched, one after the other", "settings", "best so far")]
    rows += [(step.name, str(step.tried), percent(step.score)) for step in tuning.found.steps]
    return aligned(rows)


def _unsure(calibration: "Calibration") -> list[str]:
    """How sure the best masks are, and what void would leave."""
    before, after = (percent(found.error) for found in (calibration.before, calibration.after))
    lines = [
        f"How sure a label is, calibrated on {calibration.images[0]} of these images: ECE {after} % on the other "
        f"{calibration.images[1]}, {before} % before. There void (`unsure`) would leave:",
        "",
    ]
    table: list[tuple[str, ...]] = [("unsure", "pixels left", "of masks", "mean IoU", "without background")]
    for kept in calibration.offers():
        figures = (kept.share, kept.of_masks, kept.scores.mean_iou, kept.scores.mean_iou_classes)
        table.append((f"{kept.below:g}", *map(percent, figures)))
    return [*lines, *aligned(table, {1})]


def _on_others(tuning: "Tuning") -> list[str]:
    """What is to be expected of images that nothing was chosen on."""
    found, classes = tuning.found, len(tuning.sample.classes)
    chosen, present = found.crosswise
    lines = [
        f"The best of one half of these images, judged on the other: {percent(chosen)}; the present setting there: "
        f"{percent(present)}. (Both halves chose what is compared here, so others may give less.)"
    ]
    if found.judged < _FEW * classes:
        lines.append(f"{found.judged} images of {classes} classes are few: differences of some points are chance.")
    if chosen <= present:
        lines.append("That is no better: keep the present setting, or label more images.")
    return lines


def _table(tuning: "Tuning", top: int) -> list[str]:
    """The best settings and all controls, best first."""
    guessed = tuning.sample.kind == "nothing"
    ranked = [one for place, one in enumerate(tuning.found.ranked) if place < top or one.setting.control]
    heads = ("quality", "agreement", "stability", "plausible") if guessed else ("mIoU",)
    rows = [("%", *heads, "area"), *(_row(one, guessed) for one in ranked)]
    return [*aligned(rows), "area: how much of its image a mask covers in the mean"]


def _row(one: "Ranked", guessed: bool) -> tuple[str, ...]:
    values = (one.score, *((one.agreement, one.stability, one.plausible) if guessed else ()), one.share)
    return (one.setting.name, *map(percent, values))


def _draw(tuning: "Tuning", manifest: Any, arguments: dict[str, Any], target: Path) -> None:
    from wilss.disk import write_output
    from wilss.drawing import encoded

    from ..inspect.page import draw_page
    from ..tuning.sheet import sheet_of

    title = f"{manifest.name}  ·  step {arguments['step']}  ·  {tuning.best.setting.name}"
    sheet = sheet_of(tuning, title, arguments["rows"])
    write_output(target, encoded(draw_page(sheet, arguments["cell"])))
    if not is_quiet():
        click.echo(f"\n{target}: {len(sheet.rows)} rows, the best setting beside the present one")


def _adopt(tuning: "Tuning", manifest: Any, arguments: dict[str, Any]) -> None:
    """Show the section for the manifest, or write it, and the list of the images."""
    from wilss.disk import write_output

    from ..tuning.adopt import adopted, block, save_list

    values, comment = _section(tuning, manifest, arguments)
    if not arguments["write"]:
        if not is_quiet():
            noted = save_list(manifest.path, manifest.chosen_on, tuning.image_ids)
            how = "to be put there by hand" if tuning.sample.kind == "nothing" else "--write puts it there"
            click.echo(f"For {manifest.path} ({how}):\n\n{block(values, noted.name, comment)}")
        return
    with manifest.path.open(encoding="utf-8", newline="") as file:
        text = file.read()
    noted = save_list(manifest.path, manifest.chosen_on, tuning.image_ids)
    write_output(manifest.path, adopted(text, values, noted.name, comment).encode("utf-8"))
    if not is_quiet():
        click.echo(
            f"{manifest.path}: masks.fmwiss changed, {noted.name} names the images\nNext: "
            + pasted(f"wilss-masks generate --step {arguments['step']}", manifest=arguments["manifest_path"])
        )


def _void(tuning: "Tuning", before: dict[str, Any]) -> dict[str, Any]:
    """The calibration that was found, and `unsure` as somebody set it, as far as it goes with that."""
    curve = [] if tuning.calibration is None else [list(knot) for knot in tuning.calibration.curve]
    unsure = float(before.get("unsure", 0))
    if curve and unsure > curve[-1][1]:
        click.echo(f"Warning: unsure {unsure:g} is more than any of these masks is; it is left out.", err=True)
        unsure = 0.0
    known = {"calibration": curve} if curve or "calibration" in before else {}
    return known | ({"unsure": unsure} if unsure or "unsure" in before else {})


def _section(tuning: "Tuning", manifest: Any, arguments: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """All of `masks.fmwiss` as it shall be, and what it was chosen on."""
    from wilss.params import parse_assignments

    from ..tuning.settings import changes

    present, best = tuning.present, tuning.best
    assert present.setting.params is not None
    assert best.setting.params is not None
    given: dict[str, Any] = parse_assignments(arguments["assignments"])
    section = {} if "preset" in given else manifest.masks.get("fmwiss", {})
    typed = {name: getattr(best.setting.params, name, value) for name, value in given.items()}
    values = {**section, **typed, **changes(present.setting.params, best.setting.params)}
    values = {name: value for name, value in values.items() if name not in best.setting.params.idle}
    values |= _void(tuning, {**section, **given})
    score = "mIoU" if tuning.sample.kind != "nothing" else "guessed quality"
    comment = (
        f" --step {arguments['step']}` on {tuning.found.judged} images by {_BY[tuning.sample.kind]}: {score} "
        f"{percent(best.score)}, before {percent(present.score)}"
    )
    return values, comment
