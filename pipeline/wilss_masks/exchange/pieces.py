"""`Pieces`: what the masks of one image become outside, whichever form it is written in."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wilss.data.supports.regions import numbered
from wilss.data.taxonomy import VOID
from wilss.store import LabelMaps, MaskStore
from wilss.store.verdicts import VERDICTS, Verdict, verdicts_of

from .common import overlap

#: A piece for each class of an image, or for each connected part of a class's mask.
Instances = Literal["class", "connected"]
#: What a piece is written as, for a person to edit.
ShapeKind = Literal["mask", "polygon", "box"]
VOID_NAME = "void"


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One mask that goes out: bool [H, W], not empty. identity: its taxonomy id, or VOID. score: of its class.

    verdict: what tools are told of it: a mask that people corrected is "accepted", too.
    """

    identity: int
    name: str
    mask: NDArray[np.bool_]
    score: float | None = None
    verdict: Verdict = "unjudged"


@dataclass(frozen=True, kw_only=True)
class Picture:
    """All that goes out of one image. row: its place in the store. is_overlapping: whether its stored masks overlap."""

    row: int
    image_id: str
    height: int
    width: int
    pieces: tuple[Piece, ...]
    is_overlapping: bool

    @property
    def score(self) -> float | None:
        """The least score of its pieces."""
        scores = [piece.score for piece in self.pieces if piece.score is not None]
        return min(scores, default=None)


@dataclass(frozen=True, kw_only=True)
class PieceOptions:
    """How masks are cut into pieces.

    overlaps: masks as they are stored; else each pixel is in one of them at most, the more confident one's. void:
    whether void is a piece, the last one. min_area: pixels that any other piece has at least.
    """

    instances: Instances = "class"
    overlaps: bool = False
    void: bool = True
    min_area: int = 0


class Pieces:
    """The pieces of single images of a store; several threads may ask at once."""

    def __init__(self, store: MaskStore, options: PieceOptions = PieceOptions()) -> None:
        self._store, self._labels, self._options = store, LabelMaps(store), options
        self._height, self._width = store.vector("height"), store.vector("width")
        self._confidence, self._verdict = store.vector("confidence"), verdicts_of(store)

    def __call__(self, row: int) -> Picture:
        """What goes out of the image at this place of the store. Raises StoreError."""
        masks, labels = self._labels.with_masks(row)
        pieces: list[Piece] = []
        for category, stored in zip(masks.categories, masks.masks, strict=True):
            identity, name = self._store.category_ids[category], self._store.category_names[category]
            score = _score(self._confidence[row, category])
            mask = stored if self._options.overlaps else labels == identity
            verdict = _told(VERDICTS[self._verdict[row, category]])
            pieces += [
                Piece(identity=identity, name=name, mask=part, score=score, verdict=verdict)
                for part in self._parts(mask)
            ]
        if self._options.void and (labels == VOID).any():
            pieces.append(Piece(identity=VOID, name=VOID_NAME, mask=labels == VOID))
        return Picture(
            row=row,
            image_id=self._store.image_ids[row],
            height=int(self._height[row]),
            width=int(self._width[row]),
            pieces=tuple(pieces),
            is_overlapping=overlap(masks),
        )

    def _parts(self, mask: NDArray[np.bool_]) -> Iterator[NDArray[np.bool_]]:
        least = max(self._options.min_area, 1)
        if self._options.instances == "class":
            yield from [mask] if mask.sum() >= least else []
            return
        regions = numbered(mask)
        areas = np.bincount(regions.ravel())
        yield from (regions == number for number in range(1, len(areas)) if areas[number] >= least)


def _told(verdict: Verdict) -> Verdict:
    """A verdict as other tools have it; a mask that comes back "accepted" stays corrected in the store."""
    return "accepted" if verdict == "corrected" else verdict


def _score(confidence: float) -> float | None:
    return None if np.isnan(confidence) else round(float(confidence), 6)
