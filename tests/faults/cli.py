"""The command line on a small data set: in this process for its words and exit codes, or in one of its own.

`python -m tests.faults.cli generate --source standin ...` is `wilss-masks` with one source more, which needs no
networks and can be slow.
"""

import contextlib
import errno
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Self
from unittest import mock

import numpy as np

from tests.faults.standin import StandInSource
from tests.wilss.data import data_on_disk as disk
from wilss.data.manifest import Manifest
from wilss.data.taxonomy import VOID
from wilss.store import MaskStore, MaskStoreWriter, Status
from wilss_masks import sources
from wilss_masks.cli import main
from wilss_masks.sources.base import Grids

ROOT = Path(__file__).parents[2]
IMAGES = tuple(f"im{i}" for i in range(7))
BROKEN = "im2"
SIZES = ((12, 16), (16, 12), (12, 12))
CLIP = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8, "pool_type": "avg"},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3}
ENCODERS = {
    "clip": {"library": "open_clip", "config": "clip.json", "pretrained": "random:0"},
    "vit": {"library": "timm", "model": "vit_tiny_patch16_224", "pretrained": "random:0", "args": VIT},
}
FMWISS = {"clip_size": 32, "vit_size": 32, "affinity": "kk", "background": "margin", "templates": "plain"}


@dataclass(frozen=True, kw_only=True)
class CliStandIn(StandInSource):
    """The stand-in as the command line makes a source; `threshold` alone is part of its identity."""

    name: ClassVar[str] = "standin"
    threshold: str = "0.5"

    @classmethod
    def from_manifest(
        cls, manifest: Manifest, step: int, values: Mapping[str, Any] = MappingProxyType({}), seed: int = 0
    ) -> Self:
        return cls(
            delay=float(values.get("delay", 0)),
            threshold=values.get("threshold", "0.5"),
            misfortune=values.get("misfortune", ""),
        )

    def identity(self) -> Mapping[str, Any]:
        return {"parameters": {"threshold": self.threshold}, "models": {}}

    def grids(self, height: int, width: int) -> Grids:
        return Grids(score=(max(height // 4, 1), max(width // 4, 1)), attention=(height, width))


@dataclass(frozen=True)
class Outcome:
    """What a call left: exit code, standard output and error."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        return self.out + self.err


def wilss_masks(*words: object) -> Outcome:
    """`wilss-masks words...` in this process."""
    out, err = io.StringIO(), io.StringIO()
    code: Any = None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), _standin_known():
        try:
            main([str(word) for word in words])
        except SystemExit as end:
            code = end.code
    return Outcome(int(code or 0), out.getvalue(), err.getvalue())


def generate(root: Path, *words: object, source: str = "standin", step: int = 1, out: str = "out/s.zarr") -> Outcome:
    """`generate` on the data set at `root`, in shards of 3 and batches of 2, written to `root`/out."""
    fixed = ("--manifest", root / "data_manifest.yaml", "--out", root / out, "--device", "cpu")
    sizes = ("--shard-size", 3, "--batch-size", 2, "--source", source)
    return wilss_masks("generate", "--step", step, *fixed, *sizes, *words)


def command(root: Path, *words: object, out: str = "out/s.zarr") -> list[str]:
    """The same as the command of a process."""
    fixed = ["--manifest", root / "data_manifest.yaml", "--out", root / out, "--device", "cpu", "--source", "standin"]
    given = ["generate", "--step", 1, *fixed, "--shard-size", 3, "--batch-size", 2, *words]
    return [sys.executable, "-m", "tests.faults.cli", *map(str, given)]


def start(words: Sequence[str], **options: Any) -> "subprocess.Popen[str]":
    """A process with pipes, in a session of its own."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **options.pop("env", {})}
    return subprocess.Popen(words, cwd=ROOT, env=environment, **{**pipes, **options})


def data_set(root: Path, **changes: Any) -> Path:
    """Seven images in VOC's layout, with labels: cat or dog at step 0, all of them with a horse at step 1."""
    disk.voc(root / "data", {name: [1 + i % 2, 3] for i, name in enumerate(IMAGES)})
    for number, name in enumerate(IMAGES):
        size = SIZES[number % len(SIZES)]
        disk.image(root / f"data/JPEGImages/{name}.jpg", size, seed=number)
        disk.label(root / f"data/SegmentationClass/{name}.png", [1 + number % 2, 3, VOID], size)
    (root / "clip.json").write_text(json.dumps(CLIP))
    settings = {"encoders": ENCODERS, "masks": {"fmwiss": FMWISS}, "background_prompts": ["wall"]}
    disk.manifest(root, **{**settings, **changes})
    return root


def masks(store: Path) -> dict[str, Any]:
    """The masks of every image that is done, by its id."""
    opened = MaskStore.open(store)
    done = np.flatnonzero(opened.vector("status") == Status.DONE)
    return {opened.image_ids[row]: opened.read(row).masks for row in done.tolist()}


@contextlib.contextmanager
def full_after(shards: int) -> Iterator[None]:
    """So many shards are committed; for any more the disk has no space."""
    commit, left = MaskStoreWriter.commit, [shards]

    def commit_some(writer: MaskStoreWriter, *receipts: Any) -> None:
        for receipt in receipts:
            if not left[0]:
                raise OSError(errno.ENOSPC, "No space left on device")
            left[0] -= 1
            commit(writer, receipt)

    with mock.patch.object(MaskStoreWriter, "commit", commit_some):
        yield


def failures(store: Path) -> dict[str, str]:
    """What the store says of the images that failed."""
    opened = MaskStore.open(store)
    failed = np.flatnonzero(opened.vector("status") == Status.FAILED)
    return {opened.image_ids[row]: str(opened.vector("error")[row]) for row in failed.tolist()}


def listing(root: Path, but: str = "out") -> dict[str, tuple[int, int]]:
    """Every file and folder under `root` with size and time, but for what lies under the folder `but`."""
    found: dict[str, tuple[int, int]] = {}
    folders = [(str(root), "")]
    while folders:
        folder, prefix = folders.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                name, is_link = prefix + entry.name, entry.is_symlink()
                is_folder = os.path.isdir(entry.path) if is_link else entry.is_dir()  # a link may lead back to itself
                if name == but and is_folder:
                    continue
                state = entry.stat(follow_symlinks=False)
                found[name] = (0 if is_folder else state.st_size, state.st_mtime_ns)
                if is_folder and not is_link:
                    folders.append((entry.path, f"{name}/"))
    return found


def content(store: Path) -> dict[str, bytes]:
    """Every file of a store."""
    return {str(f.relative_to(store)): f.read_bytes() for f in sorted(store.rglob("*")) if f.is_file()}


@contextlib.contextmanager
def _standin_known() -> Iterator[None]:
    table: dict[str, Any] = sources.SOURCES
    table["standin"] = CliStandIn
    try:
        yield
    finally:
        del table["standin"]


def run_as_a_process() -> None:
    """`wilss-masks` with the stand-in; a worker imports this module by its name, so that the source pickles."""
    from tests.faults import cli

    # Tests that run in the background of a shell inherit an ignored SIGINT; this process stands for one at a terminal.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with cli._standin_known():
        main()


if __name__ == "__main__":
    run_as_a_process()
