"""Images added to a finished store: only the shards that they touch are made."""

import time
from pathlib import Path
from typing import Any

from measure import figure

from wilss_masks import Summary, generate

from .common import options, row
from .standin import SleepingSource, linked_manifest

SHARD = 32


def measure(scratch: Path, quick: bool) -> list[dict[str, Any]]:
    """`--update` beside a new store of the same images; the last shard of the old store is half full."""
    before, added = (3 * SHARD + SHARD // 2, 20) if quick else (125 * SHARD + SHARD // 2, 100)
    ratios, made = [], 0
    for _ in range(1 if quick else 5):
        store = scratch / "update.zarr"
        _made(scratch, before, store, overwrite=True)
        started = time.perf_counter()
        made = _made(scratch, before + added, store, overwrite=False, update=True).made_now
        took = time.perf_counter() - started
        started = time.perf_counter()
        _made(scratch, before + added, scratch / "anew.zarr", overwrite=True)
        ratios.append(took / (time.perf_counter() - started))
    title = f"{added} images added to {before}, shards of {SHARD}"
    return [
        row(f"{title}: images made", str(made), f"at most {added} + {SHARD - 1}", images=made),
        row(f"{title}: time over making all, without networks", figure(ratios)),
    ]


def _made(scratch: Path, count: int, store: Path, **changes: Any) -> Summary:
    told = {"shard_size": SHARD, **changes}
    return generate(
        linked_manifest(scratch, count), step=0, source=SleepingSource(), out=store, options=options(**told)
    )
