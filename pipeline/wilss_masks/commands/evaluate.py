"""`wilss-masks evaluate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wilss.console import aligned, manifest_option, percent, show_figures
from wilss.errors import counted

from .common import store_argument

if TYPE_CHECKING:
    from ..inspect.evaluate import Evaluation


@click.command(
    epilog="""\b
Examples:
  wilss-masks evaluate masks/shapes-15-5/step-1.zarr
  wilss-masks evaluate step-1.zarr --manifest voc.yaml --ablation --json scores.json
  wilss-masks evaluate step-1.zarr --json - | jq .mean_iou"""
)
@store_argument
@manifest_option
@click.option(
    "--ablation",
    is_flag=True,
    help="Also judge M_init, M_seeds, their intersection and union (needs --keep scores; no forward pass).",
)
@click.option(
    "--json",
    "json_path",
    metavar="FILE",
    help="Write the figures to FILE; - for stdout, in place of the table.",
)
@click.option("--allow-partial", is_flag=True, help="Judge what is there of a store that is not complete.")
def command(store: Path, manifest_path: Path, ablation: bool, json_path: str | None, allow_partial: bool) -> None:
    """How well a store's masks agree with the manifest's pixel labels of the same images.

    Labels are restricted to the step's classes: other classes count as background, void is left out. Where
    masks overlap, the more confident class wins.
    """  # fmt: skip
    from wilss.data.manifest import load_manifest
    from wilss.store import MaskStore

    from ..inspect.evaluate import evaluate

    opened = MaskStore.open(store, allow_partial=allow_partial)
    evaluation = evaluate(opened, load_manifest(manifest_path), ablation=ablation)
    for warning in evaluation.warnings:
        click.echo(f"Warning: {warning}", err=True)
    show_figures(_report(evaluation), evaluation.as_json(), json_path, evaluation.failed)


def _report(evaluation: "Evaluation") -> list[str]:
    """Heading, table per class, and the ablation's table where it was asked for."""
    from ..inspect.evaluate import STORED

    lines = [*_heading(evaluation), "", *_class_table(evaluation.scores[STORED])]
    return lines if len(evaluation.scores) == 1 else [*lines, "", *_ablation_table(evaluation)]


def _heading(evaluation: "Evaluation") -> list[str]:
    attributes, left_out = evaluation.store.attributes, evaluation.left_out
    lines = [
        f"{evaluation.store.path}: step {attributes.get('step')} of {attributes.get('manifest')}, "
        f"{attributes.get('split')}, by {attributes.get('source')}",
        f"{counted(evaluation.counted, 'image')} counted, {len(evaluation.failed)} failed, "
        f"{sum(left_out.values())} left out",
    ]
    return lines + [f"  {count} {why}" for why, count in left_out.items()]


def _class_table(scores: Any) -> list[str]:
    rows = list(zip(scores.names, scores.iou, scores.precision, scores.recall, strict=True))
    means = [("mean", scores.mean_iou), ("mean without background", scores.mean_iou_classes)]
    table = [("%", "IoU", "precision", "recall")]
    table += [(name, *map(percent, values)) for name, *values in rows]
    return aligned([*table, *((name, percent(value), "", "") for name, value in means)], {1, len(rows) + 1})


def _ablation_table(evaluation: "Evaluation") -> list[str]:
    titles = {"stored": "as stored", "init": "M_init", "seeds": "M_seeds"}
    table = [("%", "mean IoU", "without background")]
    table += [
        (titles.get(name, name), percent(scores.mean_iou), percent(scores.mean_iou_classes))
        for name, scores in evaluation.scores.items()
    ]
    return aligned(table, {1})
