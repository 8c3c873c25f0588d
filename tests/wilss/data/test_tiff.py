"""TIFF and BMP: written here byte by byte, since a library that writes and reads may be wrong twice."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from wilss.data.images import read_image, read_palette_label, read_size
from wilss.errors import ImageError

RNG = np.random.default_rng(0)
DEEP = RNG.integers(0, 65536, (5, 4, 3), dtype=np.uint16)
FLAT = (DEEP >> 8).astype(np.uint8)


def tiff(*pages: NDArray[Any], order: Any = "<", planar: int = 1, more: int = 0, **written: int) -> bytes:
    """Pages, each [H, W] or [H, W, C]; written: tags by `t` and their number. more: what all but the first are."""
    out = bytearray(struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 0))
    place_of_next = 4
    for number, page in enumerate(pages):
        channels = page.shape[2] if page.ndim == 3 else 1
        parts = [page[..., c] for c in range(channels)] if planar == 2 else [page]
        offsets = []
        for part in parts:
            offsets.append(len(out))
            out += np.ascontiguousarray(part).astype(part.dtype.newbyteorder(order)).tobytes()
        tags: dict[int, Any] = {
            256: page.shape[1], 257: page.shape[0], 258: (8 * page.itemsize,) * channels, 259: 1,
            254: more if number else 0,
            262: 2 if channels > 1 else 1, 273: tuple(offsets), 277: channels, 278: page.shape[0],
            279: (page.nbytes // len(parts),) * len(parts), 284: planar,
        } | {int(name[1:]): value for name, value in written.items()}  # fmt: skip
        entries = b""
        for tag, value in sorted(tags.items()):
            values = value if isinstance(value, tuple) else (value,)
            packed = struct.pack(f"{order}{len(values)}I", *values)
            if len(values) > 1:
                packed, at = struct.pack(f"{order}I", len(out)), packed
                out += at
            entries += struct.pack(f"{order}HHI", tag, 4, len(values)) + packed
        struct.pack_into(f"{order}I", out, place_of_next, len(out))
        out += struct.pack(f"{order}H", len(tags)) + entries
        place_of_next = len(out)
        out += bytes(4)
    return bytes(out)


def scaled(deep: NDArray[Any], highest: int = 65535) -> NDArray[np.float64]:
    return np.asarray(deep.astype(np.float64) * 255 / highest)


@pytest.mark.parametrize("planar", [1, 2])
@pytest.mark.parametrize("order", ["<", ">"])
def test_8_bits_are_read_as_they_are(tmp_path: Path, order: str, planar: int) -> None:
    (tmp_path / "a.tif").write_bytes(tiff(FLAT, order=order, planar=planar))
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), FLAT)


@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bits_are_scaled_over_their_whole_range(tmp_path: Path, order: str) -> None:
    (tmp_path / "colour.tif").write_bytes(tiff(DEEP, order=order))
    (tmp_path / "grey.tif").write_bytes(tiff(DEEP[..., 0], order=order))
    np.testing.assert_allclose(read_image(tmp_path / "colour.tif"), scaled(DEEP), atol=1)
    np.testing.assert_allclose(read_image(tmp_path / "grey.tif")[..., 2], scaled(DEEP[..., 0]), atol=0.5)


@pytest.mark.parametrize("pixels", [FLAT[..., 0], DEEP[..., 0]], ids=["8", "16"])
def test_where_white_is_zero_it_stays_white(tmp_path: Path, pixels: NDArray[Any]) -> None:
    (tmp_path / "a.tif").write_bytes(tiff(pixels, t262=0))
    highest = np.iinfo(pixels.dtype).max
    np.testing.assert_allclose(read_image(tmp_path / "a.tif")[..., 0], 255 - scaled(pixels, highest), atol=0.5)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_is_turned_as_its_orientation_says(tmp_path: Path, orientation: int) -> None:
    (tmp_path / "a.tif").write_bytes(tiff(FLAT, t274=orientation))
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(FLAT).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), read_image(tmp_path / "a.png"))
    assert read_size(tmp_path / "a.tif") == read_size(tmp_path / "a.png")


def test_compressed_ones_are_read(tmp_path: Path) -> None:
    for number, compression in enumerate(("tiff_lzw", "tiff_adobe_deflate", "packbits")):
        Image.fromarray(FLAT).save(tmp_path / f"{number}.tif", compression=compression)
        np.testing.assert_array_equal(read_image(tmp_path / f"{number}.tif"), FLAT)


def test_smaller_copies_behind_the_picture_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(tiff(FLAT, FLAT[::2, ::2], FLAT[::4, ::4], more=1))
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), FLAT)
    assert read_size(tmp_path / "a.tif") == (5, 4)


@pytest.mark.parametrize("named", [{}, {"t338": 0}], ids=["not said", "unspecified"])
@pytest.mark.parametrize("colours", [FLAT, DEEP], ids=["8", "16"])
def test_a_fourth_channel_that_is_not_said_to_be_alpha_is_left_out(
    tmp_path: Path, colours: NDArray[Any], named: dict[str, int]
) -> None:
    """Such as infrared, which would veil the picture; what is said to be alpha shows white."""
    four = np.dstack([colours, colours[..., 1] // 2])
    (tmp_path / "a.tif").write_bytes(tiff(four, **named))
    highest = np.iinfo(colours.dtype).max
    np.testing.assert_allclose(read_image(tmp_path / "a.tif"), scaled(colours, highest), atol=1)
    (tmp_path / "alpha.tif").write_bytes(tiff(np.dstack([colours, np.zeros_like(colours[..., 0])]), t338=2))
    assert (read_image(tmp_path / "alpha.tif") == 255).all()


BAD = {
    "two pictures": (tiff(FLAT, FLAT), r"holds several pictures; save the one that is meant as a file of its own\."),
    "a preview": (tiff(FLAT, t254=1), r"begins with a small preview, as raw photographs do; develop it to PNG or JPEG"),
    "float": (tiff(DEEP[..., 0].astype(np.float32), t339=3), r"is a TIFF with numbers of 32 bits"),
    "32 bits": (tiff(DEEP[..., 0].astype(np.uint32)), r"is a TIFF with numbers of 32 bits"),
    "signed": (tiff(DEEP[..., 0].astype(np.int16), t339=2), r"is a TIFF with numbers of 16 bits"),
    "seven channels": (tiff(np.repeat(FLAT[..., :1], 7, 2)), r"is a TIFF with channels of a kind that no photograph"),
    "planes": (tiff(DEEP, planar=2), r"is a TIFF with 16-bit channels one behind the other"),
    "four planes": (
        tiff(np.dstack([FLAT, FLAT[..., 0]]), planar=2, t338=0),
        r"channels beside its colours, one",
    ),
    "lab": (tiff(FLAT, t262=8), r"is a TIFF with LAB colours, which is not read; save it as PNG"),
    "cut short": (tiff(FLAT)[:100], r"is damaged"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_not_read_says_so(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.tif").write_bytes(BAD[name][0])
    with pytest.raises(ImageError, match=BAD[name][1]) as refused:
        read_image(tmp_path / "a.tif")
    assert str(refused.value).count("\n") == 0


def test_a_bmp_is_read(tmp_path: Path) -> None:
    rows = b"".join(row[:, ::-1].tobytes().ljust(12, b"\0") for row in FLAT[::-1])  # from the bottom, as BGR
    head = struct.pack("<IiiHHIIiiII", 40, 4, 5, 1, 24, 0, len(rows), 0, 0, 0, 0)
    (tmp_path / "a.bmp").write_bytes(b"BM" + struct.pack("<IHHI", 54 + len(rows), 0, 0, 54) + head + rows)
    np.testing.assert_array_equal(read_image(tmp_path / "a.bmp"), FLAT)
    assert read_size(tmp_path / "a.bmp") == (5, 4)
    with pytest.raises(ImageError, match=r"holds colours \(RGB\), not class ids"):
        read_palette_label(tmp_path / "a.bmp")


IDS = np.array([[0, 1, 2, 255, 7, 200], [3, 3, 0, 0, 15, 1]], np.uint8)


def bmp(bits: int, palette: list[tuple[int, int, int]], ids: NDArray[np.uint8]) -> bytes:
    rows = b""
    for row in ids[::-1]:
        line = np.packbits(np.unpackbits(row[:, None], axis=1)[:, -bits:].reshape(-1)).tobytes()
        rows += line.ljust(-(-len(line) // 4) * 4, b"\0")
    colours = b"".join(bytes((*reversed(rgb), 0)) for rgb in palette)
    place = 54 + len(colours)
    head = struct.pack("<IiiHHIIiiII", 40, ids.shape[1], len(ids), 1, bits, 0, len(rows), 0, 0, len(palette), 0)
    return b"BM" + struct.pack("<IHHI", place + len(rows), 0, 0, place) + head + colours + rows


@pytest.mark.parametrize("packing", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("mode", ["L", "P", "I;16"])
def test_labels_may_be_tiff(tmp_path: Path, packing: str, mode: str) -> None:
    image = Image.fromarray(IDS.astype(np.uint16) if mode == "I;16" else IDS)
    if mode == "P":
        image.putpalette(list(range(256)) * 3)
    image.save(tmp_path / "a.tif", compression=packing)
    np.testing.assert_array_equal(read_palette_label(tmp_path / "a.tif"), IDS)


GREYS = [(value,) * 3 for value in range(256)]


@pytest.mark.parametrize(
    ("bits", "palette"),
    [
        (8, GREYS),
        (8, GREYS[::-1]),
        (8, [(9 * v % 256, v, 0) for v in range(256)]),
        (4, [(9 * v, v, 0) for v in range(16)]),
        (1, [GREYS[0], GREYS[255]]),
        (1, [GREYS[255], GREYS[0]]),
    ],
)
def test_labels_may_be_bmp(tmp_path: Path, bits: int, palette: Any) -> None:
    ids = IDS & np.uint8((1 << bits) - 1)
    (tmp_path / "a.bmp").write_bytes(bmp(bits, palette, ids))
    np.testing.assert_array_equal(read_palette_label(tmp_path / "a.bmp"), ids)


@pytest.mark.parametrize(("bits", "palette"), [(8, [GREYS[0], GREYS[255]]), (4, GREYS[:16])])
def test_a_bmp_that_pillow_takes_for_one_of_other_bits_is_refused(tmp_path: Path, bits: int, palette: Any) -> None:
    """A mask of 0 and 1 in black and white would come back empty."""
    (tmp_path / "a.bmp").write_bytes(bmp(bits, palette, IDS & np.uint8(1)))
    for read in (read_palette_label, read_image):
        with pytest.raises(ImageError, match=f"a BMP of {bits} bits with few greys as palette.*save it as PNG"):
            read(tmp_path / "a.bmp")


def test_a_tiff_that_changes_ids_is_refused(tmp_path: Path) -> None:
    Image.fromarray(IDS).save(tmp_path / "a.tif", compression="jpeg")
    with pytest.raises(ImageError, match="is packed by jpeg, which changes class ids; save labels as PNG"):
        read_palette_label(tmp_path / "a.tif")
    (tmp_path / "b.tif").write_bytes(tiff(IDS, t262=0))
    with pytest.raises(ImageError, match="a TIFF in which 0 is white, so that ids are turned round"):
        read_palette_label(tmp_path / "b.tif")


@pytest.mark.parametrize("fill_order", [1, 2])
@pytest.mark.parametrize(("bits", "ids"), [(2, [0, 1, 2, 3]), (4, [1, 14])])
def test_label_tiffs_of_few_bits_keep_their_ids_from_either_end_of_a_byte(
    tmp_path: Path, bits: int, ids: list[int], fill_order: int
) -> None:
    packed = "".join(f"{identity:0{bits}b}" for identity in ids)
    byte = np.array([[int(packed if fill_order == 1 else packed[::-1], 2)]], np.uint8)
    (tmp_path / "a.tif").write_bytes(tiff(byte, t256=len(ids), t258=bits, t266=fill_order))
    assert read_palette_label(tmp_path / "a.tif").tolist() == [ids]


def test_a_label_tiff_that_would_be_turned_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(tiff(IDS, t274=3))
    with pytest.raises(ImageError, match=r"a\.tif says that it is to be turned \(orientation 3\).*save labels as PNG"):
        read_palette_label(tmp_path / "a.tif")
    (tmp_path / "a.tif").write_bytes(tiff(IDS, t274=1))
    np.testing.assert_array_equal(read_palette_label(tmp_path / "a.tif"), IDS)
