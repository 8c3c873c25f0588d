"""What every method offers: an objective, that is networks and the losses that train them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import torch
from torch import Tensor, nn

from wilss.data.protocol import StepProtocol
from wilss.data.taxonomy import BACKGROUND
from wilss.models.networks.checkpoint import CheckpointInfo, normalise
from wilss.models.networks.segmenter import Segmenter

from ..context import Course, Gather, Ground
from ..data.batches import SegBatch
from ..params import IMAGENET_MEAN, IMAGENET_STD
from .losses.fmwiss import masked_bce

if TYPE_CHECKING:
    from wilss.data.manifest import Manifest

    from ..inputs import Beginning

__all__ = [
    "Conclusion",
    "LabelObjective",
    "Method",
    "Moment",
    "Objective",
    "Setup",
    "at_size_of",
    "frozen",
    "input_of",
    "is_frozen",
    "without_gradient",
]

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What an objective is built from.

    student: the network to train, with a channel for every class seen. old: the frozen network of the step before,
    None at step 0. epochs: of the run. gather: brings rows from all processes together.
    """

    protocol: StepProtocol
    step: int
    student: Segmenter
    old: Segmenter | None
    seed: int
    epochs: int
    gather: Gather


@dataclass(frozen=True)
class Moment:
    """Where training stands: the epoch, and how many there are."""

    epoch: int
    epochs: int


class Objective(Protocol):
    """Networks with their losses, an `nn.Module`, so that one wrapper serves data parallelism for all of them.

    student: what is trained and kept; its `backbone`, if it has one, learns at the lower rate.
    """

    student: nn.Module

    def __call__(self, batch: SegBatch, moment: Moment) -> dict[str, Tensor]:
        """The loss terms, each already weighted: their sum is what is optimised."""


class Conclusion(Protocol):
    """What a run ended with.

    scores: the figures in report.json, None where nothing was judged, and why not. page: report.html, if there is one.
    """

    @property
    def info(self) -> CheckpointInfo:
        """The checkpoint."""

    @property
    def scores(self) -> Mapping[str, Any] | None:
        """See above."""

    @property
    def page(self) -> Path | None:
        """See above."""

    @property
    def why_not(self) -> str:
        """See above."""

    def table(self) -> list[str]:
        """The lines that a command shows."""


class Method(Protocol):
    """A way to learn from masks, a frozen dataclass. Its fields are its parameters."""

    name: ClassVar[str]

    def parameters(self) -> Mapping[str, object]:
        """Every parameter by its name, as JSON values."""

    def inputs(self, manifest: "Manifest") -> Mapping[str, str]:
        """sha256 of everything beside mask store, parent and backbone that decides what is learnt, by name."""

    def course(self, ground: Ground) -> Course:
        """One run, made ready. Raises a WilssError before anything is trained."""

    def conclude(self, beginning: "Beginning", out: Path, *, split: str | None, device: str) -> Conclusion:
        """Judge the checkpoint in `out` on `split` and write its report, unless that is done already."""


class LabelObjective(nn.Module):
    """The masks are the labels: BCE of all channels, background where no mask is. Also every method's step 0.

    Old classes are labelled background, and nothing keeps them: `finetune`.
    """

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        self.student = setup.student
        self._new = setup.protocol.new_channels(setup.step)

    def forward(self, batch: SegBatch, moment: Moment) -> dict[str, Tensor]:
        """The one term `seg`."""
        logits = at_size_of(batch, self.student(input_of(batch)))
        targets = label_targets(batch.pseudo, self._new, logits.shape[1])
        return {"seg": masked_bce(logits, targets, ~batch.void)}


@torch.no_grad()
def label_targets(masks: Tensor, new_channels: Sequence[int], num_channels: int) -> Tensor:
    """Masks as labels of all channels: the new ones as drawn, background where no mask is, old ones nowhere.

    masks: bool [B, C_new, H, W]. Returns float32 [B, num_channels, H, W].
    """
    targets = torch.zeros(len(masks), num_channels, *masks.shape[-2:], device=masks.device)
    targets[:, list(new_channels)] = masks.float()
    targets[:, BACKGROUND] = (~masks.any(dim=1)).float()
    return targets


def input_of(batch: SegBatch) -> Tensor:
    """The batch's images as the networks take them: normalised, channels last."""
    images = normalise(batch.images, IMAGENET_MEAN, IMAGENET_STD)
    return images.contiguous(memory_format=torch.channels_last)


def at_size_of(batch: SegBatch, logits: Tensor) -> Tensor:
    """Logits [B, C, h', w'] of the feature grid at the size of the batch's maps, bilinear, float32."""
    size = batch.void.shape[-2:]
    grown: Tensor = nn.functional.interpolate(logits.float(), size=size, mode="bilinear", align_corners=False)
    return grown


def without_gradient(network: Segmenter, batch: SegBatch, images: Tensor) -> Tensor:
    """What a frozen network says of the images: probabilities [B, C, h, w]."""
    with torch.no_grad():
        return at_size_of(batch, network(images)).sigmoid()


def frozen(network: Network) -> Network:
    """The network as it was: no gradient, evaluation mode for good, and in no saved state."""
    network.requires_grad_(requires_grad=False)
    network.eval()
    network.is_frozen = True  # type: ignore[assignment]
    network.train = lambda mode=True: network  # type: ignore[method-assign]
    return network


def is_frozen(network: nn.Module) -> bool:
    """Whether `frozen` made it so."""
    return bool(getattr(network, "is_frozen", False))
