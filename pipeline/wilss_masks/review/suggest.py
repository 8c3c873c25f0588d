"""`suggest`: the images of a store that are most worth a person's look, from its small arrays; no mask is read."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wilss.errors import ParameterError, StoreError
from wilss.store import MaskStore, Status, compared_masks
from wilss.store.review_folder import folder_beside
from wilss.store.verdicts import UNJUDGED, verdicts_of

from .doubt import choose, doubts
from .journal import Journal, Pair


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """An image to correct. name: of the class that it was chosen for. doubt: of that mask, in (0, 1], 1 the least sure.

    confidence, agreement: of that mask, NaN where they are not known. masks: of the image that nobody judged.
    """

    image_id: str
    name: str
    doubt: float
    confidence: float
    agreement: float
    masks: int


def suggest(
    store: MaskStore,
    budget: int,
    *,
    judged: Collection[Pair] = (),
    features: NDArray[np.floating] | None = None,
) -> list[Suggestion]:
    """At most `budget` images to correct next, the most urgent first; see `choose`.

    judged: (image id, taxonomy id) of masks that need no look any more, besides those that the store knows to be
    judged. features: [N, D], a vector for every image in the store's order, over which the images are spread.
    Raises StoreError where every mask is judged, ParameterError for features of other images.
    """
    asked = _asked(store, judged)
    if not asked.any():
        raise StoreError(f"{store.path} has no mask that nobody judged; there is nothing to suggest.")
    if features is not None and (features.ndim != 2 or len(features) != len(asked) or not np.isfinite(features).all()):
        raise ParameterError(
            f"features are {list(features.shape)}, and {store.path} has {len(asked)} images; give finite numbers "
            f"[{len(asked)}, D] in the order of its images."
        )
    confidence, agreement = (store.vector(name) for name in ("confidence", "agreement"))
    signals = [confidence, agreement] if compared_masks(store) is not None else [confidence]
    doubt = doubts(signals, asked, store.vector("area") == 0)
    return [
        Suggestion(
            image_id=store.image_ids[row],
            name=store.category_names[place],
            doubt=float(doubt[row, place]),
            confidence=float(confidence[row, place]),
            agreement=float(agreement[row, place]) if len(signals) > 1 else float("nan"),
            masks=int(asked[row].sum()),
        )
        for row, place in choose(doubt, budget, features=features, names=store.image_ids)
    ]


def judged_in(store: MaskStore, review: Path | None) -> set[Pair]:
    """What was judged in a review, by default the one beside the store if there is one. Raises StoreError."""
    if review is None and not folder_beside(store.path).exists():
        return set()
    return set(Journal.open(store.path, review, must_exist=review is not None).latest())


def _asked(store: MaskStore, judged: Collection[Pair]) -> NDArray[np.bool_]:
    """bool [N, C]: masks of finished images that nobody judged."""
    tags = store.vector("tags")
    if store.attributes.get("uses_tags") is False:
        tags = tags & (store.vector("area") > 0)
    asked = tags & (store.current_status() == Status.DONE)[:, None] & (verdicts_of(store) == UNJUDGED)
    for image_id, category in judged:
        row = store.find(image_id)
        if row is not None and category in store.category_ids:
            asked[row, store.category_ids.index(category)] = False
    return np.asarray(asked)
