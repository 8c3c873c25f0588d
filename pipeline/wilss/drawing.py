"""What pictures of several rooms share: words in them, the borders of labels, and a picture as the bytes of a file."""

import io
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFont


@lru_cache(maxsize=32)
def font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings along; it has most of the world's letters. size: in pixels."""
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)


def encoded(picture: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    """The picture as the bytes of a file; options: Pillow's for that form."""
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def borders(labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Pixels with a neighbour of another label, on both sides of a border; the frame is none. labels: [H, W]."""
    border = np.zeros(labels.shape, np.bool_)
    down, right = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    border[1:] |= down
    border[:-1] |= down
    border[:, 1:] |= right
    border[:, :-1] |= right
    return border
