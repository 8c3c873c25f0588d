"""What one store takes from another: whole shards, as the same files, or an image as it was given to its writer."""

from typing import Any

from ..errors import StoreError
from .schema import ArraySpec, Status
from .shards import ImageContent, ShardReceipt, digest_on_disk, shard_name
from .store import MaskStore


def link_shard(old: MaskStore, new: MaskStore, source: int, target: int) -> None:
    """Put the files of the old store's shard `source` into the new store as `target`. Their planes are of one size."""
    for spec in new.layout.arrays:
        name = shard_name(spec, source)
        if old.folder.exists(name):
            new.folder.take(old.folder, name, shard_name(spec, target))


def require_whole_shard(store: MaskStore, receipt: ShardReceipt) -> None:
    """Raise StoreError where a shard is not as it was committed."""
    if digest_on_disk(store.folder, store.layout, receipt.shard) != receipt.digest.split()[0]:
        raise StoreError(
            f"{store.path} is damaged: shard {receipt.shard} does not match its digest; fetch another copy, or make it "
            "again."
        )


def stored_content(store: MaskStore, row: int, receipt: ShardReceipt) -> ImageContent:
    """An image as it was given to the writer of its shard. receipt: of that shard.

    Raises MasksError where something of it is damaged.
    """
    place, categories = row - store.layout.rows(receipt.shard).start, range(store.layout.num_categories)
    return ImageContent(
        status=Status(int(receipt.status[place])),
        error=receipt.errors[place],
        planes={spec.name: _planes(store, spec, row) for spec in store.layout.arrays},
        confidence={category: float(receipt.confidence[place, category]) for category in categories},
        agreement={category: float(receipt.agreement[place, category]) for category in categories},
        area={category: int(receipt.area[place, category]) for category in categories},
        fallback={category: bool(receipt.fallback[place, category]) for category in categories},
        content=0 if receipt.content is None else int(receipt.content[place]),
    )


def _planes(store: MaskStore, spec: ArraySpec, row: int) -> dict[int, Any]:
    planes = store.planes(spec.name, row, range(spec.planes_per_image))
    return {position: plane for position, plane in enumerate(planes) if plane is not None}
