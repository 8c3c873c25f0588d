"""From evidence to findings and scores: which tags and masks are likely wrong, and how likely."""

import warnings
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wilss.equations.label_errors import confident_doubts, medians, relative, systematic, unusual

from .evidence import Evidence
from .findings import ErrorScores, Finding

#: A tag is doubted where score and agreement are below this share of what its class usually has. Chosen on other
#: drawings than those that the figures are of (`workflows/shapes/audit.py choose`); all others here were set by hand.
SUPPORT = 0.4
#: Robust deviations of the logarithm of the area, and how many masks a class needs for that.
DEVIATIONS, LEAST_MASKS = 4.0, 8
#: Boxes that grow by less are not worth a look.
LEAST_STRETCH = 0.2
WHOLE, ON_RIM, OF_MASKS = 0.95, 0.9, 0.5
#: Classes are confused where so much of one is taken for the other, in so many images.
CONFUSED, LEAST_IMAGES = 0.1, 3

_Kind = NDArray[np.float64]


class TagDoubts(NamedTuple):
    """error: float [N, C] in [0, 1], of tags how likely they are wrong, of others how likely one is missing.

    unsupported, missing: bool [N, C], those that are told.
    """

    error: _Kind
    unsupported: NDArray[np.bool_]
    missing: NDArray[np.bool_]


def tag_doubts(evidence: Evidence) -> TagDoubts:
    """Tags against all that is known: pixel labels decide; else network and scores must agree that a class is absent.

    Where nobody is tagged with anything, nothing is said.
    """
    facts, tags = evidence.facts, evidence.tags
    label, predicted, area = facts["label"], facts["predicted"], facts["area"]
    if not tags.any():
        nothing = np.zeros(tags.shape, np.bool_)
        return TagDoubts(np.full(tags.shape, np.nan), nothing, nothing)
    score = _mean(*(relative(np.where(tags, facts[name], np.nan)) for name in ("score", "agreement")))
    doubts = confident_doubts(predicted, tags)
    of_tag = _mean(1 - predicted, 1 - score)
    doubted = _all_known((doubts.unsupported, ~np.isnan(predicted)), (score < SUPPORT, ~np.isnan(score)))
    error = np.where(tags, of_tag, predicted)
    empty = tags & (area == 0)
    error = np.where(empty, 1.0, error)
    untagged_mask = ~tags & (area > 0)
    error = np.where(untagged_mask & np.isnan(error), 1.0, error)
    labelled = ~np.isnan(label)
    wrong = np.where(tags, 1 - label, label)
    return TagDoubts(
        error=np.where(labelled, wrong, error),
        unsupported=np.where(labelled, tags & (label == 0), tags & (doubted | empty)),
        missing=np.where(labelled, ~tags & (label > 0), doubts.missing | untagged_mask),
    )


def error_scores(evidence: Evidence, doubts: TagDoubts) -> ErrorScores:
    """The greatest sign of an error for every tag and mask, and for classes that may miss a tag."""
    facts = evidence.facts
    held = facts["disagreement"] if evidence.reference == "labels" else np.full_like(facts["disagreement"], np.nan)
    signs = np.stack([doubts.error, held, facts["stretch"], _odd_areas(evidence)])
    values = _greatest(signs)
    concerned = evidence.tags | (facts["area"] >= 0) | doubts.missing
    return ErrorScores(
        image_ids=tuple(item.record.image_id for item in evidence.items),
        classes=evidence.names,
        values=np.where(concerned, values, np.nan).astype(np.float32),
    )


def class_findings(evidence: Evidence, doubts: TagDoubts) -> Iterator[Finding]:
    """Everything that the evidence says, in no order."""
    yield from _tag_findings(evidence, doubts)
    yield from _odd_masks(evidence)
    areas, area = _odd_areas(evidence), evidence.facts["area"]
    usual = medians(np.where(area > 0, area, np.nan))
    for row, place in np.argwhere(areas > 0).tolist():
        yield _of_mask(
            evidence, "odd-areas", row, place, float(areas[row, place]),
            f"covers {100 * area[row, place]:.2g} % of the image, where {100 * usual[place]:.2g} % is usual",
        )  # fmt: skip
    for row, place in np.argwhere(evidence.facts["stretch"] >= LEAST_STRETCH).tolist():
        score = float(evidence.facts["stretch"][row, place])
        yield _of_mask(
            evidence, "stray-parts", row, place, score,
            f"has tiny parts far from the main one, without which its box would be {100 * score:.0f} % smaller",
        )  # fmt: skip
    yield from _confusions(evidence, doubts)


def _tag_findings(evidence: Evidence, doubts: TagDoubts) -> Iterator[Finding]:
    usual = medians(np.where(evidence.tags, evidence.facts["score"], np.nan))
    for kind, where in (("unsupported-tags", doubts.unsupported), ("missing-tags", doubts.missing)):
        for row, place in np.argwhere(where).tolist():
            name, item = evidence.names[place], evidence.items[row]
            said = _why(evidence, row, place, float(usual[place]))
            what = f"is tagged {name!r}" if kind == "unsupported-tags" else f"is not tagged {name!r}"
            yield Finding(
                kind=kind,
                score=float(np.nan_to_num(doubts.error[row, place])),
                sentence=f"{item.record.image_id} {what}, and {said}.",
                images=(item.record.image_id,),
                classes=(name,),
                places=(item.place,),
                records=(item.record,),
            )


def _why(evidence: Evidence, row: int, place: int, usual: float) -> str:
    """What speaks against a tag, or for one that is missing. usual: the class's score."""
    values = {name: float(facts[row, place]) for name, facts in evidence.facts.items()}
    tagged = bool(evidence.tags[row, place])
    parts = []
    if not np.isnan(values["label"]):
        return "no pixel is labelled so" if tagged else "pixels are labelled so"
    if values["area"] == 0:
        parts.append("its mask is empty")
    if not np.isnan(values["predicted"]):
        parts.append(f"the trained network finds it with {100 * values['predicted']:.0f} %")
    if tagged and not np.isnan(values["score"]):
        parts.append(f"its score is {values['score']:.2f} where {usual:.2f} is usual")
    if not tagged and values["area"] > 0:
        parts.append(f"a mask covers {100 * values['area']:.2g} % of it")
    return " and ".join(parts) or "nothing shows it"


def _odd_areas(evidence: Evidence) -> _Kind:
    """`unusual` of every class's masks, float [N, C]; NaN where there is no mask."""
    area = evidence.facts["area"]
    columns = [
        np.where(np.isnan(values), np.nan, unusual(np.nan_to_num(values), DEVIATIONS, LEAST_MASKS)) for values in area.T
    ]
    return np.stack(columns, axis=1) if columns else np.zeros(area.shape)


def _odd_masks(evidence: Evidence) -> Iterator[Finding]:
    """Classes of which most masks are the whole image, or lie on its rim."""
    area, rim = evidence.facts["area"], evidence.facts["rim"]
    for place, name in enumerate(evidence.names):
        there = area[:, place] > 0
        count = int(there.sum())
        if count < LEAST_IMAGES:
            continue
        whole = float((area[there, place] >= WHOLE).mean())
        on_rim = float((rim[there, place] >= ON_RIM).mean())
        for share, what in ((whole, "the whole image"), (on_rim, "the rim of the image alone")):
            if share >= OF_MASKS:
                yield Finding(
                    kind="odd-masks",
                    score=share,
                    sentence=f"{round(share * count)} of the {count} masks of {name!r} are {what}.",
                    classes=(name,),
                )


def _of_mask(evidence: Evidence, kind: str, row: int, place: int, score: float, what: str) -> Finding:
    item, name = evidence.items[row], evidence.names[place]
    return Finding(
        kind=kind,
        score=score,
        sentence=f"the mask of {name!r} on {item.record.image_id} {what}.",
        images=(item.record.image_id,),
        classes=(name,),
        places=(item.place,),
        records=(item.record,),
    )


_HELD_AGAINST = {"labels": "the pixel labels", "predictions": "the trained network", "scores": "the score maps"}


def _confusions(evidence: Evidence, doubts: TagDoubts) -> Iterator[Finding]:
    """Classes whose masks are another's by what they are held against, and tags that stand for another class."""
    names = ("background", *evidence.names)
    by = _HELD_AGAINST.get(evidence.reference, "")
    pairs = systematic(evidence.matrix, evidence.images, share=CONFUSED, least=LEAST_IMAGES) if by else []
    for true, judged, share in pairs:
        if not true or not judged:  # a mask that is too small or too large is no confusion of two classes
            continue
        count = int(evidence.images[true, judged])
        yield Finding(
            kind="confused-classes",
            score=share,
            sentence=f"{100 * share:.0f} % of what {by} call {names[true]!r} is labelled {names[judged]!r}, mostly in "
            f"{count} images.",
            classes=(names[true], names[judged]),
        )
    swaps = np.einsum("nc,nd->cd", doubts.unsupported.astype(np.int64), doubts.missing.astype(np.int64))
    counts = swaps + np.diag((evidence.tags & ~doubts.unsupported).sum(axis=0))
    for tagged, shown, share in systematic(counts, swaps, share=CONFUSED, least=LEAST_IMAGES):
        one, other = evidence.names[tagged], evidence.names[shown]
        yield Finding(
            kind="confused-classes",
            score=share,
            sentence=f"{swaps[tagged, shown]} images are tagged {one!r} and show {other!r} instead.",
            classes=(one, other),
        )


def _mean(*kinds: NDArray[np.floating]) -> _Kind:
    with warnings.catch_warnings():  # a mean of nothing is NaN, and meant
        warnings.filterwarnings("ignore", message="Mean of empty slice", category=RuntimeWarning)
        return np.asarray(np.nanmean(np.stack(kinds), axis=0))


def _greatest(signs: NDArray[np.floating]) -> _Kind:
    known = ~np.isnan(signs)
    return np.where(known.any(axis=0), np.where(known, signs, -1).max(axis=0), np.nan)


def _all_known(*pairs: tuple[NDArray[np.bool_], NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """Where every kind that is known holds, and one is known; pairs of (holds, known)."""
    holds = np.logical_and.reduce([holds | ~known for holds, known in pairs])
    return np.asarray(holds & np.logical_or.reduce([known for _, known in pairs]))
