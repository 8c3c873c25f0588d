"""What a user waits for before anything happens: help, a second run that finds all done, a store that is opened."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import xarray
from measure import figure, interleaved, ratios

from wilss import open_masks
from wilss.data.manifest import Manifest
from wilss_masks import FmwissSource, generate
from wilss_masks.sources.base import Grids

from .common import built_in_source, end_to_end, manifest_over, options, row
from .standin import SleepingDevice, linked_manifest

PROGRAM = str(Path(sys.executable).parent / "wilss-masks")


class _WithoutNetworks(FmwissSource):
    """The built-in source by all that a store says of it; its masks come from no network."""

    def prepare(self, device: str) -> "FmwissSource":
        """Without prompts."""
        return self

    def open(self, device: str, threads: int) -> Any:
        """Without encoders."""
        return SleepingDevice(0.0)

    def grids(self, height: int, width: int) -> Grids:
        """As many batches as the images' sizes ask for make no difference here."""
        return Grids()


def measure(scratch: Path, quick: bool) -> list[dict[str, Any]]:
    """Wall seconds of whole processes, and of opening a store with xarray."""
    counts = (32, 64) if quick else (1000, 10_000)
    manifest = manifest_over(scratch, counts[0])
    store = scratch / "start.zarr"
    end_to_end(manifest, built_in_source(manifest), store)
    many = linked_manifest(scratch, counts[1])
    finished = finished_store(scratch, many)
    commands = {
        "wilss-masks --help": [PROGRAM, "--help"],
        "wilss-masks generate --help": [PROGRAM, "generate", "--help"],
        f"warm second run of {counts[0]} images": _again(manifest, store),
        f"warm second run of {counts[1]} images": _again(many, finished),
    }
    actions = {
        name: (lambda command=command: subprocess.run(command, check=True, capture_output=True))
        for name, command in commands.items()
    }
    taken = interleaved(actions, 3 if quick else 9)
    asked = {"warm": "under 1", "wilss-masks": "under 0.7"}
    rows = [row(f"{name}, s", figure(taken[name]), asked[name.split()[0]]) for name in commands]
    return [*rows, *_opened(finished, counts[1], 3 if quick else 9)]


def _opened(store: Path, count: int, repeats: int) -> list[dict[str, Any]]:
    """`open_masks` beside what xarray opens by itself: no label map, and every coordinate lazy."""
    actions = {"masks": lambda: open_masks(store), "bare": lambda: xarray.open_zarr(store, zarr_format=3)}
    taken = interleaved(actions, repeats)
    return [
        row(f"open_masks, {count} images, s", figure(taken["masks"])),
        row(f"open_masks / xarray.open_zarr, {count} images", ratios(taken["masks"], taken["bare"])),
    ]


def _again(manifest: Manifest, store: Path) -> list[str]:
    return [PROGRAM, "generate", "--step", "0", "--manifest", str(manifest.path), "--out", str(store)]


def finished_store(scratch: Path, manifest: Manifest) -> Path:
    """A complete store of the built-in source, whose masks took no forward pass."""
    store = scratch / f"{manifest.path.stem}.zarr"
    source = _WithoutNetworks.from_manifest(manifest, step=0)
    generate(manifest, step=0, source=source, out=store, options=options())
    return store
