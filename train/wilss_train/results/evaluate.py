"""How well a segmenter does on pixel labels: old classes, new classes, all.

Classes that the checkpoint has not seen yet count as background, VOID is left out of every count, and images
are judged whole unless the field's resized and cropped protocol is asked for.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from wilss.data.images import read_image
from wilss.data.layouts import ImageRecord, require_size
from wilss.equations.metrics import Scores, confusion
from wilss.errors import ImageError, ManifestError
from wilss.models.networks.checkpoint import CheckpointInfo

from .predict import Sample, predictions

Mode = Literal["full", "wilson"]
#: How images are judged: whole and at their own size, or as WILSON does (Cermelli et al. 2022, public code).
MODES: dict[Mode, str] = {"full": "whole images", "wilson": "shorter side 512, centre crop 512"}
_WILSON_SIDE = 512


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The figures of a checkpoint on a split. failed: image id -> why it could not be judged; it is left out.

    scores: background, then the classes seen, in the order of the channels. Means are over the classes that
    are in the truth or predicted, and None where there are none: at step 0 no class is old.
    """

    info: CheckpointInfo
    split: str
    mode: Mode
    scores: Scores
    counted: int
    failed: Mapping[str, str]
    seconds: float

    def mean_iou(self, ids: Collection[int]) -> float | None:
        """Mean IoU over the classes `ids`, taxonomy ids."""
        by_id = zip(self.info.seen, self.scores.iou.tolist(), strict=True)
        known = [value for identity, value in by_id if identity in ids and not np.isnan(value)]
        return float(np.mean(known)) if known else None

    @property
    def old_iou(self) -> float | None:
        """Mean IoU of the classes that came before the checkpoint's step, without background."""
        return self.mean_iou(self.info.protocol.old(self.info.step))

    @property
    def new_iou(self) -> float | None:
        """Mean IoU of the classes of the checkpoint's step."""
        return self.mean_iou(self.info.protocol.new(self.info.step))

    @property
    def all_iou(self) -> float | None:
        """Mean IoU of background and all classes seen ("All" in published tables)."""
        return self.mean_iou(self.info.seen)

    @property
    def classes_iou(self) -> float | None:
        """Mean IoU of all classes seen, without background."""
        return self.mean_iou(_classes_of(self.info))

    @property
    def harmonic(self) -> float | None:
        """The harmonic mean of `old_iou` and `new_iou`: high only where both are."""
        old, new = self.old_iou, self.new_iou
        if old is None or new is None:
            return None
        return 2 * old * new / (old + new) if old + new else 0.0

    def as_json(self) -> dict[str, Any]:
        """Everything as JSON values; ratios in [0, 1], null where there is none."""
        protocol = self.info.protocol
        return {
            "checkpoint": {"sha256": self.info.digest, "method": self.info.method},
            "protocol": protocol.name,
            "setting": protocol.setting,
            "step": self.info.step,
            "split": self.split,
            "mode": self.mode,
            "images": {"counted": self.counted, "failed": dict(self.failed)},
            "seconds": round(self.seconds, 3),
            "mean_iou_old": self.old_iou,
            "mean_iou_new": self.new_iou,
            "harmonic_mean": self.harmonic,
            **self.scores.as_json(),
            "confusion": self.scores.matrix_as_json(),
        }


def evaluate(
    segmenter: nn.Module,
    info: CheckpointInfo,
    records: Sequence[ImageRecord],
    *,
    split: str = "val",
    mode: Mode = "full",
    batch_size: int = 8,
    device: str = "cpu",
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Judge a segmenter on the pixel labels of `records`; images are streamed, never all held.

    Images and labels are decoded, and label maps compared, while the device works on other images.
    Raises ManifestError when no record has pixel labels, CheckpointError when the network's values are of no use.
    """
    _require_labels(records, split)
    start, classes = time.monotonic(), _classes_of(info)
    names = info.channel_names
    matrix, failed = np.zeros((len(names),) * 2, np.int64), dict[str, str]()
    read = partial(read_labelled, mode=mode)
    predicted = predictions(segmenter, info, records, batch_size=batch_size, device=device, threads=threads, read=read)
    if progress is not None:
        progress(0, len(records))
    for number, image in enumerate(predicted, start=1):
        if image.sample is None or image.sample.truth is None or image.labels is None:
            failed[image.record.image_id] = str(image.error)
        else:
            matrix += confusion(image.sample.truth, image.labels, classes)
        if progress is not None:
            progress(number, len(records))
    return Evaluation(
        info=info,
        split=split,
        mode=mode,
        scores=Scores(names=names, matrix=matrix),
        counted=len(records) - len(failed),
        failed=failed,
        seconds=time.monotonic() - start,
    )


def _require_labels(records: Sequence[ImageRecord], split: str) -> None:
    if not any(record.label is not None for record in records):
        raise ManifestError(
            f"none of the {len(records)} images of the split {split!r} has pixel labels, so there is nothing to "
            "compare with; choose another split, or add the label files that the layout looks for."
        )


def read_labelled(record: ImageRecord, *, mode: Mode = "full") -> Sample:
    """An image with its pixel labels, as `mode` judges it. Raises ImageError if there are none or they do not fit."""
    if record.label is None:
        raise ImageError(f"{record.path} has no pixel labels; add its label file, or leave it out of the list.")
    image, truth = read_image(record.path, record.bits), record.label.read()
    require_size(record, truth.shape, image.shape[:2])
    if mode == "wilson":
        image, truth = wilson_view(image, truth)
    return Sample(record=record, image=image, truth=truth)


def wilson_view(image: NDArray[np.uint8], truth: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Image [H, W, 3] and labels [H, W] as WILSON judges them: [512, 512, 3] and [512, 512].

    The shorter side becomes 512, the longer one follows rounded down; the image bilinearly with antialiasing, the
    labels by the nearest pixel; then the centre is cut out.
    """
    height, width = truth.shape
    short = min(height, width)
    size = tuple(_WILSON_SIDE * side // short for side in (width, height))
    left, top = (round((side - _WILSON_SIDE) / 2) for side in size)
    box = (left, top, left + _WILSON_SIDE, top + _WILSON_SIDE)
    resized = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR).crop(box)
    labels = Image.fromarray(truth).resize(size, Image.Resampling.NEAREST).crop(box)
    return np.array(resized), np.array(labels)


def _classes_of(info: CheckpointInfo) -> tuple[int, ...]:
    """The classes of the channels, in their order, without background."""
    return (*info.protocol.old(info.step), *info.protocol.new(info.step))
