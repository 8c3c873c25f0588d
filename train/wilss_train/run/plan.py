"""What a run is about to do, in words: for the lines before its first step, and for run.json."""

from dataclasses import dataclass

import torch

from wilss.data.images import IMAGENET_MEAN, IMAGENET_STD
from wilss.errors import counted
from wilss.models.devices import has_bf16
from wilss.models.networks.pretrained import is_published, shortly
from wilss.store import shows_none

from ..context import Experiment, RunContext
from ..data.masked_images import MaskedImages
from ..data.trust import Trust, found_without_tags
from ..inputs import SOFTMAX, RunInputs
from ..methods import Method
from ..methods.segmenter import MaskMethod, learns_masks
from ..methods.step_prior import notes
from ..params import RANDOM, TrainParams

#: Optimiser steps of a later step's student below which a run warns: in fewer a first try on photographs learnt no new
#: class (workflows/voc-small/README.md). On drawings fewer can do, as in workflows/shapes/steps.py.
LEAST_STEPS = 150


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a run's weights come from. network: "" where frozen features are trained on. weights: a word, `RANDOM`."""

    network: str
    weights: str
    remedy: str = ""

    @property
    def is_random(self) -> bool:
        """Whether the network knows nothing of images when it starts."""
        return self.weights == RANDOM

    @property
    def warning(self) -> str:
        """What a start from nothing means, and what to write to start from something."""
        return (
            f"RANDOM WEIGHTS: {self.network} starts from random weights, and from as few images as segmenters are "
            f"trained on it learns little. {self.remedy}"
        )

    def as_json(self) -> dict[str, str]:
        """Network and weights, for run.json."""
        return {"network": self.network, "weights": self.weights}


def origin_of(inputs: RunInputs, method: Method, params: TrainParams) -> Origin:
    """Where the weights of a run come from."""
    network, word = method.origin(params)
    if inputs.parent is not None:
        backbone = getattr(inputs.parent.spec, "backbone", "")
        return Origin(network=backbone, weights=str(inputs.parent.path.parent))
    if not network:
        return Origin(network="", weights="")
    name = "backbone_weights" if network == params.backbone else f"{method.name}.weights"
    return Origin(network=network, weights=word or RANDOM, remedy="" if word else _remedy(network, name))


def _remedy(network: str, name: str) -> str:
    published = "`timm` (the published ones, fetched once), " if is_published(network) else ""
    return (
        f"Set {name} to {published}a file, or `package:NAME/FILE`, in the manifest's train section or with "
        f"--set {name.rpartition('.')[2]}=..."
    )


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """What is trained, and on what.

    parameters: how many are trained. images: of the training set. notes: sentences about what the run decided itself.
    """

    origin: Origin
    method: str
    parameters: int
    crop: int
    batch_size: int
    images: int
    epochs: int
    steps: int
    device: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    notes: tuple[str, ...] = ()

    @property
    def lines(self) -> tuple[str, ...]:
        """The network; how it is trained; then the notes."""
        network = self.origin.network or "a network on frozen features"
        weights = {"": "", RANDOM: ", RANDOM weights"}.get(self.origin.weights, f", weights {self.origin.weights}")
        plain = (self.mean, self.std) == (IMAGENET_MEAN, IMAGENET_STD)
        statistics = "" if plain else f" (images of mean {shortly(self.mean)}, std {shortly(self.std)})"
        parts = f"crop {self.crop}, batch {self.batch_size} of {counted(self.images, 'image')}"
        length = f"{counted(self.steps, 'step')} in {counted(self.epochs, 'epoch')}"
        return (
            f"Network: {network}{weights}{statistics}, {_millions(self.parameters)} parameters to train",
            f"Training: {self.method}, {parts}, {length}, on {self.device}",
            *self.notes,
        )


def plan_of(experiment: Experiment, context: RunContext, method: Method) -> RunPlan:
    """What the run is about to do."""
    params, order = context.params, experiment.batches.order
    return RunPlan(
        origin=origin_of(context.inputs, method, params),
        method=method.name,
        parameters=sum(each.numel() for each in experiment.objective.parameters() if each.requires_grad),
        crop=params.crop,
        batch_size=params.batch_size,
        images=experiment.batches.image_count,
        epochs=params.epochs,
        steps=params.epochs * order.steps_per_epoch,
        device=str(context.device),
        mean=params.mean,
        std=params.std,
        notes=(
            *_slow(params, context.device),
            *_found_without_tags(context, method),
            *_negatives(context, method),
            *notes(context.inputs, params, is_softmax=method.name in SOFTMAX),
            *_too_short(experiment, context),
        ),
    )


def _slow(params: TrainParams, device: torch.device) -> tuple[str, ...]:
    """A sentence where what is asked for takes many times as long as it has to: bf16 on a processor without it."""
    if params.precision != "bf16" or has_bf16(device.type):
        return ()
    return (
        "SLOW: this processor has no instructions for precision=bf16, so that a step takes many times as long as with "
        "--set precision=fp32; precision=fast takes bf16 only where there are some",
    )


def _found_without_tags(context: RunContext, method: Method) -> tuple[str, ...]:
    """A sentence where masks that are guesses without tags are learnt, whatever their confidence."""
    if (
        not learns_masks(method, context.inputs.step)
        or context.params.least_confidence
        or context.params.trust != "all"
    ):
        return ()
    return tuple(filter(None, [found_without_tags(context.inputs.store)]))


def _negatives(context: RunContext, method: Method) -> tuple[str, ...]:
    """A sentence on the pictures that are known to show none of the step's classes, where there are some."""
    store, params = context.inputs.store, context.params
    is_negative = shows_none(store)
    if not is_negative.any() or not isinstance(method, MaskMethod):
        return ()
    images = MaskedImages(store, context.inputs.records)
    trust = Trust.of(store, params.trust, context.seed, least_confidence=params.least_confidence)
    rows = images.trained_on(params.limit, context.seed, trust, negatives=params.negative_images)
    return (
        f"{int(is_negative[rows].sum())} of {counted(int(is_negative.sum()), 'picture')} that show none of the step's "
        f"classes are learnt from, beside {int((~is_negative[rows]).sum())} that do; --set negative_images="
        f"{params.negative_images:g} says how many for each of these",
    )


def _too_short(experiment: Experiment, context: RunContext) -> tuple[str, ...]:
    """A sentence about a later step that ends before new classes are learnt."""
    epochs, order = context.params.epochs - experiment.alone, experiment.batches.order
    steps = epochs * order.steps_per_epoch
    if not context.inputs.step or steps >= LEAST_STEPS:
        return ()
    return (
        f"SHORT: the student learns for {counted(steps, 'optimiser step')}, and on photographs so few have taught no "
        f"new class; raise --epochs, or say --set epoch_steps={-(-LEAST_STEPS // max(epochs, 1))}, which shows few "
        "images more often.",
    )


def _millions(count: int) -> str:
    return f"{count / 1e6:.1f} million" if count >= 1e6 else f"{count:,}"
