"""What a contact sheet shows: which rows, and all that is known of each. `page` draws it.

A row is one class on one image: the image, the maps that the store keeps of it (`maps_shown`) with what is cut from
them, the mask, and the pixel label where there is one.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wilss.data.images import read_image
from wilss.data.layouts import ImageRecord
from wilss.data.manifest import Manifest
from wilss.data.taxonomy import VOID
from wilss.errors import ImageError, OneImageError, StoreError
from wilss.store import MaskStore, Status, compared_masks, seeded
from wilss.store.records import records_for

from .kept_scores import KeptReader, fusion_of, keeps_maps
from .maps_shown import MapsShown, maps_shown

Order = Literal["agreement", "confidence", "spread"]


@dataclass(frozen=True, kw_only=True)
class Soft:
    """Kept maps of one class: score [h, w], attention [ha, wa], seeds [S, 2] on the grid of `score`.

    attention, seeds: None where a source has none. score_cut, attention_cut: where the maps were binarised, infinite
    where they were not; where a score is a probability its half is shown.
    """

    score: NDArray[np.float16]
    attention: NDArray[np.float16] | None = None
    seeds: NDArray[np.int16] | None = None
    score_cut: float = 0.5
    attention_cut: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Truth:
    """The pixel label of one class: where it is, and where nobody knows (void); bool [H, W] each."""

    inside: NDArray[np.bool_]
    unknown: NDArray[np.bool_]

    def iou(self, mask: NDArray[np.bool_]) -> float:
        """IoU of a mask with the class, void left out; 1 where both are empty."""
        mask = mask & ~self.unknown
        union = (mask | self.inside).sum()
        return float((mask & self.inside).sum() / union) if union else 1.0


@dataclass(frozen=True, kw_only=True)
class Row:
    """What is known of one class on one image; arrays are [H, W], the image uint8 [H, W, 3].

    category: its position on the store's axis; identity: its taxonomy id. agreement: NaN where the source has none.
    before: another mask, to be shown beside `mask`.
    """

    image_id: str
    category: int
    identity: int
    name: str
    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    soft: Soft | None
    truth: Truth | None
    confidence: float
    agreement: float
    fell_back: bool
    before: NDArray[np.bool_] | None = None

    @property
    def share(self) -> float:
        """The part of the image that the mask covers."""
        return float(self.mask.mean())

    @property
    def iou(self) -> float:
        """IoU of the mask with the pixel label; NaN without one."""
        return float("nan") if self.truth is None else self.truth.iou(self.mask)


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """Rows to be drawn, and why others could not be: image id -> sentence. maps: how theirs are headed."""

    title: str
    rows: tuple[Row, ...]
    failed: Mapping[str, str]
    maps: MapsShown | None = None


def order_for(store: MaskStore, wanted: Order) -> Order:
    """`wanted`, or "spread" where the store's source gives no such diagnostic (pixel labels have no agreement).

    Where masks are not made of the two that are compared, an agreement says nothing of them: "confidence" then.
    """
    if wanted == "spread" or not np.isfinite(store.vector(wanted)).any():
        return "spread"
    return "confidence" if wanted == "agreement" and compared_masks(store) is None else wanted


def choose(store: MaskStore, order: Order, count: int) -> list[tuple[int, int]]:
    """(image, category) positions to show: the worst first by a diagnostic, or evenly spread over the store.

    Among equals the store's own order decides; see `order_for`. Raises StoreError for a store without masks.
    """
    done = store.vector("status") == Status.DONE
    pairs = np.argwhere(shown_masks(store) & done[:, None])
    if not len(pairs):
        raise StoreError(f"{store.path} has no finished image with a mask, so there is nothing to show.")
    order = order_for(store, order)
    if order == "spread":
        return _pairs(pairs[np.linspace(0, len(pairs) - 1, min(count, len(pairs))).round().astype(int)])
    values = np.nan_to_num(store.vector(order)[tuple(pairs.T)].astype(np.float64), nan=np.inf)
    return _pairs(pairs[np.argsort(values, kind="stable")[:count]])


def rows_of(store: MaskStore, image_ids: Sequence[str]) -> list[tuple[int, int]]:
    """(image, category) positions of every class of the named images, in their order.

    Raises StoreError for an image that the store does not hold or has no masks of.
    """
    shown = shown_masks(store)
    rows = [(store.position(name), store.read(name).categories) for name in image_ids]
    return [(row, category) for row, categories in rows for category in categories if shown[row, category]]


def shown_masks(store: MaskStore) -> NDArray[np.bool_]:
    """Which classes of which images people are shown, bool [N, C]: where no tags were asked, those with a mask."""
    asked: NDArray[np.bool_] = store.vector("tags")
    return asked & (store.vector("area") > 0) if store.attributes.get("uses_tags") is False else asked


def collect(store: MaskStore, manifest: Manifest, chosen: Sequence[tuple[int, int]]) -> Sheet:
    """Read all that is needed to draw the chosen (image, category) positions.

    Images that cannot be read any more are left out and named. Raises StoreError when store and manifest do
    not belong together, or no row is left.
    """
    if not chosen:
        raise StoreError(f"{store.path} has no mask on the chosen images, so there is nothing to show; choose others.")
    reader = _RowReader(store, records_for(store, manifest), chosen)
    rows, failed = [], {}
    for number, (image, category) in enumerate(chosen):
        try:
            rows.append(reader.read(number, image, category))
        except OneImageError as error:
            failed[store.image_ids[image]] = str(error)
    if not rows:
        raise StoreError(f"none of the chosen images of {store.path} can be shown: {next(iter(failed.values()))}")
    return Sheet(title=_title(store), rows=tuple(rows), failed=failed, maps=maps_shown(store))


class SoftReader:
    """Reads the kept maps of one class with what is cut from them; several threads may ask at once."""

    def __init__(self, store: MaskStore) -> None:
        self._store = store
        self._reader = KeptReader(store) if store.layout.score_grid is not None else None
        self._params = fusion_of(store) if keeps_maps(store) else None
        self._maps = maps_shown(store)

    def read(self, row: int, category: int) -> Soft | None:
        """The maps of the image at `row`; None where the store keeps none, or none of this class of it.

        category: a position on the category axis. Raises StoreError where they are damaged.
        """
        if self._reader is None or not self._reader.has_maps(row, category):
            return None
        if self._params is None:
            return Soft(score=self._reader.score(row, category), score_cut=self._cut_of_score())
        params, maps = self._params, self._reader.read(row)
        if category not in maps.categories:
            return None
        slot = maps.categories.index(category)
        score_cut, attention_cuts = maps.cuts(params)
        return Soft(
            score=maps.score[slot].numpy(),
            attention=maps.attention[slot].numpy() if self._maps.attention is not None else None,
            seeds=maps.seeds[slot].numpy(),
            score_cut=score_cut if self._maps.score.is_cut else math.inf,
            attention_cut=float(attention_cuts[slot]),
        )

    def _cut_of_score(self) -> float:
        """Where a score that is kept alone is outlined."""
        if self._store.attributes.get("source") != "sam3":
            return 0.5
        threshold = self._store.attributes.get("parameters", {}).get("threshold", 0.4)
        return float(threshold ** (5 / 6))  # see `wilss.equations.sam3.lead`


class _RowReader:
    """Gathers image, mask, maps and label of one row."""

    def __init__(self, store: MaskStore, records: Mapping[str, ImageRecord], chosen: Sequence[tuple[int, int]]) -> None:
        self._store, self._records = store, records
        places = tuple(np.array(chosen).T)
        self._values = {name: store.vector(name)[places] for name in ("confidence", "agreement", "fallback")}
        self._soft = SoftReader(store)
        self._compares, self._draws = compared_masks(store) is not None, seeded(store)

    def read(self, number: int, row: int, category: int) -> Row:
        store, record = self._store, self._records[self._store.image_ids[row]]
        mask = store.read(row, [category]).masks[0]
        return Row(
            image_id=record.image_id,
            category=category,
            identity=store.category_ids[category],
            name=store.category_names[category],
            image=_image(record, mask.shape),
            mask=mask,
            soft=self._soft.read(row, category),
            truth=_truth(record, store.category_ids[category], mask.shape),
            confidence=float(self._values["confidence"][number]),
            agreement=float(self._values["agreement"][number]) if self._compares else math.nan,
            fell_back=self._draws and bool(self._values["fallback"][number]),
        )


def _image(record: ImageRecord, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    image = read_image(record.path, record.bits)
    _require_shape(f"{record.path}", image.shape[:2], shape)
    return image


def _truth(record: ImageRecord, identity: int, shape: tuple[int, ...]) -> Truth | None:
    if record.label is None:
        return None
    labels = record.label.read()
    _require_shape(f"the label of {record.image_id}", labels.shape, shape)
    return Truth(inside=labels == identity, unknown=labels == VOID)


def _require_shape(what: str, shape: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    if tuple(shape) != tuple(wanted):
        raise ImageError(
            f"{what} is {shape[1]} x {shape[0]} pixels, the masks made of it {wanted[1]} x {wanted[0]}; "
            "it has changed since, so make the masks again."
        )


def _pairs(positions: NDArray[np.intp]) -> list[tuple[int, int]]:
    return [(int(image), int(category)) for image, category in positions]


def _title(store: MaskStore) -> str:
    attributes = store.attributes
    fusion = attributes.get("parameters", {}).get("fusion")
    source = f"{attributes.get('source')}, {fusion}" if fusion else str(attributes.get("source"))
    return f"{attributes.get('manifest')}  ·  step {attributes.get('step')}, {attributes.get('split')}  ·  {source}"
