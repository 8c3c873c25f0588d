"""`MaskPlan`: which images go into which shard and batch. Pure data; nothing here opens a network.

Batches are fixed by the plan alone, because a network's results change in their last bits with the shape of
the batch: one worker, eight workers and a resumed run must compute the very same batches.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wilss.data.images import PIXEL_CAP, read_size
from wilss.data.layouts import ImageRecord, Records
from wilss.disk import threads_for
from wilss.errors import ImageError, StoreError
from wilss.process import map_in_threads
from wilss.store import StoreHeader, StoreLayout

from ..sources.base import Grids, ImageTask, ImageTasks, MaskSource

_HEADER_THREADS = 8
#: Records that a thread measures at a time: a future for each of a million images would take a gigabyte.
_RECORDS_AT_ONCE = 256
_FAR_RECORDS_AT_ONCE = 8


@dataclass(frozen=True, kw_only=True)
class ShardTask:
    """All that a worker needs to make one shard: its images, and the batches in which to make them.

    generation: how many receipts of it are void, where the store is made in parts.
    """

    shard: int
    images: tuple[ImageTask, ...]
    batches: tuple[tuple[int, ...], ...]
    generation: int = 0


@dataclass(frozen=True, kw_only=True)
class MaskPlan:
    """What to write, in which shards, in which batches. grids: by (height, width), which images share.

    bases: of the features that are kept, see `StoreHeader`.
    """

    step: int
    images: ImageTasks
    category_ids: tuple[int, ...]
    category_names: tuple[str, ...]
    layout: StoreLayout
    batch_size: int
    grids: Mapping[tuple[int, int], Grids] = field(repr=False)
    bases: Mapping[str, NDArray[np.float32]] = field(default_factory=dict, repr=False)

    def shard(self, index: int, generation: int = 0) -> ShardTask:
        """The task of one shard; batches hold positions inside the shard."""
        rows = self.layout.rows(index)
        images = self.images[rows.start : rows.stop]
        batches = _batches(images, self.grids, self.batch_size)
        return ShardTask(shard=index, images=images, batches=batches, generation=generation)

    def header(self, attributes: Mapping[str, Any]) -> StoreHeader:
        """The store's header for this plan."""
        images = self.images
        return StoreHeader(
            layout=self.layout,
            image_ids=images.records.ids(),
            category_ids=self.category_ids,
            category_names=self.category_names,
            heights=images.sizes[:, 0],
            widths=images.sizes[:, 1],
            tags=images.tags,
            status=images.status,
            errors=("",) * len(images),
            attributes=attributes,
            bases=self.bases,
        )


def make_plan(
    *,
    step: int,
    records: Sequence[ImageRecord],
    categories: Mapping[int, str],
    source: MaskSource,
    shard_size: int,
    batch_size: int,
    keep_soft: bool,
    tags_are_labels: bool = False,
    tags_are_complete: bool = False,
    has_content: bool = True,
) -> MaskPlan:
    """Measure the images (headers only) and cut them into shards and batches.

    categories: taxonomy id -> name of the step's classes, in channel order. keep_soft: whether score map,
    attention and seeds are kept in the store. tags_are_labels: the tags were read from the labels, so that a source
    that reads labels need not look into them for more classes. tags_are_complete: an image without a tag of the step is
    known to show none of its classes. has_content: whether it notes what the masks were made of, which only a store
    that was begun by an older wilss does not.
    Raises StoreError when no image can be opened at all, or none has the labels that the source reads.
    """
    images = _measure(Records.of(records), tuple(categories), source.uses_tags)
    images = dataclasses.replace(images, tags_are_complete=tags_are_complete, reads_labels=source.reads_labels)
    if source.reads_labels:
        images = _as_labelled(images, None if tags_are_labels else tuple(categories))
    images = _within_canvas(images)
    sizes = _distinct(images.sizes[images.usable])
    if not sizes:
        raise StoreError(_why_no_image(images, step))
    grids = {(height, width): source.grids(height, width) for height, width in sizes}
    layout = StoreLayout(
        num_images=len(images),
        num_categories=len(categories),
        canvas=_largest(sizes),
        shard_size=shard_size,
        has_void=source.has_void,
        has_content=has_content,
        **(_soft_layers(source, list(grids.values())) if keep_soft else {}),
    )
    return MaskPlan(
        step=step,
        images=images,
        category_ids=tuple(categories),
        category_names=tuple(categories.values()),
        layout=layout,
        batch_size=batch_size,
        grids=grids,
    )


def _why_no_image(images: ImageTasks, step: int) -> str:
    if images.unlabelled:
        return (
            f"none of the {len(images)} images of step {step} has pixel labels (boxes without outlines are none); add "
            "label files where the layout looks for them, or write `supervision: tags` for this step."
        )
    why = f": {images[0].problem}" if images else "; the step has no images."
    return f"none of the {len(images)} images of step {step} can be used{why}"


def _measure(records: Records, category_ids: tuple[int, ...], by_tags: bool) -> ImageTasks:
    """by_tags: ask for the classes that an image is tagged with; else for all of them."""
    sizes = np.zeros((len(records), 2), np.int32)
    tags, kinds = records.kinds_of_tags()
    asked = [[not by_tags or identity in own for identity in category_ids] for own in tags]

    threads = threads_for(records[0].path, _HEADER_THREADS) if len(records) else _HEADER_THREADS
    at_once = _RECORDS_AT_ONCE if threads == _HEADER_THREADS else _FAR_RECORDS_AT_ONCE

    def measure(first: int) -> dict[int, str]:
        problems = {}
        for row, record in enumerate(records[first : first + at_once], start=first):
            size, problem = _measure_one(record)
            sizes[row] = size
            if problem is not None:
                problems[row] = problem
        return problems

    with ThreadPoolExecutor(threads) as pool:
        problems_of_parts = pool.map(measure, range(0, len(records), at_once))
        problems = {row: problem for some in problems_of_parts for row, problem in some.items()}
    return ImageTasks(
        records=records,
        sizes=sizes,
        kinds=kinds,
        asked=np.array(asked, np.bool_).reshape(len(tags), len(category_ids)),
        problems=problems,
    )


def _as_labelled(images: ImageTasks, category_ids: tuple[int, ...] | None) -> ImageTasks:
    """The same images, asked for the classes that their labels hold beside those of their tags.

    category_ids: of the step; None where the tags are what the labels hold. An image without labels is not asked;
    labels that cannot be read are left to whoever makes the mask.
    """
    rows = range(len(images))
    unlabelled = frozenset(
        row
        for row in rows
        if row not in images.problems
        and images.records[row].label is None
        and (category_ids is None or _is_asked(images, row))
    )
    images = dataclasses.replace(images, unlabelled=unlabelled)
    if category_ids is None:
        return images
    asked: dict[tuple[bool, ...], int] = {}
    kinds = np.zeros(len(images), np.int32)
    threads = threads_for(images.records[0].path, _HEADER_THREADS) if len(images) else _HEADER_THREADS
    for row, held in zip(rows, map_in_threads(partial(_held, images), rows, threads), strict=True):
        wanted = images.asked[images.kinds[row]] | np.isin(category_ids, held)
        kinds[row] = asked.setdefault(tuple(wanted.tolist()), len(asked))
    return dataclasses.replace(images, kinds=kinds, asked=np.array(list(asked), np.bool_).reshape(len(asked), -1))


def _is_asked(images: ImageTasks, row: int) -> bool:
    return bool(images.asked[images.kinds[row]].any())


def _held(images: ImageTasks, row: int) -> list[int]:
    """The values in an image's labels, none where they cannot be read."""
    label = images.records[row].label
    if label is None or row in images.problems:
        return []
    try:
        return np.flatnonzero(np.bincount(label.read().ravel())).tolist()
    except ImageError:
        return []


def _measure_one(record: ImageRecord) -> tuple[tuple[int, int], str | None]:
    """Height and width, 0 where it cannot be used, and why."""
    if record.problem is not None:
        return (0, 0), record.problem
    try:
        return read_size(record.path), None
    except ImageError as error:
        return (0, 0), str(error)


def _within_canvas(images: ImageTasks) -> ImageTasks:
    """Leave out images until the canvas, as high as the highest and as wide as the widest, holds PIXEL_CAP pixels.

    A very long image beside a very high one would make every mask of the store as large as both together.
    """
    sizes, problems = images.sizes.copy(), dict(images.problems)
    while True:
        high, wide = sizes.max(axis=0, initial=0).tolist()  # 0 x 0 where an image cannot be used
        if high * wide <= PIXEL_CAP:
            return dataclasses.replace(images, sizes=sizes, problems=problems)
        sides = sizes.max(axis=1)
        longest = int(np.flatnonzero(sides == sides.max())[-1])
        problems[longest] = _too_long(images[longest], (high, wide))
        sizes[longest] = 0


def _too_long(image: ImageTask, canvas: tuple[int, int]) -> str:
    return (
        f"{image.record.path} is {image.width} x {image.height} pixels, which with the other images asks for masks of "
        f"{canvas[1]} x {canvas[0]}, more than {PIXEL_CAP // 10**6} million pixels; scale it down, or take it off "
        "the list."
    )


def _distinct(sizes: NDArray[np.int32]) -> list[tuple[int, int]]:
    """The different rows of sizes [N, 2]."""
    return [(height, width) for height, width in np.unique(sizes, axis=0).tolist()]


def _batches(
    images: Sequence[ImageTask], grids: Mapping[tuple[int, int], Grids], batch_size: int
) -> tuple[tuple[int, ...], ...]:
    """Positions of the images to be made, grouped by input shape, at most `batch_size` together."""
    groups: dict[Grids, list[int]] = {}
    for position, image in enumerate(images):
        if image.is_proposed:
            groups.setdefault(grids[image.height, image.width], []).append(position)
    return tuple(
        tuple(group[start : start + batch_size])
        for group in groups.values()
        for start in range(0, len(group), batch_size)
    )


def _soft_layers(source: MaskSource, grids: Sequence[Grids]) -> dict[str, Any]:
    layers: dict[str, Any] = {"num_seeds": source.seeds_kept}
    for name in ("score", "attention"):
        shapes = [getattr(grid, name) for grid in grids]
        if None not in shapes:
            layers[f"{name}_grid"] = _largest(shapes)
    return layers


def _largest(shapes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    return max(h for h, _ in shapes), max(w for _, w in shapes)
