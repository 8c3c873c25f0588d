"""A run without networks: a source that draws its masks, so that kills and faults can be tried in seconds.

`python -m tests.faults.standin FOLDER STORE [--workers N] [--delay S]` makes a store; run again, it goes on.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Self

import numpy as np
from PIL import Image

from tests.faults.misfortune import meet
from wilss.data.images.decoding import read_image
from wilss.data.layouts import ImageRecord, Selection
from wilss.data.manifest import Encoders
from wilss.data.protocol import StepProtocol
from wilss.data.taxonomy import Taxonomy
from wilss.disk import Location
from wilss.randomness import numpy_generator_for
from wilss.store import ImageContent, Status
from wilss_masks.make.cluster import ClusterOptions
from wilss_masks.make.generate import generate
from wilss_masks.make.options import Options
from wilss_masks.make.summary import Summary
from wilss_masks.sources.base import Grids, ImageTask

TAXONOMY = Taxonomy(name="standin", class_names=("background", "a", "b", "c"))
SIZES = ((24, 32), (32, 24), (20, 20))


@dataclass(frozen=True, kw_only=True)
class StandInSource:
    """Masks that depend on the image's pixels, its id and the class alone; slow by `delay` seconds a batch.

    misfortune: what happens at which images, in the words of `misfortune.meet`.
    """

    name: ClassVar[str] = "standin"
    has_void: ClassVar[bool] = False
    uses_tags: ClassVar[bool] = True
    reads_labels: ClassVar[bool] = False
    seeds_kept: ClassVar[int] = 2
    encoders: ClassVar[tuple[()]] = ()

    delay: float = 0.0
    misfortune: str = ""

    def identity(self) -> Mapping[str, Any]:
        return {"parameters": {}, "models": {}}

    def grids(self, height: int, width: int) -> Grids:
        return Grids(score=(height // 4, width // 4), attention=(height // 2, width // 2))

    def prepare(self, device: str) -> Self:
        return self

    def open(self, device: str, threads: int) -> Self:
        return self

    def load(self, task: ImageTask) -> Any:
        meet(self.misfortune, task.record.image_id)
        return read_image(task.record.path, task.record.bits)

    def propose(self, tasks: Sequence[ImageTask], loaded: Sequence[Any]) -> list[ImageContent]:
        time.sleep(self.delay)
        return [self._one(task, pixels) for task, pixels in zip(tasks, loaded, strict=True)]

    def _one(self, task: ImageTask, pixels: Any) -> ImageContent:
        masks, scores, seeds = {}, {}, {}
        for position in task.categories:
            draw = numpy_generator_for(0, task.record.image_id, position)
            masks[position] = pixels[..., position] > draw.integers(0, 255, pixels.shape[:2])
            scores[position] = draw.random(self.grids(*pixels.shape[:2]).score or (1, 1)).astype(np.float16)
            seeds[position] = draw.integers(0, 4, (2, 2)).astype(np.int16)
        return ImageContent(
            status=Status.DONE,
            planes={"mask": masks, "score": scores, "seeds": seeds},
            confidence={position: float(mask.mean()) for position, mask in masks.items()},
            area={position: int(mask.sum()) for position, mask in masks.items()},
        )


@dataclass(frozen=True, kw_only=True)
class StandInManifest:
    """As much of a manifest as a run asks for, over the PNGs of one folder; data, steps: of a layout without lists."""

    folder: Path
    data: Any = field(
        default_factory=lambda: {"main": SimpleNamespace(layout="pngs", tags=SimpleNamespace(kind="", complete=False))}
    )
    steps: Any = (SimpleNamespace(data="main"),)
    name: str = "standin"
    digest: str = "0" * 64
    taxonomy: Taxonomy = TAXONOMY
    encoders: Encoders = field(default_factory=Encoders)
    protocol: StepProtocol = StepProtocol(name="standin", taxonomy=TAXONOMY, steps=((1, 2, 3),), setting="overlap")

    def described(self, step: int) -> dict[str, Any]:
        return {}

    def records(self, step: int, split: str = "train") -> Selection:
        records = [
            ImageRecord(
                image_id=path.stem,
                path=path,
                tags=tuple({1 + i % 3, 1 + i // 3 % 3}),
                label=None,
                problem=None,
            )
            for i, path in enumerate(sorted(self.folder.glob("*.png")))
        ]
        return Selection(records=tuple(records), warnings=())


def draw_images(folder: Path, count: int) -> Path:
    """Small noise images of three sizes, in `folder`, which is returned."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        pixels = numpy_generator_for(1, i).integers(0, 256, (*SIZES[i % len(SIZES)], 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"image_{i:04d}.png")
    return folder


def make(folder: Path, store: Location, *, workers: int = 1, delay: float = 0.0, **options: Any) -> Summary:
    """Make the stand-in's store, or go on with it."""
    return generate(
        StandInManifest(folder=folder),  # type: ignore[arg-type]
        step=0,
        source=StandInSource(delay=delay),
        out=store,
        options=Options(
            shard_size=4,
            batch_size=2,
            device="cpu",
            keep_scores=True,
            cluster=ClusterOptions(workers=workers),
            **options,
        ),
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("store", type=Path)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--delay", type=float, default=0.0)
    given = parser.parse_args()
    summary = make(given.folder, given.store, workers=given.workers, delay=given.delay)
    raise SystemExit(1 if summary.lost else 0)


if __name__ == "__main__":
    main()
