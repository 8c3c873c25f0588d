"""What the page lists: an item for every mask of a store, and what is known of each as compact columns.

Columns are small arrays, so that the page sorts and filters 100,000 images without asking anybody.
"""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wilss.data.layouts.files import read_lines
from wilss.data.names import NameIndex
from wilss.data.taxonomy import BACKGROUND, VOID
from wilss.drawing import class_colours
from wilss.errors import StoreError, counted
from wilss.store import MaskStore, compared_masks

from ..inspect.sheet import order_for, shown_masks
from .given import read_given

#: The class of an item that stands for an image without any mask.
NO_CLASS = BACKGROUND
#: What the pixels of no known class are called on the page.
VOID_NAME = "void"


@dataclass(frozen=True, kw_only=True, eq=False)
class ReviewIndex:
    """Images and masks to be judged; an image's *place* is its position in this list.

    rows: int64 [K], positions on the store's image axis; image_ids: K names. status: int8 [K]; height, width: int32
    [K]; errors: place -> why an image has no masks.
    image: int32 [M], the place of every item's image, ascending but in a part; category: uint8 [M], taxonomy id,
    NO_CLASS where the image has no mask; columns: name -> float32 [M], NaN where nothing is known; origin: uint8 [M],
    the place in `origins` of where each mask is from: the store's source, or what people's corrections came from in a
    revised store.
    worst_first: the column by which the least sure come first. is_listed: whether somebody chose images and order.
    """

    rows: NDArray[np.int64]
    image_ids: Sequence[str]
    status: NDArray[np.int8]
    height: NDArray[np.int32]
    width: NDArray[np.int32]
    errors: Mapping[int, str]
    image: NDArray[np.int32]
    category: NDArray[np.uint8]
    columns: Mapping[str, NDArray[np.float32]]
    origins: Sequence[str]
    origin: NDArray[np.uint8]
    worst_first: str
    is_listed: bool

    def part(self, items: NDArray[np.intp]) -> "ReviewIndex":
        """The index of some items alone, in their order; images are numbered by where they come first."""
        places, first = np.unique(self.image[items], return_index=True)
        places = places[np.argsort(first, kind="stable")]
        number = np.full(len(self.rows), -1, np.int32)
        number[places] = np.arange(len(places))
        return ReviewIndex(
            rows=self.rows[places],
            image_ids=[self.image_ids[place] for place in places.tolist()],
            status=self.status[places],
            height=self.height[places],
            width=self.width[places],
            errors={int(number[place]): why for place, why in self.errors.items() if number[place] >= 0},
            image=number[self.image[items]],
            category=self.category[items],
            columns={name: values[items] for name, values in self.columns.items()},
            origins=self.origins,
            origin=self.origin[items],
            worst_first=self.worst_first,
            is_listed=self.is_listed,
        )


def build_index(
    store: MaskStore, judged: Iterable[tuple[str, int]] = (), only: Sequence[str] | None = None
) -> ReviewIndex:
    """The index of a store. judged: (image id, class) that have an item whatever the store says of them.

    only: ids of the images to list, in this order. Raises StoreError where the store has none of them.
    """
    rows = np.arange(store.layout.num_images) if only is None else _rows(store, only)
    shown = shown_masks(store)[rows]
    ids = list(store.image_ids) if only is None else [store.image_ids[row] for row in rows.tolist()]
    image, position = np.nonzero(shown)
    extra = _judged_besides(shown, ids, store.category_ids, judged)
    bare = np.flatnonzero(~shown.any(axis=1))
    taxonomy = np.array([*store.category_ids, NO_CLASS, VOID])
    image = np.concatenate([image, extra[:, 0], bare])
    category = np.concatenate([taxonomy[position], extra[:, 1], np.full(len(bare), NO_CLASS)]).astype(np.uint8)
    order = np.lexsort((category, image))
    places, category = image[order].astype(np.int32), category[order]
    errors = store.vector("error")[rows]
    origins, origin = _origins(store, rows[places], category)
    return ReviewIndex(
        rows=rows,
        image_ids=ids,
        status=store.current_status()[rows],
        height=store.vector("height")[rows],
        width=store.vector("width")[rows],
        errors={place: str(errors[place]) for place in np.flatnonzero(errors != "").tolist()},
        image=places,
        category=category,
        columns=_columns(store, rows[places], category),
        origins=origins,
        origin=origin,
        worst_first=_worst_first(store),
        is_listed=only is not None,
    )


def read_ids(path: Path) -> list[str]:
    """The image ids of a list, one a line: each once, without comments (#). Raises StoreError."""
    return list(dict.fromkeys(line for line in read_given(path, read_lines) if not line.startswith("#")))


def area_deviation(share: NDArray[np.floating[Any]], category: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
    """How far the area of a mask is from what is usual for its class: |log2(share / median share of the class)|.

    share: [M], the part of the image that a mask covers, of no pixel greater than 0 though small; category: [M].
    1 means twice or half of the usual; 0 for the only mask of its class.
    """
    logs, deviation = np.log2(share), np.zeros(len(share), np.float32)
    for one in np.unique(category):
        of_class = category == one
        deviation[of_class] = np.abs(logs[of_class] - np.median(logs[of_class]))
    return deviation


def packed(values: NDArray[Any]) -> dict[str, str]:
    """An array for the page: its little-endian bytes in base64, and their type as JavaScript calls it."""
    kinds = {"i1": "Int8", "u1": "Uint8", "i4": "Int32", "u4": "Uint32", "f4": "Float32"}
    little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    return {"type": kinds[little.dtype.str[1:]], "data": base64.b64encode(little.tobytes()).decode("ascii")}


def as_json(index: ReviewIndex, store: MaskStore) -> dict[str, Any]:
    """The whole index as a JSON value, arrays packed."""
    colours = class_colours()
    named = [*zip(store.category_ids, store.category_names, strict=True), (VOID, VOID_NAME)]
    return {
        "store": {
            "name": store.path.name,
            "digest": store.digest,
            "title": _title(store),
            "source": str(store.attributes.get("source")),
        },
        "classes": [
            {"id": identity, "name": name, "colour": [int(part) for part in colours[identity]]}
            for identity, name in named
        ],
        "images": index.image_ids,
        "status": packed(index.status),
        "height": packed(index.height),
        "width": packed(index.width),
        "errors": index.errors,
        "image": packed(index.image),
        "category": packed(index.category),
        "columns": {name: packed(values) for name, values in index.columns.items()},
        "origins": list(index.origins),
        "origin": packed(index.origin),
        "worstFirst": index.worst_first,
        "isListed": index.is_listed,
    }


def _rows(store: MaskStore, only: Sequence[str]) -> NDArray[np.int64]:
    rows = NameIndex(store.image_ids).find_spelt(list(only))
    known = np.array(list(dict.fromkeys(rows[rows >= 0].tolist())), np.int64)
    if not len(known):
        raise StoreError(f"{store.path} has none of the {counted(len(only), 'listed image')}; give a list of its ids.")
    return known


def _judged_besides(
    shown: NDArray[np.bool_], ids: Sequence[str], category_ids: Sequence[int], judged: Iterable[tuple[str, int]]
) -> NDArray[np.int64]:
    """(place, class) [n, 2] that somebody judged though the store shows no such mask, each once."""
    pairs = sorted(set(judged))
    places = NameIndex(ids).find_all([image_id for image_id, _ in pairs]).tolist()
    position = {identity: place for place, identity in enumerate(category_ids)}
    found = [
        (int(place), category)
        for place, (_, category) in zip(places, pairs, strict=True)
        if place >= 0 and not (category in position and shown[place, position[category]])
    ]
    return np.array(found, np.int64).reshape(-1, 2)


def _columns(store: MaskStore, rows: NDArray[np.int64], category: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """What the store knows of every item, each float32 [M]."""
    places = _positions(store, category)
    has_class = places >= 0

    def values(name: str) -> NDArray[np.float32]:
        found = np.full(len(rows), np.nan, np.float32)
        found[has_class] = store.vector(name)[rows[has_class], places[has_class]]
        return found

    pixels = (store.vector("height").astype(np.int64) * store.vector("width"))[rows].clip(1)
    share = values("area") / pixels
    deviation = np.full(len(rows), np.nan, np.float32)
    deviation[has_class] = area_deviation(np.maximum(share, 1 / pixels)[has_class], category[has_class])
    columns = {"confidence": values("confidence"), "share": share.astype(np.float32), "deviation": deviation}
    return columns if compared_masks(store) is None else {"agreement": values("agreement"), **columns}


def _positions(store: MaskStore, category: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Positions on the category axis of taxonomy ids, -1 for what is no class of the store."""
    position = np.full(VOID + 1, -1)
    position[list(store.category_ids)] = np.arange(len(store.category_ids))
    places: NDArray[np.int64] = position[category]
    return places


def _origins(
    store: MaskStore, rows: NDArray[np.int64], category: NDArray[np.uint8]
) -> tuple[list[str], NDArray[np.uint8]]:
    """Where masks are from, the store's source first, and which of these each item is of; the 255 most frequent."""
    source = str(store.attributes.get("source"))
    if not store.layout.has_review:
        return [source], np.zeros(len(rows), np.uint8)
    places = _positions(store, category)
    found = np.where(places >= 0, store.vector("origin")[rows, places], "").astype(str)
    names, counts = np.unique(found[found != ""], return_counts=True)
    kept = names[np.argsort(-counts, kind="stable")][:255].tolist()
    numbers = {"": 0, **{name: place for place, name in enumerate(kept, start=1)}}
    return [source, *kept], np.array([numbers.get(name, 0) for name in found.tolist()], np.uint8)


def _worst_first(store: MaskStore) -> str:
    order = order_for(store, "agreement")
    return "deviation" if order == "spread" else order


def _title(store: MaskStore) -> str:
    attributes = store.attributes
    return f"{attributes.get('manifest')}, step {attributes.get('step')}, {attributes.get('split')}"
