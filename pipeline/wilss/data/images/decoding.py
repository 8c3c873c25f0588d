"""Images from disk: nothing is decoded before its header was found harmless.

Pillow's plugins are called by name, by the first bytes of a file: only JPEG, PNG, TIFF, WebP and BMP are ever tried,
and Pillow's own decompression-bomb check, which works by warnings and a global limit, has no part in it. So threads
may decode at once, and nothing here changes Pillow for the rest of the process.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from wilss.data.images.depth import ALL_BITS, as_8_bits, deep_colours, is_deep_colour, raw_mode
from wilss.data.images.formats import HEAD, what_it_is
from wilss.data.images.orientation import TRANSPOSES, is_turned, orientation_of
from wilss.data.images.tiff import HEADS, grey_of, has_unnamed_channel, is_white_zero, open_tiff, several_pictures
from wilss.disk import UrlPath
from wilss.errors import ImageError, WilssError, first_line

#: An image of more pixels is refused from its header alone, before anything is decoded (192 MB as RGB).
PIXEL_CAP = 64_000_000

_LEFT_OUT = "copy it again, or leave it out"
_REASONS = {
    errno.ENOENT: "is not there; copy it there, or leave it out",
    errno.ENOTDIR: "is not there; copy it there, or leave it out",
    errno.EACCES: "may not be read; change its permissions",
    errno.EPERM: "may not be read; change its permissions",
    errno.EISDIR: "is a folder, not an image; check the list",
    errno.ELOOP: "is a link that leads back to itself; replace it by the file",
    errno.ENAMETOOLONG: "has too long a name; check the list",
}


def read_size(path: Path) -> tuple[int, int]:
    """(height, width) of the upright image, from its header alone. Raises ImageError."""
    with opened(path, whole=False) as image:
        width, height = image.size
        return (width, height) if is_turned(orientation_of(image)) else (height, width)


def read_image(path: Path, bits: int = ALL_BITS) -> NDArray[np.uint8]:
    """The image upright (EXIF applied) and in RGB, uint8 [H, W, 3], a copy that may be written to.

    CMYK, palette and grey become RGB; 16 bits are scaled to 8, their whole range to 0 to 255; what is transparent is
    shown on white.
    bits: of images of 16 bits a channel those that hold values, so that 0 to 2^bits - 1 becomes 0 to 255; others are
    read as they are.
    Raises ImageError: one sentence with file and fix.
    """
    with opened(path) as image:
        if bits == ALL_BITS or not is_deep_colour(image):
            return rgb_of(image, bits, path)
        if _has_transparency(image):
            raise ImageError(f"{path} has transparency, which is not read with `bits: {bits}`; save it without alpha.")
        turn = TRANSPOSES.get(orientation_of(image))
        with opened(path) as again:
            colours = as_8_bits(deep_colours(image, again)[..., :3], bits, path)
        return _turned(Image.fromarray(colours), turn)


def rgb_of(image: Image.Image, bits: int = ALL_BITS, name: object = "an image") -> NDArray[np.uint8]:
    """An opened image as `read_image` gives a file: upright and in RGB, uint8 [H, W, 3]. name: for errors."""
    if bits != ALL_BITS and is_deep_colour(image):
        raise ImageError(f"{name} has colours of 16 bits, of which {bits} hold values; give its path.")
    turn, clear = TRANSPOSES.get(orientation_of(image)), _clear_colour(image)
    image.load()
    return _turned(_in_colour(image, clear, bits, name), turn)


def _turned(colours: Image.Image, turn: Image.Transpose | None) -> NDArray[np.uint8]:
    return np.array(colours if turn is None else colours.transpose(turn), np.uint8)


def _has_transparency(image: ImageFile) -> bool:
    return "transparency" in image.info or (image.mode in ("LA", "RGBA") and not has_unnamed_channel(image))


def greatest_of_16_bits(path: Path) -> int | None:
    """The greatest value of a 16-bit image, 0 to 65535; None of any other. Raises ImageError.

    Of colours, whose lower 8 bits Pillow leaves out, it is the greatest that it may be.
    """
    with opened(path) as image:
        if not _has_16_bits(image):
            return None
        image.load()
        values = np.asarray(image)
        if image.mode.startswith("I"):
            return int(values.max())
        colours = values[..., :-1] if image.mode in ("LA", "RGBA") else values
        return int(colours.max()) * 256 + 255


def _has_16_bits(image: ImageFile) -> bool:
    """Whether an image, not yet decoded, has 16 bits a channel, the greatest value the lightest."""
    return ";16" in raw_mode(image) and not is_white_zero(image)


def is_in_colour(path: Path) -> bool:
    """Whether the image is no grey or palette image, by its header alone. Raises ImageError."""
    with opened(path, whole=False) as image:
        return image.mode not in ("1", "L", "P") and not image.mode.startswith("I")


@contextmanager
def opened(path: Path, *, whole: bool = True) -> Iterator[ImageFile]:
    """An image whose header was read and found harmless; every way in which it can fail becomes one sentence.

    whole: whether more is wanted than the header.
    """
    with _told(path), _file(path, whole) as file, understood(path, file) as image:
        yield image


@contextmanager
def understood(path: Path, file: IO[bytes]) -> Iterator[ImageFile]:
    """What `opened` gives, of a file that is open already, `path` being what it is called."""
    with _told(path):
        image = _identified(path, file)
        _check_size(path, image)
        yield image


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Errors of what is done inside as one sentence about `path`."""
    try:
        yield
    except WilssError:
        raise
    except MemoryError:
        raise ImageError(f"{path} needs more memory than there is; scale it down.") from None
    except OSError as error:
        if error.errno in _REASONS:
            raise ImageError(f"{path} {_REASONS[error.errno]}.") from None
        raise ImageError(f"{path} is damaged ({first_line(error)}); {_LEFT_OUT}.") from None
    except Exception as error:  # decoders raise nearly anything on damaged bytes
        raise ImageError(f"{path} is damaged ({first_line(error)}); {_LEFT_OUT}.") from None


def _file(path: Path, whole: bool) -> IO[bytes]:
    """The file, if it is one: a pipe would be waited on for ever."""
    if isinstance(path, UrlPath):
        return path.open_kept() if whole else path.open_in_pieces()
    if not stat.S_ISREG(mode := os.stat(path).st_mode):
        raise ImageError(
            f"{path} is {'a folder' if stat.S_ISDIR(mode) else 'no plain file'}, not an image; check the list."
        )
    return open(path, "rb")


class _Jpeg(JpegImageFile):
    """Does not look into EXIF for the resolution: nobody asks for it, and a damaged block makes Pillow warn."""

    def _read_dpi_from_exif(self) -> None:
        pass


def _identified(path: Path, file: IO[bytes]) -> ImageFile:
    head = file.read(HEAD)
    file.seek(0)
    if head.startswith(b"\xff\xd8\xff"):
        return _Jpeg(file)
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return _still(path, PngImageFile(file))
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return _still(path, WebPImageFile(file))
    if head.startswith(HEADS):
        return open_tiff(path, file, PIXEL_CAP)
    if head.startswith(b"BM") and 12 <= int.from_bytes(head[14:18], "little") <= 124:
        return _bmp(path, file, head)
    raise ImageError(f"{path} {what_it_is(head)}.")


def _still(path: Path, image: ImageFile) -> ImageFile:
    """The image itself, if it is no animation, of which a label map would be of one picture. Raises ImageError."""
    if getattr(image, "is_animated", False):
        raise several_pictures(path)
    return image


def _bmp(path: Path, file: IO[bytes], head: bytes) -> BmpImageFile:
    """A BMP but for one whose grey palette makes Pillow take its 4 or 8 bits a pixel for 1 or 8: see findings/."""
    image = BmpImageFile(file)
    is_old = int.from_bytes(head[14:18], "little") == 12
    bits = int.from_bytes(head[24:26] if is_old else head[28:30], "little")
    if (image.mode, bits) in (("1", 4), ("1", 8), ("L", 1), ("L", 4)):
        raise ImageError(f"{path} is a BMP of {bits} bits with few greys as palette, and is not read; save it as PNG.")
    return image


def _check_size(path: Path, image: ImageFile) -> None:
    width, height = image.size
    if width * height > PIXEL_CAP:
        raise ImageError(
            f"{path} is {width} x {height} pixels, more than {PIXEL_CAP // 10**6} million; scale it down, or leave "
            "it out."
        )
    if width < 1 or height < 1:
        raise ImageError(f"{path} has no pixels; {_LEFT_OUT}.")


def _clear_colour(image: Image.Image) -> tuple[int, ...] | None:
    """The grey or the RGB colour that a PNG without alpha calls transparent, in the bits that its pixels will have.

    Ask before the pixels are loaded: of 16 bits a channel Pillow keeps the upper 8 of RGB pixels, and all of this one.
    """
    clear = image.info.get("transparency")
    if isinstance(clear, int) and image.mode.startswith("I"):
        return (clear,)
    if isinstance(clear, tuple) and image.mode == "RGB":
        is_deep = max(clear) > 255 or is_deep_colour(image)
        return tuple(value >> 8 for value in clear) if is_deep else clear
    return None


def _in_colour(image: Image.Image, clear: tuple[int, ...] | None, bits: int, name: object) -> Image.Image:
    """In RGB, what is transparent on white. clear: as `_clear_colour` gives it. bits, name: as in `rgb_of`."""
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip instead of scale
        grey = grey_of(image, bits, name)
        if clear is not None:
            grey[np.asarray(image) == clear[0]] = 255
        return Image.fromarray(grey).convert("RGB")
    if clear is not None:
        colours = np.array(image)
        colours[(colours == clear).all(axis=-1)] = 255
        return Image.fromarray(colours)
    if has_unnamed_channel(image):
        return image.convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        veiled = image.convert("RGBA")
        white = Image.new("RGBA", veiled.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, veiled).convert("RGB")
    return image.convert("RGB")
