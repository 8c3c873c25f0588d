"""A small first pass for a second one to go over: boxes for masks, tiny untrained encoders."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from tests.faults.cli import data_set
from tests.faults.standin import StandInSource
from wilss.data.manifest import Manifest, load_manifest
from wilss.store import ImageContent, MaskStore, Status
from wilss_masks.make.generate import generate
from wilss_masks.make.options import Options
from wilss_masks.sources.base import ImageTask

BANK = {
    "vit_size": 64, "clip_size": 64, "erode": 0.0, "min_area": 0.0, "drop": 0.0, "neighbours": 3, "first": 0.25,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Boxes(StandInSource):
    """Masks that are boxes, another one on each image; on the images of `empty` there is none."""

    name: ClassVar[str] = "boxes"
    empty: tuple[str, ...] = ()

    def identity(self) -> Mapping[str, Any]:
        return {"parameters": {"empty": list(self.empty)}, "models": {}}

    def propose(self, tasks: Sequence[ImageTask], loaded: Sequence[Any]) -> list[ImageContent]:
        return [self._box(task) for task in tasks]

    def _box(self, task: ImageTask) -> ImageContent:
        draw = np.random.default_rng(sum(map(ord, task.record.image_id)))
        masks = {}
        for position in task.categories:
            top, left = draw.integers(0, 4, 2)
            masks[position] = np.zeros((task.height, task.width), np.bool_)
            if task.record.image_id not in self.empty:
                masks[position][top : top + 8, left : left + 8] = True
        return ImageContent(
            status=Status.DONE,
            planes={"mask": masks},
            confidence=dict.fromkeys(masks, 0.5),
            area={position: int(mask.sum()) for position, mask in masks.items()},
        )


def world(root: Path, *, step: int = 1, source: Any = None, **changes: Any) -> tuple[Manifest, MaskStore]:
    """Seven images and a first pass over them at `root`/first.zarr, in shards of 3."""
    data_set(root, **{"masks": {"bank": BANK}, **changes})
    manifest = load_manifest(root / "data_manifest.yaml")
    first_pass(manifest, root / "first.zarr", step=step, source=source)
    return manifest, MaskStore.open(root / "first.zarr")


def first_pass(manifest: Manifest, out: Path, *, step: int = 1, source: Any = None, **options: Any) -> None:
    how = Options(shard_size=3, batch_size=2, device="cpu", **options)
    generate(manifest, step=step, source=source or Boxes(), out=out, options=how)
