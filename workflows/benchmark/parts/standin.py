"""A device that is not there: a source that takes as long as one would, and a data set of many links to few files.

With both, scaling, overlap and growth can be measured without a GPU and without drawing 16,000 pictures.
"""

import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

import wilss
from wilss.data.images import read_image
from wilss.data.manifest import Manifest
from wilss.data.shapes.drawing import draw
from wilss.store import ImageContent, Status
from wilss_masks.sources.base import Grids, ImageTask

from .common import section

DRAWN = 64  # files that the links lead to
CLASSES = ("star", "heart", "moon", "flower", "ring")

_ALIKE = Grids()
_MANIFEST = """\
schema_version: 1
name: linked
path: {path}
layout: voc
names: {{0: background, 1: star, 2: heart, 3: moon, 4: flower, 5: ring}}
splits: {{train: train, val: train}}
tags: {{from: voc-main}}
steps: [{{classes: [1, 2, 3, 4, 5], supervision: tags}}]
encoders: {encoders}
"""


@dataclass(frozen=True, kw_only=True)
class SleepingSource:
    """Masks from the pixels' brightness, after as long as a device of `rate` images/s would take; 0 for no time."""

    name: ClassVar[str] = "sleeping"
    has_void: ClassVar[bool] = False
    uses_tags: ClassVar[bool] = True
    reads_labels: ClassVar[bool] = False
    seeds_kept: ClassVar[int] = 0
    encoders: ClassVar[tuple[()]] = ()

    rate: float = 0.0

    def identity(self) -> Mapping[str, Any]:
        """Nothing of weight."""
        return {"parameters": {"rate": self.rate}, "models": {}}

    def grids(self, height: int, width: int) -> Grids:
        """All images fit one batch, as with an encoder that takes them at one size."""
        return _ALIKE

    def prepare(self, device: str) -> Self:
        """Nothing to prepare."""
        return self

    def open(self, device: str, threads: int) -> "SleepingDevice":
        """A device for this process."""
        return SleepingDevice(self.rate)


class SleepingDevice:
    """One device per process: batches queue up, and it is busy with one of them at a time."""

    def __init__(self, rate: float) -> None:
        self._rate, self._free, self._queue = rate, 0.0, threading.Lock()
        self.busy = 0.0

    def load(self, task: ImageTask) -> Any:
        """The image, really decoded."""
        return read_image(task.record.path, task.record.bits)

    def propose(self, tasks: Sequence[ImageTask], loaded: Sequence[Any]) -> list[ImageContent]:
        """Wait as long as the device would work, then a mask per tag."""
        if self._rate:
            with self._queue:
                begun = max(time.perf_counter(), self._free)
                self._free = begun + len(tasks) / self._rate
                done = self._free
                self.busy += len(tasks) / self._rate
            time.sleep(max(0.0, done - time.perf_counter()))
        return [_content(task, pixels) for task, pixels in zip(tasks, loaded, strict=True)]


def _content(task: ImageTask, pixels: Any) -> ImageContent:
    """A mask per tag: where one colour channel is bright."""
    masks = {position: pixels[..., position % 3] > 140 for position in task.categories}
    return ImageContent(
        status=Status.DONE,
        planes={"mask": masks},
        confidence=dict.fromkeys(masks, 0.5),
        agreement=dict.fromkeys(masks, 0.5),
        area={position: int(mask.sum()) for position, mask in masks.items()},
    )


def linked_manifest(folder: Path, count: int) -> Manifest:
    """A manifest over `count` images in VOC's layout, hard links to a few drawn files."""
    root = folder / f"linked-{count}"
    path = folder / f"linked-{count}.yaml"
    if not path.exists():
        _link(root, _drawn(folder), count)
        text = Path("data_manifest.yaml").read_text(encoding="utf-8")
        content = _MANIFEST.format(path=root, encoders=section(text, "encoders"))
        path.write_text(content, encoding="utf-8")
    return wilss.load_manifest(path)


def _drawn(folder: Path) -> list[Path]:
    from PIL import Image

    drawn = folder / "drawn"
    drawn.mkdir(exist_ok=True)
    paths = [drawn / f"{index}.jpg" for index in range(DRAWN)]
    for index, path in enumerate(paths):
        if not path.exists():
            Image.fromarray(draw(7, index).image).save(path, quality=95)
    return paths


def _link(root: Path, drawn: list[Path], count: int) -> None:
    for name in ("JPEGImages", "ImageSets/Segmentation", "ImageSets/Main"):
        (root / name).mkdir(parents=True, exist_ok=True)
    ids = [f"image_{index:07d}" for index in range(count)]
    for index, name in enumerate(ids):
        target = root / "JPEGImages" / f"{name}.jpg"
        if not target.exists():
            os.link(drawn[index % len(drawn)], target)
    (root / "ImageSets/Segmentation/train.txt").write_text("\n".join(ids) + "\n", encoding="utf-8")
    tags = np.arange(count) % len(CLASSES)
    for position, name in enumerate(CLASSES):
        lines = [f"{image} {1 if tag == position else -1}\n" for image, tag in zip(ids, tags, strict=True)]
        (root / f"ImageSets/Main/{name}_train.txt").write_text("".join(lines), encoding="utf-8")
