"""Where training spends its time, stage by stage, beside what the machine could do: loader and losses in one thread.

The real `wilss_train.run.fit` runs with timers around named functions; batches are made when they are asked for, not
ahead, so that stages add up. Twice: the built-in network, and the published one (ResNet-101 at stride 16, crops of
512) with untrained weights on the built-in images made larger.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer

import wilss_train.data.batches as batches
import wilss_train.data.masked_images as images
import wilss_train.methods.features as features
import wilss_train.methods.fmwiss as fmwiss
import wilss_train.methods.segmenter as segmenters
from wilss.models.networks.segmenter import Segmenter, build
from wilss.store import MaskStore
from wilss_train.context import RunContext
from wilss_train.data.batch_source import Order, TensorBatch
from wilss_train.data.image_pool import ImagePool
from wilss_train.methods.base import is_frozen
from wilss_train.methods.teacher import Teacher
from wilss_train.params import TrainParams

from .learning import Learning, Timing, folder_of, trained
from .limits import Rates, rates
from .stage_table import Table, stages_of
from .stages import rows_of, timed
from .stopwatch import Place, Stopwatch


def whose(network: Segmenter, *args: Any, **kwargs: Any) -> str:
    """The frozen one is the old model."""
    return "old model" if is_frozen(network) else "student forward"


PLACES: tuple[Place, ...] = (
    (images, "read_image", "load: decode"),
    (MaskStore, "read", "load: masks from the store"),
    (ImagePool, "take", "load: cache"),
    (batches.SegBatchSource, "_augmented", "augment"),
    (batches.SegBatchSource, "_pasted", "paste"),
    (TensorBatch, "of", "make the batch"),
    (features, "as_input", "normalise"),
    (Segmenter, "features", whose),
    (Segmenter, "logits", whose),
    (Segmenter, "forward", whose),
    (Teacher, "forward", "teacher"),
    (fmwiss.FmwissObjective, "forward", "losses and targets"),
    (Accelerator, "backward", "backward"),
    (Accelerator, "clip_grad_norm_", "optimiser"),
    (AcceleratedOptimizer, "step", "optimiser"),
)


@dataclass(frozen=True, kw_only=True)
class LargeLearning(Learning):
    """The published network and crop; few steps are enough to see where the time goes."""

    @cached_property
    def params(self) -> TrainParams:
        """TrainParams' own defaults are the published ones."""
        kept = {"epochs": self.epochs, "epoch_steps": 1, "batch_size": 4, "precision": "bf16", "scale": (2.5, 4.0)}
        return TrainParams(**kept)  # type: ignore[arg-type]


def measure(scratch: Path, quick: bool) -> list[dict[str, Any]]:
    """Both networks."""
    limits = rates(1, scratch, tries=1 if quick else 7, smaller=8 if quick else 1)
    folder = folder_of(scratch)
    built_in = Learning(folder=folder, epochs=1 if quick else 2)
    rows = _of(built_in, limits, 1 if quick else 3, "built-in network, crops of 128")
    if quick:
        return rows
    large = LargeLearning(folder=folder, epochs=1)
    with published_networks(), few_steps(1):
        return rows + _of(large, limits, 1, "ResNet-101, crops of 512")  # minutes a round


def _of(run: Learning, limits: Rates, repeats: int, name: str) -> list[dict[str, Any]]:
    watch, counted = Stopwatch(), Stopwatch(counting=True)
    timings: dict[str, list[Timing]] = {"plain": [], "watched": []}

    def plain() -> None:
        timings["plain"].append(trained(run))

    def watched() -> None:
        with watch.around(PLACES):
            timings["watched"].append(trained(run))

    torch.set_num_threads(limits.threads)
    with loader_in_line():
        with counted.around(PLACES):
            trained(run)
        _, spent = timed(watch, {"plain": plain, "watched": watched}, repeats)
    # The loop's own time, without the building of networks before it and the state that is saved after it.
    taken = {what: [(one.seconds, one.cpu) for one in all_[-repeats:]] for what, all_ in timings.items()}
    count = timings["plain"][0].images
    stages = stages_of(spent, counted.spent, taken["watched"], count, limits, "bf16", 0, {})
    return rows_of(Table(title=f"Training, {name}", images=count, stages=stages, rates=limits, precision="bf16"), taken)


@contextlib.contextmanager
def loader_in_line() -> Iterator[None]:
    """Batches are made in the training's own thread when it asks for them."""

    def in_line(jobs: Any, join: Any, first: int, last: int, *, workers: int, fetch: Any) -> Iterator[Any]:
        for step in range(first, last):
            yield [join([job() for job in part]) for part in jobs(step)]

    with mock.patch.object(batches, "prefetch", in_line):
        yield


@contextlib.contextmanager
def published_networks() -> Iterator[None]:
    """Student and old model anew, with untrained weights, in the place of those that the parent's checkpoint holds."""

    def networks_of(context: RunContext) -> tuple[Segmenter, Segmenter]:
        protocol, step = context.inputs.protocol, context.inputs.step
        counts = len(protocol.seen(step)), len(protocol.seen(step - 1))
        student, old = (build(segmenters.spec_of_params(context.params, count), seed=0) for count in counts)
        for network in (student, old):
            network.to(memory_format=torch.channels_last)
        return student, old

    with mock.patch.object(segmenters, "networks_of", networks_of):
        yield


@contextlib.contextmanager
def few_steps(count: int) -> Iterator[None]:
    """An epoch of so many optimiser steps, whatever the images."""
    with mock.patch.object(Order, "steps_per_epoch", property(lambda order: count)):
        yield
