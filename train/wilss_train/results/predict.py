"""Label maps of images by a trained segmenter, streamed: images are decoded ahead of the forward passes.

Images go through whole and at their own size; those of equal size share a batch. Which images share one
follows from their order alone, not from how fast they were decoded, so that two runs give the same label maps.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wilss.data.images import normalise, read_image, to_pixels
from wilss.data.layouts import ImageRecord
from wilss.errors import CheckpointError, ImageError, OneImageError
from wilss.models.networks.checkpoint import CheckpointInfo
from wilss.models.networks.strips import in_strips
from wilss.process import map_in_threads

#: Methods whose outputs compete for a pixel; those of the others are a probability of each class by itself.
_SOFTMAX = ("pseudoseg", "unimatch", "mib", "plop")
#: As what probabilities are stored.
Kind = Literal["float16", "float32", "uint8"]

#: A batch holds as many images as it would of this size; larger ones share it with fewer.
_PIXELS_PER_IMAGE = 1 << 20
#: Images that wait for others of their size: this many batches, then the oldest goes alone.
_BATCHES_HELD = 4
#: Logits at the image's size are made for as many channels at once as fit into this many values (256 MB).
_VALUES_AT_ONCE = 1 << 26
#: An image of more pixels is large: the processor takes the network's first layers in strips, and it is announced.
LARGE = 1 << 23


@dataclass(frozen=True, kw_only=True)
class Sample:
    """An image as the network is given it, uint8 [H, W, 3], and its labels uint8 [H, W] where they are wanted."""

    record: ImageRecord
    image: NDArray[np.uint8]
    truth: NDArray[np.uint8] | None = None


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """What the network makes of an image: `labels` uint8 [H, W], taxonomy ids; or `error`, why there are none.

    probabilities: [C, H, W] in the order of the channels, where they were asked for.
    """

    record: ImageRecord
    sample: Sample | None = None
    labels: NDArray[np.uint8] | None = None
    probabilities: NDArray[Any] | None = None
    error: str | None = None


def read_sample(record: ImageRecord) -> Sample:
    """The image alone, upright and at its own size. Raises ImageError."""
    return Sample(record=record, image=read_image(record.path, record.bits))


def predictions(
    segmenter: nn.Module,
    info: CheckpointInfo,
    records: Iterable[ImageRecord],
    *,
    batch_size: int = 8,
    device: str = "cpu",
    threads: int | None = None,
    read: Callable[[ImageRecord], Sample] = read_sample,
    probabilities: Kind | None = None,
    on_large: Callable[[Sample], None] = lambda sample: None,
) -> Iterator[Predicted]:
    """Every record once, in the order of the batches: its label map, or why it has none.

    segmenter: on `device`, images [B, 3, H, W] to logits [B, C, h, w], channels as `info` has them; it is in
    evaluation mode while this runs. Logits go to the image's size by bilinear interpolation, then the channel
    of the largest becomes its taxonomy id. threads: that decode; read: what they do.
    probabilities: the type in which they are given, too; see `as_kind`. on_large: is told when a large image is begun.
    Raises CheckpointError when the network's values are not finite.
    """
    was_training = segmenter.training
    forward = _Forward(segmenter.eval(), info, device, probabilities)
    before: list[_Running | Predicted] = []
    try:
        decoded = map_in_threads(partial(_read, read=read), records, threads, ahead=2 * batch_size)
        with closing(decoded) as samples:
            for batch in _batches(samples, batch_size):
                now: list[_Running | Predicted] = []
                for sample in () if isinstance(batch, Predicted) else batch:
                    if sample.image.shape[0] * sample.image.shape[1] > LARGE:
                        on_large(sample)
                now += [batch] if isinstance(batch, Predicted) else forward.start(batch)
                yield from _finished(before)  # while the device works on the next batch
                before = now
            yield from _finished(before)
    finally:
        segmenter.train(was_training)


def _read(record: ImageRecord, read: Callable[[ImageRecord], Sample]) -> Sample | Predicted:
    try:
        if record.problem is not None:
            raise ImageError(record.problem)
        return read(record)
    except OneImageError as error:
        return Predicted(record=record, error=str(error))


def _batches(samples: Iterable[Sample | Predicted], batch_size: int) -> Iterator[list[Sample] | Predicted]:
    """Samples of equal size together; what failed passes through."""
    groups: dict[tuple[int, ...], list[Sample]] = {}
    held, bound = 0, _BATCHES_HELD * batch_size * _PIXELS_PER_IMAGE
    for sample in samples:
        if isinstance(sample, Predicted):
            yield sample
            continue
        height, width = shape = sample.image.shape[:2]
        group = groups.setdefault(shape, [])
        group.append(sample)
        held += height * width
        if len(group) >= min(batch_size, batch_size * _PIXELS_PER_IMAGE // (height * width)):
            held -= height * width * len(group)
            yield groups.pop(shape)
        while held > bound:
            height, width = oldest = next(iter(groups))
            held -= height * width * len(groups[oldest])
            yield groups.pop(oldest)
    yield from groups.values()


@dataclass(frozen=True, kw_only=True)
class _Running:
    """A batch that the device may still be working on. labels: on their way to the host, once `done` has come."""

    samples: Sequence[Sample]
    labels: Tensor
    probabilities: Tensor | None
    finite: Tensor
    done: "torch.cuda.Event | None"
    info: CheckpointInfo


def _finished(running: Iterable[_Running | Predicted]) -> Iterator[Predicted]:
    for batch in running:
        if isinstance(batch, Predicted):
            yield batch
            continue
        if batch.done is not None:
            batch.done.synchronize()
        require_finite(batch.finite, batch.info, batch.samples[0].record.path)
        shares = [None] * len(batch.samples) if batch.probabilities is None else list(batch.probabilities.numpy())
        for sample, labels, share in zip(batch.samples, batch.labels.numpy(), shares, strict=True):
            yield Predicted(record=sample.record, sample=sample, labels=labels, probabilities=share)


def require_finite(finite: Tensor, info: CheckpointInfo, image: object) -> None:
    """Raise CheckpointError unless `finite`, bool [], holds: whether the network's values on an image are."""
    if not bool(finite):
        raise CheckpointError(
            f"{info.path} gives values that are not finite on {image}; it did not learn anything that can be used, so "
            "train again with a smaller learning rate."
        )


@torch.inference_mode()
def logits_of(segmenter: nn.Module, info: CheckpointInfo, images: Tensor) -> Tensor:
    """Logits [B, C, h, w] of images uint8 [B, H, W, 3] on the network's device."""

    def as_input(pixels: Tensor) -> Tensor:
        return normalise(pixels, info.mean, info.std).contiguous()

    planes = images.permute(0, 3, 1, 2)
    is_large = planes.shape[-2] * planes.shape[-1] > LARGE and images.device.type == "cpu"
    bounded = in_strips(segmenter, as_input) if is_large else None
    logits: Tensor = segmenter(as_input(planes)) if bounded is None else bounded(planes)
    return logits


@torch.inference_mode()
def label_map(logits: Tensor, ids: Tensor, height: int, width: int) -> Tensor:
    """Logits [C, h, w] to taxonomy ids uint8 [height, width]; a few channels at once where they are many.

    ids: uint8 [C], the taxonomy id of every channel. Of equal values the first counts.
    """
    at_once = max(1, _VALUES_AT_ONCE // (height * width))
    best, labels = _best_of(logits[:at_once], ids[:at_once], height, width)
    for first in range(at_once, len(logits), at_once):
        few = slice(first, first + at_once)
        values, others = _best_of(logits[few], ids[few], height, width)
        labels = torch.where(values > best, others, labels)
        torch.maximum(values, best, out=best)
    return labels


def _best_of(logits: Tensor, ids: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """The greatest values at the image's size, float32 [height, width], and whose they are, uint8 of that shape."""
    values = to_pixels(logits.float(), height, width)
    if len(values) == 1:  # of a large image the channels of all pixels would take twice the memory of the values
        return values[0], ids.expand(height, width)
    best, channels = values.max(dim=0)
    return best, ids[channels]


@torch.inference_mode()
def probabilities_of(logits: Tensor, method: str, height: int, width: int) -> Tensor:
    """Logits [C, h, w] of a network that `method` trained to float32 [C, height, width], each value in [0, 1]."""
    values = to_pixels(logits.float(), height, width)
    return values.softmax(dim=0) if method in _SOFTMAX else values.sigmoid_()


def as_kind(shares: Tensor, kind: Kind) -> Tensor:
    """Values in [0, 1], [C, H, W], as float32, float16, or uint8 with 255 for 1."""
    if kind == "uint8":
        return torch.stack([(share * 255).round().to(torch.uint8) for share in shares])
    return shares.to(torch.float16 if kind == "float16" else torch.float32)


class _Forward:
    """Forward passes of one network on one device, from samples to taxonomy ids."""

    def __init__(self, segmenter: nn.Module, info: CheckpointInfo, device: str, probabilities: Kind | None) -> None:
        self._segmenter, self._info, self._device = segmenter, info, torch.device(device)
        self._kind = probabilities
        self._ids = torch.tensor(info.seen, dtype=torch.uint8, device=self._device)

    def start(self, batch: Sequence[Sample]) -> list[_Running | Predicted]:
        """Set the device to work; where its memory does not hold the batch, on one image after the other."""
        try:
            return [self._run(batch)]
        except torch.OutOfMemoryError:
            pass  # the tensors of the failed pass are let go of with the exception
        if len(batch) > 1:
            return [each for sample in batch for each in self.start([sample])]
        height, width = batch[0].image.shape[:2]
        problem = f"{batch[0].record.path} is {width} x {height} pixels, too large for the memory of {self._device}"
        return [Predicted(record=batch[0].record, error=f"{problem}; scale it down, or use --device cpu.")]

    @torch.inference_mode()
    def _run(self, batch: Sequence[Sample]) -> _Running:
        one = batch[0].image[None]
        stacked = torch.from_numpy(one if len(batch) == 1 else np.stack([sample.image for sample in batch]))
        cuda = self._device.type == "cuda"
        images = (stacked.pin_memory() if cuda else stacked).to(self._device, non_blocking=True)
        logits = logits_of(self._segmenter, self._info, images)
        height, width = stacked.shape[1:3]
        labels = _together([label_map(each, self._ids, height, width) for each in logits])
        return self._on_its_way(batch, labels, self._shares(logits, height, width), logits.isfinite().all())

    def _shares(self, logits: Tensor, height: int, width: int) -> Tensor | None:
        if self._kind is None:
            return None
        shares = (probabilities_of(each, self._info.method, height, width) for each in logits)
        return _together([as_kind(each, self._kind) for each in shares])

    def _on_its_way(self, batch: Sequence[Sample], labels: Tensor, shares: Tensor | None, finite: Tensor) -> _Running:
        """Let the copies to the host queue up behind the forward pass, before the next one does."""
        done = None
        if self._device.type == "cuda":
            labels, finite = (_to_host(tensor) for tensor in (labels, finite))
            shares = None if shares is None else _to_host(shares)
            done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            done.record(torch.cuda.current_stream(self._device))
        return _Running(samples=batch, labels=labels, probabilities=shares, finite=finite, done=done, info=self._info)


def _together(each: Sequence[Tensor]) -> Tensor:
    """In one tensor; that of a single image, which may be large, is not copied."""
    return each[0][None] if len(each) == 1 else torch.stack(list(each))


def _to_host(tensor: Tensor) -> Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)
