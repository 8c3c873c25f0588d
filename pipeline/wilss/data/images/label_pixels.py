"""Label maps from disk: the values or colours of a file, exactly as they were written."""

from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from wilss.data.images.decoding import opened, understood
from wilss.data.images.depth import raw_mode
from wilss.data.images.orientation import ORIENTATION
from wilss.data.images.tiff import is_white_zero
from wilss.errors import ImageError

#: How a TIFF may be packed so that what comes out is what went in.
_EXACT_PACKINGS = (
    "raw", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "lzma", "zstd", "group3", "group4",
    "tiff_ccitt",
)  # fmt: skip
_BIT_DEPTH_SCALES = {"L;2": 85, "L;4": 17, "L;2R": 85, "L;4R": 17}


@dataclass(frozen=True, kw_only=True)
class LabelPixels:
    """What a label file holds.

    values: uint8 [H, W], palette indices or grey values; None where the file holds colours.
    palette: uint8 [K, 3], the colours of the first K values; None for a file without palette.
    colours: uint8 [H, W, 3] of an RGB file; where all of them are grey, there are values as well.
    """

    values: NDArray[np.uint8] | None = None
    palette: NDArray[np.uint8] | None = None
    colours: NDArray[np.uint8] | None = None


def read_palette_label(path: Path) -> NDArray[np.uint8]:
    """A label map, uint8 [H, W]: palette indices or grey values as they are. Raises ImageError.

    16-bit files are fine while their values are below 256. A label's EXIF is not looked at: labels are drawn on the
    upright image.
    """
    pixels = read_label_pixels(path)
    if pixels.values is None:
        raise ImageError(
            f"{path} holds colours (RGB), not class ids; say which colour is which class beside `layout`, as in "
            "`colors: {background: [0, 0, 0], cat: [128, 0, 0]}` or in a labelmap.txt, or save it as a palette or grey "
            "PNG."
        )
    return pixels.values


def read_label_pixels(path: Path) -> LabelPixels:
    """The values or colours of a label file, and its palette. Raises ImageError."""
    with opened(path) as image:
        return _label_pixels(path, image)


def read_label_bytes(file: IO[bytes], path: Path) -> LabelPixels:
    """The same of a file that is open already, `path` being what it is called. Raises ImageError."""
    with understood(path, file) as image:
        return _label_pixels(path, image)


def _label_pixels(path: Path, image: ImageFile) -> LabelPixels:
    _require_exact(path, image)
    scale = _BIT_DEPTH_SCALES.get(raw_mode(image), 1)
    image.load()
    pixels, palette = np.array(image), _palette_of(image)
    if image.mode in ("RGB", "RGBA", "LA"):
        return _of_colours(path, pixels)
    if pixels.ndim != 2:
        raise ImageError(f"{path} holds {image.mode} colours, not class ids; save it as a palette or grey PNG.")
    if pixels.size and int(pixels.max()) > 255:
        raise ImageError(f"{path} holds the label {pixels.max()}; ids are 0 to 254, and 255 for void.")
    return LabelPixels(values=pixels.astype(np.uint8) // np.uint8(scale), palette=palette)


def _require_exact(path: Path, image: ImageFile) -> None:
    """Refuse a label file in which class ids may not be as they were written."""
    if isinstance(image, TiffImageFile):
        if (packing := image.info.get("compression", "raw")) not in _EXACT_PACKINGS:
            raise ImageError(f"{path} is packed by {packing}, which changes class ids; save labels as PNG.")
        if is_white_zero(image):
            raise ImageError(f"{path} is a TIFF in which 0 is white, so that ids are turned round; save labels as PNG.")
        if (turned := image.tag_v2.get(ORIENTATION, 1)) != 1:
            raise ImageError(
                f"{path} says that it is to be turned (orientation {turned}), and labels are drawn on the upright "
                "image; save labels as PNG."
            )
    elif not isinstance(image, PngImageFile | BmpImageFile):
        raise ImageError(f"{path} is a {image.format}, in which class ids may not be exact; save labels as PNG.")


def _palette_of(image: Image.Image) -> NDArray[np.uint8] | None:
    """uint8 [K, 3], as many colours as the file has."""
    return np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3) if image.mode == "P" else None


def _of_colours(path: Path, pixels: NDArray[np.uint8]) -> LabelPixels:
    """pixels: uint8 [H, W, 2 to 4], the last channel alpha unless there are three."""
    if pixels.shape[2] != 3:
        if pixels.size and int(pixels[..., -1].min()) < 255:
            raise ImageError(f"{path} has transparent pixels, whose class nobody can know; save it without alpha.")
        pixels = pixels[..., :-1]
    values = pixels[..., 0].copy() if (pixels == pixels[..., :1]).all() else None
    return LabelPixels(values=values, colours=pixels if pixels.shape[2] == 3 else None)
