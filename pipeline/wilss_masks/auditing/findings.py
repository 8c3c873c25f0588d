"""What an audit finds, and the whole of it as JSON."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wilss.data.layouts import ImageRecord

#: The kinds of findings, as `--fail-on` names them, in the order in which they are shown, and what they say.
KINDS = {
    "leaks": "pictures that are in a training list and in one that is judged on",
    "tag-conflicts": "the same image, or the same picture, with different tags in two places",
    "unsupported-tags": "tags that no mask, label or network supports",
    "missing-tags": "classes that a mask, label or network shows and no tag explains",
    "confused-classes": "classes that are taken for each other again and again",
    "duplicates": "pictures that are there twice, within a list or in two",
    "odd-masks": "classes whose masks are the whole image or its rim",
    "odd-areas": "masks much larger or smaller than their class's usually are",
    "stray-parts": "masks with tiny parts far from the main one",
}
_FORMAT, _FORMAT_VERSION = "wilss-audit", 1


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is likely wrong.

    kind: of KINDS. score: how sure or how bad, in [0, 1]. images: ids, none of a finding about classes. classes: names.
    places: where each image is, "DATA, SPLIT". records: the images themselves, for whoever shows them.
    """

    kind: str
    score: float
    sentence: str
    images: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    records: tuple[ImageRecord, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """As JSON values, without records, whose paths differ from machine to machine."""
        return {
            "kind": self.kind,
            "score": round(self.score, 4),
            "images": list(self.images),
            "classes": list(self.classes),
            "places": list(self.places),
            "sentence": self.sentence,
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class ErrorScores:
    """How likely each mask or tag is wrong, float32 [N, C] in [0, 1], and whose they are; NaN where there is none."""

    image_ids: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    values: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))

    def as_json(self) -> dict[str, dict[str, float]]:
        """Image id -> class -> score, the worse one where an id stands there twice."""
        found: dict[str, dict[str, float]] = {}
        for name, row in zip(self.image_ids, self.values, strict=True):
            for place in np.flatnonzero(~np.isnan(row)).tolist():
                of_image, score = found.setdefault(name, {}), round(float(row[place]), 4)
                of_image[self.classes[place]] = max(score, of_image.get(self.classes[place], 0.0))
        return found

    def as_quality(self) -> dict[str, dict[str, float]]:
        """Image id -> class -> 1 - score, as cleanlab gives the quality of labels: the lower the worse."""
        return {name: {one: round(1 - score, 4) for one, score in row.items()} for name, row in self.as_json().items()}


@dataclass(frozen=True, kw_only=True, eq=False)
class Audit:
    """All that was found, the worst of each kind first. failed: image id -> why it could not be looked at."""

    title: str
    findings: tuple[Finding, ...]
    images: int
    looked_at: Mapping[str, Any]
    scores: ErrorScores = field(default_factory=ErrorScores)
    failed: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """How many there are of every kind, in the order of KINDS."""
        counted = Counter(finding.kind for finding in self.findings)
        return {kind: counted[kind] for kind in KINDS}

    def of(self, kind: str) -> list[Finding]:
        """Those of a kind, the worst first."""
        return [finding for finding in self.findings if finding.kind == kind]

    def as_json(self) -> dict[str, Any]:
        """Everything as JSON values; `scores` is what `wilss-masks review` may sort by."""
        return {
            "format": _FORMAT,
            "format_version": _FORMAT_VERSION,
            "title": self.title,
            "looked_at": dict(self.looked_at),
            "images": self.images,
            "counts": self.counts,
            "findings": [finding.as_json() for finding in self.findings],
            "scores": self.scores.as_json(),
            "failed": dict(self.failed),
            "warnings": list(self.warnings),
        }


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """By kind, then the worst first, then by name, whatever order they were found in."""
    kinds = list(KINDS)
    return tuple(sorted(findings, key=lambda one: (kinds.index(one.kind), -one.score, one.images, one.classes)))
