"""How good the masks of settings are: against pixel labels, or without any by what can be guessed from them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wilss.data.taxonomy import VOID
from wilss.equations import fmwiss

from ..sources.fmwiss import FmwissSource
from .masks import Made, SettingMasks
from .sample import Truth
from .scratch import Seen
from .settings import Setting

#: Shares of an image that a tagged object may well cover; what a mask covers beyond counts less.
_PLAUSIBLE = (0.02, 0.4, 0.9)


@dataclass(eq=False)
class Tally:
    """Sums over images, by setting.

    pixels: int64 [S, 3, C], of every class those that are hit, masked, and there. masks: how many masks. share: of
    their image that they cover, summed [S]. agreement, stability, plausible: in [0, 1] each, and `quality`, what is
    guessed from them, summed [S].
    """

    pixels: NDArray[np.int64]
    sums: NDArray[np.float64]
    masks: int = 0

    NAMES = ("share", "agreement", "stability", "plausible", "quality")

    @classmethod
    def empty(cls, settings: int, classes: int) -> "Tally":
        """Nothing yet."""
        return cls(np.zeros((settings, 3, classes), np.int64), np.zeros((settings, len(cls.NAMES))))

    def add(self, other: "Tally") -> None:
        """Take in another's sums, of the same settings."""
        self.pixels += other.pixels
        self.sums += other.sums
        self.masks += other.masks

    def beside(self, other: "Tally") -> "Tally":
        """These settings, then another's, over the same images."""
        pixels, sums = np.concatenate([self.pixels, other.pixels]), np.concatenate([self.sums, other.sums])
        return Tally(pixels, sums, self.masks)

    @property
    def mean_iou(self) -> NDArray[np.float64]:
        """Mean over the classes of intersection over union [S]; classes that nobody has seen take no part."""
        hits, masked, there = np.moveaxis(self.pixels, 1, 0)
        union = masked + there - hits
        known = (union > 0).any(axis=0) if len(union) else np.zeros(union.shape[1], bool)
        return (hits / np.maximum(union, 1))[:, known].mean(axis=1) if known.any() else np.full(len(hits), np.nan)

    def mean(self, name: str) -> NDArray[np.float64]:
        """The mean of one of NAMES over the masks [S]."""
        return self.sums[:, self.NAMES.index(name)] / max(self.masks, 1)


class Judge:
    """Compares settings on single images; used by several threads.

    sources: by background words, in all but parameters what masks are made with. classes: taxonomy ids of the step, in
    the order of its categories. guesses: whether agreement and stability are wanted, which take twice the time.
    """

    def __init__(
        self,
        settings: Sequence[Setting],
        sources: Mapping[str, FmwissSource],
        classes: Sequence[int],
        *,
        guesses: bool,
    ) -> None:
        self._masks = SettingMasks(settings, sources, again=guesses)
        self._count, self._classes, self._guesses = len(settings), classes, guesses

    def __call__(self, seen: Seen, truths: Sequence[Truth]) -> Tally:
        """The tally of one image."""
        tally = Tally.empty(self._count, len(self._classes))
        tally.masks = len(seen.task.categories)
        known = [_Known(truth, self._classes) for truth in truths]
        with torch.inference_mode():
            for place, made in self._masks.of(seen):
                self._add(tally, place, made, seen, known)
        return tally

    def _add(self, tally: Tally, place: int, made: Made, seen: Seen, known: "Sequence[_Known]") -> None:
        size = seen.task.height * seen.task.width
        shares = made.masks.sum(dim=(-2, -1)).double() / size
        tally.sums[place, 0] = float(shares.sum())
        if known:
            apart = made.apart([self._classes[position] for position in seen.task.categories])
            for one in known:
                one.count(tally.pixels[place], apart, seen.task.categories)
        if self._guesses:
            tally.sums[place, 1:] = _guesses(made, shares)


class _Known:
    """A truth, taken apart once for all settings."""

    def __init__(self, truth: Truth, classes: Sequence[int]) -> None:
        self._known = truth.labels != VOID
        self._places = {classes.index(identity): truth.labels == identity for identity in truth.classes}
        self._there = {place: int(np.count_nonzero(inside)) for place, inside in self._places.items()}

    def count(self, pixels: NDArray[np.int64], masks: NDArray[np.bool_], categories: Sequence[int]) -> None:
        """Add hits, masked and true pixels to `pixels` [3, C]. masks: bool [T, H, W] of these categories."""
        for place, there in self._there.items():
            pixels[2, place] += there
        for category, mask in zip(categories, masks, strict=True):
            if category in self._places:
                pixels[0, category] += np.count_nonzero(mask & self._places[category])
                pixels[1, category] += np.count_nonzero(mask & self._known)


def _guesses(made: Made, shares: Tensor) -> tuple[float, float, float, float]:
    """Sums over an image's masks of agreement, stability, plausible area, and the quality that is guessed from them.

    quality: stability x plausible area, NaN where no draws take part. Agreement is no part of it: with it the choice on
    drawn pictures was worse.
    """
    plausible = _plausible(shares)
    if made.init is None or made.seeds is None or made.again is None or made.free is None:
        return math.nan, math.nan, float(plausible.sum()), math.nan
    agreement = fmwiss.agreement(made.init, made.seeds).double()
    stability = _beyond_chance(made.seeds, made.again) * made.free.to(shares.device)
    parts = (agreement, stability, plausible, stability * plausible)
    one, two, three, four = (float(part.sum()) for part in parts)
    return one, two, three, four


def _beyond_chance(a: Tensor, b: Tensor) -> Tensor:
    """How far masks agree beyond what masks of their areas would anywhere, in [0, 1]: large ones overlap of themselves.

    a, b: bool [T, H, W]. Returns float64 [T].
    """
    p, q = a.double().mean(dim=(-2, -1)), b.double().mean(dim=(-2, -1))
    chance = p * q / (p + q - p * q).clamp_min(1e-9)
    iou = fmwiss.agreement(a, b).double()
    return ((iou - chance) / (1 - chance).clamp_min(1e-9)).clamp(0, 1)


def _plausible(shares: Tensor) -> Tensor:
    """1 for a share of the image that an object may well have, falling to 0 at nothing and at nearly all of it."""
    least, most, end = _PLAUSIBLE
    return (shares / least).clamp(max=1) * ((end - shares) / (end - most)).clamp(0, 1)
