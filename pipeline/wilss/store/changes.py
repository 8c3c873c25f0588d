"""Which images and labels are no longer those that a store's masks were made of.

The store holds a content of every image that it has masks of (`wilss.data.contents`): a digest, the same wherever and
whenever the store is made, sealed with it. What makes a look cheap lies beside the store, since it differs from
machine to machine and from copy to copy, and may be lost:

    step-1.zarr.stamps        for each image a stamp of its files, and the content that they had

A stamp holds for the content beside it alone, so that a file of stamps that belongs to another store tells nothing.
Where a stamp is missing or differs, the image or label is read and its content compared: a copied data folder, all of
whose times are new, is read once and found the same.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from ..data.contents import UNKNOWN, MadeOf, contents_of, files_of, stamps_of
from ..data.images import read_size
from ..data.layouts import CocoLabel, ImageRecord, RecordsById
from ..disk import folder_at
from ..errors import ImageError, StoreError
from .schema import Status
from .store import MaskStore

_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What became of the images of a store, by its rows.

    made_of: what its masks are made of. rows: int [N], the record of each image. changed: int [K], ascending.
    resized: of these the ones whose image has another size than their masks, whatever became of the label.
    contents: uint64 [N], what they are now, UNKNOWN of what is gone and where nothing was noted. stamps: uint64 [N].
    """

    made_of: MadeOf
    rows: NDArray[np.integer]
    changed: NDArray[np.intp]
    resized: NDArray[np.intp]
    contents: NDArray[np.uint64]
    stamps: NDArray[np.uint64]

    def sentence(self, records: Sequence[ImageRecord]) -> str:
        """What changed, as in `2 labels have changed: a.png, b.png`."""
        others = np.setdiff1d(self.changed, self.resized)
        changed = [_named(records[row], self.made_of) for row in self.rows[others[:_NAMED]].tolist()]
        resized = [str(records[row].path) for row in self.rows[self.resized[:_NAMED]].tolist()]
        parts = (
            _told(changed, len(others), self.made_of, "changed"),
            _told(resized, len(self.resized), "images", "another size"),
        )
        return "; ".join(filter(None, parts))


def made_of(store: MaskStore) -> MadeOf | None:
    """What the masks of a store are made of; None for an older store, which does not know of what content."""
    word = store.attributes.get("made_of")
    return cast(MadeOf, word) if word in ("images", "labels") and store.layout.has_content else None


def compare(
    store: MaskStore, records: Sequence[ImageRecord], rows: NDArray[np.integer], *, every_byte: bool = False
) -> Comparison | None:
    """Compare what a store's masks were made of with what is on disk now; None for a store that does not know it.

    records, rows: the image at row i of the store is `records[rows[i]]`; there is none where that is negative.
    every_byte: also read what its stamp says has not changed. A file that is gone is no change.
    """
    kind = made_of(store)
    if kind is None:
        return None
    known = store.vector("content")
    status = store.vector("status")
    is_committed = np.repeat(store.vector("shard_digest") != "", store.layout.shard_size)[: len(known)] & (rows >= 0)
    is_noted = is_committed & np.isin(status, (Status.DONE, Status.UNTAGGED)) & (known != UNKNOWN)
    asked = np.flatnonzero(is_noted)
    stamps = np.full(len(known), UNKNOWN, np.uint64)
    stamps[asked] = stamps_of(records, rows[asked], kind)
    kept_stamps, kept_contents = _read_stamps(store)
    is_kept = (stamps == kept_stamps) & (stamps != UNKNOWN) & (known == kept_contents)
    doubtful = asked if every_byte else np.flatnonzero(is_noted & ~is_kept)
    contents = np.where(is_noted, known, np.uint64(UNKNOWN))
    contents[doubtful] = contents_of(records, rows[doubtful], kind)
    differs = (contents[doubtful] != known[doubtful]) & (contents[doubtful] != UNKNOWN)
    changed, resized = doubtful[differs], doubtful[:0]
    if kind == "labels":
        resized = doubtful[_has_other_size(store, records, rows, doubtful)]
        bare = is_committed & ~store.vector("tags").any(axis=1)
        labelled = _newly_labelled(records, rows, is_committed, bare, status, known)
        changed = np.unique(np.concatenate([changed, resized, labelled]))
    return Comparison(made_of=kind, rows=rows, changed=changed, resized=resized, contents=contents, stamps=stamps)


def require_unchanged(store: MaskStore, records: Mapping[str, ImageRecord], *, every_byte: bool = False) -> None:
    """Raise StoreError where an image or label is another one than the masks of the store were made of.

    records: by image id, at least those that the store holds. A store that does not know it is let pass.
    """
    if (told := told_changes(store, records, every_byte=every_byte)) is not None:
        raise StoreError(told)


def told_changes(store: MaskStore, records: Mapping[str, ImageRecord], *, every_byte: bool = False) -> str | None:
    """The same as a sentence; None where nothing has changed.

    The stamps of files that had to be read are kept then, so that the next look need not read them.
    """
    table = RecordsById.of(records)
    result = compare(store, table.records, table.rows(store.image_ids), every_byte=every_byte)
    if result is None:
        return None
    if result.changed.size:
        return (
            f"{store.path} does not fit its {result.made_of} any more: {result.sentence(table.records)}; make those "
            f"masks again with `wilss-masks generate --step {store.step} --update`, or bring the old files back."
        )
    kept_stamps, kept_contents = _read_stamps(store)
    is_known = (result.stamps != UNKNOWN) & (result.contents != UNKNOWN)
    if (is_known & ((result.stamps != kept_stamps) | (result.contents != kept_contents))).any():
        keep_stamps(store, np.where(is_known, result.stamps, np.uint64(UNKNOWN)))
    return None


def changed_since(store: MaskStore, records: Mapping[str, ImageRecord]) -> str | None:
    """What changed since the masks were made, by size and time first, as part of a sentence; None where nothing did.

    records: by image id, at least those that the store holds. Of a store that does not know it, that it does not.
    """
    table = RecordsById.of(records)
    result = compare(store, table.records, table.rows(store.image_ids))
    if result is None:
        return "the store is of an older wilss, which did not note what its images were"
    return result.sentence(table.records) if result.changed.size else None


def keep_stamps(store: MaskStore, stamps: NDArray[np.uint64]) -> None:
    """Write the stamps of all images, uint64 [N], taken before their files were read, beside the store.

    Where that cannot be done, the next look reads the files. An image whose content differs by now must be UNKNOWN.
    A store that notes no contents has no stamps.
    """
    if not store.layout.has_content:
        return
    known = store.vector("content")
    stamps = np.where(known == UNKNOWN, np.uint64(UNKNOWN), stamps)
    beside, data = folder_at(store.path.parent), b"".join(part.astype("<u8").tobytes() for part in (stamps, known))
    name = _stamps_name(store)
    with contextlib.suppress(OSError):
        if not beside.exists(name) or beside.read(name) != data:
            beside.sweep_of(name)
            beside.write(name, data)


def _told(files: Sequence[str], count: int, what: str, how: str) -> str:
    """As in `2 labels have changed: a.png, b.png`, of the first few of `count` files; "" of none."""
    if not count:
        return ""
    counted = f"{count} {what} have" if count > 1 else f"1 {what.removesuffix('s')} has"
    return f"{counted} {how}: {', '.join(files)}{', ...' if count > len(files) else ''}"


def _named(record: ImageRecord, made_of: MadeOf) -> str:
    """The file to look at; of a json of many images, also which of them."""
    if made_of == "labels" and isinstance(record.label, CocoLabel):
        return f"{record.label.path} ({record.image_id})"
    return str(files_of(record, made_of)[-1])


def _stamps_name(store: MaskStore) -> str:
    return f"{store.path.name}.stamps"


def _read_stamps(store: MaskStore) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Stamps and the contents that they are of, uint64 [N] each; UNKNOWN where there are none."""
    beside, name, count = folder_at(store.path.parent), _stamps_name(store), store.layout.num_images
    with contextlib.suppress(OSError):
        if beside.exists(name):  # and is a plain file
            with beside.open(name) as file:
                data = file.read(0, file.size) if file.size == 16 * count else b""
            values = np.frombuffer(data, "<u8").astype(np.uint64)
            if len(values) == 2 * count:
                return values[:count], values[count:]
    empty = np.full(count, UNKNOWN, np.uint64)
    return empty, empty


def _newly_labelled(
    records: Sequence[ImageRecord],
    rows: NDArray[np.integer],
    is_committed: NDArray[np.bool_],
    bare: NDArray[np.bool_],
    status: NDArray[np.int8],
    known: NDArray[np.uint64],
) -> NDArray[np.intp]:
    """The store's rows of images that had no label then and have one now. bare: bool [N], those without a tag."""
    was_done = np.isin(status, (Status.DONE, Status.UNTAGGED))
    had_none = (status == Status.UNLABELLED) | (bare & was_done & (known == UNKNOWN))
    asked = np.flatnonzero(is_committed & had_none)
    has_one = contents_of(records, rows[asked], "labels") != UNKNOWN
    return np.asarray(asked[has_one])


def _has_other_size(
    store: MaskStore, records: Sequence[ImageRecord], rows: NDArray[np.integer], asked: NDArray[np.intp]
) -> NDArray[np.bool_]:
    """bool [K]: which of the images at the store's rows `asked` have another size than their masks."""
    sizes = np.stack([store.vector("height")[asked], store.vector("width")[asked]], axis=1)
    now = sizes.copy()
    for place, row in enumerate(rows[asked].tolist()):
        with contextlib.suppress(ImageError):
            now[place] = read_size(records[row].path)
    return np.asarray((now != sizes).any(axis=1))
