"""Images from disk, safely; as networks take them; and back from the patch grid to pixels.

One convention, here and nowhere else: pixel centres (`align_corners=False`), row before column, and images
as a viewer shows them (EXIF orientation applied).
"""

from wilss.data.images.decoding import (
    PIXEL_CAP,
    greatest_of_16_bits,
    is_in_colour,
    read_image,
    read_size,
    rgb_of,
)
from wilss.data.images.depth import ALL_BITS, FEWEST_BITS
from wilss.data.images.label_pixels import (
    LabelPixels,
    read_label_bytes,
    read_label_pixels,
    read_palette_label,
)
from wilss.data.images.network_inputs import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    normalise,
    patch_grid_size,
    resize_uint8,
    size_within,
    to_pixels,
)
from wilss.data.images.transparency import alpha_of

__all__ = [
    "ALL_BITS",
    "FEWEST_BITS",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "PIXEL_CAP",
    "LabelPixels",
    "alpha_of",
    "greatest_of_16_bits",
    "is_in_colour",
    "normalise",
    "patch_grid_size",
    "read_image",
    "read_label_bytes",
    "read_label_pixels",
    "read_palette_label",
    "read_size",
    "resize_uint8",
    "rgb_of",
    "size_within",
    "to_pixels",
]
