"""How much of an image is neither there nor clear: a fourth channel that is no transparency, as infrared, shows so."""

from pathlib import Path

import numpy as np

from wilss.data.images.decoding import opened
from wilss.data.images.tiff import has_unnamed_channel


def share_half_clear(path: Path) -> float | None:
    """The share of pixels that are neither opaque nor clear, 0 to 1; None without alpha. Raises ImageError."""
    with opened(path) as image:
        if image.mode not in ("RGBA", "LA") or has_unnamed_channel(image):
            return None
        image.load()
        alpha = np.asarray(image)[..., -1]
        return float(((alpha > 0) & (alpha < 255)).mean())
