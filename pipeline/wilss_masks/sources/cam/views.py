"""Images as a classifier is shown them: drawn, cropped, mirrored and changed in colour, by named randomness."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wilss.data.images import patch_grid_size, read_image
from wilss.data.layouts import ImageRecord
from wilss.errors import ImageError

if TYPE_CHECKING:
    from torch import Tensor

#: A crop is at most so much longer one way than the image is.
_STRETCH = 4 / 3
_GREY = (0.299, 0.587, 0.114)


def input_sizes(
    height: int, width: int, *, shorter: int, longest: int, scales: tuple[float, ...], stride: int
) -> list[tuple[int, int]]:
    """Sizes (H, W) at which an image of this size enters the network, multiples of `stride`: at scale 1, then at each.

    shorter: what the shorter side becomes at scale 1, 0 for the image's own; longest: the longer one is never more.
    """
    first = patch_grid_size(height, width, shorter=shorter or None, longest=longest, patch=stride)
    cells = [side // stride for side in first]
    others = [tuple(max(1, round(side * scale)) * stride for side in cells) for scale in scales]
    return [first, *((rows, columns) for rows, columns in others)]


def opened(record: ImageRecord) -> "Tensor | None":
    """An image uint8 [3, H, W], None where it cannot be read: the run says so where its masks are made."""
    import torch

    try:
        return torch.from_numpy(read_image(record.path, record.bits)).permute(2, 0, 1)
    except ImageError:
        return None


def view(image: "Tensor", side: int, *, area: float, colour: float, rng: np.random.Generator) -> "Tensor":
    """A crop of at least `area` of the image as a square of this side, perhaps mirrored, in other colours.

    image: uint8 [3, H, W]. Returns float32 [3, side, side] in [0, 1].
    """
    import torchvision.transforms.v2.functional as transforms

    top, left, height, width = _box(image.shape[-2], image.shape[-1], area, rng)
    cropped = transforms.resized_crop(image, top, left, height, width, [side, side], antialias=True)
    values = cropped.float() / 255
    return _coloured(values.flip(-1) if rng.random() < 0.5 else values, 1 + colour * rng.uniform(-1, 1, 3))


def _box(height: int, width: int, area: float, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Top, left, height and width of a crop with about the image's shape."""
    share, stretch = rng.uniform(area, 1), np.exp(rng.uniform(-1, 1) * np.log(_STRETCH))
    rows = min(height, max(1, round(height * (share * stretch) ** 0.5)))
    columns = min(width, max(1, round(width * (share / stretch) ** 0.5)))
    top, left = (int(rng.integers(most + 1)) for most in (height - rows, width - columns))
    return top, left, rows, columns


def _coloured(values: "Tensor", factors: NDArray[np.float64]) -> "Tensor":
    """Brightness, contrast and saturation times these factors. values: [3, H, W] in [0, 1]; so is what is returned."""
    brightness, contrast, saturation = factors.tolist()
    values = values * brightness
    middle = values.mean()
    values = (values - middle) * contrast + middle
    grey = (values * values.new_tensor(_GREY)[:, None, None]).sum(dim=0, keepdim=True)
    coloured: Tensor = ((values - grey) * saturation + grey).clamp(0, 1)
    return coloured
