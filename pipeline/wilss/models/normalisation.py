"""Pixel values as networks take them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

#: Of ImageNet's images in [0, 1], per colour channel.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def normalise(images: "Tensor", mean: Sequence[float], std: Sequence[float]) -> "Tensor":
    """(images / 255 - mean) / std, float32 [B, 3, H, W].

    images: uint8 [B, 3, H, W]. mean, std: of the three channels, for values in [0, 1].
    """
    values = images.float()
    centre, spread = (values.new_tensor(tuple(each))[:, None, None] for each in (mean, std))
    return (values / 255 - centre) / spread
