"""What every source of masks offers. `run` is handed one inside the plan and knows none by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

from wilss.store import ImageContent

if TYPE_CHECKING:
    from ..make.plan import ImageTask

__all__ = ["Grids", "MaskSource", "Proposer"]


@dataclass(frozen=True, kw_only=True)
class Grids:
    """Patch grids (h, w) of an image's soft layers, None where a source has no such layer.

    Images with equal grids have inputs of equal shape and can share a batch.
    """

    score: tuple[int, int] | None = None
    attention: tuple[int, int] | None = None


class Proposer(Protocol):
    """An opened source: networks loaded, on one device, in one process."""

    def load(self, task: "ImageTask") -> Any:
        """Decode what one image needs; called from threads. Raises ImageError for an image that is bad."""

    def propose(self, tasks: "Sequence[ImageTask]", loaded: Sequence[Any]) -> list[ImageContent]:
        """Masks of a batch of images whose grids are equal, in order."""


class MaskSource(Protocol):
    """Who proposes masks: frozen, picklable, and cheap to make; networks come with `open`."""

    @property
    def name(self) -> str:
        """The name by which `--source` finds it."""

    @property
    def has_void(self) -> bool:
        """Whether it knows pixels that are neither class nor background."""

    @property
    def uses_tags(self) -> bool:
        """Whether an image's tags say which classes to look for; else all of the step's, on all images of a split."""

    @property
    def seeds_kept(self) -> int:
        """Seeds per category that it can hand to the store."""

    def identity(self) -> Mapping[str, Any]:
        """All that its masks depend on, as JSON values: parameters, digests of models and prompts."""

    def grids(self, height: int, width: int) -> Grids:
        """Patch grids of an image of this size."""

    def prepare(self, device: str) -> Self:
        """Do once, in the coordinator, what no worker should do again."""

    def open(self, device: str, threads: int) -> Proposer:
        """Load networks and use this many CPU threads; a worker process calls this once."""
