"""A store whose images, labels or their list have changed: shards that are the same are carried over, the rest is made.

The new store takes the old one's place by a rename, so a kill leaves one of the two. It holds what a store made from
the start would hold, byte for byte.
"""

import dataclasses
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wilss.data.contents import UNKNOWN
from wilss.store import MaskStore, MaskStoreWriter, ShardReceipt, Status, StoreLayout, write_shard
from wilss.store.carrying import link_shard, stored_content
from wilss.store.changes import Comparison

from .plan import MaskPlan

_FINISHED = (Status.DONE, Status.UNTAGGED, Status.UNLABELLED)
#: What a store says of its images alone, and not of how their masks were made.
UPDATABLE = ("data", "limit", "manifest_sha256", "records_sha256")


def updated(
    store: MaskStore, plan: MaskPlan, attributes: Mapping[str, Any], comparison: Comparison | None
) -> MaskStore:
    """The store of `plan` in the place of `store`, with every shard of the old one that holds the same images.

    comparison: of the old one's images and labels with those of the plan.
    """
    carried = {} if comparison is None else carried_shards(store, plan, comparison)
    with store.folder.built_beside() as building:
        writer = MaskStoreWriter.create(building, plan.header(attributes))
        writer.commit(*(_carry(store, writer.store, old, new) for new, old in carried.items()))
    return MaskStore.open(store.path, allow_partial=True)


def carried_shards(store: MaskStore, plan: MaskPlan, comparison: Comparison) -> dict[int, int]:
    """Shards of the plan -> finished shards of the store with the same images in order.

    They have the same sizes and tags, and what their masks are made of has the same content.
    """
    if not _fits(store.layout, plan.layout):
        return {}
    there = {key: shard for shard, key in _finished(store)}
    contents = np.full(plan.layout.num_images, UNKNOWN, np.uint64)
    is_listed = comparison.rows >= 0
    contents[comparison.rows[is_listed]] = comparison.contents[is_listed]
    wanted = ((shard, _planned(plan, shard, contents)) for shard in range(plan.layout.num_shards))
    return {shard: there[key] for shard, key in wanted if key in there}


def _fits(old: StoreLayout, new: StoreLayout) -> bool:
    """Whether every plane of the old store is one of the new store's, maybe on a larger canvas."""
    if (old.shard_size, old.num_categories, old.has_content) != (new.shard_size, new.num_categories, new.has_content):
        return False
    planes = [{spec.name: spec.plane for spec in layout.arrays} for layout in (old, new)]
    if planes[0].keys() != planes[1].keys():
        return False
    return all(a <= b for name in planes[0] for a, b in zip(planes[0][name], planes[1][name], strict=True))


def _finished(store: MaskStore) -> Iterator[tuple[int, Hashable]]:
    """Every shard of which nothing failed, with what its content depends on."""
    heights, widths, tags = (store.vector(name) for name in ("height", "width", "tags"))
    status, digests, contents = store.current_status(), store.vector("shard_digest"), store.vector("content")
    for shard, digest in enumerate(digests):
        rows = store.layout.rows(shard)
        if digest and np.isin(status[rows.start : rows.stop], _FINISHED).all():
            sizes = ((int(heights[row]), int(widths[row])) for row in rows)
            asked = (tuple(np.flatnonzero(tags[row]).tolist()) for row in rows)
            names = (store.image_ids[row] for row in rows)
            done = status[rows.start : rows.stop] == Status.DONE
            bare = (status[rows.start : rows.stop] == Status.UNLABELLED).tolist()
            none = (done & ~tags[rows.start : rows.stop].any(axis=1)).tolist()
            made_of = contents[rows.start : rows.stop].tolist()
            facts = zip(names, sizes, asked, bare, none, made_of, strict=True)
            yield shard, tuple((name, *size, *more) for name, size, *more in facts)


def _planned(plan: MaskPlan, shard: int, contents: NDArray[np.uint64]) -> Hashable:
    images, made_of = plan.shard(shard).images, contents[plan.layout.row_slice(shard)].tolist()
    return tuple(
        (
            image.record.image_id,
            image.height,
            image.width,
            image.categories,
            image.unlabelled,
            image.shows_none,
            content,
        )
        for image, content in zip(images, made_of, strict=True)
    )


def _carry(old: MaskStore, new: MaskStore, source: int, target: int) -> ShardReceipt:
    """Put a shard's files into the new store: the same files, or, on a larger canvas, the same planes."""
    receipt = old.receipt(source)
    if [spec.plane for spec in old.layout.arrays] != [spec.plane for spec in new.layout.arrays]:
        contents = [stored_content(old, row, receipt) for row in old.layout.rows(source)]
        return write_shard(new.folder, new.layout, target, contents)
    link_shard(old, new, source, target)
    return dataclasses.replace(receipt, shard=target)
