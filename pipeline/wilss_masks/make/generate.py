"""`generate`: the first verb as a function call. Images and tags in, a complete mask store out.

Everything that can be refused is refused before the first forward pass: `requested` settles what is asked for,
`check_store` whether the store that is there has it already, and what is missing is made here or in parts.
"""

import contextlib
import dataclasses
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from wilss.data.contents import UNKNOWN, stamps_of
from wilss.data.manifest import Manifest, require_locked_contents, require_manifest
from wilss.disk import Location, folder_at, is_there, part_lock
from wilss.errors import StoreError, counted
from wilss.process import share_one_heap
from wilss.store import MaskStore, ShardReceipt, StoreParts
from wilss.store.changes import keep_stamps
from wilss.store.parts import discard_parts

from ..sources.base import MaskSource, made_of
from .cluster import connect
from .features import planned_features, with_feature_parts, with_features_from
from .job import job_of, use_threads
from .made_with import attributes_of
from .options import Options, require_consistent, require_means
from .parts import begin_parts, is_in_parts, make_in_parts
from .plan import MaskPlan
from .request import (
    Request,
    kept_store,
    plan_for,
    require_classes_of,
    require_known_names,
    require_other_than_read,
    selection_for,
    store_path,
)
from .resume import (
    StoreCheck,
    check_store,
    compatible,
    create_or_resume,
    keeping_confidences,
    keeping_what_is_kept,
    require_writable,
)
from .run import Workers, run, run_parts
from .summary import Summary, region_warnings, summary_of, warnings_of

#: Called with (images done so far, images in the store), first before any is made.
Progress = Callable[[int, int], None]
#: Called with a sentence that says what there is to do.
Tell = Callable[[str], None]


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
    tell: Tell = lambda sentence: None,
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
    request = requested(manifest, step, source, out, options, features_from)
    of_regions = tuple(region_warnings(request.source, request.records))
    tell(f"step {step} of {manifest.name} by {source.name}: {_extent(request)}")
    request = with_features(request, features_from, tell)
    if not (was_complete := _is_complete(request)):
        require_known_names(request.source)  # a complete store may need no networks, whose libraries take seconds
    request, counting = noted(request), _Counting(progress)
    if request.options.check_digests:
        require_locked_contents(manifest, step, request.options.split)
    lost: tuple[str, ...] = ()
    if not (check := check_store(request)).is_done:
        before_making()
        if was_complete:
            require_known_names(request.source)
        lost = _make(request, check, counting, tell)
    return _summary(request, of_regions, lost, made_now=counting.made, seconds=time.perf_counter() - started)


def requested(
    manifest: Manifest,
    step: int,
    source: MaskSource,
    out: Location | str | None,
    options: Options,
    features_from: Sequence[Location],
) -> Request:
    """What a call asks for, but for features that stand for images and what a store notes: `with_features`, `noted`.

    Reads lists and tags. Raises ParameterError for a source of other classes, StoreError for a place that is read from.
    """
    require_classes_of(source, manifest, step)
    path = store_path(manifest, step, out, options.split)
    require_other_than_read(path, source, features_from)
    options = keeping_what_is_kept(path, options)
    source = with_feature_parts(source, options)
    selection = selection_for(manifest, step, source, options.split)
    return Request(manifest=manifest, step=step, source=source, options=options, path=path, selection=selection)


def with_features(request: Request, stores: Sequence[Location], tell: Tell) -> Request:
    """The request with the features that are kept in these stores in the place of images; raises what they raise."""
    if not stores:
        return request
    source = with_features_from(request.source, stores, request.records, tell)
    return dataclasses.replace(request, source=source)


def noted(request: Request) -> Request:
    """The request with what a store of it says of itself, for which weights are read and digested."""
    return dataclasses.replace(request, attributes=keeping_confidences(request, attributes_of(request)))


def planned(request: Request, *, has_content: bool = True) -> MaskPlan:
    """The plan of a request, see `plan_for`; without what is kept of features, for which images are encoded."""
    return plan_for(
        request.manifest, request.step, request.source, request.records, request.options, has_content=has_content
    )


def _is_complete(request: Request) -> bool:
    """Whether a complete store is there, so that there may be nothing to do."""
    store = kept_store(request.path, request.options)
    return store is not None and store.is_complete


def _extent(request: Request) -> str:
    images, size = len(request.records), request.options.shard_size
    return f"{counted(images, 'image')}, {counted(-(-images // size), 'shard')} of up to {size}"


def _summary(
    request: Request, of_regions: Sequence[str], lost: tuple[str, ...], *, made_now: int, seconds: float
) -> Summary:
    """What the store holds now, and what is to be told of it. of_regions: see `region_warnings`."""
    store, selection = MaskStore.open(request.path, allow_partial=True), request.selection
    told = warnings_of(store, request.manifest, request.records, request.source, selection.records)
    return summary_of(
        store,
        request.records,
        made_now=made_now,
        seconds=seconds,
        warnings=(*selection.warnings, *of_regions, *told),
        lost=lost,
        left_out=len(selection.records) - len(request.records),
    )


def _make(request: Request, check: StoreCheck, counting: "_Counting", tell: Tell) -> tuple[str, ...]:
    """Make what the store lacks, as its only writer or as one of many; returns what was lost."""
    if first := getattr(request.source, "preparing", ""):
        tell(first)
    in_parts = is_in_parts(request.path, request.options)
    require_means(request.options)
    require_writable(request.path)
    return _make_part(request, counting, tell) if in_parts else _make_missing(request, check, counting, tell)


def _make_missing(request: Request, check: StoreCheck, counting: "_Counting", tell: Tell) -> tuple[str, ...]:
    path, options = request.path, request.options
    with folder_at(path).lock():
        existing = compatible(request)  # again: somebody may have finished it meanwhile
        if is_in_parts(path, options):
            raise StoreError(f"{path} is being made in parts by now; run the same command again to take part.")
        discard_parts(path)  # of a store that was here before
        has_content = existing is None or existing.layout.has_content or options.update
        before = _stamps(request)
        plan = _planned_with_features(request, existing, has_content, tell)
        writer = create_or_resume(request, plan, check)
        try:
            job = job_of(path, plan, request.source, options)  # what it learns first is no part of the images' rate
            counting.start(images_made(writer.store), plan.layout.num_images)
            with _workers(options, counting) as workers:
                lost = run(writer, plan, job, workers)
        finally:
            _keep_stamps(request, before)  # also of what was made by a run that ends early
        folder_at(path).settle()  # once more: an old store may not have let itself be removed
    return lost


def _make_part(request: Request, counting: "_Counting", tell: Tell) -> tuple[str, ...]:
    """Make a part of the store, and what others have left of it, as one of many processes."""
    path, options = request.path, request.options
    with part_lock(path):
        existing = MaskStore.open(path, allow_partial=True) if is_there(path) else None
        has_content = existing is None or existing.layout.has_content
        plan = _planned_with_features(request, existing, has_content, tell)
        parts = begin_parts(request, plan)
        job = job_of(path, plan, request.source, options, parts)
        counting.start(images_made(MaskStore.open(path, allow_partial=True)), plan.layout.num_images)

        def make(parts: StoreParts, shards: Iterator[tuple[int, int]]) -> tuple[str, ...]:
            with _workers(options, counting) as workers:
                return run_parts(plan, job, shards, workers)

        name = f"{options.part}" if options.part is not None else f"{socket.gethostname()} {os.getpid()}"
        return make_in_parts(parts, options.part, name, make)


def _planned_with_features(request: Request, existing: MaskStore | None, has_content: bool, tell: Tell) -> MaskPlan:
    """What is to be written, with what the store keeps of features. has_content: see `make_plan`."""
    plan, options = planned(request, has_content=has_content), request.options
    if options.keep_features:
        use_threads(options.threads)  # rounding of what is fitted may depend on it
    return planned_features(plan, existing, request.source, options, tell)


def _keep_stamps(request: Request, before: NDArray[np.uint64]) -> None:
    """Keep the stamps of the files of which masks were made.

    A file that was changed while the masks were made may be either of two; it is read at the next look.
    """
    with contextlib.suppress(StoreError):
        store = MaskStore.open(request.path, allow_partial=True)
        if (store.vector("shard_digest") != "").any():
            after = _stamps(request)
            keep_stamps(store, np.where(before == after, after, np.uint64(UNKNOWN)))


def _stamps(request: Request) -> NDArray[np.uint64]:
    return stamps_of(request.records, np.arange(len(request.records)), made_of(request.source))


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
