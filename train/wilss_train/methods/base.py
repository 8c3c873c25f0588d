"""What every method offers, and what their objectives share: inputs, sizes, frozen networks."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from torch import Tensor, nn

from wilss.data.images import normalise
from wilss.data.manifest import Manifest
from wilss.errors import ParameterError

from ..context import Experiment, RunContext
from ..inputs import RunInputs
from ..params import TrainParams
from ..results.judge import Judged, RunResults, untold

Network = TypeVar("Network", bound=nn.Module)


class Method(Protocol):
    """A way to learn from masks, a frozen dataclass. Its fields are its parameters."""

    name: ClassVar[str]

    def as_json(self) -> dict[str, Any]:
        """Every parameter by its name, as JSON values."""

    def deciding(self, step: int) -> dict[str, Any]:
        """Those of them that can change what comes of this step."""

    @classmethod
    def before(cls) -> dict[str, Any]:
        """The same as they were where nobody could say another."""

    def input_digests(self, manifest: Manifest) -> Mapping[str, str]:
        """sha256 of everything beside mask store, parent and backbone that decides what is learnt, by name."""

    def inputs_as_noted_now(self, noted: Mapping[str, Any], manifest: Manifest) -> Mapping[str, Any]:
        """What a run noted of these, by the digests of today where it is the same.

        Raises CheckpointError with the reason, as part of a sentence, where the rules were different then.
        """

    def origin(self, run: TrainParams) -> tuple[str, str]:
        """The network that images go into, and the word for the weights that it starts from at step 0; "" is none."""

    def experiment(self, context: RunContext) -> Experiment:
        """One run, ready to be trained. Raises a WilssError before anything is trained."""

    def judge(
        self, inputs: RunInputs, out: Path, *, split: str | None, device: str, progress: Judged = untold
    ) -> RunResults:
        """Judge the checkpoint in `out` on `split` and write its report, unless that is done already.

        progress: called with how many images, or episodes, are judged, and how many there are.
        """


def as_input(images: Tensor, run: TrainParams) -> Tensor:
    """uint8 [B, 3, H, W] as the run's networks take it: normalised, float32, channels last."""
    return normalise(images, run.mean, run.std).contiguous(memory_format=torch.channels_last)


def at_size(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """Maps [B, C, h', w'] of the feature grid at [B, C, *size], bilinear, float32."""
    grown: Tensor = nn.functional.interpolate(maps.float(), size=size, mode="bilinear", align_corners=False)
    return grown


def on_grid(mask: Tensor, maps: Tensor) -> Tensor:
    """A bool mask [B, H, W] at the middle of every cell of maps [B, D, h, w]: bool [B, h, w]."""
    return nn.functional.interpolate(mask[:, None].float(), size=maps.shape[-2:], mode="nearest-exact")[:, 0] > 0


def without_gradient(head: Callable[[Tensor], Tensor], features: Tensor, size: tuple[int, ...]) -> Tensor:
    """What a frozen network's head says of features: probabilities, [B, C, *size]."""
    with torch.no_grad():
        return at_size(head(features), size).sigmoid()


def require_student_epochs(warmup_epochs: int, epochs: int) -> None:
    """Raise ParameterError where the warm-up leaves no epoch to the student."""
    if warmup_epochs >= epochs:
        raise ParameterError(
            f"warmup_epochs is {warmup_epochs} and the run has {epochs} epochs, so the student would never be trained; "
            f"raise --epochs, or lower it, to at most {max(epochs - 1, 0)}: --set warmup_epochs={max(epochs - 1, 0)}."
        )


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
