"""What the page asks for and says, as JSON values: one store that is judged, whoever carries the words.

Images go by their place in the index, classes by their taxonomy id, masks as run lengths (`runs`).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from wilss.data.layouts import ImageRecord, read_label_of
from wilss.data.names import NameIndex
from wilss.data.taxonomy import VOID
from wilss.errors import ImageError, OneImageError, StoreError
from wilss.store import MaskStore, Status
from wilss.store.verdicts import Verdict

from ..inspect.maps_shown import maps_shown
from .changes import Changes
from .compared import Comparison, Predictions
from .corrections import TIME_UNKNOWN, Correction
from .index import NO_CLASS, ReviewIndex, as_json
from .journal import Event, Pair
from .pictures import Kind, Pictures
from .runs import mask_of, runs_of

ORIGIN = "page"
_NO_MASKS = {
    Status.PENDING: "its masks were not made yet",
    Status.FAILED: "it failed",
    Status.UNTAGGED: "it has no tag of this step",
    Status.UNLABELLED: "it has no pixel label",
}


class Change(BaseModel):
    """What a browser says of one mask. runs: of a corrected mask. tag: see `Correction`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    image: int = Field(ge=0)
    category: int = Field(gt=0, le=VOID)
    verdict: Verdict
    runs: list[int] | None = None
    tag: bool | None = None


class Changed(BaseModel):
    """Changes of a browser that calls itself `who`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    who: str = Field(max_length=64)
    changes: list[Change] = Field(max_length=20_000)


class Undone(BaseModel):
    """Events that a browser takes back."""

    model_config = ConfigDict(extra="forbid", strict=True)

    who: str = Field(max_length=64)
    events: list[str] = Field(max_length=20_000)


@dataclass(kw_only=True)
class ReviewSession:
    """One store that is judged, its images, its journal, and what it is held against.

    records: by image id. author: of what the page says. quality: float32 [M], scores of label errors.
    """

    store: MaskStore
    records: Mapping[str, ImageRecord]
    index: ReviewIndex
    changes: Changes
    pictures: Pictures
    author: str
    predictions: Predictions | None = None
    comparison: Comparison | None = None
    quality: NDArray[np.float32] | None = None
    _positions: dict[int, int] = field(init=False)

    def __post_init__(self) -> None:
        self._positions = {identity: place for place, identity in enumerate(self.store.category_ids)}
        self._status = self.store.current_status()
        self._heights, self._widths = self.store.vector("height"), self.store.vector("width")

    def close(self) -> None:
        """Stop what runs beside."""
        if self.comparison is not None:
            self.comparison.stop()
        self.pictures.close()

    # -- the index ------------------------------------------------------------------------------------------

    @cached_property
    def index_json(self) -> bytes:
        """The index as JSON."""
        return json.dumps(self.index_value(self.listed)).encode("ascii")

    @property
    def listed(self) -> ReviewIndex:
        """The index with columns of what the masks are held against, as far as that is done."""
        columns = dict(self.index.columns)
        columns |= {} if self.quality is None else {"quality": self.quality}
        columns |= {} if self.comparison is None else {"disagreement": self.comparison.values}
        return replace(self.index, columns=columns)

    def index_value(self, index: ReviewIndex) -> dict[str, Any]:
        """`listed`, or a part of it, as the page takes it."""
        return {**as_json(index, self.store), "maps": self._maps}

    @property
    def _maps(self) -> dict[str, dict[str, str]]:
        if self.store.layout.score_grid is None:
            return {}
        shown = maps_shown(self.store)
        maps = {"score": shown.score, "attention": shown.attention}
        return {kind: {"heading": one.heading, "note": one.note} for kind, one in maps.items() if one is not None}

    @property
    def compared(self) -> dict[str, Any] | None:
        """How far the comparison with predictions is; None where there is none."""
        if (comparison := self.comparison) is None:
            return None
        return {"done": comparison.is_done, "count": comparison.compared, "of": len(comparison.values),
                "problem": comparison.problem}  # fmt: skip

    # -- one image ------------------------------------------------------------------------------------------

    def row(self, place: int) -> int:
        """The position on the store's image axis. Raises StoreError for a place that is not there."""
        if not 0 <= place < len(self.index.rows):
            raise StoreError(f"the page lists no image {place}; load it again.")
        return int(self.index.rows[place])

    def image_value(self, place: int) -> dict[str, Any]:
        """All masks of an image, as they stand and as the store has them, and what they are held against."""
        row, image_id = self.row(place), self.index.image_ids[place]
        height, width = int(self.index.height[place]), int(self.index.width[place])
        value: dict[str, Any] = {"image": place, "height": height, "width": width, "classes": [], "problem": "",
                                 "void": None}  # fmt: skip
        status = Status(int(self.index.status[place]))
        if status is not Status.DONE:
            why = self.index.errors.get(place) or _NO_MASKS.get(status, status.name.lower())
            value["problem"] = f"{image_id} has no masks of its own: {why}"
        if not (height and width):  # it could not be opened
            return value
        truth = self._truth(image_id, (height, width))
        categories = self._categories(place)
        value["classes"] = [self._class_value(row, image_id, category, truth) for category in categories]
        if self.store.layout.has_void and status is Status.DONE:
            value["void"] = runs_of(self._stored(row, VOID))
        return value

    def _categories(self, place: int) -> list[int]:
        first, last = np.searchsorted(self.index.image, [place, place + 1])
        items = self.index.category[first:last]
        return sorted({*items.tolist(), *self.changes.journal.of(self.index.image_ids[place])} - {NO_CLASS})

    def _class_value(self, row: int, image_id: str, category: int, truth: NDArray[np.uint8] | None) -> dict[str, Any]:
        event = self.changes.standing((image_id, category))
        stored = self._stored(row, category)
        mask, problem = stored, ""
        try:
            mask = self._current(stored, event)
        except ImageError as error:
            problem = str(error)
        return {
            "category": category,
            "state": None if event is None else self.state((image_id, category), event, ""),
            "runs": runs_of(mask),
            "stored": None if mask is stored else runs_of(stored),
            "prediction": self._predicted(image_id, category, stored.shape),
            "truth": None if truth is None else runs_of(truth == category),
            "maps": self._maps_of(row, category),
            "problem": problem,
        }

    def mask(self, place: int, category: int) -> tuple[NDArray[np.bool_] | None, str]:
        """The mask of a class as it stands, bool [H, W], and what tells it from others; None where there is none."""
        if category == NO_CLASS or not self.index.height[place]:
            return None, ""
        event = self.changes.standing((self.index.image_ids[place], category))
        told = "" if event is None else event.mask_digest or ("none" if event.tag is False else "")
        return self._current(self._stored(self.row(place), category), event), told

    def _current(self, stored: NDArray[np.bool_], event: Event | None) -> NDArray[np.bool_]:
        if event is None:
            return stored
        if event.tag is False:
            return np.zeros_like(stored)
        mask = self.changes.journal.mask(event)
        return stored if mask is None else mask

    def _stored(self, row: int, category: int) -> NDArray[np.bool_]:
        """The store's own mask of a class; nothing where it has none. VOID: the pixels of no known class."""
        size = int(self._heights[row]), int(self._widths[row])
        if self._status[row] != Status.DONE:
            return np.zeros(size, np.bool_)
        masks = self.store.read(row, [self._positions[category]] if category in self._positions else [])
        if category == VOID and masks.void is not None:
            return masks.void
        return masks.masks[0] if len(masks.masks) else np.zeros(size, np.bool_)

    def _predicted(self, image_id: str, category: int, shape: tuple[int, ...]) -> list[int] | None:
        if self.predictions is None:
            return None
        try:
            mask = self.predictions.mask(image_id, category, (shape[0], shape[1]))
        except OneImageError:
            return None
        return None if mask is None else runs_of(mask)

    def _truth(self, image_id: str, size: tuple[int, int]) -> NDArray[np.uint8] | None:
        """The pixel label of an image where the manifest has one of its size that can be read."""
        record = self.records[image_id]
        if record.label is None:
            return None
        try:
            labels = read_label_of(record)
        except OneImageError:
            return None
        return labels if labels.shape == size else None

    def _maps_of(self, row: int, category: int) -> list[str]:
        """Which maps the store keeps of a class of an image."""
        position = self._positions.get(category)
        if position is None or not self._maps or not self._tags[row, position]:
            return []
        return list(self._maps)

    @cached_property
    def _tags(self) -> NDArray[np.bool_]:
        return self.store.vector("tags")

    def heat(self, kind: Kind, place: int, category: int) -> bytes:
        """A kept map as a PNG. Raises ImageError or StoreError."""
        if category not in self._positions:
            raise ImageError(f"the store has no class {category}, so it keeps no map of it.")
        return self.pictures.heat(kind, self.row(place), self._positions[category])

    def thumbnail(self, place: int, category: int) -> bytes:
        """The image small, with the mask of the class as it stands. Raises ImageError or StoreError."""
        row = self.row(place)
        mask, version = self.mask(place, category)
        return self.pictures.thumbnail(row, category, mask, version)

    # -- what was said --------------------------------------------------------------------------------------

    def changes_value(self, since: int) -> dict[str, Any]:
        """All that changed after the number `since`, and the number to ask with next."""
        number, changed = self.changes.since(since)
        states = [self.state(pair, event, who) for pair, event, who in changed]
        return {"number": number, "states": [state for state in states if state is not None], "compared": self.compared}

    def correct(self, said: Changed) -> dict[str, Any]:
        """Keep what a browser says; it is on disk when this returns. Raises ImageError or StoreError."""
        at = datetime.now(UTC)
        corrections = [self._correction(change, at) for change in said.changes]
        events = self.changes.append(corrections, said.who)
        pairs = dict.fromkeys((one.image_id, one.category) for one in corrections)
        return {"events": events, "states": self._states(list(pairs), said.who)}

    def undo(self, said: Undone) -> dict[str, Any]:
        """Take back what was said before. Raises StoreError for an event that is not there."""
        pairs = dict.fromkeys(event.pair for event in self.changes.undo(said.events, said.who))
        return {"states": self._states(list(pairs), said.who)}

    def _states(self, pairs: Sequence[Pair], who: str) -> list[dict[str, Any]]:
        states = (self.state(pair, self.changes.standing(pair), who) for pair in pairs)
        return [state for state in states if state is not None]

    def _correction(self, change: Change, at: datetime) -> Correction:
        row = self.row(change.image)
        size = int(self.index.height[change.image]), int(self.index.width[change.image])
        return Correction(
            image_id=self.store.image_ids[row],
            category=change.category,
            verdict=change.verdict,
            mask=None if change.runs is None else mask_of(change.runs, *size),
            tag=change.tag,
            author=self.author,
            at=at,
            origin=ORIGIN,
        )

    @cached_property
    def _places(self) -> NameIndex:
        return NameIndex(self.index.image_ids)

    def state(self, pair: Pair, event: Event | None, who: str) -> dict[str, Any] | None:
        """What stands of a mask; None for an image that the page does not list. who: the browser that said it last."""
        place = self._places.find(pair[0])
        if place is None:
            return None
        said: dict[str, Any] = {
            "verdict": "unjudged",
            "tag": None,
            "mask": "",
            "author": "",
            "at": "",
            "origin": "",
            "event": "",
        }
        if event is not None:
            said = {
                "verdict": event.verdict,
                "tag": event.tag,
                "mask": event.mask_digest or "",
                "author": event.author,
                "at": "" if event.at == TIME_UNKNOWN else event.at.isoformat(timespec="seconds"),
                "origin": event.origin,
                "event": event.id,
            }
        return {"image": place, "category": pair[1], "who": who, **said}
