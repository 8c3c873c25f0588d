"""Many masks of one picture as packed bits, until they are laid over each other as a map of regions."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


class MaskPile:
    """Masks of one picture, any number of them: each takes h w / 8 bytes."""

    def __init__(self, height: int, width: int) -> None:
        self.size = height, width
        self._packed: list[NDArray[np.uint8]] = []
        self._areas: list[int] = []

    def add(self, masks: Tensor) -> None:
        """Put masks bool [N, h, w] on the pile."""
        self._packed += list(np.packbits(masks.flatten(1).cpu().numpy(), axis=1))
        self._areas += masks.sum(dim=(-2, -1)).tolist()

    def regions(self, places: Sequence[int] | None = None) -> NDArray[np.int32]:
        """The masks as a map of regions, smaller ones on top of larger ones; -1 where there is none.

        places: which of the masks, in the order in which they came; all by default. Returns int32 [h, w]: 0 is the
        largest; of equals the later one lies on top.
        """
        taken = range(len(self._areas)) if places is None else sorted(places)
        found = np.full(self.size, -1, np.int32)
        for number, place in enumerate(sorted(taken, key=lambda place: -self._areas[place])):
            found[self._mask(place)] = number
        return found

    def _mask(self, place: int) -> NDArray[np.bool_]:
        height, width = self.size
        return np.unpackbits(self._packed[place], count=height * width).reshape(height, width).astype(np.bool_)
