"""`wilss-eval`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wilss.console import (
    DataPlace,
    ProgressDisplay,
    aligned,
    batch_size_option,
    device_option,
    manifest_option,
    percent,
    require_png,
    show_figures,
)
from wilss.disk import write_output
from wilss.errors import counted

from .episodes import episode_options, judge_episodes, wants_episodes

if TYPE_CHECKING:
    from ..results.evaluate import Evaluation


@click.command(
    epilog="""\b
Examples:
  wilss-eval runs/shapes-15-5/step-1
  wilss-eval runs/voc-15-5/step-1 --manifest voc.yaml --protocol wilson --confusion step-1.png
  wilss-eval runs/voc-15-5/step-1 --json - | jq .mean_iou_new
  wilss-eval runs/voc-5i-0/step-0-panet --manifest voc-5i-0.yaml --episodes 1000 --runs 5 --shots 5 --support box
  wilss-eval --frozen --shots 5
  wilss-eval --frozen --shots 1 --bias fit"""
)
@click.argument("checkpoint", type=DataPlace(), metavar="[CHECKPOINT]", required=False)
@manifest_option
@click.option("--split", default="val", show_default=True, help="Which split of the manifest to judge on.")
@click.option(
    "--protocol",
    type=click.Choice(["full", "wilson"]),
    help="Whole images, or shorter side 512 and centre crop 512, as published figures are.  [default: full]",
)
@click.option("--json", type=click.Path(allow_dash=True), metavar="FILE",
              help="Write the figures to FILE; - for stdout, in place of the table.")  # fmt: skip
@click.option("--confusion", type=click.Path(path_type=Path), metavar="PNG", help="Draw the confusion matrix.")
@batch_size_option
@device_option
@episode_options
def command(checkpoint: Path | None, manifest_path: Path, **options: Any) -> None:
    """How well a checkpoint does on the manifest's pixel labels: IoU of every class, of old, new and all.

    CHECKPOINT is the folder of a run or its model.safetensors. Classes that it has not seen yet count as
    background, void is left out.

    An embedding (method panet) is judged on episodes of the classes that come after its step: foreground mIoU over
    these classes, and binary IoU, with their spread over the runs.
    """  # fmt: skip
    if wants_episodes(checkpoint, options):
        judge_episodes(checkpoint, manifest_path, options)
    elif checkpoint is not None:
        _judge(checkpoint, manifest_path, options)


def _judge(checkpoint: Path, manifest_path: Path, options: dict[str, Any]) -> None:
    """A segmenter on every labelled image of a split."""
    from wilss.data.manifest import load_manifest, told_overlap
    from wilss.models.devices import resolve_device
    from wilss.models.networks.checkpoint import load_segmenter, read_info

    from ..results.evaluate import evaluate

    if options["confusion"] is not None:
        require_png(options["confusion"], "--confusion")
    info, manifest, split = read_info(checkpoint), load_manifest(manifest_path), options["split"]
    info.require_same_classes(manifest)
    selection = manifest.evaluation(split)
    for warning in filter(None, [*selection.warnings, told_overlap(manifest, split, info.step)]):
        click.echo(f"Warning: {warning}", err=True)
    device, mode = resolve_device(options["device"]), options["protocol"] or "full"
    same: dict[str, Any] = {"split": split, "mode": mode, "batch_size": options["batch_size"], "device": device}
    with ProgressDisplay() as display:
        evaluation = evaluate(load_segmenter(info, device), info, selection.records, progress=display, **same)
    if options["confusion"] is not None:
        _draw(evaluation, options["confusion"])
    lines = [*_heading(evaluation), "", *_table(evaluation)]
    show_figures(lines, evaluation.as_json(), options["json"], evaluation.failed)


def _draw(evaluation: "Evaluation", target: Path) -> None:
    from ..results.confusion_picture import draw_confusion

    info = evaluation.info
    rules = [min(info.protocol.new_channels(step)) for step in range(info.step + 1)]
    picture = draw_confusion(evaluation.scores, title=_subject(evaluation), rules=rules)
    write_output(target, picture)


def _subject(evaluation: "Evaluation") -> str:
    from ..results.evaluate import MODES

    info, protocol = evaluation.info, evaluation.info.protocol
    return (
        f"{info.method}, step {info.step} of {info.manifest_name} {protocol.name} ({protocol.setting}), "
        f"{evaluation.split}, {MODES[evaluation.mode]}"
    )


def _heading(evaluation: "Evaluation") -> list[str]:
    rate = f"{evaluation.counted / evaluation.seconds:.1f} images/s" if evaluation.seconds else ""
    return [
        f"{evaluation.info.path}: {_subject(evaluation)}",
        f"{counted(evaluation.counted, 'image')} counted, {len(evaluation.failed)} failed; {rate}",
    ]


def _table(evaluation: "Evaluation") -> list[str]:
    """A row per class with the step that brought it, then the means."""
    info, scores = evaluation.info, evaluation.scores
    steps = {identity: str(step) for step in range(info.step + 1) for identity in info.protocol.new(step)}
    figures = zip(info.seen, scores.names, scores.iou, scores.precision, scores.recall, strict=True)
    rows = [(name, steps.get(identity, ""), *map(percent, values)) for identity, name, *values in figures]
    means = [
        ("old classes", evaluation.old_iou),
        ("new classes", evaluation.new_iou),
        ("all with background", evaluation.all_iou),
        ("all without background", evaluation.classes_iou),
        ("harmonic mean of old and new", evaluation.harmonic),
    ]
    table = [("%", "step", "IoU", "precision", "recall"), *rows]
    return aligned([*table, *((name, "", percent(value), "", "") for name, value in means)], {1, len(table)})
