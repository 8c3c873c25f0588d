"""Predicted label maps as files: palette PNGs with taxonomy ids, and overlays for people."""

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from wilss.data.taxonomy import voc_palette
from wilss.disk import write_output
from wilss.drawing import encoded
from wilss.models.networks.checkpoint import CheckpointInfo

from ..data.image_lists import Target
from .overlays import draw_overlay
from .predict import Predicted, predictions

_WRITERS = 4
_WAITING = 32
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
    with _Writers() as writers:
        for number, image in enumerate(predicted, start=1):
            if image.labels is None:
                failed[image.record.image_id] = str(image.error)
            else:
                writers.begin(image, by_id[image.record.image_id], names)
                ids, counts = np.unique(image.labels, return_counts=True)
                images.update(ids.tolist())
                pixels.update(dict(zip(ids.tolist(), counts.tolist(), strict=True)))
            if progress is not None:
                progress(number, len(targets))
    seconds = time.monotonic() - start
    return Written(count=len(targets) - len(failed), failed=failed, images=images, pixels=pixels, seconds=seconds)


class _Writers:
    """Threads that write files; a few wait, so that memory does not fill where the disk is slow."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_WRITERS, thread_name_prefix="write")
        self._waiting: deque[Future[None]] = deque()

    def begin(self, image: Predicted, target: Target, names: Mapping[int, str] | None) -> None:
        """Let a thread write; an error of an earlier file comes out here."""
        self._waiting.append(self._pool.submit(_write, image, target, names))
        if len(self._waiting) > _WAITING:
            self._waiting.popleft().result()

    def __enter__(self) -> "_Writers":
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        """Wait for the files that are begun, and raise the error of one that failed; after an error, only stop."""
        self._pool.shutdown(cancel_futures=kind is not None)
        if kind is None:
            for future in self._waiting:
                future.result()


def palette_png(labels: NDArray[np.uint8]) -> bytes:
    """A label map uint8 [H, W] as a PNG with VOC's palette, whose values are the ids."""
    image = Image.fromarray(labels, mode="P")
    image.putpalette(voc_palette())
    return encoded(image)


def _write(image: Predicted, target: Target, names: Mapping[int, str] | None) -> None:
    """names: of the ids, for the overlay; None for no overlay."""
    assert image.sample is not None and image.labels is not None  # noqa: PT018
    write_output(target.labels, palette_png(image.labels))
    if names is None:
        return
    drawn = Image.fromarray(draw_overlay(image.sample.image, image.labels, names))
    write_output(target.overlay, encoded(drawn, "JPEG", quality=_JPEG_QUALITY))
