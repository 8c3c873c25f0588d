"""Time and memory of everything but the networks, 1,000 to 64,000 images: lists, plan, decoding, store, commits.

A process of its own for each count. It makes a store of nearly 1,000 images first, so that imports, pools and buffers
are there, and then asks the kernel to forget its peak (/proc/self/clear_refs): the start of a process would hide what
grows after it. pathlib interns the parts of every path; Python's table of all interned strings, 4 MB that belong to no
image, is built again at some image or other, so nothing is interned here.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from measure import figure

from wilss.data.manifest import Manifest
from wilss.store import MaskStoreWriter, Status, StoreHeader, StoreLayout

from .common import row
from .standin import linked_manifest

COUNTS = (1000, 4000, 16000, 64000)
WARM = 960  # none of COUNTS, whose store would be there already

_CHILD = """
import gc, json, sys, time
from pathlib import Path
sys.path.insert(0, {here!r})
sys.intern = str
from parts.common import options
from parts.standin import SleepingSource, linked_manifest
from parts.stopwatch import Stopwatch
from wilss_masks import generate
from wilss_masks.make import generate as generation
LISTS = [(generation, name, "lists") for name in ("selection_for", "plan_for", "attributes_of")]
def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    (found,) = (int(line.split()[1]) for line in lines if line.startswith(name))
    return found * 1024
def made(count):
    store = Path({scratch!r}) / f"growth-records-{{count}}.zarr"
    started = time.perf_counter(), time.process_time()
    with Stopwatch().around(LISTS) as watch:
        manifest = linked_manifest(Path({scratch!r}), count)
        generate(manifest, step=0, source=SleepingSource(), out=store, options=options())
    return time.perf_counter() - started[0], time.process_time() - started[1], watch.spent["lists"].cpu
made({warm})
gc.collect()
Path("/proc/self/clear_refs").write_text("5")
before = status("VmRSS")
wall, cpu, lists = made({count})
print(json.dumps([wall, cpu, lists, status("VmHWM") - before]))
"""


def measure(scratch: Path, quick: bool) -> list[dict[str, Any]]:
    """Exponents of wall and processor time, and the slope of the peak."""
    counts, repeats = ((100, 200, 400), 1) if quick else (COUNTS, 3)
    found = {count: [_one(scratch, count) for _ in range(repeats)] for count in counts}
    wall, cpu, lists, peaks = ([[runs[r][k] for runs in found.values()] for r in range(repeats)] for k in range(4))
    title = f"without networks, {counts[0]} to {counts[-1]} images"
    return [
        row(f"{title}: exponent of the time", figure([exponent(counts, one) for one in wall]), "at most 1.03",
            counts=counts, seconds=wall),
        row(f"{title}: exponent of the processor time", figure([exponent(counts, one) for one in cpu]), "at most 1.03",
            counts=counts, seconds=cpu),
        _memory(title, counts, peaks),
        _memory(f"without networks, {counts[0]} to {counts[-2]} images", counts[:-1], [one[:-1] for one in peaks]),
        row(f"{title}: processor time of an image, ms", figure([1000 * one[-1] / counts[-1] for one in cpu])),
        row(f"{title}: of it lists and plan, ms for every further image",
            figure([1000 * slope(counts, one) for one in lists])),
    ]  # fmt: skip


def _memory(title: str, counts: tuple[int, ...], peaks: list[list[float]]) -> dict[str, Any]:
    """The slope of the peak, over repeats."""
    return row(
        f"{title}: peak memory, bytes for every further image",
        figure([slope(counts, one) for one in peaks]),
        "at most 250",
        counts=counts,
        peak_mib=[[round(peak / 2**20, 1) for peak in one] for one in peaks],
    )


BEGIN_COUNTS = (25_000, 50_000, 100_000, 200_000)

_BEGIN = """
import gc, json, sys, tracemalloc
from pathlib import Path
import numpy as np
from wilss import load_manifest
from wilss.store import MaskStore
from wilss.store.records import records_for
def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    (size,) = (int(line.split()[1]) for line in lines if line.startswith(name))
    return size * 1024
def begun(count):
    folder = Path({scratch!r})
    store = MaskStore.open(folder / f"empty-{{count}}.zarr", allow_partial=True)
    records = records_for(store, load_manifest(folder / f"linked-{{count}}.yaml"))
    unlabelled = sum(records[name].label is None for name in store.image_ids)
    return store, records, unlabelled
begun({warm})
gc.collect()
Path("/proc/self/clear_refs").write_text("5")
before = status("VmRSS")
kept = begun({count})
peak = status("VmHWM") - before
del kept
gc.collect()
tracemalloc.start()
kept = begun({count})
gc.collect()
print(json.dumps([peak, tracemalloc.get_traced_memory()[0]]))
"""


def beginnings(scratch: Path, quick: bool) -> list[dict[str, Any]]:
    """Memory with which training, evaluate, sheet and export begin: the store's images and their records by id."""
    counts = (100, 200) if quick else BEGIN_COUNTS
    sizes = [_begin(scratch, count) for count in counts]
    title = f"the records of a store, {counts[0]} to {counts[-1]} images: bytes for every further image"
    return [
        row(f"{title}, kept", figure([slope(counts, [kept for _, kept in sizes])]), "at most 100"),
        row(f"{title}, at the peak", figure([slope(counts, [peak for peak, _ in sizes])]), "at most 200",
            counts=counts, peak_mib=[round(peak / 2**20, 1) for peak, _ in sizes]),
    ]  # fmt: skip


def _begin(scratch: Path, count: int) -> tuple[float, float]:
    """Bytes at the peak above what there was before, and bytes that are kept."""
    for images in (min(WARM, count // 2), count):
        manifest = linked_manifest(scratch, images)  # links and stores outside of what is measured
        _empty_store(manifest, scratch / f"empty-{images}.zarr")
    code = _BEGIN.format(scratch=str(scratch), count=count, warm=min(WARM, count // 2))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    peak, kept = json.loads(done.stdout.splitlines()[-1])
    return peak, kept


def _empty_store(manifest: Manifest, path: Path) -> None:
    """A store of all images of step 0 with no mask yet."""
    names, classes = [record.image_id for record in manifest.records(0).records], manifest.protocol.new(0)
    count = len(names)
    MaskStoreWriter.create(
        path,
        StoreHeader(
            layout=StoreLayout(num_images=count, num_categories=len(classes), canvas=(8, 8), shard_size=64),
            image_ids=names,
            category_ids=classes,
            category_names=tuple(map(manifest.taxonomy.name_of, classes)),
            heights=np.full(count, 8, np.int32),
            widths=np.full(count, 8, np.int32),
            tags=np.ones((count, len(classes)), np.bool_),
            status=np.full(count, Status.PENDING, np.int8),
            errors=("",) * count,
            attributes={"manifest_sha256": manifest.digest, "step": 0, "split": "train"},
        ),
    )


def exponent(counts: tuple[int, ...], seconds: list[float]) -> float:
    """k of seconds = a * counts ** k, by least squares of the logarithms."""
    return float(np.polyfit(np.log(counts), np.log(seconds), 1)[0])


def slope(counts: tuple[int, ...], values: list[float]) -> float:
    """What every further image adds."""
    return float(np.polyfit(counts, values, 1)[0])


def _one(scratch: Path, count: int) -> tuple[float, float, float, float]:
    """Wall and processor seconds, those of lists and plan, and bytes at the peak above what there was before."""
    for images in (min(WARM, count // 2), count):
        linked_manifest(scratch, images)  # links outside of what is measured
    here = str(Path(__file__).parent.parent)
    code = _CHILD.format(here=here, scratch=str(scratch), count=count, warm=min(WARM, count // 2))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    wall, cpu, lists, peak = json.loads(done.stdout.splitlines()[-1])
    return wall, cpu, lists, peak
