"""Time and memory against the number of images: the exponent of a power law, and the slope of the peak.

The peak is VmHWM of the child, forgotten after a first small store: the start of a process, with its imports and its
networks, has a peak of its own, which would hide what grows.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from .common import manifest_over, row

WARM = 64  # images of the first store

_CHILD = """
import json, sys, time
from pathlib import Path
sys.path.insert(0, {here!r})
from parts.common import built_in_source, end_to_end, manifest_over
manifest = manifest_over(Path({scratch!r}), {count})
source = built_in_source(manifest)
end_to_end(manifest, source, Path({scratch!r}) / "growth.zarr", limit={warm})
Path("/proc/self/clear_refs").write_text("5")
started = time.perf_counter()
end_to_end(manifest, source, Path({scratch!r}) / "growth.zarr")
seconds = time.perf_counter() - started
lines = Path("/proc/self/status").read_text().splitlines()
(peak,) = (int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
print(json.dumps([seconds, peak * 1024]))
"""


def measure(scratch: Path, quick: bool) -> list[dict[str, Any]]:
    """A process of its own for each count, so that peaks do not mix."""
    counts = (32, 64) if quick else (250, 500, 1000, 2000, 4000)
    seconds, peaks = zip(*(_one(scratch, count) for count in counts), strict=True)
    exponent = np.polyfit(np.log(counts), np.log(seconds), 1)[0]
    slope = np.polyfit(counts, peaks, 1)[0]
    last = counts[-1] / seconds[-1]
    return [
        row(f"images against time, {counts[0]} to {counts[-1]}: exponent", f"{exponent:.3f}", "at most 1.03",
            counts=counts, seconds=seconds, images_per_second=last),
        row("peak memory, bytes for every further image", f"{slope:.0f}", "at most 200",
            counts=counts, peak_mib=[round(peak / 2**20) for peak in peaks]),
    ]  # fmt: skip


def _one(scratch: Path, count: int) -> tuple[float, float]:
    manifest_over(scratch, count).records(0)  # draws the images outside of what is measured
    here = str(Path(__file__).parent.parent)
    code = _CHILD.format(here=here, scratch=str(scratch), count=count, warm=min(WARM, count))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, peak = json.loads(done.stdout.splitlines()[-1])
    return seconds, peak
