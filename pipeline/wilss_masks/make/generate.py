"""`generate`: the first verb as a function call. Images and tags in, a complete mask store out.

Everything that can be refused is refused before the first forward pass.
"""

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wilss.data.contents import UNKNOWN, stamps_of
from wilss.data.layouts import ImageRecord, Selection
from wilss.data.manifest import Manifest, require_locked_contents, require_manifest
from wilss.disk import Location, folder_at, is_there, part_lock
from wilss.errors import StoreError, counted
from wilss.process import share_one_heap
from wilss.store import MaskStore, MaskStoreWriter, ShardReceipt, StoreParts, seal_parts
from wilss.store.changes import keep_stamps
from wilss.store.parts import discard_parts, left_of_parts

from ..sources.base import MaskSource, made_of
from .cluster import connect
from .features import planned_features, with_feature_parts, with_features_from
from .job import job_of, use_threads
from .made_with import attributes_of
from .options import Options, require_consistent, require_means
from .parts import begun, is_in_parts, make_in_parts
from .plan import MaskPlan
from .request import (
    plan_for,
    require_classes_of,
    require_known_names,
    require_other_than_read,
    selection_for,
    store_path,
)
from .resume import (
    Looked,
    compatible,
    create_or_resume,
    is_finished,
    is_of,
    keeping_confidences,
    keeping_what_is_kept,
    require_compared,
    require_whole,
    require_writable,
)
from .run import Workers, run, run_parts
from .summary import Summary, region_warnings, summary_of, warnings_of

#: Called with (images done so far, images in the store), first before any is made.
Progress = Callable[[int, int], None]


def images_made(store: MaskStore) -> int:
    """How many images are in committed shards, which a run that is stopped keeps."""
    layout = store.layout
    pending = sum(len(layout.rows(shard)) for shard in store.shards_to_make())
    return layout.num_images - pending


def generate(
    manifest: Manifest,
    *,
    step: int,
    source: MaskSource,
    out: Location | str | None = None,
    options: Options = Options(),
    features_from: Sequence[Location] = (),
    progress: Progress = lambda done, total: None,
    tell: Callable[[str], None] = lambda sentence: None,
    before_making: Callable[[], None] = lambda: None,
) -> Summary:
    """Make the masks of one step, or go on where an earlier call stopped; a complete store is left alone.

    features_from: stores with kept features, which stand for the images that they are of.
    tell: called at once with a sentence that says what there is to do; networks are loaded after that.
    before_making: called once it is known that there is something to make, before networks are loaded.
    Raises StoreError when `out` was made with anything else (naming the difference), is being written by
    somebody else or cannot be written; ParameterError for a source of another step; ManifestError, WeightsError,
    EncoderError for what they name.
    """
    started = time.perf_counter()
    share_one_heap()  # before threads start
    require_manifest(manifest)
    require_consistent(options)
    require_classes_of(source, manifest, step)
    path = store_path(manifest, step, out, options.split)
    require_other_than_read(path, source, features_from)
    options = keeping_what_is_kept(path, options)
    source = with_feature_parts(source, options)
    selection = selection_for(manifest, step, source, options.split)
    records = selection.records[: options.limit]
    of_regions = tuple(region_warnings(source, records))
    tell(f"step {step} of {manifest.name} by {source.name}: {_extent(len(records), options.shard_size)}")
    if features_from:
        source = with_features_from(source, features_from, records, tell)
    if not (is_made := _is_made(path, options)):
        require_known_names(source)
    attributes = keeping_confidences(path, attributes_of(manifest, step, source, records, options), options)
    asked = _Asked(manifest, step, source, records, options, path, attributes, tell)
    counting = _Counting(progress)
    lost = _make_what_is_asked(asked, counting, before_making, was_complete=is_made)
    return _summary(asked, selection, of_regions, lost, made_now=counting.made, seconds=time.perf_counter() - started)


def _is_made(path: Location, options: Options) -> bool:
    """Whether a complete store is there, so that there may be nothing to do: no library of encoders is loaded yet."""
    return not options.overwrite and is_there(path) and MaskStore.open(path, allow_partial=True).is_complete


def _extent(images: int, shard_size: int) -> str:
    return f"{counted(images, 'image')}, {counted(-(-images // shard_size), 'shard')} of up to {shard_size}"


@dataclass(frozen=True)
class _Asked:
    """What one call is to make. attributes: what a store of it notes."""

    manifest: Manifest
    step: int
    source: MaskSource
    records: Sequence[ImageRecord]
    options: Options
    path: Location
    attributes: Mapping[str, Any]
    tell: Callable[[str], None]

    def existing(self) -> MaskStore | None:
        """The store that is there, if it goes on; StoreError for one that was made with anything else."""
        return compatible(self.path, self.attributes, self.options, self.records, self.manifest.encoders)


def _summary(
    asked: _Asked,
    selection: Selection,
    of_regions: Sequence[str],
    lost: tuple[str, ...],
    *,
    made_now: int,
    seconds: float,
) -> Summary:
    """What the store holds now, and what is to be told of it. of_regions: see `region_warnings`."""
    store, records = MaskStore.open(asked.path, allow_partial=True), asked.records
    told = warnings_of(store, asked.manifest, records, asked.source, selection.records)
    return summary_of(
        store,
        records,
        made_now=made_now,
        seconds=seconds,
        warnings=(*selection.warnings, *of_regions, *told),
        lost=lost,
        left_out=len(selection.records) - len(records),
    )


def _make_what_is_asked(
    asked: _Asked, counting: "_Counting", before_making: Callable[[], None], *, was_complete: bool
) -> tuple[str, ...]:
    """Make what is not there, if anything; returns what was lost.

    was_complete: the store was, so that nobody has looked at the names of encoders yet.
    """
    source, options = asked.source, asked.options
    if options.check_digests:
        require_locked_contents(asked.manifest, asked.step, options.split)
    is_done, looked = _is_done(asked)
    if is_done:
        return ()
    before_making()
    if was_complete:
        require_known_names(source)
    if first := getattr(source, "preparing", ""):
        asked.tell(first)
    return _make_part(asked, counting) if is_in_parts(asked.path, options) else _make_missing(asked, looked, counting)


def _is_done(asked: _Asked) -> tuple[bool, Looked | None]:
    """Whether nothing is to be made, and what a look at the files has found that the masks were made of.

    Also looks at what is small of the store. Raises StoreError where something has changed or is damaged.
    """
    existing = asked.existing()
    if existing is None or not is_of(existing, asked.attributes, asked.manifest.encoders):
        return False, None
    if not is_finished(existing, asked.options):
        return False, None
    if left_of_parts(asked.path):  # whoever sealed it was killed before the last touch
        seal_parts(asked.path)
    if asked.options.part is not None:  # each of many processes would read all images
        require_whole(existing)
        return True, None
    comparison, has_changed = require_compared(existing, asked.records, asked.options)
    if has_changed:
        return False, Looked(digest=existing.digest, comparison=comparison)
    require_whole(existing)
    if comparison is not None:
        keep_stamps(existing, comparison.stamps)
    return True, None


def _make_missing(asked: _Asked, looked: Looked | None, counting: "_Counting") -> tuple[str, ...]:
    """Make what the store lacks, as its only writer; returns what was lost."""
    path, source, records, options = asked.path, asked.source, asked.records, asked.options
    require_means(options)
    require_writable(path)
    with folder_at(path).lock():
        existing = asked.existing()  # again: somebody may have finished it meanwhile
        if is_in_parts(path, options):
            raise StoreError(f"{path} is being made in parts by now; run the same command again to take part.")
        discard_parts(path)  # of a store that was here before
        has_content = existing is None or existing.layout.has_content or options.update
        before = _stamps(records, source)
        plan = _planned(asked, existing, has_content)
        writer = create_or_resume(path, plan, asked.attributes, options, asked.manifest.encoders, looked)
        try:
            lost = _make(writer, plan, source, options, counting)
        finally:
            _keep_stamps(path, before, records, source)  # also of what was made by a run that ends early
        folder_at(path).settle()  # once more: an old store may not have let itself be removed
    return lost


def _make_part(asked: _Asked, counting: "_Counting") -> tuple[str, ...]:
    """Make a part of the store, and what others have left of it, as one of many processes; returns what was lost."""
    path, source, options = asked.path, asked.source, asked.options
    require_means(options)
    require_writable(path)
    with part_lock(path):
        existing = MaskStore.open(path, allow_partial=True) if is_there(path) else None
        has_content = existing is None or existing.layout.has_content
        plan = _planned(asked, existing, has_content)
        parts = begun(path, plan, asked.attributes, asked.manifest.encoders)
        job = job_of(path, plan, source, options, parts)
        counting.start(images_made(MaskStore.open(path, allow_partial=True)), plan.layout.num_images)

        def make(parts: StoreParts, shards: Iterator[tuple[int, int]]) -> tuple[str, ...]:
            with _workers(options, counting) as workers:
                return run_parts(plan, job, shards, workers)

        name = f"{options.part}" if options.part is not None else f"{socket.gethostname()} {os.getpid()}"
        return make_in_parts(parts, options.part, name, make)


def _planned(asked: _Asked, existing: MaskStore | None, has_content: bool) -> MaskPlan:
    """What is to be written, with what the store keeps of features. has_content: see `make_plan`."""
    source, options = asked.source, asked.options
    plan = plan_for(asked.manifest, asked.step, source, asked.records, options, has_content=has_content)
    if options.keep_features:
        use_threads(options.threads)  # rounding of what is fitted may depend on it
    return planned_features(plan, existing, source, options, asked.tell)


def _keep_stamps(
    path: Location, before: NDArray[np.uint64], records: Sequence[ImageRecord], source: MaskSource
) -> None:
    """Keep the stamps of the files of which masks were made.

    A file that was changed while the masks were made may be either of two; it is read at the next look.
    """
    with contextlib.suppress(StoreError):
        store = MaskStore.open(path, allow_partial=True)
        if (store.vector("shard_digest") != "").any():
            after = _stamps(records, source)
            keep_stamps(store, np.where(before == after, after, np.uint64(UNKNOWN)))


def _stamps(records: Sequence[ImageRecord], source: MaskSource) -> NDArray[np.uint64]:
    return stamps_of(records, np.arange(len(records)), made_of(source))


def _make(
    writer: MaskStoreWriter, plan: MaskPlan, source: MaskSource, options: Options, counting: "_Counting"
) -> tuple[str, ...]:
    """Make what is pending; returns what was lost."""
    job = job_of(writer.path, plan, source, options)  # what it learns first is no part of the images' rate
    counting.start(images_made(writer.store), plan.layout.num_images)
    with _workers(options, counting) as workers:
        return run(writer, plan, job, workers)


@contextlib.contextmanager
def _workers(options: Options, counting: "_Counting") -> Iterator[Workers]:
    with connect(options.cluster, threads=options.threads) as connection:
        yield Workers(
            client=connection.client,
            window=connection.window,
            shard_seconds=options.patience,
            on_shard=counting.add_shard,
            on_images=counting.add_images,
        )


class _Counting:
    """Adds up receipts for the summary; for the progress bar also the images that are made and not yet committed."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._before = self._total = self._seen = self.made = 0

    def start(self, before: int, total: int) -> None:
        self._before, self._total = before, total
        self._progress(before, total)

    def add_shard(self, receipt: ShardReceipt) -> None:
        self.made += len(receipt.status)
        self.add_images(0)

    def add_images(self, count: int) -> None:
        self._seen += count
        self._progress(self._before + max(self._seen, self.made), self._total)
