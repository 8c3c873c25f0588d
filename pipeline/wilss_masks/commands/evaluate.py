"""`wilss-masks evaluate`."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .common import is_quiet, manifest_option, store_argument

if TYPE_CHECKING:
    from ..evaluate import Evaluation

_FINISHED_WITH_FAILURES = 3
_FAILURES_SHOWN = 10


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
    from wilss.manifest import load_manifest
    from wilss.store import MaskStore

    from ..evaluate import evaluate

    opened = MaskStore.open(store, allow_partial=allow_partial)
    found = evaluate(opened, load_manifest(manifest_path), ablation=ablation)
    if json_path is not None:
        _write_json(found, json_path)
    if json_path != "-" and not is_quiet():
        click.echo("\n".join(_report(found)))
    _name_failures(found)


def _write_json(found: "Evaluation", json_path: str) -> None:
    from wilss.store.files import write_atomically

    from ..outputs import writing

    text = json.dumps(found.as_json(), indent=2, ensure_ascii=False, allow_nan=False)
    if json_path == "-":
        click.echo(text)
        return
    with writing(Path(json_path)):
        write_atomically(Path(json_path), f"{text}\n".encode())


def _name_failures(found: "Evaluation") -> None:
    for number, (image, error) in enumerate(found.failed.items()):
        if number == _FAILURES_SHOWN:
            click.echo(f"... and {len(found.failed) - number} more; --json names them all.", err=True)
            break
        click.echo(f"Failed: {image}: {error}", err=True)
    if found.failed:
        sys.exit(_FINISHED_WITH_FAILURES)


def _report(found: "Evaluation") -> list[str]:
    """Heading, table per class, and the ablation's table where it was asked for."""
    from ..evaluate import STORED

    lines = [*_heading(found), "", *_class_table(found.scores[STORED])]
    return lines if len(found.scores) == 1 else [*lines, "", *_ablation_table(found)]


def _heading(found: "Evaluation") -> list[str]:
    told = found.store.attributes
    lines = [
        f"{found.store.path}: step {told.get('step')} of {told.get('manifest')}, {told.get('split')}, "
        f"by {told.get('source')}",
        f"{found.counted} images counted, {len(found.failed)} failed, {sum(found.left_out.values())} left out",
    ]
    return lines + [f"  {count} {why}" for why, count in found.left_out.items()]


def _class_table(scores: Any) -> list[str]:
    rows = list(zip(scores.names, scores.iou, scores.precision, scores.recall, strict=True))
    means = [("mean", scores.mean_iou), ("mean without background", scores.mean_iou_classes)]
    table = [("%", "IoU", "precision", "recall")]
    table += [(name, *map(_percent, values)) for name, *values in rows]
    return _aligned([*table, *((name, _percent(value), "", "") for name, value in means)], {1, len(rows) + 1})


def _ablation_table(found: "Evaluation") -> list[str]:
    titles = {"stored": "as stored", "init": "M_init", "seeds": "M_seeds"}
    table = [("%", "mean IoU", "without background")]
    table += [
        (titles.get(name, name), _percent(scores.mean_iou), _percent(scores.mean_iou_classes))
        for name, scores in found.scores.items()
    ]
    return _aligned(table, {1})


def _aligned(table: Sequence[tuple[str, ...]], rules_before: set[int]) -> list[str]:
    """Rows with the first column to the left, the others to the right, and a rule before some of them."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    lines = []
    for number, row in enumerate(table):
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines += ([rule] if number in rules_before else []) + ["  ".join([row[0].ljust(widths[0]), *cells]).rstrip()]
    return lines


def _percent(value: float) -> str:
    return "-" if value != value else f"{100 * value:.1f}"
