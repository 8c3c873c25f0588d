"""A cluster that is started for a run costs its coordinator little while nobody looks at it."""

import asyncio
from pathlib import Path

from distributed import Worker

from wilss_masks.make.cluster import _HEARTBEAT_SECONDS, _calm_scheduler


def test_workers_tell_how_they_are_every_few_seconds(tmp_path: Path) -> None:
    asyncio.run(_assert_calm(str(tmp_path)))


async def _assert_calm(place: str) -> None:
    async with (
        _calm_scheduler()(host="127.0.0.1", port=0, dashboard=False) as scheduler,
        Worker(scheduler.address, host="127.0.0.1", dashboard=False, local_directory=place) as worker,
    ):
        told = worker.periodic_callbacks["heartbeat"]
        assert told.callback_time < 1000 * _HEARTBEAT_SECONDS, "of itself it tells so more often"
        await worker.heartbeat()
        assert told.callback_time == 1000 * _HEARTBEAT_SECONDS
        unknown = scheduler.heartbeat_worker(address="tcp://127.0.0.1:1", metrics={})
        assert unknown == {"status": "missing"}, "who is not known is told no interval"
