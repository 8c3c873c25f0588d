"""`wilss-masks evaluate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wilss.console import aligned, is_quiet, manifest_option, percent, require_png, show_figures
from wilss.disk import Location
from wilss.errors import counted

from .common import store_argument

if TYPE_CHECKING:
    from ..inspect.evaluate import Evaluation
    from ..inspect.reliability import Reliability


@click.command(
    epilog="""\b
Examples:
  wilss-masks evaluate masks/shapes-15-5/step-1.zarr
  wilss-masks evaluate step-1.zarr --manifest voc.yaml --ablation --json scores.json
  wilss-masks evaluate step-1.zarr --reliability --diagram reliability.png
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
    "--reliability",
    is_flag=True,
    help="Also say whether pixels are as right as the store is sure of them, and what void would leave (needs --keep "
    "scores; no forward pass).",
)
@click.option("--diagram", type=click.Path(path_type=Path), metavar="FILE", help="Draw the reliability as a PNG.")
@click.option(
    "--json",
    "json_path",
    type=click.Path(allow_dash=True),
    metavar="FILE",
    help="Write the figures to FILE; - for stdout, in place of the table.",
)
@click.option("--allow-partial", is_flag=True, help="Judge what is there of a store that is not complete.")
def command(
    store: Location,
    manifest_path: Path,
    ablation: bool,
    reliability: bool,
    diagram: Path | None,
    json_path: str | None,
    allow_partial: bool,
) -> None:
    """How well a store's masks agree with the manifest's pixel labels of the same images.

    Labels are restricted to the step's classes: other classes count as background, void is left out. Where
    masks overlap, the more confident class wins. What the store itself has made void counts as background, and a
    second line says how the rest is.
    """  # fmt: skip
    from wilss.data.manifest import load_manifest
    from wilss.store import MaskStore

    from ..inspect.evaluate import evaluate

    if diagram is not None:
        require_png(diagram, "--diagram")
    opened = MaskStore.open(store, allow_partial=allow_partial)
    wanted = reliability or diagram is not None
    evaluation = evaluate(opened, load_manifest(manifest_path), ablation=ablation, reliability=wanted)
    for warning in evaluation.warnings:
        click.echo(f"Warning: {warning}", err=True)
    if diagram is not None and evaluation.reliability is not None:
        _draw(evaluation.reliability, f"{store.name}", diagram, is_told=json_path != "-")
    show_figures(_report(evaluation), evaluation.as_json(), json_path, evaluation.failed)


def _draw(reliability: "Reliability", title: str, target: Path, *, is_told: bool) -> None:
    from wilss.disk import write_output

    from ..inspect.reliability_picture import draw_reliability

    write_output(target, draw_reliability(reliability, title))
    if is_told and not is_quiet():
        click.echo(f"{target}: reliability, and what void would leave\n")


def _report(evaluation: "Evaluation") -> list[str]:
    """Heading, table per class, and the tables of the ablation and of the reliability where they were asked for."""
    from ..inspect.image_judge import KNOWN, STORED

    lines = [*_heading(evaluation), "", *_class_table(evaluation.scores[STORED])]
    if evaluation.void > 0:
        known = evaluation.scores[KNOWN]
        lines += [
            "",
            f"The store has made {percent(evaluation.void)} % of the pixels void. Without them: mean "
            f"{percent(known.mean_iou)}, without background {percent(known.mean_iou_classes)}.",
        ]
    if "init" in evaluation.scores:
        lines += ["", *_ablation_table(evaluation)]
    return lines if evaluation.reliability is None else [*lines, "", *_reliability(evaluation.reliability)]


def _heading(evaluation: "Evaluation") -> list[str]:
    attributes, left_out = evaluation.store.attributes, evaluation.left_out
    without = f" ({evaluation.without} without the step's classes)" if evaluation.without else ""
    lines = [
        f"{evaluation.store.path}: step {attributes.get('step')} of {attributes.get('manifest')}, "
        f"{attributes.get('split')}, by {attributes.get('source')}",
        f"{counted(evaluation.counted, 'image')} counted{without}, {len(evaluation.failed)} failed, "
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
    from ..inspect.image_judge import KNOWN

    titles = {"stored": "as stored", "init": "M_init", "seeds": "M_seeds"}
    table = [("%", "mean IoU", "without background")]
    table += [
        (titles.get(name, name), percent(scores.mean_iou), percent(scores.mean_iou_classes))
        for name, scores in evaluation.scores.items()
        if name != KNOWN
    ]
    return aligned(table, {1})


def _reliability(found: "Reliability") -> list[str]:
    """Sureness by label and in bins beside the share that is right, then what is left by where void begins."""
    how = "by the calibration of the store" if found.is_calibrated else "of the store's maps, not calibrated"
    return [
        f"How sure the labels of pixels are ({how}), and what share of them is right:",
        "",
        *_sureness_table(found),
        "",
        *_bins_table(found),
        "",
        *_void_table(found),
    ]


def _sureness_table(found: "Reliability") -> list[str]:
    from wilss.equations.calibration import expected_error

    table: list[tuple[str, ...]] = [("%", "of all pixels", "sureness", "right", "ECE")]
    for name, label in (*((name, label) for label, name in enumerate(found.names)), ("all", None)):
        sums = found.sums(label)
        count, sure, right = sums.sum(axis=1).tolist()
        shown = (count / max(found.sums()[0].sum(), 1), *((sure / count, right / count) if count else (None, None)))
        table.append((name, *map(percent, (*shown, expected_error(sums)))))
    return aligned(table, {1, len(table) - 1})


def _bins_table(found: "Reliability") -> list[str]:
    from wilss.equations.calibration import reliability

    diagram, pixels = reliability(found.sums()), max(found.sums()[0].sum(), 1)
    table: list[tuple[str, ...]] = [("% sure", "of all pixels", "sureness", "right")]
    for place, (sure, right, count) in enumerate(zip(*(part.tolist() for part in diagram), strict=True)):
        if count:
            ends = f"{100 * place / len(diagram.pixels):.0f} to {100 * (place + 1) / len(diagram.pixels):.0f}"
            table.append((ends, *map(percent, (count / pixels, sure, right))))
    return aligned(table, {1})


def _void_table(found: "Reliability") -> list[str]:
    table: list[tuple[str, ...]] = [("% void below", "pixels left", "of masks", "mean IoU", "without background")]
    for kept in found.kept():
        figures = (kept.share, kept.of_masks, kept.scores.mean_iou, kept.scores.mean_iou_classes)
        table.append((f"{100 * kept.below:.0f}", *map(percent, figures)))
    return aligned(table, {1})
