"""What masks, score maps, pixel labels and a trained network say of every image and class, image by image.

Only small arrays are held, 4 bytes for each image, class and kind of evidence; images are streamed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from wilss.data.layouts import ImageRecord
from wilss.data.taxonomy import VOID
from wilss.equations.label_errors import rim_share, stray_parts, stretch
from wilss.equations.metrics import confusion
from wilss.errors import ImageError, OneImageError
from wilss.process import map_in_threads
from wilss.store import LabelMaps, MaskStore, compared_masks

from ..inspect.kept_scores import KeptReader

#: The share of an image that says whether a class is there: an object need be no larger.
SHARE = 0.01
#: A part is stray where it has no more of the main part's pixels, and is no nearer to it (of the image's diagonal).
STRAY, FAR = 0.03, 0.1
RIM = 0.05
#: A class is taken for another in an image where so much of its pixels is.
TAKEN_FOR = 0.5

#: Kinds of evidence, each float32 [N, C], NaN where nothing is known. label: 1 where pixels are labelled so. predicted:
#: see `presence`. score: the mean of the kept score map, else the mask's confidence. agreement: of M_init and M_seeds.
#: area, rim: shares of the image, of the mask. disagreement: 1 - IoU of the mask with what it is held against.
FACTS = ("label", "predicted", "score", "agreement", "area", "stretch", "rim", "disagreement")


class Item(NamedTuple):
    """An image to be looked at: its record, its row in the store (-1 without one), and the list that it is of."""

    record: ImageRecord
    row: int
    place: str


class Prediction(NamedTuple):
    """What a trained network makes of an image: labels uint8 [H, W] of taxonomy ids, and presence by id.

    present: taxonomy id -> how surely the class is there, in [0, 1]; without classes that the network does not know.
    """

    labels: NDArray[np.uint8]
    present: Mapping[int, float]


class Predictor(Protocol):
    """Asked of single images, by several threads."""

    name: str

    def __call__(self, record: ImageRecord) -> Prediction | None:
        """None where it has nothing of the image. Raises ImageError."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """All that was seen of N images and C classes.

    facts: by FACTS, float32 [N, C]. tags: bool [N, C]. matrix, images: int64 [C + 1, C + 1], pixels by what the
    reference says and what is judged, and in how many images most of a class's pixels went there. reference: in a word,
    "" for none. failed: image id -> why it could not be looked at.
    """

    items: Sequence[Item]
    class_ids: tuple[int, ...]
    names: tuple[str, ...]
    tags: NDArray[np.bool_]
    facts: Mapping[str, NDArray[np.float32]]
    matrix: NDArray[np.int64]
    images: NDArray[np.int64]
    reference: str
    failed: Mapping[str, str] = field(default_factory=dict)


def evidence_of(
    items: Sequence[Item],
    class_ids: tuple[int, ...],
    names: tuple[str, ...],
    *,
    store: MaskStore | None = None,
    predictor: Predictor | None = None,
    labels: bool = True,
    threads: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evidence:
    """Look at every image once. labels: whether pixel labels are asked, where there are any."""
    labels = labels and any(item.record.label is not None for item in items)
    look = _Look(class_ids, store, predictor, labels)
    facts = {name: np.full((len(items), len(class_ids)), np.nan, np.float32) for name in FACTS}
    matrix, images = np.zeros((2, len(class_ids) + 1, len(class_ids) + 1), np.int64)
    failed: dict[str, str] = {}
    progress(0, len(items))
    for place, seen in enumerate(map_in_threads(look, items, threads)):
        if isinstance(seen, OneImageError):
            failed[items[place].record.image_id] = str(seen)
        else:
            for name, values in seen.facts.items():
                facts[name][place] = values
            if seen.matrix is not None:
                matrix += seen.matrix
                images += seen.matrix > TAKEN_FOR * seen.matrix.sum(axis=1, keepdims=True)
        progress(place + 1, len(items))
    return Evidence(
        items=items,
        class_ids=class_ids,
        names=names,
        tags=_tags(items, class_ids),
        facts=facts,
        matrix=matrix,
        images=images,
        reference=look.reference,
        failed=failed,
    )


def _tags(items: Sequence[Item], class_ids: tuple[int, ...]) -> NDArray[np.bool_]:
    """bool [N, C]: which images are tagged with which classes."""
    tags = np.array([[i in item.record.tags for i in class_ids] for item in items], np.bool_)
    return tags.reshape(len(items), len(class_ids))


class _Seen(NamedTuple):
    facts: dict[str, Any]
    matrix: NDArray[np.int64] | None


class _Look:
    """Looks at single images; used by several threads. reference: what masks are held against."""

    def __init__(
        self, class_ids: tuple[int, ...], store: MaskStore | None, predictor: Predictor | None, labels: bool
    ) -> None:
        self._ids, self._store, self._predictor, self._labels = class_ids, store, predictor, labels
        self._maps = None if store is None else LabelMaps(store)
        has_scores = store is not None and store.layout.score_grid is not None
        self._kept = KeptReader(store) if store is not None and has_scores else None
        self._confidence = None if store is None or has_scores else store.vector("confidence")
        compares = store is not None and compared_masks(store) is not None
        self._agreement = store.vector("agreement") if store is not None and compares else None
        self.reference = self._what_masks_are_held_against(has_scores)

    def _what_masks_are_held_against(self, has_scores: bool) -> str:
        if self._store is None:
            return "labels" if self._labels and self._predictor is not None else ""
        if self._labels:
            return "labels"
        return "predictions" if self._predictor is not None else "scores" if has_scores else ""

    def __call__(self, item: Item) -> _Seen | OneImageError:
        try:
            return self._seen(item)
        except OneImageError as error:
            return error

    def _seen(self, item: Item) -> _Seen:
        if item.record.problem is not None and self._store is None:
            raise ImageError(item.record.problem)
        facts: dict[str, Any] = {}
        truth = item.record.label.read() if self._labels and item.record.label is not None else None
        if truth is not None:
            facts["label"] = [float((truth == identity).any()) for identity in self._ids]
        predicted = self._predictor(item.record) if self._predictor is not None else None
        if predicted is not None:
            facts["predicted"] = [predicted.present.get(identity, np.nan) for identity in self._ids]
        said = None if predicted is None else predicted.labels
        if self._store is None:
            return _Seen(facts, self._confusion(item, truth, said, "predictions"))
        if item.row < 0:  # no masks, with which alone a store's matrix is concerned
            return _Seen(facts, None)
        return self._with_masks(item, facts, truth, said)

    def _with_masks(
        self, item: Item, facts: dict[str, Any], truth: NDArray[np.uint8] | None, said: NDArray[np.uint8] | None
    ) -> _Seen:
        assert self._store is not None
        assert self._maps is not None
        masks, labels = self._maps.with_masks(item.row, void=False)
        other = truth if self.reference == "labels" else said if self.reference == "predictions" else None
        matrix = self._confusion(item, other, labels, "masks")
        columns = {name: np.full(len(self._ids), np.nan) for name in ("area", "stretch", "rim", "disagreement")}
        for category, mask in zip(masks.categories, masks.masks, strict=True):
            columns["area"][category] = mask.mean()
            columns["rim"][category] = rim_share(mask, RIM)
            columns["stretch"][category] = stretch(mask, stray_parts(mask, most=STRAY, far=FAR))
            if other is not None:
                columns["disagreement"][category] = 1 - _iou(mask, other, self._ids[category])
        facts |= columns
        if self._kept is not None and masks.categories:
            scores = self._kept.scores(item.row).numpy()
            facts["score"] = np.full(len(self._ids), np.nan)
            facts["score"][list(masks.categories)] = scores.astype(np.float64).mean(axis=(1, 2))
            if self.reference == "scores":
                matrix = self._against_scores(scores, masks.categories, labels)
        elif self._confidence is not None:
            facts["score"] = self._confidence[item.row]
        if self._agreement is not None:
            facts["agreement"] = self._agreement[item.row]
        return _Seen(facts, matrix)

    def _against_scores(
        self, scores: NDArray[np.floating], categories: Sequence[int], labels: NDArray[np.uint8]
    ) -> NDArray[np.int64] | None:
        """Where the score [C, h, w] of another tag is greater than that of the mask's own; labels at that size."""
        if len(categories) < 2:
            return None
        h, w = scores.shape[1:]
        rows, columns = ((np.arange(n) + 0.5) * size // n for n, size in ((h, labels.shape[0]), (w, labels.shape[1])))
        small = labels[np.ix_(rows.astype(np.intp), columns.astype(np.intp))]
        strongest = np.array([self._ids[category] for category in categories], np.uint8)[scores.argmax(axis=0)]
        return confusion(np.where(small == 0, np.uint8(VOID), strongest), small, self._ids)

    def _confusion(
        self, item: Item, truth: NDArray[np.uint8] | None, judged: NDArray[np.uint8] | None, what: str
    ) -> NDArray[np.int64] | None:
        """What the reference says of an image against `judged`. Raises ImageError where they differ in size."""
        if not self.reference or truth is None or judged is None:
            return None
        if truth.shape != judged.shape:
            raise ImageError(
                f"the {self.reference} of {item.record.image_id} are {truth.shape[1]} x {truth.shape[0]} pixels, its "
                f"{what} {judged.shape[1]} x {judged.shape[0]}; make one of them again."
            )
        return confusion(truth, judged, self._ids)


def _iou(mask: NDArray[np.bool_], other: NDArray[np.uint8], identity: int) -> float:
    """IoU of a mask with a class of a label map, VOID left out; 1 where both are empty."""
    known = other != VOID
    mine, theirs = mask & known, other == identity
    union = int((mine | theirs).sum())
    return int((mine & theirs).sum()) / union if union else 1.0
