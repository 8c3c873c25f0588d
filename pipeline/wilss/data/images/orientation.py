"""How a photograph is to be turned: the orientation that EXIF or TIFF notes, read without decoding anything."""

import struct

from PIL import Image

#: The tag of EXIF and TIFF that says how an image is to be turned.
ORIENTATION = 0x0112
#: What makes an image of each EXIF orientation upright.
TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def is_turned(orientation: int) -> bool:
    """Whether the upright image's height is the stored one's width."""
    return orientation in (5, 6, 7, 8)


def orientation_of(image: Image.Image) -> int:
    """EXIF orientation 1 to 8 from what the header holds; 1, without a warning, where it cannot be read.

    Ask before the pixels are loaded, so that size and pixels are turned by the same word.
    """
    block = image.info.get("exif")
    if not isinstance(block, bytes):
        return 1
    try:
        orientation = _value_of_orientation(block.removeprefix(b"Exif\0\0"))
    except struct.error:
        return 1
    return orientation if 1 <= orientation <= 8 else 1


def _value_of_orientation(tiff: bytes) -> int:
    """The tag's value in the first directory of a TIFF block, 1 if it is not there."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    (start,) = struct.unpack_from(f"{order}I", tiff, 4)
    (count,) = struct.unpack_from(f"{order}H", tiff, start)
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind = struct.unpack_from(f"{order}HH", tiff, entry)
        if tag == ORIENTATION:
            form = {1: "B", 3: "H", 4: "I"}.get(kind, "H")
            return int(struct.unpack_from(f"{order}{form}", tiff, entry + 8)[0])
    return 1
