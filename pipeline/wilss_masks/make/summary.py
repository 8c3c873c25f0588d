"""What is in a store, for the person who made it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wilss.store import MaskStore, Status

__all__ = ["Summary", "count_made", "summary_of"]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What is in the store now, and what this call added. `lost` has a sentence for every shard not made."""

    store: Path
    images: int
    done: int
    failed: Mapping[str, str]
    untagged: int
    masks_per_class: Mapping[str, int]
    made_now: int
    seconds: float
    warnings: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()

    @property
    def images_per_second(self) -> float:
        """Images made by this call per second of it."""
        return self.made_now / self.seconds if self.seconds else 0.0


def summary_of(
    store: MaskStore, made_now: int, seconds: float, warnings: tuple[str, ...], lost: tuple[str, ...]
) -> Summary:
    """Count what `store` holds now; the rest is what the run says of itself."""
    status, errors, area = store.vector("status"), store.vector("error"), store.vector("area")
    failed = {store.image_ids[row]: str(errors[row]) for row in np.flatnonzero(status == Status.FAILED)}
    masks = (area > 0).sum(axis=0).tolist()
    return Summary(
        store=store.path,
        images=store.layout.num_images,
        done=int((status == Status.DONE).sum()),
        failed=failed,
        untagged=int((status == Status.UNTAGGED).sum()),
        masks_per_class=dict(zip(store.category_names, masks, strict=True)),
        made_now=made_now,
        seconds=seconds,
        warnings=warnings,
        lost=lost,
    )


def count_made(store: MaskStore) -> int:
    """Images in committed shards."""
    layout = store.layout
    pending = sum(len(layout.rows(shard)) for shard in store.pending_shards())
    return layout.num_images - pending
