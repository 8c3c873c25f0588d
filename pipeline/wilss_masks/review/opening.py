"""Opening a store to be judged: its images, its journal, and what it is held against."""

from dataclasses import dataclass
from pathlib import Path

from wilss.data.manifest import Manifest
from wilss.disk import Location
from wilss.store import MaskStore
from wilss.store.records import records_for

from .changes import Changes
from .compared import Comparison, open_predictions, read_label_quality
from .index import build_index, read_ids
from .journal import Journal
from .pictures import Pictures
from .session import ReviewSession


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
    index = build_index(store, changes.judged(), None if asked.only is None else read_ids(asked.only))
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
