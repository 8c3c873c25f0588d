"""The end of a run: the checkpoint judged beside the one that it came from, and the report that shows both."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np

from wilss.console import aligned, percent
from wilss.data.layouts import ImageRecord, read_label_of
from wilss.data.taxonomy import BACKGROUND
from wilss.errors import CheckpointError, ImageError, ManifestError, WilssError, counted
from wilss.models.networks.checkpoint import CheckpointInfo, load_segmenter, read_info
from wilss.models.networks.segmenter import Segmenter

from .. import run_folder as runs
from ..inputs import RunInputs
from ..params import RANDOM
from .evaluate import evaluate, read_labelled
from .predict import Predicted, predictions
from .report.figures import shared_means
from .report.log import LOG_FILE
from .report.page import PAGE_FILE, REPORT_FILE, write_report
from .report.pictures import Picture, choose_images

Results = TypeVar("Results", bound="RunResults")
#: Is told how many images are judged, and how many there are.
Judged = Callable[[int, int], None]


def untold(done: int, total: int) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True, kw_only=True)
class RunResults:
    """What a run ended with. scores: the evaluation as in report.json, None where nothing was judged, and why not."""

    info: CheckpointInfo
    scores: dict[str, Any] | None
    old_scores: dict[str, Any] | None
    page: Path | None
    why_not: str = ""

    @classmethod
    def read(cls, out: Path, why_not: str = "") -> Self:
        """What the report in a run's folder says; `why_not` where there is none."""
        path, info = out / REPORT_FILE, read_info(out)
        if not path.exists():
            return cls(info=info, scores=None, old_scores=None, page=None, why_not=why_not)
        try:
            report = json.loads(path.read_text(encoding="utf-8"))
            scores, old_scores = report["scores"], report.get("old_model")
        except (OSError, ValueError, KeyError) as error:
            raise CheckpointError(f"{path} cannot be read ({error}); start again with --overwrite.") from error
        page = out / PAGE_FILE
        return cls(info=info, scores=scores, old_scores=old_scores, page=page if page.exists() else None)

    def table(self) -> list[str]:
        """Old, new and all mIoU; old classes and background beside the same of the model of the step before."""
        if self.scores is None:
            return []
        protocol, step = self.info.protocol, self.info.step
        background, *old = (protocol.taxonomy.name_of(identity) for identity in (BACKGROUND, *protocol.old(step)))
        now, before = self.scores["iou"], None if self.old_scores is None else self.old_scores["iou"]
        shared = shared_means(now, now if before is None else before, old)
        rows = [
            _row("old classes", *shared),
            _row("new classes" if old else "classes", _known(now) - _known(now, [background, *old]),
                 self.scores["mean_iou_new"]),
            _row("background", 1, now[background], None if before is None else before[background]),
            _row("all", _known(now), self.scores["mean_iou"]),
        ]  # fmt: skip
        table = [("mIoU %", "classes", "now", "step before"), *rows[0 if old else 1 :]]
        return [*aligned(table if before is not None else [row[:-1] for row in table], {1}), *self._never_found()]

    def _never_found(self) -> Iterator[str]:
        """A sentence where classes of this step are labelled, and the network calls no pixel so."""
        if self.scores is None:
            return
        protocol, iou = self.info.protocol, self.scores["iou"]
        names = [protocol.taxonomy.name_of(identity) for identity in protocol.new(self.info.step)]
        missed = [name for name in names if iou[name] is not None and self.scores["precision"][name] is None]
        if missed:
            yield (
                f"No pixel of {self.scores['split']} is called {' or '.join(missed)}; if "
                f"{counted(self.info.iterations, 'optimiser step')} were too few for that, raise --epochs, or show few "
                "images more often by a greater --set epoch_steps=N."
            )


def _row(title: str, classes: int, now: float | None, before: float | None = None) -> tuple[str, ...]:
    return title, str(classes), percent(now), percent(before)


def _known(iou: Mapping[str, float | None], names: Iterable[str] | None = None) -> int:
    """How many of the classes have an IoU."""
    return sum(iou[name] is not None for name in (iou if names is None else names))


def judge_run(inputs: RunInputs, out: Path, *, split: str | None, device: str, progress: Judged = untold) -> RunResults:
    """Judge the run's checkpoint and write its report, unless that is done already. progress: see `Method.judge`."""
    report = partial(_report, inputs, out, str(split), device, progress)
    # a data set without pixel labels is none the worse for training
    return judge_once(RunResults, out, split, report, harmless=ManifestError)


def judge_once(
    kind: type[Results],
    out: Path,
    split: str | None,
    report: Callable[[], None],
    *,
    harmless: type[WilssError] | tuple[type[WilssError], ...],
) -> Results:
    """What is on disk after `report` has written it, once in a run's life; not at all where no split is named.

    harmless: errors that leave a run without a report and say why.
    """
    why_not = ""
    if not runs.is_complete(out):
        try:
            if split is None:
                why_not = "no split was named"
            else:
                report()
        except harmless as error:
            why_not = str(error)
        runs.mark_complete(out)
    return kind.read(out, why_not)


def _report(inputs: RunInputs, out: Path, split: str, device: str, progress: Judged) -> None:
    info = read_info(out)
    records = inputs.manifest.evaluation(split).records
    student = load_segmenter(info, device)
    evaluation = evaluate(student, info, records, split=split, device=device, progress=progress)
    parent, old, before = inputs.parent, None, None
    if parent is not None:
        old = load_segmenter(parent, device)
        before = evaluate(old, parent, records, split=split, device=device, progress=progress)
    networks = [(info, student)] if parent is None or old is None else [(info, student), (parent, old)]
    write_report(
        out,
        evaluation=evaluation,
        old_evaluation=before,
        pictures=_pictures(networks, _chosen(records, info), device),
        log=out / LOG_FILE,
        run={
            "title": f"{inputs.manifest.title}, step {info.step}: {info.method}",
            "weights": _weights(info),
        },
    )


def _weights(info: CheckpointInfo) -> str:
    """What the run started from."""
    if info.parent_digest is not None:
        return "the model of the step before"
    return str(info.params.get("backbone_weights") or RANDOM)


def _chosen(records: Sequence[ImageRecord], info: CheckpointInfo) -> list[ImageRecord]:
    """Twelve images that show the step's classes."""
    classes = {
        record.image_id: _classes_in(record)
        for record in records
        if record.label is not None and record.problem is None
    }
    chosen = choose_images(classes, new=info.protocol.new(info.step), old=info.protocol.old(info.step), seed=info.seed)
    by_id = {record.image_id: record for record in records if record.image_id in chosen}
    return [by_id[image] for image in chosen]


def _classes_in(record: ImageRecord) -> tuple[int, ...]:
    """The classes of an image by its tags, or by its label where it has none."""
    if record.tags:
        return record.tags
    try:
        return tuple(np.unique(read_label_of(record)).tolist())
    except ImageError:
        return ()


def _pictures(
    networks: Sequence[tuple[CheckpointInfo, Segmenter]], records: Sequence[ImageRecord], device: str
) -> list[Picture]:
    """Each image with its labels and what the new (and the old) network makes of it."""
    by_network = [
        {
            image.record.image_id: image
            for image in predictions(network, info, records, device=device, read=read_labelled)
        }
        for info, network in networks
    ]
    pictures = []
    for record in records:
        both = [predicted[record.image_id] for predicted in by_network]
        if all(predicted.error is None for predicted in both):
            pictures.append(_picture(*both))
    return pictures


def _picture(new: Predicted, old: Predicted | None = None) -> Picture:
    if new.sample is None or new.labels is None:
        raise CheckpointError(f"{new.record.path} could not be labelled.")
    return Picture(
        image_id=new.record.image_id,
        image=new.sample.image,
        truth=new.sample.truth,
        predicted=new.labels,
        old=None if old is None else old.labels,
    )
