"""Kept features as an embedding takes them: of an image in the place of a pass of the frozen network below it."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import torch

from ..base import Grids, ImageTask
from .kept_in import KeptIn
from .reader import FeatureReader

if TYPE_CHECKING:
    from torch import Tensor

    from wilss.models.networks.embedding import Embedding


class KeptPatches:
    """Frozen features of images out of stores.

    grid: the patch grid (h, w) of an image of a height and width.
    """

    def __init__(
        self,
        stores: Sequence[KeptIn],
        grid: Callable[[int, int], tuple[int, int]],
        device: str,
        kind: Literal["tokens", "keys"],
    ) -> None:
        self._reader, self._grid, self._kind = FeatureReader(stores, device), grid, kind

    def read(self, task: ImageTask) -> "Tensor | None":
        """float32 [D, h, w]; None where no store has features of this very image."""
        kept = self._reader.read(task, Grids(attention=self._grid(task.height, task.width)))
        return None if kept is None else kept.patches(self._kind)


def embedded(embedding: "Embedding", loaded: "Sequence[Tensor]") -> "list[Tensor]":
    """The features of images, float32 [D, h, w] each: inputs uint8 [3, H, W] together, kept ones each by itself."""
    inputs = [one for one in loaded if one.dtype == torch.uint8]
    passed = iter(embedding.features(torch.stack(inputs).to(embedding.device, non_blocking=True)) if inputs else ())
    return [next(passed) if one.dtype == torch.uint8 else embedding.embedded(one[None])[0] for one in loaded]
