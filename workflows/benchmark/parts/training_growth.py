"""Peak memory of training against the number of images: what the cache of decoded images may take, and no more.

The peak is VmHWM of the child, as in `growth`. Every image is read once, decoded and cut; the crop is small, since
networks take the same memory whatever the number of images.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from wilss_masks import generate
from wilss_masks.sources import AnnotationSource

from .common import manifest_over, options, row

_CHILD = """
import json, sys
from dataclasses import replace
from pathlib import Path
import wilss
from wilss_train.inputs import open_inputs
from wilss_train.methods import METHODS
from wilss_train.params import from_manifest
from wilss_train.run.train import Options, run_training
manifest = wilss.load_manifest({manifest!r})
params, _ = from_manifest(wilss.load_manifest("data_manifest.yaml").train, step=0, where="train")
params = replace(params, epochs=1, crop=32, batch_size=10, cache_mib={cache}, precision="fp32", backbone_weights="")
inputs = open_inputs(manifest, Path({store!r}), None, "fmwiss")
run_training(inputs, METHODS["fmwiss"](), params, Path({out!r}), Options(split=None, device="cpu", overwrite=True))
lines = Path("/proc/self/status").read_text().splitlines()
(peak,) = (int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
print(json.dumps(peak * 1024))
"""


def measure(scratch: Path, quick: bool) -> list[dict[str, Any]]:
    """A process of its own for each count and cache, so that peaks do not mix."""
    counts = (30, 60) if quick else (250, 1000, 4000)
    rows = []
    for cache, asked in ((0, "flat"), (64, "flat beyond the cache"), (1024, "flat beyond the cache")):
        peaks = [_one(scratch, count, cache) for count in counts]
        slope = np.polyfit(counts, peaks, 1)[0]
        mib = [round(peak / 2**20) for peak in peaks]
        said = f"{' / '.join(map(str, mib))}; {slope / 1024:.0f} KiB for every further image"
        what = f"peak memory of training, {' / '.join(map(str, counts))} images, cache_mib={cache}, MiB"
        rows.append(row(what, said, asked, counts=counts, peak_mib=mib))
    return rows


def _one(scratch: Path, count: int, cache: int) -> int:
    manifest, store = manifest_over(scratch, count), scratch / f"training-growth-{count}.zarr"
    if not store.exists():
        generate(
            manifest, step=0, source=AnnotationSource.from_manifest(manifest, step=0), out=store, options=options()
        )
    out = scratch / "training-growth"
    code = _CHILD.format(cache=cache, manifest=str(manifest.path), store=str(store), out=str(out))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    peak: int = json.loads(done.stdout.splitlines()[-1])
    return peak
