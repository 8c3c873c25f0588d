"""report.html: the report for people, one file that loads nothing from anywhere."""

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from wilss.disk import write_atomically

from ..evaluate import Evaluation
from .charts import class_bar, confusion_map, curve
from .document import digests_of, document_of
from .figures import ClassFigures, class_figures, headlines, most_confused, require_comparable
from .log import Progress, RunLog, read_log
from .pictures import Picture, agreement, colour_of, labels_uri, only_seen, photo_uri, shown_size

REPORT_FILE, PAGE_FILE = "report.json", "report.html"
_RATE = "Learning rate"
#: What the terms of the losses are, by their names in the log.
_TERMS = {
    "total": "What training lowers: the sum of its parts.",
    "seg": "The segmenter against its targets: the masks or, after the first step, what teacher and old model say.",
    "new": "The new classes against their masks; with fmwiss it is the teacher's.",
    "old": "The old classes against what the old model says; with fmwiss it is the teacher's.",
    "dcl": "How badly the teacher's features tell the classes apart, by points (dense contrastive loss).",
    "sup": "The labelled images against their labels.",
    "cons": "Strongly altered images against the soft labels of the unaltered ones.",
    "cls": "Which classes are in an image, against its labels.",
    "sgc": "The attention maps that soft labels are made with, against labels.",
}
_MANY_CLASSES = 30
_CONFUSIONS = 10
_FAILED_SHOWN = 40


def write_report(
    folder: Path,
    *,
    evaluation: Evaluation,
    old_evaluation: Evaluation | None = None,
    pictures: Sequence[Picture] = (),
    log: Path | None = None,
    run: Mapping[str, Any] | None = None,
) -> tuple[Path, Path]:
    """Write report.json and report.html into `folder`, each whole or not at all; equal input gives equal bytes.

    old_evaluation: of the parent, on the same split in the same way. pictures: see `choose_images`. log: the run's
    log.jsonl. run: see `document_of`. Raises CheckpointError when the two evaluations do not compare or the log is
    missing or damaged.
    """
    require_comparable(evaluation, old_evaluation)
    run_log = None if log is None else read_log(log)
    document = document_of(evaluation, old_evaluation, run_log, run or {})
    page = render(document, evaluation, old_evaluation, run_log, pictures)
    json_path, html_path = folder / REPORT_FILE, folder / PAGE_FILE
    write_atomically(json_path, (json.dumps(document, indent=2, allow_nan=False) + "\n").encode())
    write_atomically(html_path, page.encode("utf-8", "replace"))
    return json_path, html_path


def render(
    document: Mapping[str, Any],
    evaluation: Evaluation,
    old: Evaluation | None,
    log: RunLog | None,
    pictures: Sequence[Picture],
) -> str:
    """The page as text. Whatever comes from outside is escaped by the template or by the charts."""
    return _template().render(
        report=document,
        info=evaluation.info,
        evaluation=evaluation,
        old=old,
        headlines=headlines(evaluation, old),
        groups=_groups(evaluation, old),
        matrix=_matrix(evaluation),
        confused=most_confused(evaluation.scores.names, evaluation.scores.matrix, _CONFUSIONS),
        curves=[] if log is None else _curves(log.steps),
        failed=_failed(evaluation, log),
        examples=[_example(picture, evaluation) for picture in pictures],
        params=_flat(evaluation.info.params),
        run=_flat(document["run"]),
        digests=digests_of(evaluation.info),
    )


@functools.cache
def _template() -> Template:
    home = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=home, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"percent": _percent, "change": _change, "direction": _direction}
    environment.filters |= {"amount": _amount, "duration": _duration, "svg": Markup}
    return environment.get_template("template.html.j2")


def _groups(evaluation: Evaluation, old: Evaluation | None) -> list[dict[str, Any]]:
    """Tables of classes: old ones, then new ones and background, the best first; long tables in two halves."""
    figures = class_figures(evaluation, old)
    classes = [each for each in figures if each.step is not None]
    has_old = any(not each.is_new for each in classes)
    titled = [
        ("Old classes", [each for each in classes if not each.is_new]),
        ("New classes" if has_old else "Classes", [each for each in classes if each.is_new]),
        ("Background", [each for each in figures if each.step is None]),
    ]
    return [part for title, members in titled for part in _tables(title, members, beside_old=has_old)]


def _tables(title: str, members: Sequence[ClassFigures], *, beside_old: bool) -> list[dict[str, Any]]:
    """One table, or two halves of a long one; none without members."""
    ordered = sorted(members, key=lambda each: -1.0 if each.iou is None else each.iou, reverse=True)
    half = (len(ordered) + 1) // 2 if len(ordered) > _MANY_CLASSES else max(len(ordered), 1)
    return [
        {
            "title": title,
            "rows": [_bar_row(each, beside_old=beside_old) for each in ordered[start : start + half]],
            "more": start > 0,
        }
        for start in range(0, len(ordered), half)
    ]


def _bar_row(figures: ClassFigures, *, beside_old: bool) -> dict[str, Any]:
    label = f"{figures.name}: IoU {_percent(figures.iou)}"
    if figures.before is not None:
        label += f", the old model {_percent(figures.before)}"
    return {
        "figures": figures,
        "bar": class_bar(label, figures.iou, figures.before, is_new=figures.is_new and beside_old),
    }


def _matrix(evaluation: Evaluation) -> str:
    info, scores = evaluation.info, evaluation.scores
    old_channels = info.protocol.old_channels(info.step)
    first_new = len(old_channels) if info.protocol.old(info.step) else 0
    return confusion_map(scores.names, scores.matrix, first_new=first_new)


def _curves(steps: Sequence[Progress]) -> list[dict[str, str]]:
    """Small charts: the total loss first, then its parts, learning rates and speed."""
    if not steps:
        return []
    at, last = [line.step for line in steps], max(steps[-1].steps, steps[-1].step)
    losses = sorted(_names(line.losses for line in steps), key=lambda name: name != "total")
    rates, nan = _names(line.lr for line in steps), float("nan")
    charts = [
        (f"Loss: {name}", _TERMS.get(name, ""), [line.losses.get(name, nan) for line in steps]) for name in losses
    ]
    charts += [(f"{_RATE}: {name}", "", [line.lr.get(name, nan) for line in steps]) for name in rates]
    charts.append(("Images per second", "", [line.images_per_second for line in steps]))
    return [
        {
            "title": title,
            "what": what,
            "last": f"{values[-1]:.3g}",
            "svg": curve(f"{title} over {last} steps", at, values, last_step=last, log_scale=title.startswith(_RATE)),
        }
        for title, what, values in charts
    ]


def _names(lines: Any) -> list[str]:
    """Keys in the order of their first coming."""
    return list(dict.fromkeys(name for line in lines for name in line))


def _example(picture: Picture, evaluation: Evaluation) -> dict[str, Any]:
    """A row of the examples: the photo once, label maps to be laid over it, the classes, and how well they agree."""
    info, size = evaluation.info, shown_size(picture.image)
    maps = {"Truth": picture.truth, "Old model": picture.old, "Prediction": picture.predicted}
    shown = {name: only_seen(labels, info.seen) for name, labels in maps.items() if labels is not None}
    there = sorted({int(i) for labels in shown.values() for i in set(labels.ravel().tolist())} & set(info.seen[1:]))
    return {
        "id": picture.image_id,
        "photo": photo_uri(picture.image),
        "width": size[0],
        "height": size[1],
        "panels": {name: labels_uri(labels, size) for name, labels in shown.items()},
        "classes": [{"name": info.protocol.taxonomy.name_of(i), "colour": colour_of(i)} for i in there],
        "iou": agreement(shown["Truth"], shown["Prediction"]) if "Truth" in shown else None,
    }


def _failed(evaluation: Evaluation, log: RunLog | None) -> dict[str, Any]:
    """Images that could not be used, in training or in the evaluation; the first of them with their sentences."""
    failed = {**({} if log is None else log.failed), **evaluation.failed}
    return {"count": len(failed), "shown": dict(list(failed.items())[:_FAILED_SHOWN])}


def _flat(params: Mapping[str, Any], before: str = "") -> dict[str, str]:
    """Nested parameters as one table with dotted names."""
    flat: dict[str, str] = {}
    for name, value in params.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{before}{name}.")
        else:
            flat[f"{before}{name}"] = value if isinstance(value, str) else json.dumps(value, default=str)
    return flat


def _percent(ratio: float | None) -> str:
    return "\N{EN DASH}" if ratio is None else f"{100 * ratio:.1f}"


def _change(ratio: float | None) -> str:
    """A difference in points with a sign, and without one where it rounds to nothing."""
    if ratio is None:
        return ""
    text = f"{100 * ratio:+.1f}"
    return "0.0" if text[1:] == "0.0" else text.replace("-", "\N{MINUS SIGN}")


def _direction(ratio: float | None) -> str:
    """The class of a difference for the style: up, down, or level."""
    text = _change(ratio)
    return "up" if text.startswith("+") else "down" if text.startswith("\N{MINUS SIGN}") else "level"


def _amount(value: Any) -> str:
    return "\N{EN DASH}" if value is None else f"{value:,}" if isinstance(value, int | float) else str(value)


def _duration(seconds: float) -> str:
    """Seconds as a person says them: 2 h 05 min, 3 min 12 s, 8.4 s."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, left = divmod(minutes, 60)
    return f"{hours} h {left:02d} min" if hours else f"{minutes} min {rest:02d} s"
