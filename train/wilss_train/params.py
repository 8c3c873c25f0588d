"""Parameters of training, with published values as defaults; wrong ones are refused in one sentence."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from wilss.data.images import IMAGENET_MEAN, IMAGENET_STD
from wilss.errors import ParameterError
from wilss.params import (
    NonNegativeFloat,
    NonNegativeInt,
    Params,
    PositiveFloat,
    PositiveInt,
    Share,
    ShareBelowOne,
    divided,
    require,
    with_values,
)

#: What a run says that it starts from where `backbone_weights` names nothing.
RANDOM = "random"
_BASE, _WEAK = "base", "weak"
#: How large views are, by the factor of an image's sides or by their share of its area.
SCALE, AREA = (0.5, 2.0), (0.5, 2.0)
#: Parts of a manifest's section `train`: for step 0, and for later steps.
STEP_SECTIONS = (_BASE, _WEAK)


#: What can be said of a mask, in the order of a store's numbers; and the words for weights of all four.
VERDICTS = ("unjudged", "accepted", "rejected", "corrected")
_TRUST = {"all": (1.0, 1.0, 1.0, 1.0), "judged": (0.0, 1.0, 1.0, 1.0), "accepted": (0.0, 1.0, 0.0, 1.0)}


def trust_weights(trust: str) -> tuple[float, ...]:
    """The weight of every verdict, in the order of VERDICTS, by the parameter `trust`; 1 where it names none.

    Raises ParameterError.
    """
    if trust in _TRUST:
        return _TRUST[trust]
    weights = dict.fromkeys(VERDICTS, 1.0)
    for part in trust.split(","):
        verdict, _, share = (word.strip() for word in part.partition(":"))
        is_share = re.fullmatch(r"[01]|[01]?\.\d+", share) and float(share) <= 1
        words = f"{', '.join(_TRUST)}, or shares from 0 to 1 of {', '.join(VERDICTS)}, as in unjudged:0.3,rejected:0"
        require(bool(is_share) and verdict in VERDICTS, "trust", trust, words)
        weights[verdict] = float(share)
    return tuple(weights.values())


@dataclass(frozen=True, kw_only=True)
class TrainParams(Params):
    """Everything about a run but the method's own parameters. README.md says which values are published.

    backbone, backbone_args: a timm model with `features_only`, or `wide_resnet38`. backbone_weights: what step 0
        starts from: `timm` or `timm:TAG` (published weights, from the hub, `@REVISION` behind), a local file,
        `package:NAME/FILE`, `builtin:backbone.safetensors` (the package's own), "" for random weights.
    backbone_sha256: of that file, "" for any. backbone_mean, backbone_std: of the input's three channels, in [0, 1];
        () takes those of the backbone's weights, and in later steps those of the step before.
    output_stride, head_width, rates: of the DeepLabV3 head; () takes the published rates of the stride.
    batch_norm: `frozen` statistics, `train`, or `synchronised` over processes. `auto` is frozen in a later step where
        one and the same class is on half of the pictures or more, and train elsewhere [D].
    heads: whether a later step's classes get a head of their own on a backbone that stays (`step`), so that what was
        learnt before gives way to new classes alone, or all classes share one (`shared`). `auto` is step in a later
        step where one and the same class is on half of the pictures or more, and where the step before has such heads
        [D].
    freeze: `backbone` leaves the backbone as it starts, weights and statistics, so that heads alone learn, on features
        of step 0's weights; `none` trains it.
    logit_adjustment: whether the new classes' logits are lowered, after training, by what their being on so many of
        the step's pictures has raised them: `auto` in a later step where one and the same class is on half of these
        or more, `always` in every later step, `never`. A head of their own lowers them by pictures, a shared one by
        pixels [D].
    prevalence: share of all pictures that hold a new class, for that; 0 counts the tags of the lists [D].
    new_rows: how the classifier's new rows start, from the background row (MiB) or `random`.
    epochs, batch_size (over all processes and accumulated steps together), accumulate: how long and how much.
    epoch_steps: optimiser steps that an epoch has at least; a step of few images shows them several times for it [D].
    lr, head_lr (factor for all but the backbone), momentum, nesterov (WILSON), weight_decay, clip (largest norm of the
        gradient, 0 for none). optimiser: `sgd` as published, or `adamw`.
    decay: of the rates, `poly` with `power`, or in `steps`: times decay_by every decay_every optimiser steps (PANet).
    warmup: optimiser steps of linear growth; where a teacher learns alone first, again from the student's first step.
    views: how many views of an image there are, drawn by epoch and shown in turn; 0 for another one in every epoch. A
        frozen backbone looks at each once, which is most of the time that it takes to train heads.
    crop: side of the square crop in pixels. flip: its probability. cropping: `scaled`, resized by a factor in `scale`,
        with the input's mean where the image ends; or `published` (WILSON), a window of a share in `area` of the image
        with sides as in `aspect`, resized to the crop and never beyond the edge.
    colour: strength of random brightness, contrast and colour cast, 0 for none.
    loss_stride: losses are taken on every `loss_stride`-th pixel; 1 is as published [D].
    per_class: B, instances per class in the memory bank. min_area: pixels that an instance has at least.
    precision: `bf16` autocast or `fp32`; `auto` is bf16 on CUDA and fp32 elsewhere, `fast` is bf16 on every device
        that has instructions for it and fp32 elsewhere.
    save_minutes, save_steps: between two saved states; save_steps = 0 leaves it to the clock.
    limit: train on so many images of the store, drawn by seed and name; 0 for all. More is these and others.
    trust: which masks are learnt from, of a store that people judged: `all`; `judged` ones; `accepted`, or corrected,
        ones; or weights, as in `unjudged:0.3`: so large a share of the views of an image takes such a mask. What is not
        taken is void, and images of which nothing is taken are left out.
    least_confidence: masks of less are not taken either, and images that show no other are left out, whatever their
        tags: as where a few masks of a class, and no tags, say which images show it [D].
    negative_images: of the images that are known to show none of the step's classes, as where the manifest's tags are
        complete, at most so many for each image of the others, drawn by seed and name; 0 leaves them out [D].
    cache_mib: decoded images and masks kept in memory, at most; as much again for the features of `views`.
    """

    former: ClassVar[Mapping[str, Any]] = {"logit_adjustment": "never", "heads": "shared"}

    backbone: str = "resnet101"
    backbone_args: Mapping[str, Any] = field(default_factory=dict)
    backbone_weights: str = ""
    backbone_sha256: str = ""
    backbone_mean: tuple[float, ...] = ()
    backbone_std: tuple[float, ...] = ()
    output_stride: int = 16
    head_width: PositiveInt = 256
    rates: tuple[int, ...] = ()
    batch_norm: Literal["auto", "frozen", "train", "synchronised"] = "auto"
    heads: Literal["auto", "shared", "step"] = "auto"
    freeze: Literal["none", "backbone"] = "none"
    logit_adjustment: Literal["auto", "always", "never"] = "auto"
    prevalence: ShareBelowOne = 0.0
    new_rows: Literal["background", "random"] = "background"
    epochs: PositiveInt = 40
    epoch_steps: PositiveInt = 1
    batch_size: PositiveInt = 24
    accumulate: PositiveInt = 1
    optimiser: Literal["sgd", "adamw"] = "sgd"
    lr: PositiveFloat = 1e-3
    head_lr: PositiveFloat = 10.0
    momentum: ShareBelowOne = 0.9
    nesterov: bool = False
    weight_decay: NonNegativeFloat = 1e-4
    decay: Literal["poly", "steps"] = "poly"
    power: NonNegativeFloat = 0.9
    decay_every: PositiveInt = 10_000
    decay_by: PositiveFloat = 0.1
    warmup: NonNegativeInt = 0
    clip: NonNegativeFloat = 0.0
    views: NonNegativeInt = 0
    crop: PositiveInt = 512
    cropping: Literal["scaled", "published"] = "scaled"
    scale: tuple[float, ...] = SCALE
    area: tuple[float, ...] = AREA
    aspect: tuple[float, ...] = (3 / 4, 4 / 3)
    flip: Share = 0.5
    colour: NonNegativeFloat = 0.0
    loss_stride: PositiveInt = 1
    per_class: NonNegativeInt = 50
    min_area: NonNegativeInt = 64
    precision: Literal["auto", "fast", "fp32", "bf16"] = "auto"
    save_minutes: PositiveFloat = 10.0
    save_steps: NonNegativeInt = 0
    limit: NonNegativeInt = 0
    trust: str = "all"
    least_confidence: Share = 0.0
    negative_images: NonNegativeFloat = 1.0
    cache_mib: NonNegativeInt = 1024

    def __post_init__(self) -> None:
        """Validate every value."""
        super().__post_init__()
        trust_weights(self.trust)
        require(self.output_stride in (8, 16), "output_stride", self.output_stride, "8 or 16")
        for name in ("backbone_mean", "backbone_std"):
            three = len(getattr(self, name)) in (0, 3) and all(0 <= value <= 1 for value in getattr(self, name))
            require(three, name, getattr(self, name), "three numbers between 0 and 1, or left out")
        require(all(self.backbone_std) or not self.backbone_std, "backbone_std", self.backbone_std, "above 0")
        together = bool(self.backbone_mean) == bool(self.backbone_std)
        require(together, "backbone_mean", self.backbone_mean, "given where backbone_std is, and only there")
        for name in ("scale", "area", "aspect"):
            ends = getattr(self, name)
            ordered = len(ends) == 2 and 0 < ends[0] <= ends[1]
            require(ordered, name, ends, "two numbers above 0, the smaller first")
        for name, default, kind, other in (("scale", SCALE, "scaled", "area"), ("area", AREA, "published", "scale")):
            heeded = self.cropping == kind or tuple(getattr(self, name)) == default
            back = f"--set {name}={','.join(f'{end:g}' for end in default)}"
            rule = f"left out where cropping is {self.cropping}, which heeds {other}: {back} is its default"
            require(heeded, name, getattr(self, name), rule)
        require(
            self.crop % self.loss_stride == 0, "loss_stride", self.loss_stride, f"a divisor of the crop {self.crop}"
        )
        even = self.batch_size % self.accumulate == 0
        require(even, "accumulate", self.accumulate, f"a divisor of the batch size {self.batch_size}")

    @property
    def norms(self) -> Literal["frozen", "train", "synchronised"]:
        """How batch norm behaves; as in most steps where nothing is decided yet."""
        return "train" if self.batch_norm == "auto" else self.batch_norm

    @property
    def mean(self) -> tuple[float, ...]:
        """Of the input, per colour channel, for images in [0, 1]."""
        return self.backbone_mean or IMAGENET_MEAN

    @property
    def std(self) -> tuple[float, ...]:
        """Of the input, per colour channel, for images in [0, 1]."""
        return self.backbone_std or IMAGENET_STD


#: Step 0: 30 epochs at 0.01 for all of the network (WILSON); heads learn faster from step 1 on only.
_BASE_DEFAULTS = {"epochs": 30, "lr": 0.01, "head_lr": 1.0}


def from_manifest(settings: Mapping[str, Any], *, step: int, where: str) -> tuple[TrainParams, dict[str, Any]]:
    """The parameters of `step` by a manifest's `train` section, and what in it the method has to know.

    settings: parameters by name; those under `base` are for step 0, those under `weak` for later steps.
    Returns the run's parameters and the entries that are none of them. Raises ParameterError.
    """
    flat = {name: value for name, value in settings.items() if name not in STEP_SECTIONS}
    own = settings.get(_WEAK if step else _BASE) or {}
    if not isinstance(own, Mapping):
        raise ParameterError(f"{where}.{_WEAK if step else _BASE} must be a mapping of parameters.")
    flat.update(own)
    known, rest = divided(TrainParams, flat)
    params = TrainParams() if step else with_values(TrainParams(), _BASE_DEFAULTS, where=where)
    return with_values(params, known, where=where), rest
