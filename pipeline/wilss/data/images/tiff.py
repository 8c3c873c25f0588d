"""TIFF: one picture in a file, of 8 or 16 bits a channel, as cameras, scanners and microscopes write it.

A file of several pictures is refused, since nobody said which one is meant; smaller copies of the first are none.
"""

from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from wilss.data.images.depth import as_8_bits
from wilss.errors import ImageError

#: How TIFF and BigTIFF begin, in both orders of bytes.
HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_KIND, _BITS, _PHOTOMETRIC, _PLANAR, _TILE_WIDTH, _TILE_HEIGHT, _EXTRA, _FORMAT, _DNG = (
    254, 258, 262, 284, 322, 323, 338, 339, 50706,
)  # fmt: skip
_COPY, _MASK = 1, 4
_WHITE_IS_ZERO = 0
_MOST_COPIES = 16


def open_tiff(path: Path, file: IO[bytes], most_pixels: int) -> TiffImageFile:
    """The one picture of a TIFF, not yet decoded. Raises ImageError where it is of a form that is not read."""
    try:
        image = TiffImageFile(file)
    except SyntaxError as error:
        if "pixel mode" in str(error) or "samples per pixel" in str(error):
            raise _unread(path, "channels of a kind that no photograph has") from None
        if "string index" in str(error):  # Pillow has no name for channels beyond those of its colours
            raise _unread(path, "channels beside its colours, one behind the other (planar)") from None
        raise
    tags: Any = image.tag_v2
    _require_form(path, image, tags)
    if _number(tags.get(_TILE_WIDTH, 0)) * _number(tags.get(_TILE_HEIGHT, 0)) > most_pixels:
        raise _unread(path, f"tiles of more than {most_pixels // 10**6} million pixels")
    if getattr(image, "is_animated", False):
        _require_one(path, image)
    return image


def grey_of(image: Image.Image, bits: int, name: object) -> NDArray[np.uint8]:
    """16-bit grey as uint8 [H, W]: the whole range of its bits becomes 0 to 255, and white is 255.

    bits: of the 16 those that hold values, 12 at most in a TIFF that says so of itself. name: of the image, for errors.
    Raises ImageError for a value above their range.
    """
    tags: Any = getattr(image, "tag_v2", {})
    grey = as_8_bits(np.asarray(image), min(bits, int(max(tags.get(_BITS, (16,))))), name)
    return 255 - grey if is_white_zero(image) else grey


def has_unnamed_channel(image: Image.Image) -> bool:
    """Whether a TIFF does not say what its fourth channel is, which Pillow takes for alpha; it may be infrared."""
    tags: Any = getattr(image, "tag_v2", None)
    return image.mode == "RGBA" and tags is not None and _EXTRA not in tags


def is_white_zero(image: Image.Image) -> bool:
    """Whether 0 is white in a file, and greater values are darker; in a TIFF alone it may be."""
    tags: Any = getattr(image, "tag_v2", {})
    return bool(tags.get(_PHOTOMETRIC, 1) == _WHITE_IS_ZERO)


def _require_form(path: Path, image: TiffImageFile, tags: Any) -> None:
    bits = max(tags.get(_BITS, (1,)))
    if bits > 16 or set(tags.get(_FORMAT, (1,))) != {1}:
        raise _unread(path, f"numbers of {bits} bits that are no brightness from black to white")
    if image.mode == "LAB":
        raise _unread(path, "LAB colours")
    if bits > 8 and tags.get(_PLANAR, 1) == 2 and image.info.get("compression") == "raw":
        raise _unread(path, "16-bit channels one behind the other (planar)")
    if _number(tags.get(_KIND, 0)) & _COPY or _DNG in tags:
        raise ImageError(f"{path} begins with a small preview, as raw photographs do; develop it to PNG or JPEG.")


def _require_one(path: Path, image: TiffImageFile) -> None:
    for page in range(1, _MOST_COPIES):
        try:
            image.seek(page)
        except EOFError:
            break
        if not _number(image.tag_v2.get(_KIND, 0)) & (_COPY | _MASK):
            raise several_pictures(path)
    image.seek(0)


def several_pictures(path: Path) -> ImageError:
    """Nobody said which one is meant."""
    return ImageError(f"{path} holds several pictures; save the one that is meant as a file of its own.")


def _unread(path: Path, what: str) -> ImageError:
    return ImageError(f"{path} is a TIFF with {what}, which is not read; save it as PNG with 8 or 16 bits a channel.")


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
