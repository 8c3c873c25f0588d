"""The search: every setting on some of the images, the best and the controls on all, then what is near the best.

After that come the levers, each tried on the best setting so far.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wilss.errors import OneImageError
from wilss.process import map_in_threads

from ..sources.fmwiss_params import FmwissParams
from .judging import Judge, Tally
from .levers import Lever
from .masks import cost
from .sample import Sample
from .scratch import Scratch, Seen
from .settings import Setting, apart, neighbours

#: Images on which every setting is tried, and how many settings go on from there.
FIRST_IMAGES, KEPT_SETTINGS = 40, 150
#: The best so many settings are moved by small steps at the end.
REFINED = 5
#: Fewer images than this are not cut in halves.
_LEAST_TO_HALVE = 10


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """A setting and how it did: `score` in [0, 1] is the mean IoU, or without labels the quality that was guessed.

    share: of an image that a mask covers in the mean.
    """

    setting: Setting
    score: float
    share: float
    agreement: float
    stability: float
    plausible: float


@dataclass(frozen=True, kw_only=True)
class Step:
    """A part of a search: how many settings were tried, the score of the best so far, and whether it is one of them."""

    name: str
    tried: int
    score: float
    is_better: bool


@dataclass(frozen=True, kw_only=True)
class Found:
    """Settings, best first; failed: image id -> why it took no part; tried: how many settings there were.

    judged: images that count. crosswise: the score of what is chosen on one half of the images, on the other half, and
    of the present setting there; NaN for few images, and without labels. steps: the parts of the search.
    """

    ranked: tuple[Ranked, ...]
    failed: dict[str, str]
    judged: int
    tried: int
    crosswise: tuple[float, float]
    steps: tuple[Step, ...] = ()


def search(
    scratch: Scratch,
    sample: Sample,
    candidates: Sequence[Setting],
    make_judge: Callable[[Sequence[Setting]], Judge],
    *,
    levers: Sequence[Lever] = (),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Found:
    """Compare all candidates, then what levers make of the best; the order of images and threads changes nothing.

    make_judge: the judge of some settings.
    """
    ahead = {sample.records[place].image_id for place in sample.order[:FIRST_IMAGES]}
    run = _Run(scratch, sample, Work(progress, len(ahead), len(sample.records), candidates, levers))
    first = run.tally(make_judge(candidates), candidates, lambda name: name in ahead)
    places = _kept(candidates, _score(_sum(first), sample))
    chosen = [candidates[place] for place in places]
    halves = [Tally(part.pixels[places], part.sums[places], part.masks) for part in first]
    rest = run.tally(make_judge(chosen), chosen, lambda name: name not in ahead)
    for half, more in zip(halves, rest, strict=True):
        half.add(more)
    standings = _Standings(run, sample, make_judge, chosen, halves)
    grid = standings.step("the paper's parameters, combined", len(candidates))
    steps = [grid, standings.tried("small steps", _neighbours(chosen, _score(_sum(halves), sample), candidates))]
    steps += [standings.tried(lever.name, lever.settings(standings.best)) for lever in levers if standings.has_best]
    run.work.end()
    return Found(
        ranked=_ranked(standings.settings, _sum(standings.halves), sample),
        failed=run.failed,
        judged=run.judged,
        tried=sum(step.tried for step in steps),
        crosswise=_crosswise(standings.settings, standings.halves, sample, run.judged),
        steps=tuple(steps),
    )


class _Standings:
    """The settings that were judged on all images, and how they did on either half."""

    def __init__(
        self,
        run: "_Run",
        sample: Sample,
        make_judge: Callable[[Sequence[Setting]], Judge],
        settings: Sequence[Setting],
        halves: Sequence[Tally],
    ) -> None:
        self._run, self._sample, self._make_judge = run, sample, make_judge
        self.settings, self.halves = list(settings), list(halves)

    @property
    def has_best(self) -> bool:
        """Whether there is a setting that may be chosen and has a score."""
        return bool(np.isfinite(self._score()).any())

    @property
    def best(self) -> FmwissParams:
        """The best setting that may be chosen."""
        params = self.settings[int(np.nan_to_num(self._score(), nan=-1.0).argmax())].params
        assert params is not None
        return params

    def tried(self, name: str, candidates: Sequence[Setting]) -> Step:
        """Judge what of the candidates is new, on all images."""
        before, new = self._top(), apart(candidates, self.settings)
        self._run.work.begin(new)
        if new:
            self._run.start_again()
            more = self._run.tally(self._make_judge(new), new, lambda image_id: True)
            self.halves = [half.beside(other) for half, other in zip(self.halves, more, strict=True)]
            self.settings += new
        return self.step(name, len(new), before)

    def step(self, name: str, tried: int, before: float = -1.0) -> Step:
        """What to say of a part of the search. before: the best score when it began."""
        return Step(name=name, tried=tried, score=self._top(), is_better=self._top() > before)

    def _top(self) -> float:
        return float(np.nan_to_num(self._score(), nan=-1.0).max())

    def _score(self) -> NDArray[np.float64]:
        """By setting; NaN where it may not be chosen."""
        score = _score(_sum(self.halves), self._sample)
        return np.where([may_be_chosen(setting) for setting in self.settings], score, np.nan)


def _neighbours(chosen: Sequence[Setting], score: NDArray[np.float64], known: Sequence[Setting]) -> tuple[Setting, ...]:
    """Settings a small step away from the best ones."""
    best = [chosen[place] for place in _best_first(score) if may_be_chosen(chosen[place])][:REFINED]
    near = [one for setting in best if setting.params is not None for one in neighbours(setting.params)]
    return apart(near, known)


def _ranked(settings: Sequence[Setting], tally: Tally, sample: Sample) -> tuple[Ranked, ...]:
    score, means = _score(tally, sample), {name: tally.mean(name) for name in Tally.NAMES}
    return tuple(
        Ranked(
            setting=settings[place],
            score=float(score[place]),
            **{name: float(means[name][place]) for name in ("share", "agreement", "stability", "plausible")},
        )
        for place in _best_first(score)
    )


def _best_first(score: NDArray[np.float64]) -> list[int]:
    """Places by score, the first among equals first."""
    order: list[int] = np.argsort(-np.nan_to_num(score, nan=-1.0), kind="stable").tolist()
    return order


class Work:
    """How far a search has come, in steps that take about as long: images times what their settings cost.

    Of what lies ahead it is a guess, by the settings that levers make of the present one, until it begins.
    """

    def __init__(
        self,
        progress: Callable[[int, int], None],
        first: int,
        images: int,
        candidates: Sequence[Setting],
        levers: Sequence[Lever],
    ) -> None:
        """first: images on which all candidates are tried; images: all."""
        present = next((one.params for one in candidates if one.control == "present" and one.params), FmwissParams())
        grid = first * cost(candidates) + (images - first) * min(KEPT_SETTINGS, len(candidates))
        pulled = (images * max(cost(lever.settings(present)), 1) for lever in levers)
        self._progress, self._images, self._done = progress, images, 0
        self._rounds = [grid, images * cost(neighbours(present)), *pulled]
        self._round = 0

    def begin(self, settings: Sequence[Setting]) -> None:
        """The next round begins, and is of these settings on all images."""
        self._rounds[self._round] = self._done - sum(self._rounds[: self._round])  # what it has cost, and no guess
        self._round += 1
        self._rounds[self._round] = self._images * cost(settings)

    def add(self, steps: int) -> None:
        """So many steps are done."""
        self._done += steps

    def tell(self) -> None:
        """Say how far it has come."""
        ahead = sum(self._rounds[self._round + 1 :])
        self._progress(self._done, ahead + max(self._done, sum(self._rounds[: self._round + 1])))

    def end(self) -> None:
        """All that there was to do is done."""
        self._progress(self._done, self._done)


class _Run:
    """Reads the batches of a scratch in threads and adds up what a judge says of their images."""

    def __init__(self, scratch: Scratch, sample: Sample, work: Work) -> None:
        self._scratch, self._sample, self.work = scratch, sample, work
        self._half = {sample.records[place].image_id: turn % 2 for turn, place in enumerate(sample.order)}
        self._stopped = threading.Event()
        self.failed: dict[str, str] = scratch.failed
        self.judged = 0

    def tally(self, judge: Judge, settings: Sequence[Setting], wanted: Callable[[str], bool]) -> tuple[Tally, Tally]:
        """The sums of both halves of the images that are wanted."""
        halves = tuple(Tally.empty(len(settings), len(self._sample.classes)) for _ in range(2))
        steps = cost(settings)

        def judged(number: int) -> list[tuple[str, Tally | OneImageError]]:
            tasks = self._scratch.batches[number]
            if not any(wanted(task.record.image_id) for task in tasks):
                return []
            seen = [one for one in self._scratch.read(number) if wanted(one.task.record.image_id)]
            return [(one.task.record.image_id, self._one(judge, one)) for one in seen if not self._stopped.is_set()]

        try:
            for found in map_in_threads(judged, range(len(self._scratch.batches))):
                for name, tally in found:
                    self.work.add(steps)
                    self._add(halves, name, tally)
                if found:
                    self.work.tell()
        except BaseException:  # whoever interrupts should not wait for whole batches
            self._stopped.set()
            raise
        return halves[0], halves[1]

    def _add(self, halves: Sequence[Tally], name: str, tally: Tally | OneImageError) -> None:
        if isinstance(tally, OneImageError):
            self.failed[name] = str(tally)
        else:
            self.judged += 1
            halves[self._half[name]].add(tally)

    def start_again(self) -> None:
        """Go over all images once more."""
        self.judged = 0

    def _one(self, judge: Judge, seen: Seen) -> Tally | OneImageError:
        try:
            return judge(seen, self._sample.truths(seen.task.record))
        except OneImageError as error:
            return error


def _kept(candidates: Sequence[Setting], score: NDArray[np.float64]) -> list[int]:
    """Places of the best settings and of the controls, in their first order."""
    best = _best_first(score)[:KEPT_SETTINGS]
    controls = [place for place, setting in enumerate(candidates) if setting.control]
    return sorted({*best, *controls})


def _score(tally: Tally, sample: Sample) -> NDArray[np.float64]:
    return tally.mean("quality") if sample.kind == "nothing" else tally.mean_iou


def _sum(halves: Sequence[Tally]) -> Tally:
    total = Tally.empty(*halves[0].pixels.shape[::2])
    for half in halves:
        total.add(half)
    return total


def _crosswise(
    settings: Sequence[Setting], halves: Sequence[Tally], sample: Sample, judged: int
) -> tuple[float, float]:
    """The mean of both halves' scores of what is best on the other one, and of the present setting."""
    if sample.kind == "nothing" or judged < _LEAST_TO_HALVE:
        return float("nan"), float("nan")
    scores = [np.nan_to_num(_score(half, sample), nan=-1.0) for half in halves]
    free = np.array([may_be_chosen(setting) for setting in settings])
    best = [int(np.where(free, score, -1.0).argmax()) for score in scores]
    present = next(place for place, setting in enumerate(settings) if setting.control == "present")
    chosen = float((scores[1][best[0]] + scores[0][best[1]]) / 2)
    return chosen, float((scores[0][present] + scores[1][present]) / 2)


def may_be_chosen(setting: Setting) -> bool:
    """Whether it is a setting of the source: a whole image is none."""
    return setting.params is not None
