"""Which images are no longer tagged as they were when a store's masks were made."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..data.layouts import ImageRecord, Records, RecordsById
from ..data.names import some
from .schema import Status
from .store import MaskStore
from .verdicts import UNJUDGED, verdicts_of

_FEW = 6


def tagged_otherwise(store: MaskStore, records: Records, rows: NDArray[np.integer]) -> NDArray[np.bool_]:
    """bool [N]: which images of the store, at these rows of the list (-1 for none), have other tags of its classes.

    None where labels decide what is asked for, which is kept as tags too.
    """
    if store.attributes.get("uses_tags") is False or store.attributes.get("made_of") == "labels":
        return np.zeros(len(rows), np.bool_)
    came, went = _tags_that_came_and_went(store, records, rows)
    return np.asarray((came | went).any(axis=1))


def tagged_otherwise_than_labelled(store: MaskStore, records: Records, rows: NDArray[np.integer]) -> NDArray[np.bool_]:
    """bool [N]: the same of a store of labels, whose classes are kept as tags too, as far as it is known.

    A tag that went is known to have been one where the label shows nothing of its class.
    """
    came, went = _tags_that_came_and_went(store, records, rows)
    is_bare = (store.vector("area") == 0) & (store.current_status() == Status.DONE)[:, None]
    return np.asarray((came | (went & is_bare)).any(axis=1))


def _tags_that_came_and_went(
    store: MaskStore, records: Records, rows: NDArray[np.integer]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """bool [N, C] each: classes that an image is tagged with now and not in the store, and the other way round."""
    tags, kinds = records.kinds_of_tags()
    asked = np.array([[identity in own for identity in store.category_ids] for own in tags], np.bool_)
    known = store.vector("tags").astype(np.bool_)
    now = known.copy()
    if (here := np.flatnonzero(rows >= 0)).size:
        now[here] = asked[kinds[rows[here]]]
    return now & ~known, known & ~now


def other_tags(store: MaskStore, records: Mapping[str, ImageRecord]) -> str | None:
    """A sentence on the images whose tags were changed since their masks were made; None where there are none.

    records: by image id, at least those that the store holds. What somebody judged counts as that person said it,
    whatever the tags say.
    """
    table = RecordsById.of(records)
    is_judged = (verdicts_of(store) != UNJUDGED).any(axis=1)
    changed = np.flatnonzero(tagged_otherwise(store, table.records, table.rows(store.image_ids)) & ~is_judged)
    if not changed.size:
        return None
    who = some([store.image_ids[row] for row in changed[:_FEW].tolist()], changed.size)
    return (
        f"the tags of {who} are no longer those that the masks were made by; the command that made the store, with "
        "--update, makes these masks again or says what does."
    )
