"""Predicted label maps as files: palette PNGs with taxonomy ids, and overlays for people."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from wilss.data.taxonomy import voc_palette
from wilss.disk import write_output
from wilss.drawing import encoded
from wilss.models.networks.checkpoint import CheckpointInfo
from wilss.threads import map_in_threads

from ..data.image_lists import Target
from .overlays import draw_overlay
from .predict import Predicted, predictions

_WRITERS = 4
_JPEG_QUALITY = 90


@dataclass(frozen=True, kw_only=True)
class Written:
    """What was written. failed: image -> why it has no label map. images, pixels: how many show a class, by its id."""

    count: int
    failed: Mapping[str, str]
    images: Mapping[int, int]
    pixels: Mapping[int, int]
    seconds: float


def write_label_files(
    segmenter: nn.Module,
    info: CheckpointInfo,
    targets: Sequence[Target],
    *,
    overlays: bool = True,
    batch_size: int = 8,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Written:
    """Predict every target's image and write its files, each whole or not at all, while the next are predicted.

    Raises StoreError when a file cannot be written.
    """
    start, by_id = time.monotonic(), {target.record.image_id: target for target in targets}
    names = dict(zip(info.seen, info.channel_names, strict=True)) if overlays else None
    records = [target.record for target in targets]
    predicted = predictions(segmenter, info, records, batch_size=batch_size, device=device)
    failed, images, pixels = dict[str, str](), Counter[int](), Counter[int]()
    write = partial(_write, targets=by_id, names=names)
    for number, image in enumerate(map_in_threads(write, predicted, _WRITERS), start=1):
        if image.labels is None:
            failed[image.record.image_id] = str(image.error)
        else:
            ids, counts = np.unique(image.labels, return_counts=True)
            images.update(ids.tolist())
            pixels.update(dict(zip(ids.tolist(), counts.tolist(), strict=True)))
        if progress is not None:
            progress(number, len(targets))
    seconds = time.monotonic() - start
    return Written(count=len(targets) - len(failed), failed=failed, images=images, pixels=pixels, seconds=seconds)


def palette_png(labels: NDArray[np.uint8]) -> bytes:
    """A label map uint8 [H, W] as a PNG with VOC's palette, whose values are the ids."""
    image = Image.fromarray(labels, mode="P")
    image.putpalette(voc_palette())
    return encoded(image)


def _write(image: Predicted, targets: Mapping[str, Target], names: Mapping[int, str] | None) -> Predicted:
    """The image, whose files are written where it has a label map. names: of the ids; None for no overlay."""
    if image.sample is None or image.labels is None:
        return image
    target = targets[image.record.image_id]
    write_output(target.labels, palette_png(image.labels))
    if names is not None:
        drawn = Image.fromarray(draw_overlay(image.sample.image, image.labels, names))
        write_output(target.overlay, encoded(drawn, "JPEG", quality=_JPEG_QUALITY))
    return image
