"""The settings that a search compares: every parameter of fmwiss that needs no forward pass, by itself and combined."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from wilss.errors import ParameterError
from wilss.params import names_of

from ..sources.fmwiss_params import FmwissParams
from ..stages.params import StageParams
from ..stages.regions import SUPERPIXELS

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
KEEPS = (
    ("std", 0.5), ("std", 1.0), ("std", 1.5), ("std", 2.0), ("mass", 0.3), ("mass", 0.5), ("mass", 0.7),
    ("locations", 0.1), ("locations", 0.2),
)  # fmt: skip
DRAWS = (5,)
AFFINITIES = ("qk", "kk")
BACKGROUNDS = ("softmax", "margin", "minmax")
FUSIONS = ("union", "intersection", "seeds")
#: The parameters that a search varies, in the order in which they are told.
SEARCHED = (
    *("background", "words", "threshold", "keep", "keep_amount", "fusion", "draws", "seeds"),
    *("placing", "power", "passes", "affinity", "balance", "classes", "regions", "region_size", "boundaries"),
)
#: What was added to the paper's recipe after the networks have spoken, beside the stages.
_ADDED = (
    *("placing", "power", "passes", "attention_blocks", "clip_attention"),
    *("negatives", "sharpness", "balance", "balance_rounds", "squared", "scope", "scope_alike"),
)

Control = Literal["", "present", "init", "seeds", "whole"]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A way to make masks. params: None for the control of all pixels of an image being its tag's.

    control: what it is there to be compared with, "" for what may be chosen.
    """

    params: FmwissParams | None
    control: Control = ""

    @property
    def name(self) -> str:
        """What stands in a table."""
        titles = {"present": "present setting", "init": "M_init alone", "seeds": "M_seeds alone"}
        if self.params is None:
            return "control: whole image = tag"
        if self.control:
            return f"control: {titles[self.control]} ({described(self.params)})"
        return described(self.params)


def settings(present: FmwissParams, words: Sequence[str]) -> tuple[Setting, ...]:
    """The controls, each by its name also where two are the same, then every combination whose masks are others.

    Combined are the parameters of the paper's recipe; what was added to it comes after, see `levers`. words: the sets
    of background words that differ. The present values take part beside those of the lists.
    """
    present = without_void(present)
    whole = Setting(params=None, control="whole")
    alone = [Setting(params=_with(present, fusion=name), control=name) for name in ("init", "seeds")]
    controls = [Setting(params=present, control="present"), *alone, whole]
    free = [Setting(params=params) for params in _grid(as_in_the_paper(present), words)]
    return (*controls, *apart(free, controls))


def without_void(params: FmwissParams) -> FmwissParams:
    """The same masks with no pixel taken out of them: how unsure is too unsure is judged by itself."""
    return _with(params, unsure=0.0, calibration=())


def as_in_the_paper(params: FmwissParams) -> FmwissParams:
    """The parameters without what was added to the paper's recipe."""
    plain = FmwissParams()
    added = {name: getattr(plain, name) for name in (*_ADDED, *names_of(StageParams)) if hasattr(plain, name)}
    affinity = params.affinity if params.affinity in AFFINITIES else plain.affinity
    return _with(params, **{**added, "affinity": affinity})


def neighbours(params: FmwissParams) -> tuple[Setting, ...]:
    """Settings a small step away from one that did well."""
    init = [("threshold", params.threshold + step) for step in (-0.05, -0.02, 0.02, 0.05)]
    if params.placing == "soft" and params.fusion == "seeds":
        init = []
    step = 0.25 if params.keep == "std" else 0.05
    cut = [("keep_amount", params.keep_amount - step), ("keep_amount", params.keep_amount + step)]
    soft = [("power", params.power + step) for step in (-0.5, 0.5)]
    draws = soft if params.placing == "soft" else [("draws", 1), ("draws", 20)]
    values = init if params.fusion == "init" else [*init, *cut, *draws]
    return tuple(Setting(params=one) for name, value in values if (one := _valid(params, name, value)) is not None)


def apart(candidates: Sequence[Setting], known: Sequence[Setting]) -> tuple[Setting, ...]:
    """Those of the candidates whose masks are others than the known ones', each once."""
    seen = {_key(one.params) for one in known}
    found: dict[Any, Setting] = {}
    for one in candidates:
        if (key := _key(one.params)) not in seen:
            found.setdefault(key, one)
    return tuple(found.values())


def described(params: FmwissParams) -> str:
    """A setting in few words: `softmax, threshold 0.9, std 1, union, 5 x 9 seeds`."""
    first = params.background if params.words == "own" else f"{params.background} ({params.words} words)"
    cut = f"{params.keep} {params.keep_amount:g}"
    affinity = "" if params.affinity == "qk" else f", {params.affinity}"
    if params.fusion == "init":
        return f"{first}, threshold {params.threshold:g}, init"
    added = "".join(
        f", {value}"
        for value, off in (
            *((params.balance, "none"), (params.classes, "overlap")),
            (f"{params.regions} {params.region_size}" if params.regions in SUPERPIXELS else params.regions, "none"),
            (params.boundaries, "none"),
        )
        if value != off
    )
    if params.placing == "soft":
        threshold = "" if params.fusion == "seeds" else f", threshold {params.threshold:g}"
        soft = f"soft ^{params.power:g} x {params.passes}"
        return f"{first}{threshold}, {cut}, {params.fusion}, {soft}{affinity}{added}"
    draws = f"{params.draws} x {params.seeds} seeds{affinity}{added}"
    return f"{first}, threshold {params.threshold:g}, {cut}, {params.fusion}, {draws}"


def changes(before: FmwissParams, after: FmwissParams) -> dict[str, Any]:
    """The searched values of `after` that are others in `before`, by name."""
    return {name: getattr(after, name) for name in SEARCHED if getattr(after, name) != getattr(before, name)}


def _grid(present: FmwissParams, words: Sequence[str]) -> Iterator[FmwissParams]:
    """M_init alone by its own parameters, then all others."""
    thresholds = _with_present(THRESHOLDS, present.threshold)
    scores = [(background, word) for background in BACKGROUNDS for word in words]
    for (background, word), threshold in itertools.product(scores, thresholds):
        first = _with(present, background=background, words=word, threshold=threshold)
        yield _with(first, fusion="init")
        for (keep, amount), draws, affinity, fusion in itertools.product(
            _with_present(KEEPS, (present.keep, present.keep_amount)),
            _with_present(DRAWS, present.draws),
            AFFINITIES,
            FUSIONS,
        ):
            yield _with(first, keep=keep, keep_amount=amount, draws=draws, affinity=affinity, fusion=fusion)


def _valid(params: FmwissParams, name: str, value: float) -> FmwissParams | None:
    try:
        return _with(params, **{name: round(value, 4)})
    except ParameterError:
        return None


def _with(params: FmwissParams, **values: Any) -> FmwissParams:
    return dataclasses.replace(params, **values)


def _with_present(values: Sequence[Any], present: Any) -> list[Any]:
    return list(dict.fromkeys((present, *values)))


def _key(params: FmwissParams | None) -> Any:
    """Equal for settings whose masks are equal."""
    if params is None:
        return None
    values: Mapping[str, Any] = {name: getattr(params, name) for name in SEARCHED}
    unused = {"words"} if params.background == "minmax" else set()
    if params.fusion == "init":
        unused |= {"keep", "keep_amount", "draws", "seeds", "placing", "power", "passes", "affinity", "balance"}
    if params.regions not in SUPERPIXELS:
        unused |= {"region_size"}
    if params.placing == "soft":
        unused |= {"draws", "seeds"} | ({"threshold"} if params.fusion == "seeds" else set())
    elif params.passes == 1:
        unused |= {"power"}
    return tuple(value for name, value in values.items() if name not in unused), params.fusion
