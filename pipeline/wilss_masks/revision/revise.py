"""`revise`: a new sealed store with what people said of the masks of another one. No forward pass, no images.

Shards in which no pixel changes are the same files in both stores. The new store is built beside `out` and renamed when
it is whole: a kill leaves nothing that could be taken for it, and the same command begins again. Its bytes follow from
the first store and the corrections, whatever the order in which these were written down, and the number of threads.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wilss.data.taxonomy import VOID
from wilss.digests import version_of
from wilss.disk import Folder, Location, folder_at, location_of, writing
from wilss.errors import StoreError
from wilss.process import map_in_threads
from wilss.store import (
    MaskStore,
    MaskStoreWriter,
    ShardReceipt,
    Status,
    StoreHeader,
    StoreReview,
    write_shard,
)
from wilss.store.carrying import link_shard, require_whole_shard, stored_content
from wilss.store.features import kept_bases
from wilss.store.review_folder import ABOUT
from wilss.store.shards import digest_on_disk
from wilss.store.verdicts import CORRECTED, VERDICTS, FromWhom, from_whom, review_of

from ..exchange import read
from ..inspect.fuse import refuse_bad_target
from ..review import Correction, Journal
from .images import Rejected, needs_void, revised_content, tags_after
from .standing import Change, Hearing, Standing

#: Attributes that belong to one store and not to what it was made with.
_OWN = ("format", "format_version", "seal")


@dataclass(frozen=True, kw_only=True)
class Revised:
    """What came of it.

    store: the new one. images: of how many something was said. refused: a sentence for everything that does not fit.
    notes: sentences about how the rest was taken. whom: see `from_whom`.
    """

    store: MaskStore
    images: int
    refused: tuple[str, ...]
    notes: tuple[str, ...]
    whom: FromWhom


def revise(
    store: MaskStore | Location | str,
    out: Location | str,
    *,
    review: Path | str | None = None,
    files: Sequence[Path | str] = (),
    form: str | None = None,
    corrections: Mapping[str, Iterable[Correction]] | None = None,
    author: str = "",
    rejected: Rejected = "void",
    overwrite: bool = False,
    threads: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Revised:
    """Make the store `out` from `store` and what people said of its masks.

    review: the folder of a review, None for the one beside the store. files: what came back from other tools, see
    `wilss_masks.exchange.read`, or folders of other reviews; of another store's what was drawn and tagged is taken, and
    no verdict. form: that of the files of other tools, where it is not to be recognised. corrections: more, by the name
    of their source. Files count over the review, corrections over both, later ones over earlier; with some, there need
    be no review. author: of what `files` of other tools say and name nobody for; where such a file says what is said
    already, whoever said it stays.
    rejected: `void`, where the pixels of a rejected mask count for nothing, or `absent`, where its image is taken not
    to hold the class.
    What does not fit is refused image by image, and the rest is done. Raises StoreError when the store is incomplete
    or damaged, the review is missing or another store's, nothing was said, or `out` is there and not to be overwritten.
    """
    old, target = store if isinstance(store, MaskStore) else MaskStore.open(store), location_of(out)
    refuse_bad_target(old, target, overwrite, "to be revised")
    for damage in old.verify_but_shards():
        raise StoreError(f"{old.path} is damaged: {damage.what}; fetch another copy, or make it again.")
    standing = _heard(old, review, [Path(file) for file in files], form, corrections or {}, author)
    if not standing.changes:
        raise StoreError(_nothing_new(old, standing, [*map(str, files), *(corrections or {})]))
    with writing(target):
        folder = folder_at(target)
        with folder.lock(), folder.built_beside() as building:
            _Builder(old, building, standing, rejected).build(threads, progress)
    made = MaskStore.open(target)
    return Revised(
        store=made,
        images=len(standing.changes),
        refused=tuple(standing.refused),
        notes=tuple(standing.notes),
        whom=from_whom(made),
    )


def _heard(
    store: MaskStore,
    review: Path | str | None,
    files: Sequence[Path],
    form: str | None,
    corrections: Mapping[str, Iterable[Correction]],
    author: str,
) -> Standing:
    hearing = Hearing(store)
    must_exist = review is not None or not (files or corrections)
    hearing.hear_journal(Journal.open(store.path, review, must_exist=must_exist))
    for file in files:
        if (file / ABOUT).is_file():
            hearing.hear_journal(Journal.open(store.path, file, must_exist=True, or_another=True))
        else:
            hearing.hear(read(file, store, form), str(file), author)
    for source, told in corrections.items():
        hearing.hear(told, source)
    return hearing.close()


def _nothing_new(store: MaskStore, standing: Standing, sources: Sequence[str]) -> str:
    """Why there is nothing to revise, and what to do. sources: all but the review."""
    judge = f"judge some with `wilss-masks review {store.path}`"
    if standing.refused:
        also = f"correct {' and '.join(sources)}, or " if sources else ""
        return (
            f"nothing that was said fits the masks of {store.path} ({standing.refused[0].rstrip('.')}); {also}{judge}."
        )
    if not sources:
        return f"nothing is said of the masks of {store.path}; {judge}."
    why = "".join(standing.notes[:1]).rstrip(".")
    return (
        f"{' and '.join(sources)}: all is as in {store.path} already, and there is nothing to revise"
        f"{f' ({why})' if why else ''}; correct or judge masks there, and export again."
    )


class _Builder:
    """Writes every shard of the new store, in several threads, commits them in order and seals it."""

    def __init__(self, old: MaskStore, folder: Folder, standing: Standing, rejected: Rejected) -> None:
        self._old, self._folder, self._rejected = old, folder, rejected
        places = {identity: place for place, identity in enumerate(old.category_ids)} | {VOID: VOID}
        self._changes = {
            row: {places[category]: change for category, change in changes.items()}
            for row, changes in standing.changes.items()
        }
        self._tags, self._status = old.vector("tags"), old.vector("status")
        self._sizes = np.stack([old.vector("height"), old.vector("width")], axis=1)
        self._uses_tags = old.attributes.get("uses_tags") is not False
        self._layout = dataclasses.replace(old.layout, has_void=self._has_void(), has_review=True)
        self._attributes = _attributes(old, standing, rejected)

    def build(self, threads: int | None, progress: Callable[[int, int], None]) -> None:
        writer = MaskStoreWriter.create(self._folder, self._header())
        new, done = writer.store, 0
        for receipt in map_in_threads(lambda shard: self._shard(new, shard), range(self._layout.num_shards), threads):
            writer.commit(receipt)
            done += len(receipt.status)
            progress(done, self._layout.num_images)
        writer.seal()

    def _shard(self, new: MaskStore, shard: int) -> ShardReceipt:
        receipt, rows = self._old.receipt(shard), self._layout.rows(shard)
        require_whole_shard(self._old, receipt)
        if not any(_changes_pixels(self._changes.get(row, {})) for row in rows):
            link_shard(self._old, new, shard, shard)
            return dataclasses.replace(receipt, digest=digest_on_disk(self._folder, self._layout, shard))
        contents = [stored_content(self._old, row, receipt) for row in rows]
        for place, row in enumerate(rows):
            if changes := self._changes.get(row):
                contents[place] = revised_content(
                    contents[place], tuple(self._sizes[row].tolist()), self._tags[row], changes, self._rejected,
                    has_void=self._layout.has_void, uses_tags=self._uses_tags,
                )  # fmt: skip
        return write_shard(self._folder, self._layout, shard, contents)

    def _has_void(self) -> bool:
        return self._old.layout.has_void or any(
            needs_void(changes, self._rejected, is_unknown=self._status[row] == Status.FAILED)
            for row, changes in self._changes.items()
        )

    def _header(self) -> StoreHeader:
        old, layout = self._old, self._layout
        return StoreHeader(
            layout=layout,
            image_ids=old.image_ids,
            category_ids=old.category_ids,
            category_names=old.category_names,
            heights=old.vector("height"),
            widths=old.vector("width"),
            tags=self._new_tags(),
            status=np.where(self._status == Status.UNTAGGED, self._status, np.int8(Status.PENDING)),
            errors=("",) * layout.num_images,
            attributes=self._attributes,
            review=self._review(),
            bases=kept_bases(old),
        )

    def _new_tags(self) -> NDArray[np.bool_]:
        tags = self._tags.copy()
        for row, changes in self._changes.items():
            tags[row] = tags_after(self._tags[row], changes, self._rejected)
        return tags

    def _review(self) -> StoreReview:
        review = review_of(self._old)
        said = ((row, place, one) for row, changes in self._changes.items() for place, one in changes.items())
        for row, place, change in said:
            if place == VOID or (change.verdict == "accepted" and review.verdict[row, place] == CORRECTED):
                continue
            review.verdict[row, place] = VERDICTS.index(change.verdict)
            review.author[row, place], review.origin[row, place] = change.author, change.origin
        return review


def _changes_pixels(changes: Mapping[int, Change]) -> bool:
    return any(change.verdict != "accepted" for change in changes.values())


def _attributes(store: MaskStore, standing: Standing, rejected: Rejected) -> dict[str, Any]:
    """The first store's, and what became of it: of which store it was made, and of which corrections."""
    kept = {name: value for name, value in store.attributes.items() if name not in _OWN}
    revision = {
        "parent": store.digest,
        "corrections": standing.digest(store),
        "rejected": rejected,
        "wilss": version_of("wilss"),
    }
    return {**kept, "revisions": [*store.attributes.get("revisions", []), revision]}
