"""The search: every setting on some of the images, the best and the controls on all, then what is near the best."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wilss.errors import WilssError
from wilss.threads import map_in_threads

from .judging import Judge, Tally
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
class Found:
    """Settings, best first; failed: image id -> why it took no part; tried: how many settings there were.

    judged: images that count. crosswise: the score of what is chosen on one half of the images, on the other half, and
    of the present setting there; NaN for few images, and without labels.
    """

    ranked: tuple[Ranked, ...]
    failed: dict[str, str]
    judged: int
    tried: int
    crosswise: tuple[float, float]


def search(
    scratch: Scratch,
    sample: Sample,
    candidates: Sequence[Setting],
    make_judge: Callable[[Sequence[Setting]], Judge],
    *,
    threads: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Found:
    """Compare all candidates; the order of images, batches and threads changes nothing.

    make_judge: the judge of some settings.
    """
    run = _Run(scratch, sample, threads, progress)
    ahead = {sample.records[place].image_id for place in sample.order[:FIRST_IMAGES]}
    first = run.tally(make_judge(candidates), len(candidates), lambda name: name in ahead)
    places = _kept(candidates, _score(_sum(first), sample))
    chosen = [candidates[place] for place in places]
    halves = [Tally(part.pixels[places], part.sums[places], part.masks) for part in first]
    rest = run.tally(make_judge(chosen), len(chosen), lambda name: name not in ahead)
    for half, more in zip(halves, rest, strict=True):
        half.add(more)
    near = _neighbours(chosen, _score(_sum(halves), sample), candidates)
    run.start_again()
    finer = run.tally(make_judge(near), len(near), lambda name: True)
    halves = [half.beside(more) for half, more in zip(halves, finer, strict=True)]
    return Found(
        ranked=_ranked([*chosen, *near], _sum(halves), sample),
        failed=run.failed,
        judged=run.judged,
        tried=len(candidates) + len(near),
        crosswise=_crosswise([*chosen, *near], halves, sample, run.judged),
    )


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


class _Run:
    """Reads the batches of a scratch in threads and adds up what a judge says of their images."""

    def __init__(
        self, scratch: Scratch, sample: Sample, threads: int | None, progress: Callable[[int, int], None]
    ) -> None:
        self._scratch, self._sample, self._threads, self._progress = scratch, sample, threads, progress
        self._half = {sample.records[place].image_id: turn % 2 for turn, place in enumerate(sample.order)}
        self._done, self._total = 0, 2 * sum(map(len, scratch.batches))  # once by all settings, once by neighbours
        self._stopped = threading.Event()
        self.failed: dict[str, str] = scratch.failed
        self.judged = 0

    def tally(self, judge: Judge, settings: int, wanted: Callable[[str], bool]) -> tuple[Tally, Tally]:
        """The sums of both halves of the images that are wanted."""
        halves = tuple(Tally.empty(settings, len(self._sample.classes)) for _ in range(2))

        def judged(number: int) -> list[tuple[str, Tally | WilssError]]:
            tasks = self._scratch.batches[number]
            if not any(wanted(task.record.image_id) for task in tasks):
                return []
            seen = [one for one in self._scratch.read(number) if wanted(one.task.record.image_id)]
            return [(one.task.record.image_id, self._one(judge, one)) for one in seen if not self._stopped.is_set()]

        try:
            for found in map_in_threads(judged, range(len(self._scratch.batches)), self._threads):
                for name, tally in found:
                    self._add(halves, name, tally)
                if found:
                    self._progress(self._done, self._total)
        except BaseException:  # whoever interrupts should not wait for whole batches
            self._stopped.set()
            raise
        return halves[0], halves[1]

    def _add(self, halves: Sequence[Tally], name: str, tally: Tally | WilssError) -> None:
        self._done += 1
        if isinstance(tally, WilssError):
            self.failed[name] = str(tally)
        else:
            self.judged += 1
            halves[self._half[name]].add(tally)

    def start_again(self) -> None:
        """Go over all images once more."""
        self.judged = 0

    def _one(self, judge: Judge, seen: Seen) -> Tally | WilssError:
        try:
            return judge(seen, self._sample.truths(seen.task.record))
        except WilssError as error:
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
