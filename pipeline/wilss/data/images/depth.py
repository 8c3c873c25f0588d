"""Values of up to 16 bits as 8, and the colours of 16 bits of which Pillow keeps the upper 8."""

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.ImageFile import ImageFile

from wilss.errors import ImageError

#: Of an image of 16 bits a channel, all of them hold values unless a manifest says fewer; of fewer than 8 none is read.
ALL_BITS, FEWEST_BITS = 16, 8

#: How the bytes of a value lie in a file, in Pillow's words, and how they lie for who wants the lower one.
_TURNED_ROUND = {";16B": ";16L", ";16L": ";16B", ";16N": ";16B" if sys.byteorder == "little" else ";16L"}


def as_8_bits(values: NDArray[Any], bits: int, name: object) -> NDArray[np.uint8]:
    """Values of 0 to 2^bits - 1 as 0 to 255, rounded to the nearest. name: of the image, for errors.

    Raises ImageError for a value above: cut off it would be white, and nobody would know that `bits` is wrong.
    """
    highest = (1 << bits) - 1
    if (most := int(values.max(initial=0))) > highest:
        raise ImageError(
            f"{name} holds the value {most}, and with `bits: {bits}` there is none above {highest}; correct `bits` in "
            f"the manifest (of this image it is {most.bit_length()}), or save the image again with values up to "
            f"{highest}."
        )
    table = (np.arange(highest + 1, dtype=np.uint32) * 255 + highest // 2) // highest
    return np.asarray(table.astype(np.uint8)[values])


def raw_mode(image: ImageFile) -> str:
    """How an image that is not yet decoded lies in its file, in Pillow's words, as `L;4` or `I;16B`."""
    form = image.tile[0][3] if image.tile else ""
    return str(form[0] if isinstance(form, tuple) else form)


def is_deep_colour(image: object) -> bool:
    """Whether an image, not yet decoded, has several channels of 16 bits, of which Pillow keeps the upper 8."""
    return isinstance(image, ImageFile) and not image.mode.startswith("I") and ";16" in raw_mode(image)


def deep_colours(upper: ImageFile, lower: ImageFile) -> NDArray[np.uint16]:
    """Both bytes of a file's colours, uint16 [H, W, channels]. upper, lower: that file opened twice, not yet decoded.

    Pillow is told that the bytes of a value lie the other way round, so that it keeps the lower one.
    """
    lower.tile = [tile._replace(args=_turned_round(tile.args)) for tile in lower.tile]
    for image in (upper, lower):
        image.load()
    return np.asarray(np.asarray(upper).astype(np.uint16) << 8 | np.asarray(lower))


def _turned_round(args: Any) -> Any:
    if isinstance(args, tuple):
        return (_turned_round(args[0]), *args[1:])
    return f"{args[:-4]}{_TURNED_ROUND[args[-4:]]}"
