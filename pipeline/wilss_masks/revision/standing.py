"""What stands of every mask once all corrections are heard, whichever way and in whatever order they came."""

import contextlib
import dataclasses
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wilss.data.taxonomy import VOID
from wilss.digests import digest_of_bytes, digest_of_json
from wilss.errors import ImageError, counted
from wilss.store import MaskStore, Status
from wilss.store.review_folder import is_of
from wilss.store.verdicts import UNJUDGED, VERDICTS, Verdict, verdicts_of

from ..review import Correction, Event, Journal

#: Of an author's or origin's text, so much is kept in a store.
_LONGEST_TEXT = 200
#: Masks that a sentence names, of any number.
_SHOWN = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class Change:
    """What becomes of one mask. mask: gives bool [H, W], None where none was brought; the rest as in `Correction`.

    mask_digest: of its pixels, whatever file they came in. source: where it came from, for sentences.
    """

    verdict: Verdict
    mask: Callable[[], NDArray[np.bool_]] | None
    mask_digest: str | None
    tag: bool | None
    author: str
    origin: str
    source: str

    def same_as(self, other: "Change") -> bool:
        """Whether both say the same, whoever said it."""
        mine, theirs = (self.verdict, self.mask_digest, self.tag), (other.verdict, other.mask_digest, other.tag)
        return mine == theirs


@dataclass(frozen=True, kw_only=True)
class Standing:
    """changes: row on the store's image axis -> taxonomy id, or VOID -> change.

    refused: a sentence for every image that does not fit. notes: sentences about how the rest was taken.
    """

    changes: dict[int, dict[int, Change]] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def digest(self, store: MaskStore) -> str:
        """sha256 of all that stands; equal corrections have equal ones, however they were written down."""
        facts = [
            [store.image_ids[row], category, one.verdict, one.tag, one.mask_digest, one.author, one.origin]
            for row, changes in sorted(self.changes.items())
            for category, one in sorted(changes.items())
        ]
        return digest_of_json(facts, compact=True)


class Hearing:
    """Hears corrections one by one, the later ones over the earlier, and refuses those that do not fit the store."""

    def __init__(self, store: MaskStore) -> None:
        self._store, self.standing = store, Standing()
        self._sizes = np.stack([store.vector("height"), store.vector("width")], axis=1)
        self._tags, self._area, self._verdict = store.vector("tags"), store.vector("area"), verdicts_of(store)
        self._is_done = store.current_status() == Status.DONE
        self._overruled: dict[tuple[str, str], list[str]] = {}
        self._not_cleared: dict[str, None] = {}

    def hear_journal(self, journal: Journal) -> None:
        """All that stands in a journal; its masks are looked at now and read again when they are written.

        Of another store's review what was drawn and tagged, but no verdict on masks that are not these.
        """
        is_own, left_out = is_of(journal.folder, self._store), 0
        for event in journal.latest().values():
            if event.verdict != "corrected" and not is_own:
                left_out += 1
                continue
            with _refusing(self.standing, event.image_id):
                mask = None if event.mask_digest is None else _mask_of(journal, event)
                self._hear(journal.correction(event), str(journal.folder), mask)
        self.standing.refused.extend(journal.problems())
        if left_out:
            self.standing.notes.append(
                f"{journal.folder} is a review of another store: {counted(left_out, 'verdict')} on its masks left out, "
                "and what was drawn or tagged is taken."
            )

    def hear(self, corrections: Iterable[Correction], source: str, author: str = "") -> None:
        """Corrections out of a file, over all that was heard before. source: its name, for sentences.

        author: of those that name nobody and say something new.
        """
        for correction in corrections:
            with _refusing(self.standing, correction.image_id):
                mask = None if correction.mask is None else Packed(correction.mask)
                self._hear(correction, source, mask, author)
        # what a reader of files has to tell, whole once the last has been given
        self.standing.refused.extend(getattr(corrections, "problems", ()))
        self.standing.notes.extend(getattr(corrections, "notes", ()))

    def close(self) -> Standing:
        """What stands."""
        for (before, now), names in self._overruled.items():
            self.standing.notes.append(
                f"{_masks_are(names)} told otherwise by {before} and by {now} ({_some(names)}); the latter counts."
            )
        if self._not_cleared:
            names = [*self._not_cleared]
            self.standing.notes.append(
                f"{_masks_are(names)} to be unjudged ({_some(names)}), and the verdict of {self._store.path} itself "
                "stays; judge otherwise, or revise the store that it was made of."
            )
        return self.standing

    def _hear(self, correction: Correction, source: str, mask: Callable[[], Any] | None, author: str = "") -> None:
        row = self._store.find(correction.image_id)
        if row is None:
            raise ImageError(f"{self._store.path} has no such image; rename it as it is called there, or leave it out.")
        changes = self.standing.changes.get(row, {})
        before = changes.get(correction.category)
        self._require_fits(correction, row, before)
        change = _change_of(correction, source, mask)
        if not correction.author and self._is_said_already(change, correction, row, before):
            return  # by somebody who may have a name
        change = dataclasses.replace(change, author=change.author or _text(author))
        if before is not None and before.source != source and not change.same_as(before):
            name = f"{correction.image_id} {self._name_of(correction.category)}"
            self._overruled.setdefault((before.source, source), []).append(name)
        if correction.verdict == "unjudged":
            if changes.pop(correction.category, None) is None and self._stored_verdict(row, correction.category):
                self._not_cleared[f"{correction.image_id} {self._name_of(correction.category)}"] = None
        elif not (correction.verdict == "accepted" and before is not None and before.verdict == "corrected"):
            if self._changes_nothing(correction, row):
                changes.pop(correction.category, None)
            else:
                changes[correction.category] = change
        self.standing.changes.pop(row, None)
        if changes:
            self.standing.changes[row] = changes

    def _is_said_already(self, change: Change, correction: Correction, row: int, before: Change | None) -> bool:
        """Whether the same stands of a mask, by what was heard before or, where that is nothing, by the store."""
        if before is not None:
            return change.same_as(before)
        if change.verdict not in ("accepted", "rejected"):
            return False
        stored = VERDICTS[self._stored_verdict(row, correction.category)]
        return stored == change.verdict or (stored, change.verdict) == ("corrected", "accepted")

    def _stored_verdict(self, row: int, category: int) -> int:
        """That of the store itself; void has none."""
        return UNJUDGED if category == VOID else int(self._verdict[row, self._store.category_ids.index(category)])

    def _name_of(self, category: int) -> str:
        store = self._store
        return "void" if category == VOID else store.category_names[store.category_ids.index(category)]

    def _changes_nothing(self, correction: Correction, row: int) -> bool:
        """Whether it only says a tag that is there already."""
        if correction.mask is not None or correction.tag is None:
            return False
        return bool(self._tags[row, self._store.category_ids.index(correction.category)]) == correction.tag

    def _require_fits(self, correction: Correction, row: int, before: Change | None) -> None:
        """Raise ImageError where the store has no such class or mask, or the image another size."""
        store, (height, width) = self._store, self._sizes[row].tolist()
        if correction.category != VOID and correction.category not in store.category_ids:
            known = ", ".join(f"{i} {name}" for i, name in zip(store.category_ids, store.category_names, strict=True))
            raise ImageError(f"{store.path} has no class {correction.category}; it has {known}.")
        if not height:
            raise ImageError(f"it could not be opened when {store.path} was made; make its masks first.")
        if correction.mask is not None and correction.mask.shape != (height, width):
            have = correction.mask.shape
            raise ImageError(
                f"the mask of class {correction.category} is {have[1]} x {have[0]} pixels, the image {width} x "
                f"{height}; bring it in the image's own size."
            )
        if correction.verdict in ("accepted", "rejected"):
            place = store.category_ids.index(correction.category)
            has_mask = self._is_done[row] and (self._tags[row, place] or self._area[row, place])
            if not has_mask and before is None:
                raise ImageError(f"it has no mask of class {correction.category} that could be {correction.verdict}.")


class Packed:
    """A mask that waits, one bit a pixel and compressed; called, gives bool [H, W]."""

    def __init__(self, mask: NDArray[np.bool_]) -> None:
        self._shape, self._bits = mask.shape, zlib.compress(np.packbits(mask).tobytes(), 1)

    def __call__(self) -> NDArray[np.bool_]:
        """The mask, bool [H, W]."""
        bits = np.unpackbits(np.frombuffer(zlib.decompress(self._bits), np.uint8), count=int(np.prod(self._shape)))
        return bits.reshape(self._shape).astype(np.bool_)


@contextlib.contextmanager
def _refusing(standing: Standing, image_id: str) -> Iterator[None]:
    """One image that does not fit stops nothing but itself."""
    try:
        yield
    except ImageError as error:
        why = str(error)
        standing.refused.append(why if why.startswith(repr(image_id)) else f"{image_id!r}: {why}")


def _masks_are(names: Sequence[str]) -> str:
    return "1 mask is" if len(names) == 1 else f"{len(names)} masks are"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def _change_of(correction: Correction, source: str, mask: Callable[[], Any] | None) -> Change:
    is_empty = correction.mask is not None and not correction.mask.any() and correction.category != VOID
    return Change(  # a mask without a pixel says that the class is not there
        verdict=correction.verdict,
        mask=None if is_empty else mask,
        mask_digest=None if is_empty or correction.mask is None else _digest(correction.mask),
        tag=False if is_empty else correction.tag,
        author=_text(correction.author),
        origin=_text(correction.origin),
        source=source,
    )


def _mask_of(journal: Journal, event: Event) -> Callable[[], NDArray[np.bool_]]:
    """Reads the mask that an event brings. Raises ImageError where it is not there any more."""

    def read() -> NDArray[np.bool_]:
        mask = journal.mask(event)
        assert mask is not None
        return mask

    return read


def _digest(mask: NDArray[np.bool_]) -> str:
    height, width = mask.shape
    return digest_of_bytes(f"{height} {width} ".encode() + np.packbits(mask).tobytes())


def _text(text: str) -> str:
    """As a store can hold it: lone surrogates are no text to zarr."""
    return text[:_LONGEST_TEXT].encode("utf-8", "replace").decode("utf-8")
