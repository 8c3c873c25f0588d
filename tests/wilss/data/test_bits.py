"""`bits`: images of 16 bits a channel in which 8, 10, 12 or 14 hold values."""

import ast
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageFile import ImageFile

from tests.wilss.data.test_images import png
from tests.wilss.data.test_tiff import tiff
from wilss.data.images import read_image, rgb_of
from wilss.data.images.decoding import opened
from wilss.errors import ImageError

ROOT = Path(__file__).parents[3]
#: Every value of 12 bits once.
GREYS = np.arange(4096, dtype=np.uint16).reshape(64, 64)
COLOURS = np.random.default_rng(0).integers(0, 4096, (9, 14, 3), dtype=np.uint16)


def scaled(deep: NDArray[Any], bits: int = 12) -> NDArray[np.uint8]:
    """0 to 2^bits - 1 as 0 to 255, each rounded to the nearest; no value lies in the middle."""
    return np.asarray(np.floor(deep * (255 / (2**bits - 1)) + 0.5).astype(np.uint8))


def colour_png(pixels: NDArray[np.uint16], clear: bytes = b"") -> bytes:
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    return png(pixels.shape[1], pixels.shape[0], rows, bits=16, clear=clear)


def packed_tiff(pixels: NDArray[np.uint16]) -> bytes:
    """Grey, as Pillow writes it with LZW."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "TIFF", compression="tiff_lzw")
    return file.getvalue()


def write(path: Path, content: bytes | NDArray[Any]) -> Path:
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        Image.fromarray(content).save(path, "PNG")
    return path


@pytest.mark.parametrize("bits", [8, 9, 10, 12, 14, 15])
def test_greys_of_few_bits_use_all_of_8(tmp_path: Path, bits: int) -> None:
    values = np.arange(2**bits, dtype=np.uint16).reshape(16, -1)
    found = read_image(write(tmp_path / "a.png", values), bits)
    np.testing.assert_array_equal(found, np.repeat(scaled(values, bits)[..., None], 3, axis=2))
    assert (found[0, 0, 0], found[-1, -1, 0]) == (0, 255)


@pytest.mark.parametrize(
    "content",
    [tiff(GREYS), tiff(GREYS, order=">"), packed_tiff(GREYS)],
    ids=["least byte first", "most byte first", "packed"],
)
def test_greys_of_a_tiff_are_too(tmp_path: Path, content: bytes) -> None:
    np.testing.assert_array_equal(read_image(write(tmp_path / "a.tif", content), 12)[..., 1], scaled(GREYS))


def test_where_white_is_zero_it_stays_white(tmp_path: Path) -> None:
    found = read_image(write(tmp_path / "a.tif", tiff(GREYS, t262=0)), 12)
    np.testing.assert_array_equal(found[..., 0], 255 - scaled(GREYS))


@pytest.mark.parametrize(
    "content",
    [colour_png(COLOURS), tiff(COLOURS), tiff(COLOURS, order=">")],
    ids=["png", "tiff", "tiff, most byte first"],
)
def test_colours_are_read_with_both_of_their_bytes(tmp_path: Path, content: bytes) -> None:
    np.testing.assert_array_equal(read_image(write(tmp_path / "a", content), 12), scaled(COLOURS))


def test_infrared_beside_the_colours_is_left_out(tmp_path: Path) -> None:
    four = np.dstack([COLOURS, COLOURS[..., :1]])
    np.testing.assert_array_equal(read_image(write(tmp_path / "a.tif", tiff(four)), 12), scaled(COLOURS))


def test_colours_are_turned_upright(tmp_path: Path) -> None:
    found = read_image(write(tmp_path / "a.tif", tiff(COLOURS, t274=6)), 12)
    np.testing.assert_array_equal(found, np.rot90(scaled(COLOURS), -1))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_images_of_8_bits_are_as_they_are(tmp_path: Path, kind: str) -> None:
    Image.fromarray(scaled(COLOURS)).save(tmp_path / "a", kind)
    np.testing.assert_array_equal(read_image(tmp_path / "a", 12), read_image(tmp_path / "a"))


def test_all_16_bits_are_read_as_before(tmp_path: Path) -> None:
    values = np.arange(65536, dtype=np.uint32).reshape(256, 256)
    write(tmp_path / "a.png", values.astype(np.uint16))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[..., 0], (values * 255 + 32767) // 65535)


@pytest.mark.parametrize(
    "content", [np.full((4, 4), 5000, np.uint16), colour_png(COLOURS + np.uint16(905))], ids=["grey", "colour"]
)
def test_a_value_above_is_refused_with_the_bits_that_it_has(tmp_path: Path, content: Any) -> None:
    path = write(tmp_path / "a.png", content)
    most = 5000 if isinstance(content, np.ndarray) else int(COLOURS.max()) + 905
    with pytest.raises(ImageError) as raised:
        read_image(path, 12)
    assert str(raised.value) == (
        f"{path} holds the value {most}, and with `bits: 12` there is none above 4095; correct `bits` in the manifest "
        "(of this image it is 13), or save the image again with values up to 4095."
    )


def test_transparency_of_colours_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", colour_png(COLOURS, clear=b"\0\1\0\1\0\1"))
    with pytest.raises(ImageError, match=r"a.png has transparency, which is not read with `bits: 12`; save it without"):
        read_image(path, 12)


def test_an_opened_image_is_read_alike_where_pillow_keeps_all_of_it(tmp_path: Path) -> None:
    np.testing.assert_array_equal(rgb_of(Image.fromarray(GREYS), 12)[..., 0], scaled(GREYS))
    with opened(write(tmp_path / "a.png", colour_png(COLOURS))) as image:
        assert isinstance(image, ImageFile)
        with pytest.raises(ImageError, match=r"^an image has colours of 16 bits, of which 12 hold values; give its"):
            rgb_of(image, 12)


def test_whoever_reads_an_image_says_its_bits() -> None:
    sources = [path for folder in ("pipeline", "train", "workflows") for path in (ROOT / folder).rglob("*.py")]
    calls = [
        (path, node)
        for path in sources
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "read_image"
    ]
    assert len(calls) > 20
    silent = [f"{path.relative_to(ROOT)}, line {call.lineno}" for path, call in calls if len(call.args) != 2]
    assert not silent, "without `bits` images of 12 bits come out dark there"
