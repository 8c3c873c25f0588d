"""Relabelling with changed prompts: from kept features beside an image pass, of this build or of another one.

Each side is a process of its own on one thread; they take turns, and a round is a whole store: decode or read, masks,
fsync. Networks are open and texts encoded before, on both sides. With `--beside CHECKOUT` the image pass by 0.2.0's
settings is that of another build, which has its own .venv; else this build's.
"""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from measure import figure

import wilss
from wilss.store import MaskStore
from wilss_masks import FmwissSource, generate

from .common import manifest_over, options, row

_CHILD = """
import json, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
import wilss
from wilss_masks import FmwissSource, Options, generate
facts = json.loads(sys.argv[1])
manifest = wilss.load_manifest(facts["manifest"])
source = FmwissSource.from_manifest(manifest, step=0).prepare("cpu")
more = {"features_from": [Path(facts["features"])]} if facts["features"] else {}
asked = Options(limit=facts["limit"], overwrite=True, device="cpu")
for line in sys.stdin:
    started = time.perf_counter()
    generate(manifest, step=0, source=source, out=Path(facts["out"]), options=asked, **more)
    print(json.dumps((time.perf_counter() - started) / facts["limit"]), flush=True)
"""
_ROUNDS = 5
#: What 0.2.0 made masks by, which every build knows; and what the built-in manifest has today.
_OF_THEN = {"threshold": 0.9, "keep": "std", "keep_amount": 1.0, "draws": 5}
_LARGE = {
    "clip": {"library": "open_clip", "model": "ViT-B-16", "pretrained": "random:0"},
    "vit": {"library": "timm", "model": "vit_base_patch16_224.dino", "pretrained": "random:0"},
}
#: Of texts, which cost the same on both sides, one template is enough.
_AT_224 = {"clip_size": 224, "vit_size": 224, "templates": "plain"}


def measure(scratch: Path, quick: bool, beside: Path | None = None) -> list[dict[str, Any]]:
    """Both sizes of encoders by the settings of 0.2.0, beside another build where one is named; and today's settings.

    The untrained ones cost the same time; what they say of images is not what trained ones say.
    """
    built_in, large, rounds = ((8, 4), (2, 2), 1) if quick else ((200, 48), (48, 12), _ROUNDS)
    manifest = manifest_over(scratch, built_in[0]).path
    today = yaml.safe_load(manifest.read_text(encoding="utf-8"))["masks"]["fmwiss"]
    python = sys.executable if beside is None else str(beside.absolute() / ".venv/bin/python")
    then, whose = {**_OF_THEN, "clip_size": 0, "vit_size": 224}, "" if beside is None else " of another build"
    return [
        *_Pair(scratch, manifest, "built-in encoders", then).measure(python, *built_in, rounds, whose),
        *_Pair(scratch, manifest, "built-in encoders, settings of today", today).measure(
            sys.executable, *built_in, rounds
        ),
        *_Pair(scratch, manifest, "ViT-B/16 at 224", {**_OF_THEN, **_AT_224}, _LARGE).measure(
            python, *large, rounds, whose
        ),
        *_Pair(scratch, manifest, "ViT-B/16 at 224, settings of today", {**today, **_AT_224}, _LARGE).measure(
            sys.executable, *large, rounds
        ),
    ]


@dataclass(frozen=True)
class _Pair:
    """A setting, and the encoders that are not the built-in ones."""

    scratch: Path
    manifest: Path
    title: str
    fmwiss: dict[str, Any]
    encoders: dict[str, Any] = field(default_factory=dict)

    def measure(
        self, python: str, by_features: int, by_images: int, rounds: int, whose: str = ""
    ) -> list[dict[str, Any]]:
        """by_features, by_images: how many images a round of either side has; times are compared by the image.

        python: of the build that makes the image pass. whose: how the row calls that of another one.
        """
        kept = self._kept(by_features)
        asked = {"manifest": str(self._written("other-prompts", other_prompts=True))}
        stores = {name: self.scratch / f"relabelled-{name}.zarr" for name in ("features", "images")}
        sides = {
            "features": _Side(sys.executable, **asked, features=str(kept), limit=by_features,
                              out=str(stores["features"])),
            "images": _Side(python, **asked, features="", limit=by_images, out=str(stores["images"])),
        }  # fmt: skip
        for side in sides.values():
            side.round()  # networks are opened
        taken = [{name: side.round() for name, side in sides.items()} for _ in range(rounds)]
        for side in sides.values():
            side.end()
        same = _agreement(MaskStore.open(stores["images"]), MaskStore.open(stores["features"]))
        size = sum(file.stat().st_size for file in kept.rglob("*") if file.is_file()) / by_features / 1000
        title = f"{self.title}: relabelling"
        return [
            row(f"{title} from features over an image pass{whose}, images/s",
                figure([one["images"] / one["features"] for one in taken]), "at least 20"),
            row(f"{title}, ms an image", figure([1000 * one["features"] for one in taken])),
            row(f"{title}, pixels of masks that are the same, %", f"{100 * same:.2f}", "at least 99", same=same),
            row(f"{title}, kB of a store with features an image", f"{size:.0f}", size=size),
        ]  # fmt: skip

    def _kept(self, count: int) -> Path:
        """The store with features of the first prompts."""
        manifest = wilss.load_manifest(self._written("kept", other_prompts=False))
        out = self.scratch / f"{self._name}-kept.zarr"
        source = FmwissSource.from_manifest(manifest, step=0)
        generate(manifest, step=0, source=source, out=out, options=options(keep_features=True, limit=count))
        return out

    @property
    def _name(self) -> str:
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower())

    def _written(self, ending: str, *, other_prompts: bool) -> Path:
        """The manifest with this setting; other_prompts: every class by the name of another one as well."""
        content = yaml.safe_load(self.manifest.read_text(encoding="utf-8"))
        content |= {"masks": {"fmwiss": self.fmwiss}, **({"encoders": self.encoders} if self.encoders else {})}
        names = {identity: name for identity, name in content["names"].items() if identity}
        if other_prompts:
            others = dict(zip(names, [*list(names.values())[1:], *list(names.values())[:1]], strict=True))
            content["names"] |= {i: {"name": name, "prompts": [name, others[i]]} for i, name in names.items()}
        path = self.manifest.with_name(f"{self._name}-{ending}.yaml")
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return path


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
