"""The segmenter: a backbone's last feature map and a DeepLabV3 head on it (Chen et al. 2017, arXiv:1706.05587).

One output per class seen, background included; the outputs are logits of a sigmoid each. Later classes may have heads
of their own on the same features, as SSUL has (Cha et al., NeurIPS 2021). Nothing is downloaded.

Shapes: `B` batch, `C` channels, `H W` pixels, `h w` feature grid, `D` feature width.
"""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.models.segmentation.deeplabv3 import ASPP

from wilss.data.taxonomy import BACKGROUND
from wilss.equations.joining import joined_logits
from wilss.errors import ParameterError
from wilss.models.networks.backbones import build_backbone
from wilss.models.networks.spec import SegmenterSpec
from wilss.randomness import seed_for

NewRows = Literal["background", "random"]


class Segmenter(nn.Module):
    """A backbone, the body of a DeepLabV3 head, and one row of weights per channel; maybe `later` heads.

    Its maps are on the feature grid, ceil(H / stride) x ceil(W / stride); callers upsample them
    (`wilss.data.images.to_pixels`). In training mode a batch needs two images at least: the head's pooling branch
    normalises one value per image and channel over the batch.
    """

    def __init__(self, spec: SegmenterSpec) -> None:
        super().__init__()
        self.spec = spec
        self.backbone = build_backbone(spec)
        self.feature_dim: int = self.backbone.feature_dim
        self.previous_dim: int = self.backbone.previous_dim
        self.body = _body(spec, self.feature_dim)
        first, *later = spec.channels_of_heads
        self.classifier = nn.Conv2d(spec.head_width, first, 1)
        self.later = nn.ModuleList(Head(spec, self.feature_dim, channels) for channels in later)

    @property
    def newest(self) -> str:
        """What the names of the newest head's weights start with; "" for those of the first."""
        return f"later.{len(self.later) - 1}." if self.later else ""

    def features(self, images: Tensor) -> Tensor:
        """The backbone's last feature map. images: float [B, 3, H, W], normalised. Returns [B, D, h, w]."""
        found: Tensor = self.backbone(images)
        return found

    def stages(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The features of the backbone's last two stages, [B, D', h', w'] and [B, D, h, w]; the first may be finer."""
        found: tuple[Tensor, Tensor] = self.backbone.stages(images)
        return found

    def logits(self, features: Tensor) -> Tensor:
        """A logit per channel, of the head that learnt it first; every later head takes its own classes' pixels.

        features: [B, D, h, w]. Returns [B, C, h, w].
        """
        found: Tensor = self.classifier(self.body(features))
        for head, shifts in zip(self.later, self.spec.shifts_of_heads, strict=True):
            found = joined_logits(found, head(features), shifts)
        return found

    def forward(self, images: Tensor) -> Tensor:
        """The logits of images. images: float [B, 3, H, W], normalised. Returns [B, C, h, w]."""
        return self.logits(self.features(images))


class Head(nn.Module):
    """Body and classifier of a head that came later, with rows for all classes of its time.

    Those of older classes say where its own classes are not, and the next step's head starts from them.
    """

    def __init__(self, spec: SegmenterSpec, feature_dim: int, channels: int) -> None:
        super().__init__()
        self.body = _body(spec, feature_dim)
        self.classifier = nn.Conv2d(spec.head_width, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """features: [B, D, h, w]. Returns [B, C, h, w]."""
        found: Tensor = self.classifier(self.body(features))
        return found


def aspp(feature_dim: int, width: int, rates: tuple[int, ...], dropout: float) -> nn.Module:
    """Torchvision's atrous spatial pyramid pooling, [B, feature_dim, h, w] to [B, width, h, w], >= 0.

    dropout: after its projection; torchvision fixes it at 0.5.
    """
    pyramid = ASPP(feature_dim, rates, width)
    pyramid.project[-1] = nn.Dropout(dropout)
    module: nn.Module = pyramid
    return module


def _body(spec: SegmenterSpec, feature_dim: int) -> nn.Sequential:
    """Torchvision's DeepLabHead up to its classifier, with a width of its own."""
    width = spec.head_width
    return nn.Sequential(
        aspp(feature_dim, width, spec.head_rates, spec.dropout),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    )


def build(spec: SegmenterSpec, *, seed: int) -> Segmenter:
    """A segmenter with random weights that depend on `spec` and `seed` alone.

    The random state of the caller stays as it was. Raises ParameterError for a backbone that cannot be built.
    """
    with _seeded(seed_for(seed, "segmenter")):
        return Segmenter(spec)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """The CPU's default generator at `seed` inside, and as it was afterwards; CUDA's are not touched."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def grown(segmenter: Segmenter, num_channels: int, *, rows: NewRows = "background", seed: int) -> Segmenter:
    """A copy with more channels; all that was there is unchanged, so the old channels say what they said.

    background: a new row is the background's, for what is new was background so far (MiB, Cermelli et al. 2020,
        Eqs. 9 and 10). There a softmax gives background and n new classes an equal part of the old background.
        Here every channel has a sigmoid of its own: the bias sinks by log(n + 1), that is a new class has the
        background's odds divided by n + 1, and the background's row stays [D].
    random: new rows as a new convolution has them, by `seed` and `num_channels` alone.

    Raises ParameterError if there would be fewer channels, and for a segmenter of several heads.
    """
    if segmenter.spec.heads:
        raise ParameterError(
            "a segmenter whose classes have heads of their own grows by another head: --set heads=step."
        )
    more = num_channels - segmenter.spec.num_channels
    if more < 0:
        raise ParameterError(
            f"a segmenter of {segmenter.spec.num_channels} channels cannot shrink to {num_channels}; "
            "go on from the checkpoint of the step before."
        )
    bigger = copy.deepcopy(segmenter)
    bigger.spec = replace(segmenter.spec, num_channels=num_channels)
    with _seeded(seed_for(seed, "new rows", num_channels)):
        bigger.classifier = nn.Conv2d(segmenter.classifier.in_channels, num_channels, 1)
    bigger.classifier.to(segmenter.classifier.weight)
    with torch.no_grad():
        _fill(bigger.classifier, segmenter.classifier, more, rows)
    return bigger.train(segmenter.training)


def _fill(bigger: nn.Conv2d, old: nn.Conv2d, more: int, rows: NewRows) -> None:
    """Put the old rows into `bigger`, and the background's into its `more` new ones if they start there."""
    for name, values in old.named_parameters():
        target = bigger.get_parameter(name)
        target[: len(values)] = values
        if rows == "background":
            target[len(values) :] = values[BACKGROUND] - (math.log(more + 1) if name == "bias" else 0.0)


def newest_head(segmenter: Segmenter) -> Segmenter:
    """A copy of the backbone with the newest head alone, which has rows for all channels."""
    if not segmenter.later:
        return copy.deepcopy(segmenter)
    newest, parts = segmenter.newest, segmenter.state_dict()
    backbone = {name: value for name, value in parts.items() if name.startswith("backbone.")}
    head = {name.removeprefix(newest): value for name, value in parts.items() if name.startswith(newest)}
    return _filled(replace(segmenter.spec, heads=(), shifts=()), {**backbone, **head}).train(segmenter.training)


def with_head(known: Segmenter, newest: Segmenter, shifts: Sequence[float] = ()) -> Segmenter:
    """A segmenter of the heads of `known` and, for the channels that it lacks, that of `newest`.

    newest: of one head, on the same backbone. Which of its classes `known` takes a pixel for stays, unless it is of a
    new one (`joined_logits`). shifts: of the new classes, () for none.
    """
    heads = known.spec.channels_of_heads
    kept = known.spec.shifts or (0.0,) * (heads[-1] - heads[0])
    added = tuple(shifts) or (0.0,) * (newest.spec.num_channels - heads[-1])
    spec = replace(newest.spec, heads=heads, shifts=(*kept, *added) if any((*kept, *added)) else ())
    prefix = f"later.{len(known.later)}."
    head = {f"{prefix}{name}": value for name, value in newest.state_dict().items() if not name.startswith("backbone.")}
    return _filled(spec, {**known.state_dict(), **head}).train(known.training)


def _filled(spec: SegmenterSpec, weights: Mapping[str, Tensor]) -> Segmenter:
    network = build(spec, seed=0)
    network.load_state_dict(weights)
    return network.to(next(iter(weights.values())).device)
