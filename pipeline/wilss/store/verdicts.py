"""What people said of the masks of a revised store: verdicts, and from whom each came.

A revised store has three more of the small arrays, [N, C] each: `verdict`, a number with the CF attributes
flag_values and flag_meanings; `author` and `origin`, texts, "" where nobody judged.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from .schema import REVIEW_VECTORS, Status, StoreReview
from .store import MaskStore

Verdict = Literal["unjudged", "accepted", "rejected", "corrected"]
#: All verdicts; the place of each is its number in a store.
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
UNJUDGED, ACCEPTED, REJECTED, CORRECTED = range(len(VERDICTS))


def verdicts_of(store: MaskStore) -> NDArray[np.int8]:
    """int8 [N, C]: the verdict on every mask, all UNJUDGED in a store that was not revised."""
    if store.layout.has_review:
        return store.vector("verdict")
    return np.zeros((store.layout.num_images, store.layout.num_categories), np.int8)


def review_of(store: MaskStore) -> StoreReview:
    """What people said of a store's masks; nothing of one that was not revised."""
    if store.layout.has_review:
        return StoreReview(**{name: store.vector(name) for name in REVIEW_VECTORS})
    shape = store.layout.num_images, store.layout.num_categories
    return StoreReview(
        verdict=np.zeros(shape, np.int8), author=np.full(shape, "", object), origin=np.full(shape, "", object)
    )


@dataclass(frozen=True, kw_only=True)
class FromWhom:
    """How many masks of a store's finished images came from whom. source: what made those that nobody judged.

    verdicts: by verdict, all four. authors, origins: of those that somebody judged, the most frequent first.
    """

    source: str
    verdicts: dict[str, int]
    authors: dict[str, int]
    origins: dict[str, int]

    @property
    def judged(self) -> int:
        """Masks that somebody judged."""
        return sum(self.verdicts.values()) - self.verdicts["unjudged"]

    def as_json(self) -> dict[str, Any]:
        """JSON values."""
        return dict(vars(self))


def from_whom(store: MaskStore) -> FromWhom:
    """Count the masks of a store by verdict, author and origin: of classes that an image is tagged with, or judged."""
    review = review_of(store)
    counted = (store.vector("tags") & (store.current_status() == Status.DONE)[:, None]) | (review.verdict != UNJUDGED)
    numbers = np.bincount(review.verdict[counted], minlength=len(VERDICTS)).tolist()
    judged = review.verdict != UNJUDGED
    return FromWhom(
        source=str(store.attributes.get("source", "")),
        verdicts=dict(zip(VERDICTS, numbers, strict=True)),
        authors=_counts(review.author[judged]),
        origins=_counts(review.origin[judged]),
    )


def _counts(names: NDArray[Any]) -> dict[str, int]:
    return dict(sorted(Counter(map(str, names.tolist())).items(), key=lambda entry: (-entry[1], entry[0])))
