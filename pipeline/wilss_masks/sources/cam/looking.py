"""A classifier looks at whole images: what its last two stages say of them, one image after the other."""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from wilss.data.images import normalise, read_image, resize_uint8
from wilss.data.layouts import ImageRecord
from wilss.errors import ImageError, ManifestError, counted, first_line
from wilss.models.networks.classifier import Classifier
from wilss.process import map_in_threads

from .lessons import Lessons
from .params import CamParams
from .views import input_sizes, opened

if TYPE_CHECKING:
    from wilss.models.encoders.vit.encoder import SeedViT

log = logging.getLogger(__name__)

#: Of feature maps that are kept for a second look, in bytes.
_MOST = 2**29
SECONDS_BETWEEN_LINES = 10.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Teaching:
    """How a classifier is taught.

    stride: image pixels per feature; mean, std: of its input. state: where what is learnt so far is kept, or None.
    vit: says which patches belong together, where it is asked to.
    """

    lessons: Lessons
    params: CamParams
    stride: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    seed: int
    device: str
    state: Path | None = None
    vit: "SeedViT | None" = None


@dataclass(eq=False)
class Eyes:
    """A classifier's last two feature maps, float16 [D', h', w'] and [D, h, w], of every image that can be read.

    They are kept for the second look while there is room; the network may not change between the two.
    """

    classifier: Classifier
    teaching: Teaching
    _kept: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    _bytes: int = 0

    def walk(self, what: str) -> Iterator[tuple[int, tuple[Tensor, Tensor]]]:
        """Row and feature maps of every image that can be read. what: is done meanwhile, in words."""
        records, started, told = self.teaching.lessons.records, time.monotonic(), time.monotonic()
        missing = [row for row in range(len(records)) if row not in self._kept]
        images = map_in_threads(lambda row: self._input(records[row]), missing)
        for row in range(len(records)):
            stages = self._kept[row] if row in self._kept else self._seen(row, next(images))
            if stages is not None:
                yield row, stages
            if time.monotonic() - told > SECONDS_BETWEEN_LINES:
                told = time.monotonic()
                log.info("%s", line(what, row + 1, len(records), started))

    def _input(self, record: ImageRecord) -> Tensor | None:
        image, params = opened(record), self.teaching.params
        if image is None:
            return None
        size = input_sizes(
            *image.shape[-2:],
            shorter=params.learn_size,
            longest=params.longest,
            scales=(),
            stride=self.teaching.stride,
        )[0]
        return resize_uint8(image, size)

    def _seen(self, row: int, image: Tensor | None) -> tuple[Tensor, Tensor] | None:
        if image is None:
            return None
        with torch.no_grad():
            inputs = normalise(image[None].to(self.teaching.device), self.teaching.mean, self.teaching.std)
            previous, last = (stage[0].half() for stage in self.classifier.stages(inputs))
        size = previous.nbytes + last.nbytes
        if self._bytes + size <= _MOST:
            self._bytes += size
            self._kept[row] = previous.cpu(), last.cpu()
        return previous, last


def require_seen(rows: Sequence[int], lessons: Lessons) -> None:
    """ManifestError where no image that shows a class could be read to its end. rows: of those that could."""
    if lessons.tags[list(rows)].any():
        return
    tagged = np.flatnonzero(lessons.tags.any(axis=1)).tolist()
    why = next((why for why in (_why_unread(lessons.records[row]) for row in tagged) if why), None)
    raise ManifestError(
        f"a classifier has nothing to learn from: of the {counted(len(tagged), 'image')} of {lessons.of} that show a "
        f"class none can be read to the end ({first_line(why)}); see `wilss-masks manifest check --images`."
    )


def tell_of_unseen(rows: Sequence[int], lessons: Lessons) -> None:
    """A warning of classes that are shown by images alone that could not be read. rows: of those that could."""
    lost = (lessons.counts > 0) & ~lessons.tags[list(rows)].any(axis=0)
    if names := [lessons.names[place] for place in np.flatnonzero(lost).tolist()]:
        log.warning(
            "Warning: no image of %s that shows %s can be read to the end, so that the classifier learns nothing of "
            "%s; see `wilss-masks manifest check --images`.",
            lessons.of, ", ".join(names), "it" if len(names) == 1 else "them",
        )  # fmt: skip


def _why_unread(record: ImageRecord) -> ImageError | None:
    try:
        read_image(record.path, record.bits)
    except ImageError as error:
        return error
    return None


def line(what: str, done: int, total: int, started: float, first: int = 0) -> str:
    """How far something is, and how long it will take."""
    left = (time.monotonic() - started) / max(done - first, 1) * (total - done)
    return f"{what}: {done} of {total}, {left:.0f} s left"
