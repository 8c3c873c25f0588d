"""What a later step's pictures show more often than others do, and what is done about it.

Nothing but pictures of a class comes to a step that learns this class alone. Two things go wrong then: its channel
takes its many pixels for what is usual, and batch normalisation takes these pictures' statistics for those of all.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wilss.data.manifest import Manifest
from wilss.errors import ManifestError
from wilss.store import MaskStore, shows_none

from ..data.masked_images import MaskedImages
from ..data.trust import Trust
from ..inputs import RunInputs
from ..params import TrainParams
from .losses.prior import prior_shift, softmax_shift

#: A step is taken to be one-sided where a class is on this share of its pictures or more: one or two classes always.
_ONE_SIDED = 0.5
#: The share of pixels that classes are taken to have where they have all of them: no shift is infinite.
_MOST = 1 - 1e-6


@dataclass(frozen=True, kw_only=True, eq=False)
class StepPrior:
    """How often pictures hold the classes of a step, float64 [C] each.

    ids, names: of the classes. step: among the pictures that the step is trained on. lists: among all on the lists of
    this step and those before it, 0 where no tag is known. area: the mean share of a picture that holds a class which
    its mask covers.
    """

    ids: tuple[int, ...]
    names: tuple[str, ...]
    step: NDArray[np.float64]
    lists: NDArray[np.float64]
    area: NDArray[np.float64]

    def shifts(self, prevalence: float, *, is_softmax: bool = False) -> Mapping[int, float]:
        """What is added to a class's logit, by taxonomy id, where that is something and masks and lists know the class.

        prevalence: of every class, 0 takes that of the lists. is_softmax: whether classes compete in one softmax.
        """
        expected = np.full_like(self.lists, prevalence) if prevalence else self.lists
        known, differs = (self.area * self.step > 0) & (expected > 0), expected != self.step
        known &= differs[known].any() if is_softmax else differs  # in a softmax what moves one moves all
        pixels = ((self.area * share)[known] for share in (self.step, expected))
        ids = (identity for identity, is_known in zip(self.ids, known.tolist(), strict=True) if is_known)
        if is_softmax:  # masks that overlap may cover more than all
            found = softmax_shift(*(shares * min(1.0, _MOST / max(shares.sum(), _MOST)) for shares in pixels))
        else:
            found = prior_shift(*(np.minimum(shares, _MOST) for shares in pixels))
        return dict(zip(ids, found.tolist(), strict=True))


def with_step_prior(params: TrainParams, inputs: RunInputs, *, from_masks: bool, own_heads: bool) -> TrainParams:
    """The parameters with what is `auto` decided.

    from_masks: whether the method is one that learns a step's masks. own_heads: whether its later classes may have
    heads of their own.
    """
    if "auto" not in (params.batch_norm, params.logit_adjustment, params.heads):
        return params
    trust, negatives = trust_of(inputs, params), params.negative_images
    one_sided = from_masks and inputs.parent is not None and is_one_sided(inputs.store, trust, negatives)
    decided: dict[str, Any] = {}
    if params.batch_norm == "auto":
        decided["batch_norm"] = "frozen" if one_sided else "train"
    if params.logit_adjustment == "auto":
        decided["logit_adjustment"] = "always" if one_sided else "never"
    if params.heads == "auto":
        decided["heads"] = "step" if own_heads and (one_sided or has_heads(inputs)) else "shared"
    return replace(params, **decided)


def has_heads(inputs: RunInputs) -> bool:
    """Whether classes of the step before have heads of their own."""
    return inputs.parent is not None and bool(getattr(inputs.parent.spec, "heads", ()))


def shifts_of(inputs: RunInputs, params: TrainParams, *, is_softmax: bool = False) -> Mapping[int, float]:
    """What is added to the logits of a step's classes once it is learnt, by taxonomy id; {} where nothing is.

    is_softmax: whether they are those of one softmax.
    """
    if inputs.parent is None or params.logit_adjustment != "always":
        return {}
    prior = prior_of(inputs, trust_of(inputs, params), params.negative_images)
    return prior.shifts(params.prevalence, is_softmax=is_softmax)


def notes(inputs: RunInputs, params: TrainParams, *, is_softmax: bool = False) -> tuple[str, ...]:
    """Sentences about what is done because a step's pictures are one-sided. is_softmax: see `shifts_of`."""
    if inputs.parent is None:
        return ()
    found, trust = [], trust_of(inputs, params)
    if params.heads == "step":
        found.append(
            "Backbone and heads that are there stay as they are, and this step's classes get a head of their own; "
            "--set heads=shared trains all of them on"
        )
    if shifts := shifts_of(inputs, params, is_softmax=is_softmax):
        found.append(_adjusted(prior_of(inputs, trust, params.negative_images), shifts, params.prevalence))
    elif params.logit_adjustment == "always":
        found.append(
            "Logits are NOT adjusted: the lists know of no picture without this step's classes, so the share of all "
            "pictures that hold one cannot be told; say it with --set prevalence=0.05"
        )
    if params.batch_norm == "frozen" and is_one_sided(inputs.store, trust, params.negative_images):
        found.append(
            "Batch norm keeps its statistics, since these pictures are all of one kind; --set batch_norm=train moves "
            "them"
        )
    return tuple(found)


def _adjusted(prior: StepPrior, shifts: Mapping[int, float], prevalence: float) -> str:
    told = (
        f"{name} {shifts[identity]:+.1f} (on {_percent(step)} % of this step's pictures, {_percent(expected)} % of all)"
        for identity, name, step, listed in zip(prior.ids, prior.names, prior.step, prior.lists, strict=True)
        if identity in shifts
        for expected in [prevalence or listed]
    )
    return f"Logits are adjusted at the end: {', '.join(told)}; --set logit_adjustment=never leaves them"


def _percent(share: float) -> str:
    return f"{100 * share:.2g}" if share < 0.995 else "100"


def trust_of(inputs: RunInputs, params: TrainParams) -> Trust | None:
    """Which masks a run takes; None for all of them."""
    if params.trust == "all" and not params.least_confidence:
        return None
    return Trust.of(inputs.store, params.trust, 0, least_confidence=params.least_confidence)


def is_one_sided(store: MaskStore, trust: Trust | None = None, negatives: float = 0.0) -> bool:
    """Whether one and the same class is on half of the pictures with masks or more.

    Not where the other half is known to show none of the step's classes. trust: which masks are taken, or None.
    negatives: see `MaskedImages.trained_on`.
    """
    rows, holds, _ = _held(store, trust, negatives)
    if not len(rows) or shows_none(store)[rows].mean() >= _ONE_SIDED:
        return False
    return bool((holds.mean(axis=0) >= _ONE_SIDED).any())


def on_all_pictures(store: MaskStore, negatives: float = 0.0) -> frozenset[int]:
    """The classes that every picture that is trained on holds, by taxonomy id. negatives: as above."""
    _, holds, _ = _held(store, None, negatives)
    places = np.flatnonzero(holds.all(axis=0)).tolist()
    return frozenset(store.category_ids[place] for place in places)


def prior_of(inputs: RunInputs, trust: Trust | None = None, negatives: float = 0.0) -> StepPrior:
    """Of the pictures and lists that a run reads. trust: which masks are taken, None for all. negatives: as above."""
    store = inputs.store
    _, holds, area = _held(store, trust, negatives)
    holding = holds.sum(axis=0)
    return StepPrior(
        ids=store.category_ids,
        names=store.category_names,
        step=holding / max(1, len(holds)),
        lists=_among_lists(inputs.manifest, inputs.step, store.category_ids),
        area=np.where(holds, area, 0.0).sum(axis=0) / np.maximum(1, holding),
    )


def _held(
    store: MaskStore, trust: Trust | None, negatives: float
) -> tuple[NDArray[np.intp], NDArray[np.bool_], NDArray[np.float64]]:
    """The rows that are trained on, [N]; by row and class whether it holds it, and how much its mask covers, [N, C]."""
    rows, tags = MaskedImages(store, {}).trained_on(0, 0, trust, negatives=negatives), store.vector("tags")
    area = _shares(store)[rows]
    holds = tags[rows] if store.attributes.get("uses_tags") is not False else area > 0
    return rows, holds if trust is None else holds & trust.taken[rows], area


def _shares(store: MaskStore) -> NDArray[np.float64]:
    """The share of every picture that every mask covers, [N, C]."""
    pixels = store.vector("height").astype(np.float64) * store.vector("width")
    shares: NDArray[np.float64] = store.vector("area") / np.maximum(1.0, pixels)[:, None]
    return shares


def _among_lists(manifest: Manifest, step: int, classes: tuple[int, ...]) -> NDArray[np.float64]:
    """The share of all listed pictures that are tagged with each class, up to a step; 0 where no tags are known."""
    tags = list(_listed(manifest, step).values())
    return np.array([sum(identity in held for held in tags) for identity in classes], np.float64) / max(1, len(tags))


def _listed(manifest: Manifest, step: int) -> dict[tuple[str, str], tuple[int, ...]]:
    """The tags of the pictures on the lists of the steps up to `step`, by data set and name."""
    here = manifest.steps[step]
    lists = dict.fromkeys((one.data, one.split) for one in manifest.steps[: step + 1])
    found: dict[tuple[str, str], tuple[int, ...]] = {}
    for data, split in lists:
        lenient = (data, split) != (here.data, here.split)  # the step's own is read already
        found.update(((data, name), tags) for name, tags in _facts(manifest, data, split, lenient=lenient))
    return found


def _facts(manifest: Manifest, data: str, split: str, *, lenient: bool) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and tags of every picture of a list whose tags are known; none where an earlier list is gone."""
    try:
        records = manifest.listing(data, split, lenient=lenient).records
    except ManifestError:
        return
    yield from ((name, tags) for name, tags, problem in records.facts() if tags or problem is None)
