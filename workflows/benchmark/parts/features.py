"""Relabelling with changed prompts: from kept features beside an image pass, of this build or of another one.

Each side is a process of its own on one thread; they take turns, and a round is a whole store: decode or read, masks,
fsync. Networks are open and texts encoded before, on both sides. `WILSS_BESIDE` names the Python of another build, that
makes the image pass; without it this build does.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from measure import figure

import wilss
from wilss.store import MaskStore
from wilss_masks import generate

from .common import built_in_source, large_source, manifest_over, options, row

_CHILD = """
import json, sys
from dataclasses import replace
from pathlib import Path
import torch
torch.set_num_threads(1)
import wilss
from wilss.data.manifest import EncoderSpec
from wilss_masks import FmwissSource, Options, generate
facts = json.loads(sys.argv[1])
manifest = wilss.load_manifest(facts["manifest"])
source = FmwissSource.from_manifest(manifest, step=0, values=facts["values"])
if facts["encoders"]:
    clip, vit = (EncoderSpec(**spec) for spec in facts["encoders"])
    source = replace(source, clip=clip, vit=vit)
source = source.prepare("cpu")
more = {"features_from": [Path(facts["features"])]} if facts["features"] else {}
asked = Options(limit=facts["limit"], overwrite=True, device="cpu")
for line in sys.stdin:
    made = generate(manifest, step=0, source=source, out=Path(facts["out"]), options=asked, **more)
    print(json.dumps(made.seconds / made.images), flush=True)
"""
_ROUNDS = 5


def measure(scratch: Path, quick: bool) -> list[dict[str, Any]]:
    """Both sizes of encoders."""
    built_in, large = (8, 4) if quick else (200, 48), (2, 2) if quick else (48, 12)
    return [
        *_beside(scratch, "built-in encoders", *built_in, 1 if quick else _ROUNDS, is_large=False),
        *_beside(scratch, "ViT-B/16 at 224", *large, 1 if quick else _ROUNDS, is_large=True),
    ]


def _beside(
    scratch: Path, title: str, by_features: int, by_images: int, rounds: int, *, is_large: bool
) -> list[dict[str, Any]]:
    """by_features, by_images: how many images a round of either has; seconds are compared by the image."""
    manifest = manifest_over(scratch, by_features)
    source = large_source(manifest) if is_large else built_in_source(manifest)
    kept = scratch / f"features-{'large' if is_large else 'built-in'}.zarr"
    generate(manifest, step=0, source=source, out=kept, options=options(keep_features=True, threads=1))
    values = {"clip_size": 224, "vit_size": 224, "affinity": "qk", "templates": "plain"} if is_large else {}
    encoders = [source.clip.model_dump(mode="json"), source.vit.model_dump(mode="json")] if is_large else []
    facts = {"manifest": str(_with_other_prompts(manifest.path)), "values": values, "encoders": encoders}
    stores = {name: scratch / f"relabelled-{name}.zarr" for name in ("features", "images")}
    sides = {
        "features": _Side(sys.executable, **facts, features=str(kept), limit=by_features, out=str(stores["features"])),
        "images": _Side(os.environ.get("WILSS_BESIDE", sys.executable), **facts, features="", limit=by_images,
                        out=str(stores["images"])),
    }  # fmt: skip
    for side in sides.values():
        side.round()  # networks are opened
    taken = [{name: side.round() for name, side in sides.items()} for _ in range(rounds)]
    for side in sides.values():
        side.end()
    ratios = figure([one["images"] / one["features"] for one in taken])
    seconds = figure([1000 * one["features"] for one in taken])
    same = _agreement(MaskStore.open(stores["images"]), MaskStore.open(stores["features"]))
    size = sum(file.stat().st_size for file in kept.rglob("*") if file.is_file()) / by_features / 1000
    return [
        row(f"{title}: relabelling from features over an image pass, images/s", ratios, "at least 20"),
        row(f"{title}: ms an image from features", seconds),
        row(f"{title}: pixels of masks that are the same, %", f"{100 * same:.2f}", "at least 99", same=same),
        row(f"{title}: kB of a store an image", f"{size:.0f}", size=size),
    ]


def _with_other_prompts(path: Path) -> Path:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    names = dict(content["names"])
    ids = [identity for identity in names if identity]
    for place, identity in enumerate(ids):
        names[identity] = {"name": names[identity], "prompts": [names[identity], content["names"][ids[place - 1]]]}
    other = path.with_name(f"{path.stem}-other-prompts.yaml")
    other.write_text(yaml.safe_dump({**content, "names": names}), encoding="utf-8")
    wilss.load_manifest(other)
    return other


class _Side:
    """A process that makes a store whenever it is told to."""

    def __init__(self, python: str, **facts: Any) -> None:
        command = [python, "-c", _CHILD, json.dumps(facts)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                         env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip

    def round(self) -> float:
        """Seconds an image."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return float(json.loads(self._process.stdout.readline()))

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def _agreement(some: MaskStore, all_of_them: MaskStore) -> float:
    """The share of pixels of the masks of both that are the same."""
    shares = [
        float((some.read(name).masks == all_of_them.read(name).masks).mean())
        for name in some.image_ids
        if name in all_of_them.image_ids
    ]
    return sum(shares) / len(shares)
