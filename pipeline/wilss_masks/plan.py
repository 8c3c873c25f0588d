"""`MaskPlan`: which images go into which shard and batch. Pure data; nothing here opens a network.

Batches are fixed by the plan alone, because a network's results change in their last bits with the shape of
the batch: one worker, eight workers and a resumed run must compute the very same batches.
"""

import dataclasses
import functools
import itertools
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from wilss.errors import ImageError, StoreError
from wilss.images import PIXEL_CAP, read_size
from wilss.manifest import ImageRecord
from wilss.store import Status, StoreHeader, StoreLayout

from .sources.base import Grids, MaskSource

__all__ = ["ImageTask", "MaskPlan", "ShardTask", "make_plan"]

_HEADER_THREADS = 8
#: Records that a thread measures at a time: a future for each of a million images would take a gigabyte.
_RECORDS_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageTask:
    """One image and what is asked of it.

    height, width: upright pixels, 0 where the image cannot be opened. categories: positions on the store's
    category axis. problem: why it will not be tried, or None.
    """

    record: ImageRecord
    height: int
    width: int
    categories: tuple[int, ...]
    problem: str | None = None

    @property
    def status(self) -> Status:
        """Its status before anything has run."""
        return Status.PENDING if self.categories or self.problem else Status.UNTAGGED


@dataclass(frozen=True, kw_only=True)
class ShardTask:
    """All that a worker needs to make one shard: its images, and the batches in which to make them."""

    shard: int
    images: tuple[ImageTask, ...]
    batches: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, kw_only=True)
class MaskPlan:
    """What to write, in which shards, in which batches."""

    step: int
    images: tuple[ImageTask, ...]
    category_ids: tuple[int, ...]
    category_names: tuple[str, ...]
    layout: StoreLayout
    batch_size: int
    grids: tuple[Grids, ...] = field(repr=False)

    def shard(self, index: int) -> ShardTask:
        """The task of one shard; batches hold positions inside the shard."""
        rows = self.layout.rows(index)
        images = self.images[rows.start : rows.stop]
        batches = _batches(images, self.grids[rows.start : rows.stop], self.batch_size)
        return ShardTask(shard=index, images=images, batches=batches)

    def header(self, attributes: Mapping[str, Any]) -> StoreHeader:
        """The store's header for this plan."""
        tags = np.zeros((len(self.images), len(self.category_ids)), np.bool_)
        for row, image in enumerate(self.images):
            tags[row, list(image.categories)] = True
        return StoreHeader(
            layout=self.layout,
            image_ids=tuple(image.record.image_id for image in self.images),
            category_ids=self.category_ids,
            category_names=self.category_names,
            heights=np.array([image.height for image in self.images], np.int32),
            widths=np.array([image.width for image in self.images], np.int32),
            tags=tags,
            status=np.array([image.status for image in self.images], np.int8),
            errors=("",) * len(self.images),
            attributes=attributes,
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
) -> MaskPlan:
    """Measure the images (headers only) and cut them into shards and batches.

    categories: taxonomy id -> name of the step's classes, in channel order. keep_soft: whether score map,
    attention and seeds are kept in the store.
    Raises StoreError when no image can be opened at all.
    """
    images = _within_canvas(_measure(records, tuple(categories), source.uses_tags))
    grids_of = functools.cache(source.grids)  # images share sizes
    grids = tuple(grids_of(max(image.height, 1), max(image.width, 1)) for image in images)
    usable = [i for i, image in enumerate(images) if image.problem is None]
    if not usable:
        why = f": {images[0].problem}" if images else "; the step has no images."
        raise StoreError(f"none of the {len(images)} images of step {step} can be used{why}")
    layout = StoreLayout(
        num_images=len(images),
        num_categories=len(categories),
        canvas=_largest([(images[i].height, images[i].width) for i in usable]),
        shard_size=shard_size,
        has_void=source.has_void,
        **(_soft_layers(source, [grids[i] for i in usable]) if keep_soft else {}),
    )
    return MaskPlan(
        step=step,
        images=tuple(images),
        category_ids=tuple(categories),
        category_names=tuple(categories.values()),
        layout=layout,
        batch_size=batch_size,
        grids=grids,
    )


def _measure(records: Sequence[ImageRecord], category_ids: tuple[int, ...], by_tags: bool) -> list[ImageTask]:
    """by_tags: ask for the classes that an image is tagged with; else for all of them."""

    @functools.cache  # images share their tags
    def categories(tags: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(p for p, identity in enumerate(category_ids) if not by_tags or identity in tags)

    def measure(first: int) -> list[ImageTask]:
        some = records[first : first + _RECORDS_AT_ONCE]
        return [_measure_one(record, categories(tuple(record.tags))) for record in some]

    with ThreadPoolExecutor(_HEADER_THREADS) as pool:
        return list(itertools.chain.from_iterable(pool.map(measure, range(0, len(records), _RECORDS_AT_ONCE))))


def _measure_one(record: ImageRecord, categories: tuple[int, ...]) -> ImageTask:
    height = width = 0
    problem = record.problem
    if problem is None:
        try:
            height, width = read_size(record.path)
        except ImageError as error:
            problem = str(error)
    return ImageTask(record=record, height=height, width=width, categories=categories, problem=problem)


def _within_canvas(images: list[ImageTask]) -> list[ImageTask]:
    """Leave out images until the canvas, as high as the highest and as wide as the widest, holds PIXEL_CAP pixels.

    A very long image beside a very high one would make every mask of the store as large as both together.
    """
    images = list(images)
    while True:
        usable = [i for i, image in enumerate(images) if image.problem is None]
        if not usable:
            return images
        high, wide = max(images[i].height for i in usable), max(images[i].width for i in usable)
        if high * wide <= PIXEL_CAP:
            return images
        longest = max(usable, key=lambda i: (max(images[i].height, images[i].width), i))
        images[longest] = _too_long(images[longest], (high, wide))


def _too_long(image: ImageTask, canvas: tuple[int, int]) -> ImageTask:
    problem = (
        f"{image.record.path} is {image.width} x {image.height} pixels, which with the other images asks for masks of "
        f"{canvas[1]} x {canvas[0]}, more than {PIXEL_CAP // 10**6} million pixels; scale it down, or take it off "
        "the list."
    )
    return dataclasses.replace(image, height=0, width=0, problem=problem)


def _batches(images: Sequence[ImageTask], grids: Sequence[Grids], batch_size: int) -> tuple[tuple[int, ...], ...]:
    """Positions of the images to be made, grouped by input shape, at most `batch_size` together."""
    groups: dict[Grids, list[int]] = {}
    for position, (image, grid) in enumerate(zip(images, grids, strict=True)):
        if image.status is Status.PENDING and image.problem is None:
            groups.setdefault(grid, []).append(position)
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
