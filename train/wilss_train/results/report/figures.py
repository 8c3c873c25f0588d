"""The figures that a report speaks of, read from one evaluation or two: pure, and of no particular form."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wilss.data.taxonomy import BACKGROUND
from wilss.errors import CheckpointError

from ..evaluate import Evaluation


@dataclass(frozen=True, kw_only=True)
class ClassFigures:
    """One class. Ratios in [0, 1], None where there is none; before: the IoU that the old model had.

    step: at which it was learnt; None for background, which every step has.
    """

    name: str
    identity: int
    step: int | None
    is_new: bool
    iou: float | None
    before: float | None
    precision: float | None
    recall: float | None

    @property
    def change(self) -> float | None:
        """What the IoU gained on the old model; None for a class that one of the two does not have."""
        return _change(self.iou, self.before)


@dataclass(frozen=True, kw_only=True)
class Headline:
    """A number to begin with. change: against the old model, where the two can be compared."""

    label: str
    value: float | None
    note: str
    change: float | None = None


class Shared(NamedTuple):
    """Means over the classes that two models have in common: how many these are, the mean IoU now and before."""

    classes: int
    now: float | None
    before: float | None


@dataclass(frozen=True, kw_only=True)
class Confused:
    """A share of the pixels of `true` was labelled `predicted`."""

    true: str
    predicted: str
    share: float


def require_comparable(evaluation: Evaluation, old: Evaluation | None) -> None:
    """Raise CheckpointError unless both models were judged on the same images in the same way."""
    if old is None or (old.split, old.mode) == (evaluation.split, evaluation.mode):
        return
    raise CheckpointError(
        f"{evaluation.info.path} was judged on {evaluation.split} ({evaluation.mode}) and the old model "
        f"{old.info.path} on {old.split} ({old.mode}); judge both on the same split and in the same way."
    )


def class_figures(evaluation: Evaluation, old: Evaluation | None) -> tuple[ClassFigures, ...]:
    """All classes in the order of the channels, background first."""
    info, scores = evaluation.info, evaluation.scores
    step_of = {identity: step for step in range(info.step + 1) for identity in info.protocol.new(step)}
    before = {} if old is None else dict(zip(old.info.seen, old.scores.iou.tolist(), strict=True))
    columns = zip(info.seen, scores.names, scores.iou, scores.precision, scores.recall, strict=True)
    return tuple(
        ClassFigures(
            name=name,
            identity=identity,
            step=step_of.get(identity),
            is_new=identity in info.protocol.new(info.step),
            iou=_known(iou),
            before=_known(before.get(identity, float("nan"))),
            precision=_known(precision),
            recall=_known(recall),
        )
        for identity, name, iou, precision, recall in columns
    )


def headlines(evaluation: Evaluation, old: Evaluation | None) -> tuple[Headline, ...]:
    """The means of a report. Old classes are compared on the same classes: what they lost was forgotten."""
    info, scores = evaluation.info, evaluation.scores
    old_ids, new_ids = info.protocol.old(info.step), info.protocol.new(info.step)
    everything = Headline(
        label="All classes", value=_known(scores.mean_iou), note=f"{len(info.seen)} classes with background"
    )
    plain = Headline(
        label="Without background", value=_known(scores.mean_iou_classes), note=_count(len(old_ids) + len(new_ids))
    )
    if not old_ids:
        background = evaluation.mean_iou((BACKGROUND,))
        return everything, plain, Headline(label="Background", value=background, note="one class")
    shared = old_classes(evaluation, old)
    before = "" if shared.before is None else f", {100 * shared.before:.1f} % before"
    return (
        everything,
        Headline(
            label="Old classes",
            value=evaluation.old_iou if old is None else shared.now,
            note=_count(len(old_ids) if old is None else shared.classes) + before,
            change=_change(shared.now, shared.before),
        ),
        Headline(label="New classes", value=evaluation.new_iou, note=_count(len(new_ids))),
        Headline(label="Harmonic mean", value=evaluation.harmonic, note="of old and new classes"),
        plain,
    )


def old_classes(evaluation: Evaluation, old: Evaluation | None) -> Shared:
    """The old classes in both models; what is not comparable is in neither mean."""
    if old is None:
        return Shared(0, None, None)
    ids = evaluation.info.protocol.old(evaluation.info.step)
    names = [evaluation.info.protocol.taxonomy.name_of(identity) for identity in ids]
    return shared_means(evaluation.as_json()["iou"], old.as_json()["iou"], names)


def shared_means(now: Mapping[str, float | None], before: Mapping[str, float | None], names: Iterable[str]) -> Shared:
    """Mean IoU of those of `names` that have one in both models; None where there is none."""
    pairs = [(now.get(name), before.get(name)) for name in names]
    known = [(mine, other) for mine, other in pairs if mine is not None and other is not None]
    if not known:
        return Shared(0, None, None)
    mean_now, mean_before = np.mean(known, axis=0).tolist()
    return Shared(len(known), mean_now, mean_before)


def row_shares(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """What became of the pixels of each true class: a confusion matrix int64 [C, C], each row divided by its sum.

    Values in [0, 1]; NaN in the row of a class that has no pixel.
    """
    totals = matrix.sum(axis=1, keepdims=True)
    return np.where(totals > 0, matrix / np.maximum(totals, 1), np.nan)


def most_confused(
    names: Sequence[str], matrix: NDArray[np.int64], count: int, *, least: float = 0.01
) -> tuple[Confused, ...]:
    """The largest confusions of one class with another, as shares of the true class, from `least` on.

    Background is left out on both sides: what is taken for it was missed, which recall says already.
    """
    shares = np.nan_to_num(row_shares(matrix))
    np.fill_diagonal(shares, 0)
    shares[0], shares[:, 0] = 0, 0
    order = np.argsort(-shares, axis=None, kind="stable")[:count]
    pairs = [divmod(int(place), len(names)) for place in order]
    return tuple(
        Confused(true=names[row], predicted=names[column], share=float(shares[row, column]))
        for row, column in pairs
        if shares[row, column] >= least
    )


def _count(classes: int) -> str:
    return "one class" if classes == 1 else f"{classes} classes"


def _change(now: float | None, before: float | None) -> float | None:
    return None if now is None or before is None else now - before


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
