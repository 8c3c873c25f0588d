"""Opening a store to be judged: its images, its journal, and what it is held against."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from wilss.data.layouts import ImageRecord
from wilss.data.layouts.named_images import rows_named
from wilss.data.manifest import Manifest
from wilss.data.names import some
from wilss.disk import Location
from wilss.errors import StoreError
from wilss.store import MaskStore
from wilss.store.records import records_for

from .changes import Changes
from .compared import Comparison, open_predictions, read_label_quality
from .index import build_index, read_ids
from .journal import Journal
from .pictures import Pictures
from .session import ReviewSession

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a user named. folder: of the journal, None for the one beside the store. cache: None for none."""

    author: str
    folder: Path | None = None
    predictions: Path | None = None
    label_quality: Path | None = None
    only: Path | None = None
    cache: Path | None = None


def open_session(path: Location, manifest: Manifest, asked: Asked) -> ReviewSession:
    """Open everything; comparing with predictions begins beside. Raises StoreError or ParameterError."""
    journal = Journal.open(path, asked.folder, author=asked.author)
    store: MaskStore = journal.store
    records = records_for(store, manifest)
    changes = Changes(journal)
    only = None if asked.only is None else _listed(asked.only, store, records)
    index = build_index(store, changes.judged(), only)
    predictions = None if asked.predictions is None else open_predictions(asked.predictions)
    quality = None if asked.label_quality is None else read_label_quality(asked.label_quality, index, store)
    comparison = None if predictions is None else Comparison(store, index, predictions, asked.cache)
    session = ReviewSession(
        store=store, records=records, index=index, changes=changes, author=asked.author, quality=quality,
        pictures=Pictures(store, records, asked.cache), predictions=predictions, comparison=comparison,
    )  # fmt: skip
    if comparison is not None:
        comparison.start()
    return session


def _listed(path: Path, store: MaskStore, records: Mapping[str, ImageRecord]) -> list[str]:
    """The ids of the images that a list names; those that the store does not hold are told. Raises StoreError."""
    names, ids = read_ids(path), store.image_ids
    named = rows_named(names, ids, lambda row: str(records[ids[row]].path))
    if told := named.told_several(path):
        raise StoreError(told)
    found = [ids[row] for row in named.rows.tolist() if row >= 0]
    unknown = [name for name, row in zip(names, named.rows.tolist(), strict=True) if row < 0]
    if found and unknown:
        log.warning("%s names %s, which %s does not hold; the others are shown", path, some(unknown), store.path)
    return found or names
