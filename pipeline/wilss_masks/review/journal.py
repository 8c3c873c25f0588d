"""`Journal`: the review folder beside a sealed store, to which every verdict and correction is appended as it is made.

    step-1.review/
      review.json             of which store: its name and digest
      events-<writer>.jsonl   one line an event, of one process; several processes never write to one file
      writers.lock            of which every process that appends holds a share
      masks/<sha256>.png      corrected masks, one bit a pixel, named by the digest of the file

Nothing is ever changed or removed: to take something back is an event, too. A mask is on disk before the line that
names it, and the line before `append` returns. All that is read is taken for data that anybody may have written.
"""

import bisect
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wilss.data.taxonomy import VOID
from wilss.digests import digest_of_bytes
from wilss.disk import Location, write_atomically, writing
from wilss.drawing import encoded
from wilss.errors import ImageError, StoreError, first_line
from wilss.store import MaskStore
from wilss.store.review_folder import EVENTS, folder_beside

from .corrections import Correction
from .event_files import EventsFile, OwnEvents
from .folder import MASKS, begin, require_review_of
from .lines import BadLineError, Line, Undo, parsed

Pair = tuple[str, int]


@dataclass(frozen=True, kw_only=True)
class Event(Line):
    """One correction as it stands in a journal. id: its name there. `Journal.mask` reads its mask."""

    id: str

    @property
    def pair(self) -> Pair:
        """The image and class that it is about."""
        return self.image_id, self.category


#: An event, and what orders events: when, by whom, and where it stands in that one's file.
_Keyed = tuple[tuple[datetime, str, int], Event]


class Journal:
    """What people said of the masks of a store. Any number of threads and processes may append at once.

    What others append is seen when it is next asked for. Memory: about 500 bytes an event, and no mask. Use `open`.
    """

    def __init__(self, store: MaskStore, folder: Path, author: str) -> None:
        """For `open` alone."""
        self.store, self.folder, self.author = store, folder, author
        self._sizes = np.stack([store.vector("height"), store.vector("width")], axis=1)
        self._files: dict[str, EventsFile] = {}
        self._of_pair: dict[Pair, list[_Keyed]] = {}
        self._by_id: dict[str, Event] = {}
        self._undone: set[str] = set()
        self._problems: dict[str, None] = {}
        self._own: OwnEvents | None = None
        self._lock = threading.RLock()

    @classmethod
    def open(
        cls,
        store_path: Location | str,
        folder: Path | str | None = None,
        *,
        author: str = "",
        must_exist: bool = False,
        or_another: bool = False,
    ) -> "Journal":
        """The journal of a complete store; by default `step-1.review` beside `step-1.zarr`.

        author: who takes back with `undo`. The folder is made by the first `append`; with must_exist it is there.
        or_another: also take another store's review, to read it: what it says of images is heard, nothing is appended.
        Raises StoreError where the store is not complete, or the folder belongs to another store or holds other things.
        """
        store = MaskStore.open(store_path)
        place = folder_beside(store.path) if folder is None else Path(folder)
        require_review_of(place, store, must_exist, or_another=or_another)
        return cls(store, place, author)

    @property
    def own_file(self) -> str:
        """The name of the file that this journal object appends to; "" where there is none yet."""
        return "" if self._own is None else self._own.path.name

    # -- writing --------------------------------------------------------------------------------------------

    def append(self, correction: Correction) -> str:
        """Add what somebody said; it is on disk when this returns. Returns the event's id, for `undo`.

        Raises ImageError where the store has no such image or class, or the mask another size; StoreError where it
        cannot be written, and then it was not said.
        """
        return self.extend([correction])[0]

    def extend(self, corrections: Iterable[Correction]) -> list[str]:
        """The same for many, which are on disk when this returns. What was added before one that is refused stays."""
        with self._lock, writing(self.folder, then="judge again"):
            own = self._own_file()
            try:
                return [own.append(self._as_line(one)) for one in corrections]
            finally:
                own.sync()

    def undo(self, event_id: str | None = None) -> Event | None:
        """Take an event back, by default the last one that this journal object appended and that still stands.

        Returns what was taken back; None where nothing was left. What stood before then stands again. Raises StoreError
        for an id that is not there.
        """
        with self._lock, writing(self.folder, then="undo it again"):
            event = self._to_undo(event_id)
            if event is None or event.id in self._undone:
                return None
            own = self._own_file()
            own.append(Undo(event_id=event.id, author=self.author, at=datetime.now(UTC)))
            own.sync()
            self._undone.add(event.id)
            return event

    def close(self) -> None:
        """Close the file of this process; the next `append` begins another one."""
        with self._lock:
            if self._own is not None:
                self._own.close()
                self._own = None

    # -- reading --------------------------------------------------------------------------------------------

    def latest(self) -> dict[Pair, Event]:
        """What stands of every image and class that somebody judged, ordered by (at, writer, line); no mask is read.

        Whatever was taken back, by `undo` or as "unjudged", is not there.
        """
        with self._lock:
            self._refresh()
            standing = [stands for events in self._of_pair.values() if (stands := self._standing(events)) is not None]
        return {event.pair: event for _, event in sorted(standing, key=lambda keyed: keyed[0])}

    def of(self, image_id: str) -> dict[int, Event]:
        """What stands of one image, by class."""
        with self._lock:
            self._refresh()
            pairs = ((image_id, category) for category in (*self.store.category_ids, VOID))
            found = {pair[1]: self._standing(self._of_pair.get(pair, [])) for pair in pairs}
        return {category: keyed[1] for category, keyed in found.items() if keyed is not None}

    def corrections(self) -> Iterator[Correction]:
        """The same as `latest`, in that order, with masks; one that cannot be read is left out, see `problems`."""
        for event in self.latest().values():
            try:
                yield self.correction(event)
            except ImageError as error:
                self._tell(str(error))

    def correction(self, event: Event) -> Correction:
        """An event with its mask. Raises ImageError where the mask cannot be read."""
        return Correction(
            image_id=event.image_id,
            category=event.category,
            verdict=event.verdict,
            mask=self.mask(event),
            tag=event.tag,
            author=event.author,
            at=event.at,
            origin=event.origin,
        )

    def mask(self, event: Event) -> NDArray[np.bool_] | None:
        """The mask that an event brings, bool [H, W], or None. Raises ImageError where it is gone or another one."""
        if event.mask_digest is None:
            return None
        path, size = self.folder / MASKS / f"{event.mask_digest}.png", self._size_of(event.image_id)
        try:
            data = path.read_bytes()
            if digest_of_bytes(data) != event.mask_digest:
                raise ValueError("it does not match its name")
            with Image.open(path, formats=["PNG"]) as image:
                if image.mode != "1" or (image.height, image.width) != size:
                    raise ValueError(f"it is {image.width} x {image.height} pixels of mode {image.mode}")
                return np.asarray(np.asarray(image.convert("L")) > 0)  # Pillow's own booleans are bytes of 255
        except (OSError, ValueError, SyntaxError) as error:
            why = getattr(error, "strerror", None) or first_line(error)
            raise ImageError(
                f"{event.image_id!r}: its corrected mask {path} cannot be used ({why}); bring it back, or correct the "
                "image again."
            ) from error

    def problems(self) -> tuple[str, ...]:
        """A sentence for everything that was left out: torn or foreign lines, images and classes that are not there."""
        with self._lock:
            self._refresh()
            torn = [file.path for file in self._files.values() if file.rest]
            return (
                *self._problems,
                *(f"{path}: a kill or a full disk tore its last line, which is left out." for path in torn),
            )

    # -- inside ---------------------------------------------------------------------------------------------

    def _as_line(self, correction: Correction) -> Line:
        self._require_fits(correction)
        digest = None
        if correction.mask is not None:
            data = encoded(Image.fromarray(correction.mask), compress_level=9)
            digest = digest_of_bytes(data)
            path = self.folder / MASKS / f"{digest}.png"
            if not path.is_file():
                write_atomically(path, data)
        return Line(
            image_id=correction.image_id,
            category=correction.category,
            verdict=correction.verdict,
            mask_digest=digest,
            tag=correction.tag,
            author=correction.author,
            at=correction.at.astimezone(UTC),
            origin=correction.origin,
        )

    def _require_fits(self, correction: Correction) -> None:
        if problem := self._misfit(correction.image_id, correction.category):
            raise ImageError(problem)
        size = self._size_of(correction.image_id)
        if correction.mask is not None and correction.mask.shape != size:
            have = correction.mask.shape
            raise ImageError(
                f"{correction.image_id!r}: the mask is {have[1]} x {have[0]} pixels, the image {size[1]} x {size[0]}; "
                "bring it in the image's own size."
            )

    def _misfit(self, image_id: str, category: int) -> str | None:
        row = self.store.find(image_id)
        if row is None:
            return f"{image_id!r} is no image of {self.store.path}; it is left out."
        if not self._sizes[row].all():
            return f"{image_id!r} could not be opened when {self.store.path} was made; it is left out."
        if category != VOID and category not in self.store.category_ids:
            known = ", ".join(map(str, self.store.category_ids))
            return f"{image_id!r}: {self.store.path} has no class {category}, it has {known}; it is left out."
        return None

    def _size_of(self, image_id: str) -> tuple[int, int]:
        height, width = self._sizes[self.store.position(image_id)].tolist()
        return height, width

    def _own_file(self) -> "OwnEvents":
        """The file of this process; a new one after a write that failed, which may have left half a line.

        Raises StoreError where the review is another store's.
        """
        if self._own is None or self._own.is_broken:
            require_review_of(self.folder, self.store, must_exist=False)
            begin(self.folder, self.store)
            self._own = OwnEvents(self.folder)
        return self._own

    def _to_undo(self, event_id: str | None) -> Event | None:
        self._refresh()
        if event_id is not None:
            if event_id not in self._by_id:
                raise StoreError(f"{self.folder} has no event {event_id!r} to undo; look at it again.")
            return self._by_id[event_id]
        own = [] if self._own is None else self._own.ids
        return next((self._by_id[one] for one in reversed(own) if one in self._by_id and one not in self._undone), None)

    def _standing(self, events: Sequence[_Keyed]) -> _Keyed | None:
        """The last of a pair's events that was not taken back; None where it is unjudged. See `Correction`."""
        accepted = None
        for keyed in reversed(events):
            verdict = keyed[1].verdict
            if keyed[1].id in self._undone:
                continue
            if verdict == "accepted":
                accepted = accepted or keyed
            elif accepted is not None:
                return keyed if verdict == "corrected" else accepted
            else:
                return None if verdict == "unjudged" else keyed
        return accepted

    def _refresh(self) -> None:
        """Read what was appended since."""
        for path in sorted(path for path in self.folder.glob(EVENTS.format(writer="*")) if path.is_file()):
            file = self._files.setdefault(path.name, EventsFile(path))
            try:
                for number, line in file.new_lines():
                    self._take(file.writer, number, line)
            except OSError as error:
                self._tell(f"{path} cannot be read ({error.strerror}); change its permissions.")

    def _take(self, writer: str, number: int, raw: bytes) -> None:
        where = f"{self.folder / EVENTS.format(writer=writer)}, line {number + 1}"
        try:
            line = parsed(raw)
        except BadLineError as error:
            self._tell(f"{where} is no event ({error}); it is left out.")
            return
        if isinstance(line, Undo):
            self._undone.add(line.event_id)
            return
        event = Event(id=f"{writer}:{number}", **vars(line))
        self._by_id[event.id] = event
        if problem := self._misfit(*event.pair):
            self._tell(f"{where}: {problem}")
            return
        bisect.insort(self._of_pair.setdefault(event.pair, []), ((event.at, writer, number), event), key=lambda k: k[0])

    def _tell(self, problem: str) -> None:
        self._problems[problem] = None
