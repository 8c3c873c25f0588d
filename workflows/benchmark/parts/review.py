"""The page of `wilss-masks review` over 20,000 images: how soon it is there, how fast it answers, what it holds.

The server is a process of its own, as a user starts it. Where a Chromium is (WILSS_CHROMIUM, or on the path), and
playwright is installed, the gallery is scrolled through in it, too.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
from measure import figure

from wilss_masks import generate

from .common import options, row
from .standin import SleepingSource, linked_manifest

_FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
          "--disable-background-networking", "--disable-component-update", "--disable-sync"]  # fmt: skip
_TWELVE_SHOWN = "[...document.querySelectorAll('.card img')].slice(0, 12).every((i) => i.naturalWidth)"
#: The frames of a scroll in so many steps of so many pixels, or from end to end, in milliseconds.
_SCROLL = """async ([steps, pixels]) => {
  const scroller = document.getElementById("scroller"), frames = [];
  let before = performance.now();
  for (let step = 1; step <= steps; step++) {
    scroller.scrollTop = step * (pixels || scroller.scrollHeight / steps);
    await new Promise(requestAnimationFrame);
    const now = performance.now();
    frames.push(now - before);
    before = now;
  }
  return frames;
}"""


def measure(scratch: Path, quick: bool) -> list[dict[str, Any]]:
    """Start, index, thumbnails cold and kept, corrections, memory, and a browser where there is one."""
    count, asked = (200, 12) if quick else (20_000, 200)
    store = scratch / f"review-{count}.zarr"
    manifest = linked_manifest(scratch, count)
    if not store.exists():
        generate(manifest, step=0, source=SleepingSource(), out=store, options=options())
    with (
        tempfile.TemporaryDirectory() as folder,
        _served(store, manifest.path, Path(folder)) as (address, pid, started),
    ):
        index, taken = _timed(f"{address}api/index")
        items = np.random.default_rng(0).choice(count, asked, replace=False)
        names = [f"{address}thumb/{image}-{1 + image % 5}.jpg" for image in items.tolist()]
        cold = figure([_timed(name)[1] * 1e3 for name in names])
        time.sleep(1)  # until they are kept
        kept = figure([_timed(name)[1] * 1e3 for name in names])
        said = figure([_correct(address, image) * 1e3 for image in items.tolist()[:50]])
        rows = [
            row(f"review of {count} images: seconds until the address is printed", f"{started:.1f}"),
            row("the whole index: seconds, and bytes an image", f"{taken:.2f}, {len(index) / count:.0f}"),
            row("a thumbnail that nobody saw before, one at a time, ms", cold),
            row("a kept thumbnail, ms", kept),
            row("a mask of 500 runs said, and on disk, ms", said),
            row("memory of the server, MiB", f"{_resident(pid) / 2**20:.0f}"),
        ]
        return [*rows, *_in_browser(address, count)]


@contextmanager
def _served(store: Path, manifest: Path, folder: Path) -> Iterator[tuple[str, int, float]]:
    """The address of a server, its process, and the seconds that it took to start."""
    command = [sys.executable, "-c", "from wilss_masks.cli import main; main()", "review", str(store), "--manifest",
               str(manifest), "--no-browser", "--review", str(folder / "said")]  # fmt: skip
    begun = time.perf_counter()
    environment = {**os.environ, "WILSS_CACHE": str(folder / "cache")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        address = next((found[0] for line in process.stdout if (found := re.search(r"http://\S+", line))), "")
        try:
            yield address, process.pid, time.perf_counter() - begun
        finally:
            process.terminate()


def _timed(address: str) -> tuple[bytes, float]:
    begun = time.perf_counter()
    with urlopen(address, timeout=600) as answer:
        data: bytes = answer.read()
    return data, time.perf_counter() - begun


def _correct(address: str, image: int) -> float:
    """Seconds that a mask takes until it is on disk."""
    with urlopen(f"{address}api/image/{image}") as answer:
        value = json.load(answer)
    pixels = value["height"] * value["width"]
    runs = [*[pixels // 500] * 499, pixels - 499 * (pixels // 500)]
    change = {"image": image, "category": value["classes"][0]["category"], "verdict": "corrected", "runs": runs}
    headers = {"content-type": "application/json", "origin": address.rsplit("/", 2)[0]}
    request = Request(f"{address}api/correct", json.dumps({"who": "b", "changes": [change]}).encode(), headers)
    begun = time.perf_counter()
    with urlopen(request) as answer:
        answer.read()
    return time.perf_counter() - begun


def _resident(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (found,) = (int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
    return found * 1024


def _in_browser(address: str, count: int) -> list[dict[str, Any]]:
    """Seconds to the first gallery, and frames of a scroll; one row that says so where there is no browser."""
    chromium = os.environ.get("WILSS_CHROMIUM") or shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        chromium = None
    if chromium is None:
        return [row("the gallery in a browser", "no Chromium here")]
    with tempfile.TemporaryDirectory() as profile, sync_playwright() as run:
        context = run.chromium.launch_persistent_context(
            profile, executable_path=chromium, args=_FLAGS, viewport={"width": 1280, "height": 800}
        )
        page = context.new_page()
        begun = time.perf_counter()
        page.goto(address)
        page.wait_for_selector("html[data-ready=yes]", timeout=120_000)
        ready = time.perf_counter() - begun
        page.wait_for_function(_TWELVE_SHOWN, timeout=120_000)
        shown = time.perf_counter() - begun
        wheel, leaps = (np.array(page.evaluate(_SCROLL, how)) for how in ([200, 100], [600, 0]))
        elements = page.evaluate("document.querySelectorAll('.card').length")
        context.close()
    return [
        row(f"Chromium, {count} images: seconds to the gallery, to its first 12 pictures", f"{ready:.1f}, {shown:.1f}"),
        row("scrolled as by a wheel, 100 pixels a frame: a frame in ms, median, 95 in 100, longest", _of(wheel)),
        row("scrolled from end to end in 600 leaps: the same", _of(leaps), cards=elements),
    ]  # fmt: skip


def _of(frames: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> str:
    return f"{np.median(frames):.0f}, {np.quantile(frames, 0.95):.0f}, {frames.max():.0f}"
