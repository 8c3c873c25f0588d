"""What a memory bank holds: one connected region of one class, cut out of one image."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Instance", "InstanceInfo"]


@dataclass(frozen=True, kw_only=True)
class InstanceInfo:
    """All about an instance but its pixels.

    index: its place in the bank. box: (top, left, bottom, right) in the image that it was cut out of, the last two
    not included. area: pixels of its mask. step: at which it was archived. weak: whether its mask was made from
    image tags. confidence: of that mask, NaN where its source gives none.
    """

    index: int
    category_id: int
    image_id: str
    box: tuple[int, int, int, int]
    area: int
    step: int
    weak: bool
    confidence: float

    @property
    def height(self) -> int:
        """Rows of the crop."""
        return self.box[2] - self.box[0]

    @property
    def width(self) -> int:
        """Columns of the crop."""
        return self.box[3] - self.box[1]


@dataclass(frozen=True, kw_only=True, eq=False)
class Instance(InstanceInfo):
    """An instance with its pixels: image uint8 [h, w, 3], the crop of `box`; mask bool [h, w], True on the instance."""

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
