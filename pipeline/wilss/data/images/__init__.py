"""Images from disk, safely; input sizes on the patch grid; and back from the patch grid to pixels.

One convention, here and nowhere else: pixel centres (`align_corners=False`), row before column, and images
as a viewer shows them (EXIF orientation applied).
"""

from wilss.data.images.decoding import (
    PIXEL_CAP,
    LabelPixels,
    is_in_colour,
    read_image,
    read_label_pixels,
    read_palette_label,
    read_size,
    rgb_of,
)
from wilss.data.images.grids import patch_grid_size, resize_uint8, to_pixels

__all__ = [
    "PIXEL_CAP",
    "LabelPixels",
    "is_in_colour",
    "patch_grid_size",
    "read_image",
    "read_label_pixels",
    "read_palette_label",
    "read_size",
    "resize_uint8",
    "rgb_of",
    "to_pixels",
]
