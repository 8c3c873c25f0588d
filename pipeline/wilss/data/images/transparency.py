"""The alpha of an image, by which a fourth channel that is no transparency, as infrared, can be told."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wilss.data.images.decoding import opened
from wilss.data.images.tiff import has_unnamed_channel


def alpha_of(path: Path) -> NDArray[np.uint8] | None:
    """How opaque the pixels are, uint8 [H, W], not turned upright; None without alpha. Raises ImageError."""
    with opened(path) as image:
        if image.mode not in ("RGBA", "LA") or has_unnamed_channel(image):
            return None
        image.load()
        return np.asarray(image)[..., -1]
