"""Many masks of one picture as packed bits, until they are laid on one another as regions."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wilss.equations.regions import from_below, partition


class MaskPile:
    """Masks of one picture, any number of them: each takes h w / 8 bytes."""

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self._packed: list[NDArray[np.uint8]] = []
        self._areas: list[int] = []

    def add(self, masks: Tensor) -> None:
        """Put masks bool [N, h, w] on the pile."""
        self._packed += list(np.packbits(masks.flatten(1).cpu().numpy(), axis=1))
        self._areas += masks.sum(dim=(-2, -1)).tolist()

    def regions(self, places: Sequence[int] | None = None) -> Tensor:
        """The masks as a partition, small ones on top: int32 [h, w] on the CPU, numbered as they came, -1 for none.

        places: which of the masks, all by default.
        """
        taken = range(len(self._areas)) if places is None else sorted(places)
        order = [taken[number] for number in from_below([self._areas[place] for place in taken])]
        return partition(order, self._mask, self.height, self.width)

    def _mask(self, place: int) -> Tensor:
        bits = np.unpackbits(self._packed[place], count=self.height * self.width)
        return torch.from_numpy(bits.reshape(self.height, self.width)).bool()
