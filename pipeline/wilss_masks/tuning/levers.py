"""What was added to the paper's recipe, lever by lever: each is tried on the best setting so far, and kept if better.

Combined they would be hundreds of thousands of settings; one after the other they are some eighty.
"""

import dataclasses
import importlib.util
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..sources.fmwiss_params import FmwissParams
from ..stages.regions import SUPERPIXELS
from .settings import BACKGROUNDS, Setting, neighbours

POWERS, PASSES = (1.0, 2.0, 3.0, 4.0), (1, 2)
CUTS = (0.0, 0.5, 1.0, 1.5, 2.0)
#: Of what every search keeps of the networks; `vv` and `outputs` take part where the present setting asks for them.
AFFINITIES = ("qk", "kk", "qq+kk")
BALANCES = ("none", "symmetric", "sinkhorn")
REGION_SIZES = (100, 400)
BOUNDARIES = ("pamr", "guided")
FUSIONS = ("seeds", "union", "intersection")


@dataclass(frozen=True, kw_only=True)
class Lever:
    """A name for what is tried, and the settings that it makes of the best one so far."""

    name: str
    of: Callable[[FmwissParams], Iterator[FmwissParams]]

    def settings(self, best: FmwissParams) -> tuple[Setting, ...]:
        """What is tried on a setting."""
        return tuple(Setting(params=params) for params in self.of(best))


def levers(words: Sequence[str]) -> tuple[Lever, ...]:
    """In the order in which they are pulled. words: the sets of background words that differ."""
    return (
        Lever(name="soft seeds, power, passes, cut", of=_placing),
        Lever(name="affinity, balance", of=_affinity),
        Lever(name="classes compete", of=_classes),
        Lever(name="cut, fusion", of=_cut),
        Lever(name="background mode, words", of=lambda best: _scores(best, words)),
        Lever(name="regions", of=_regions),
        Lever(name="boundaries", of=_boundaries),
        Lever(name="small steps", of=_near),
    )


def _placing(best: FmwissParams) -> Iterator[FmwissParams]:
    for power, passes, cut in itertools.product(POWERS, PASSES, (0.5, 1.0, 1.5)):
        yield _with(best, placing="soft", power=power, passes=passes, keep="std", keep_amount=cut, fusion="seeds")


def _affinity(best: FmwissParams) -> Iterator[FmwissParams]:
    kinds = dict.fromkeys((best.affinity, *AFFINITIES))
    yield from (_with(best, affinity=kind, balance=balance) for kind, balance in itertools.product(kinds, BALANCES))


def _classes(best: FmwissParams) -> Iterator[FmwissParams]:
    yield from (_with(best, classes=classes) for classes in ("overlap", "compete"))


def _cut(best: FmwissParams) -> Iterator[FmwissParams]:
    yield from (_with(best, keep="std", keep_amount=cut, fusion=fusion) for cut in CUTS for fusion in FUSIONS)


def _scores(best: FmwissParams, words: Sequence[str]) -> Iterator[FmwissParams]:
    yield from (_with(best, background=mode, words=word) for mode, word in itertools.product(BACKGROUNDS, words))


def _regions(best: FmwissParams) -> Iterator[FmwissParams]:
    """Superpixels, where their library is there."""
    if importlib.util.find_spec("skimage") is not None:
        for kind, size in itertools.product(SUPERPIXELS, REGION_SIZES):
            yield _with(best, regions=kind, region_size=size)


def _boundaries(best: FmwissParams) -> Iterator[FmwissParams]:
    yield from (_with(best, boundaries=kind) for kind in BOUNDARIES)


def _near(best: FmwissParams) -> Iterator[FmwissParams]:
    yield from (one.params for one in neighbours(best) if one.params is not None)


def _with(params: FmwissParams, **values: Any) -> FmwissParams:
    return dataclasses.replace(params, **values)
