"""Which regions of a mask store may be archived, and in which order; nothing here reads an image."""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from wilss.errors import OneImageError
from wilss.randomness import seed_for
from wilss.store import MaskStore

_EIGHT_NEIGHBOURS = np.ones((3, 3), np.bool_)


@dataclass(frozen=True, kw_only=True)
class Region:
    """A connected region of a mask: its box (top, left, bottom, right), and its mask bool [h, w] inside that box."""

    box: tuple[int, int, int, int]
    mask: NDArray[np.bool_]


def priority(seed: int, image_id: str, class_name: str) -> int:
    """The rank of a candidate, drawn uniformly by its names; the smallest of a class are archived."""
    return seed_for(seed, "memory", image_id, class_name)


def is_confident(confidence: NDArray[np.floating], share: float) -> NDArray[np.bool_]:
    """Whether each of these masks is in the upper `share` of them, [K] -> bool [K].

    NaN counts as certain; masks that tie with the last one kept are kept too, so that order decides nothing.
    """
    keep = math.ceil(share * len(confidence))
    if not keep:
        return np.zeros(len(confidence), np.bool_)
    certain = np.nan_to_num(np.asarray(confidence, np.float64), nan=np.inf)
    kept: NDArray[np.bool_] = certain >= np.sort(certain)[-keep]
    return kept


def largest_region(mask: NDArray[np.bool_]) -> Region | None:
    """The largest region of `mask` [H, W] whose pixels touch, also by their corners; the upper one of equal ones.

    None where the mask is empty.
    """
    labels, count = ndimage.label(mask, _EIGHT_NEIGHBOURS)
    if not count:
        return None
    number = int(np.bincount(labels.ravel(), minlength=count + 1)[1:].argmax()) + 1
    rows, columns = ndimage.find_objects(labels)[number - 1]
    box = (rows.start, columns.start, rows.stop, columns.stop)
    return Region(box=box, mask=labels[rows, columns] == number)


@dataclass(frozen=True, kw_only=True)
class Queue:
    """The candidates of one class, by priority: rows of the store whose mask has `min_area` pixels and is trusted.

    confidence: of the class's mask in every row, [N]. failed: rows whose mask could not be read, and why.
    """

    store: MaskStore
    category_id: int
    confidence: NDArray[np.float32]
    min_area: int
    rows: tuple[int, ...]
    failed: dict[int, str] = field(default_factory=dict)
    _found: dict[int, Region | None] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls,
        store: MaskStore,
        category_id: int,
        trained_on: NDArray[np.intp],
        *,
        min_area: int,
        keep_confident: float,
        seed: int,
    ) -> "Queue":
        """The queue of a class; keep_confident: share of its masks that are trusted, by confidence.

        trained_on: rows of the store, [N], ascending; no other is looked at.
        """
        place = store.category_ids.index(category_id)
        confidence = store.vector("confidence")[:, place]
        is_large = store.vector("area")[trained_on, place] >= max(min_area, 1)
        rows = trained_on[store.vector("tags")[trained_on, place] & is_large]
        rows = rows[is_confident(confidence[rows], keep_confident)]
        name, ids = store.category_names[place], store.image_ids
        ordered = sorted(rows.tolist(), key=lambda row: (priority(seed, ids[row], name), ids[row]))
        return cls(store=store, category_id=category_id, confidence=confidence, min_area=min_area, rows=tuple(ordered))

    def first(self, count: int, without: frozenset[int]) -> dict[int, Region]:
        """The first `count` rows whose largest region is large enough, with it; rows of `without` are passed over.

        Masks are read until there are enough of them, each once.
        """
        won: dict[int, Region] = {}
        for row in self.rows:
            if len(won) == count:
                break
            region = None if row in without else self._region(row)
            if region is not None:
                won[row] = region
        return won

    def _region(self, row: int) -> Region | None:
        if row not in self._found:
            region = self._largest(row)
            large = region is not None and int(region.mask.sum()) >= self.min_area
            self._found[row] = region if large else None
        return self._found[row]

    def _largest(self, row: int) -> Region | None:
        try:
            return largest_region(self.store.read(row, (self.store.category_ids.index(self.category_id),)).masks[0])
        except OneImageError as error:
            self.failed[row] = str(error)
            return None
