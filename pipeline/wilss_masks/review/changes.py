"""What stands of every mask, numbered as it came: how several browsers, and several programs, see each other's work.

The journal is what is kept; here is only which of it a browser has not seen yet. Under it stand the verdicts that a
revised store has itself: what is said of such a mask counts over them, and once it is taken back they stand again.
"""

import bisect
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from wilss.store import MaskStore
from wilss.store.review_folder import EVENTS
from wilss.store.verdicts import UNJUDGED, VERDICTS, review_of

from .corrections import TIME_UNKNOWN, Correction
from .journal import Event, Journal, Pair


class Changes:
    """The journal's state of every (image id, class), and the numbers under which it changed. For many threads."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self._lock = threading.RLock()
        self._standing: dict[Pair, Event] = {}
        self._of_store = stored_verdicts(journal.store)
        self._numbers: list[int] = []
        self._pairs: list[tuple[Pair, str]] = []
        self._seen: tuple[tuple[str, int], ...] | None = None
        self._note(list(self._of_store), "")
        self.look()

    @property
    def number(self) -> int:
        """That of the latest change."""
        return self._numbers[-1] if self._numbers else 0

    def standing(self, pair: Pair) -> Event | None:
        """What stands of a mask; None where nobody judged it."""
        event, stored = self._standing.get(pair), self._of_store.get(pair)
        if event is None or (stored is not None and event.verdict == "accepted" and stored.verdict == "corrected"):
            return stored
        return event

    def judged(self) -> list[Pair]:
        """All masks of which something stands."""
        return list({**self._of_store, **self._standing})

    def since(self, number: int) -> tuple[int, list[tuple[Pair, Event | None, str]]]:
        """The latest number, and every pair that changed after `number` with what stands of it and who changed it.

        The last is the name that a browser gave itself, "" for another program's changes.
        """
        with self._lock:
            self.look()
            first = bisect.bisect_right(self._numbers, number)
            latest = dict(self._pairs[first:])
            return self.number, [(pair, self.standing(pair), who) for pair, who in latest.items()]

    def append(self, corrections: Sequence[Correction], who: str) -> list[str]:
        """Keep corrections; they are on disk when this returns. Returns their ids. Raises as `Journal.extend`."""
        with self._lock:
            self.look()
            try:
                return self.journal.extend(corrections)
            finally:  # those before one that is refused are kept
                self._take([(one.image_id, one.category) for one in corrections], who)

    def undo(self, event_ids: Sequence[str], who: str) -> list[Event]:
        """Take back events, the last first; those that were taken back already are left out. Raises StoreError."""
        with self._lock:
            self.look()
            undone = [event for one in reversed(event_ids) if (event := self.journal.undo(one)) is not None]
            self._take([event.pair for event in undone], who)
            return undone

    def look(self) -> None:
        """See what other programs appended to the journal since."""
        with self._lock:
            seen = _signature(self.journal.folder)
            if seen == self._seen:
                return
            latest = self.journal.latest()
            changed = [pair for pair, event in latest.items() if self._id(pair) != event.id]
            changed += [pair for pair in self._standing if pair not in latest]
            self._standing = latest
            self._note(changed, "")
            self._seen = seen

    def _take(self, pairs: Sequence[Pair], who: str) -> None:
        """What stands of some pairs after this process changed them."""
        changed = []
        for image_id in dict.fromkeys(image_id for image_id, _ in pairs):
            now = self.journal.of(image_id)
            for pair in dict.fromkeys(pair for pair in pairs if pair[0] == image_id):
                before, event = self._id(pair), now.get(pair[1])
                if event is None:
                    self._standing.pop(pair, None)
                else:
                    self._standing[pair] = event
                if before != self._id(pair):
                    changed.append(pair)
        self._note(changed, who)
        now_there = _signature(self.journal.folder)
        changed_files = {name for name, _ in set(now_there) - set(self._seen or ())}
        if changed_files <= {self.journal.own_file}:  # else others wrote meanwhile
            self._seen = now_there

    def _id(self, pair: Pair) -> str | None:
        event = self._standing.get(pair)
        return None if event is None else event.id

    def _note(self, pairs: Sequence[Pair], who: str) -> None:
        if pairs:
            number = self.number + 1
            self._numbers += [number] * len(pairs)
            self._pairs += [(pair, who) for pair in pairs]


def stored_verdicts(store: MaskStore) -> dict[Pair, Event]:
    """What a revised store says itself of its masks, as events of no journal, whose id is "" and whose time unknown."""
    if not store.layout.has_review:
        return {}
    review, tags = review_of(store), store.vector("tags")
    found = {}
    for row, place in np.argwhere(review.verdict != UNJUDGED).tolist():
        verdict = VERDICTS[review.verdict[row, place]]
        event = Event(
            id="",
            image_id=store.image_ids[row],
            category=store.category_ids[place],
            verdict=verdict,
            mask_digest=None,
            tag=False if verdict == "corrected" and not tags[row, place] else None,
            author=str(review.author[row, place]),
            at=TIME_UNKNOWN,
            origin=str(review.origin[row, place]),
        )
        found[event.pair] = event
    return found


def _signature(folder: Path) -> tuple[tuple[str, int], ...]:
    """Names and sizes of the files of events, which only ever grow."""
    return tuple((path.name, path.stat().st_size) for path in sorted(folder.glob(EVENTS.format(writer="*"))))
