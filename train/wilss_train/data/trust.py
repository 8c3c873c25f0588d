"""Which masks of a store a run learns from: by what people said of them, and by how confident they are.

A mask that a run does not take is not background either: nobody knows what is there, so its pixels are void. A weight
between 0 and 1 takes a mask in that share of the views of its image, so that its pixels count so much in the mean
without any loss having to know; which views, seed, epoch, image and class decide.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wilss.errors import counted
from wilss.randomness import numpy_generator_for
from wilss.store import MaskStore
from wilss.store.verdicts import verdicts_of

from ..params import trust_weights

#: Confidences that a run names where it says how many images are left.
_LEAST = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def trusted(
    masks: NDArray[np.bool_], void: NDArray[np.bool_] | None, kept: Sequence[bool]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_] | None]:
    """Masks without those that are not kept, whose pixels are void where no kept one covers them.

    masks: bool [T, H, W]; void: bool [H, W] or None; kept: T times whether a mask is. Returns both in their shapes;
    void stays None where nothing is taken away.
    """
    is_kept = np.asarray(kept, np.bool_)
    if is_kept.all():
        return masks, void
    standing = masks & is_kept[:, None, None]
    gone = masks[~is_kept].any(axis=0) & ~standing.any(axis=0)
    return standing, np.asarray(gone if void is None else void | gone)


@dataclass(frozen=True, kw_only=True, eq=False)
class Trust:
    """How far the masks of a store are trusted.

    weights: float32 [N, C], in [0, 1]. shown: bool [N, C], where a mask is confident enough and has a pixel; None where
    no confidence was asked for.
    """

    weights: NDArray[np.float32]
    seed: int
    shown: NDArray[np.bool_] | None = None

    @classmethod
    def of(cls, store: MaskStore, trust: str, seed: int, *, least_confidence: float = 0.0) -> "Trust":
        """By the verdicts of a store and its confidences. trust, least_confidence: the parameters."""
        weights = np.array(trust_weights(trust), np.float32)[verdicts_of(store)]
        if not least_confidence:
            return cls(weights=weights, seed=seed)
        is_confident = store.vector("confidence") >= least_confidence
        shown = is_confident & (store.vector("area") > 0)
        return cls(weights=np.where(is_confident, weights, np.float32(0)), seed=seed, shown=shown)

    @property
    def taken(self) -> NDArray[np.bool_]:
        """Which masks are ever taken, bool [N, C]; where they are to be confident, those without a pixel are not."""
        is_taken = self.weights > 0
        return is_taken if self.shown is None else is_taken & self.shown

    def rows(self, rows: NDArray[np.intp], tags: NDArray[np.bool_]) -> NDArray[np.intp]:
        """Of these rows of the store those with a mask that is ever taken. tags: bool [N, C].

        An image that is tagged with nothing, as where a source asked for all classes, stays, but where masks are to be
        confident: what an image shows is then what such masks say.
        """
        is_taken = self.taken[rows]
        if self.shown is not None:
            return rows[is_taken.any(axis=1)]
        is_asked = tags[rows]
        return rows[(is_asked & is_taken).any(axis=1) | ~is_asked.any(axis=1)]

    def takes(self, rows: NDArray[np.intp], position: int) -> NDArray[np.bool_]:
        """Of which of these rows the mask of the class at `position` is ever taken."""
        return np.asarray(self.weights[rows, position] > 0)

    def kept(self, row: int, positions: Sequence[int], image_id: str, names: Sequence[str | int]) -> list[bool]:
        """Which masks of an image are taken in one view. positions: on the category axis. names: of the view."""
        return [self._takes(float(self.weights[row, place]), place, image_id, names) for place in positions]

    def _takes(self, weight: float, place: int, image_id: str, names: Sequence[str | int]) -> bool:
        if weight in (0.0, 1.0):
            return weight == 1.0
        return float(numpy_generator_for(self.seed, "trust", *names, image_id, place).random()) < weight


def found_without_tags(store: MaskStore) -> str:
    """What is to be known of masks from supports where no tag says whether an image shows a class; "" for others."""
    if store.attributes.get("uses_tags") is not False or "supports_sha256" not in store.attributes:
        return ""
    shown = store.vector("area") > 0
    confidence = np.where(shown, store.vector("confidence"), -np.inf).max(axis=1)
    left = ", ".join(f"{least:g} leaves {int((confidence >= least).sum())}" for least in _LEAST)
    found = f"{int(shown.any(axis=1).sum())} of {counted(len(shown), 'image')}"
    return (
        f"These masks were looked for without tags, also where there is nothing to be found: {found} have one, and "
        "wrong ones can teach less than none. --set least_confidence=C learns from surer ones alone (images: "
        f"{left}; 1 is what a person drew)"
    )
