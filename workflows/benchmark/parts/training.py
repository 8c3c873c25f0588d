"""The trainer over a bare loop on batches in memory; what it waits for the loader, and what a saved state costs."""

from pathlib import Path
from typing import Any

from measure import figure, ratios

from .common import row
from .learning import Learning, folder_of, over_bare

SECONDS_BETWEEN_STATES = 600  # save_minutes is 10 where nobody says otherwise


def measure(scratch: Path, quick: bool) -> list[dict[str, Any]]:
    """Both loops in one process with all cores, from the same weights, on the same batches in the same order."""
    run = Learning(folder=folder_of(scratch), epochs=1 if quick else 8)
    repeats = 1 if quick else 3
    taken, timings = over_bare(run, repeats)
    images = timings[0].images
    waits = figure([100 * one.waited / one.seconds for one in timings])
    stalls = figure([one.saved for one in timings])
    share = figure([100 * one.saved / (one.saved + SECONDS_BETWEEN_STATES) for one in timings])
    return [
        row("trainer / bare loop on batches in memory, images/s", ratios(taken["bare"], taken["trainer"]),
            "at least 0.97", images=images, images_per_second=images / min(taken["trainer"])),
        row("trainer, images/s", figure([images / seconds for seconds in taken["trainer"]])),
        row("bare loop, images/s", figure([images / seconds for seconds in taken["bare"]])),
        row("waiting for the loader, % of the time, first epoch not cached", waits),
        row("saving a state, s", stalls),
        row("saving a state every ten minutes, % of the time", share, "at most 2"),
    ]  # fmt: skip
