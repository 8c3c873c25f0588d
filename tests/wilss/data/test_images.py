"""Images from disk: every kind that a camera or a bad copy makes, and the geometry of the patch grid."""

import io
import os
import struct
import threading
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from wilss.data.images import (
    PIXEL_CAP,
    patch_grid_size,
    read_image,
    read_palette_label,
    read_size,
    resize_uint8,
    to_pixels,
)
from wilss.errors import ImageError

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (9, 14, 3), dtype=np.uint8)


def png(width: int, height: int, rows: bytes, *, bits: int = 8, colour: int = 2, clear: bytes = b"") -> bytes:
    """A PNG of these rows, each behind a byte 0. colour: 0 grey, 2 RGB. clear: which colour is transparent."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    transparent = chunk(b"tRNS", clear) if clear else b""
    return b"\x89PNG\r\n\x1a\n" + header + transparent + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def png_header(width: int, height: int) -> bytes:
    """A PNG whose header claims this size and whose data is nearly nothing."""
    return png(width, height, b"\0" * 1000)


def test_rgb_png_is_read_as_it_is_and_may_be_written_to(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    found = read_image(tmp_path / "a.png")
    assert found.dtype == np.uint8
    assert found.flags.writeable
    np.testing.assert_array_equal(found, PIXELS)
    assert read_size(tmp_path / "a.png") == (9, 14)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG"])
def test_a_file_is_known_by_its_bytes_not_by_its_name(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "renamed.jpg"
    Image.fromarray(PIXELS).save(path, format=kind)
    assert read_image(path).shape == (9, 14, 3)
    assert read_size(path) == (9, 14)


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_an_animation_is_refused_since_nobody_said_which_picture_is_meant(tmp_path: Path, kind: str) -> None:
    first, second = Image.fromarray(PIXELS), Image.fromarray(PIXELS[::-1].copy())
    first.save(tmp_path / f"a.{kind}", save_all=True, append_images=[second], lossless=True)
    for read in (read_image, read_size):
        with pytest.raises(ImageError, match=rf"a\.{kind} holds several pictures; save the one that is meant as "):
            read(tmp_path / f"a.{kind}")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg", "png", "webp"])
def test_exif_orientation_is_applied_as_pillow_does(tmp_path: Path, orientation: int, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {} if kind == "jpg" else {"lossless": True}
    Image.fromarray(PIXELS).save(path, exif=exif, **options)
    with Image.open(path) as image:
        upright = np.array(ImageOps.exif_transpose(image).convert("RGB"))
    found = read_image(path)
    np.testing.assert_array_equal(found, upright)
    assert read_size(path) == found.shape[:2]
    assert read_size(path) == ((14, 9) if orientation >= 5 else (9, 14))


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"Exif\0\0",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0XX*\0\x08\0\0\0",
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff",
    ],
)
def test_a_damaged_exif_block_is_passed_over(tmp_path: Path, block: bytes) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.jpg", exif=block)
    assert read_image(tmp_path / "a.jpg").shape == (9, 14, 3)


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    red = Image.new("RGB", (8, 8), (250, 10, 10)).convert("CMYK")
    red.save(tmp_path / "a.jpg", quality=95)
    found = read_image(tmp_path / "a.jpg")
    assert found.shape == (8, 8, 3)
    assert found[..., 0].min() > 220
    assert found[..., 1].max() < 40


def test_16_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    values = np.array([[0, 255, 256, 257, 32768, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[0, :, 0], [0, 1, 1, 1, 128, 255])


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "RGBA", "RGB"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    source = Image.fromarray(PIXELS).convert(mode)
    source.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.array(source.convert("RGB")))


def test_what_is_transparent_is_shown_on_white(tmp_path: Path) -> None:
    clear = np.zeros((2, 2, 4), np.uint8)
    clear[0, 0] = (10, 20, 30, 255)
    Image.fromarray(clear).save(tmp_path / "a.png")
    found = read_image(tmp_path / "a.png")
    assert found[0, 0].tolist() == [10, 20, 30]
    assert found[1, 1].tolist() == [255, 255, 255]


def test_the_grey_of_16_bits_that_is_called_transparent_is_shown_on_white(tmp_path: Path) -> None:
    rows = b"\0" + struct.pack(">4H", 0, 300, 301, 65535)
    (tmp_path / "a.png").write_bytes(png(4, 1, rows, bits=16, colour=0, clear=struct.pack(">H", 300)))
    assert read_image(tmp_path / "a.png")[0, :, 0].tolist() == [0, 255, 1, 255]


@pytest.mark.parametrize(("bits", "form"), [(8, "B"), (16, "H")])
def test_the_colour_that_is_called_transparent_is_shown_on_white(tmp_path: Path, bits: int, form: str) -> None:
    colours = [(3, 0, 3), (47, 0, 47), (9, 9, 9)]
    if bits == 16:  # the lower 8 bits of the first are the upper ones of the last
        colours = [(1007, 0, 1007), (47 * 256 + 239, 0, 47 * 256 + 239), (2304, 2304, 2304), (239 * 256, 0, 239 * 256)]
    rows = b"\0" + b"".join(struct.pack(f">3{form}", *colour) for colour in colours)
    clear = struct.pack(">3H", *colours[0])
    (tmp_path / "a.png").write_bytes(png(len(colours), 1, rows, bits=bits, clear=clear))
    found = read_image(tmp_path / "a.png")[0].tolist()
    assert found[:3] == [[255, 255, 255], [47, 0, 47], [9, 9, 9]]
    assert found[3:] == [[239, 0, 239]] * (bits == 16)


def test_a_palette_with_transparent_bytes_is_read_without_a_warning(tmp_path: Path) -> None:
    source = Image.fromarray(PIXELS).convert("P")
    source.save(tmp_path / "a.png", transparency=bytes([0, 128, 255]))
    assert read_image(tmp_path / "a.png").shape == (9, 14, 3)


def test_one_pixel_and_a_long_strip_are_images(tmp_path: Path) -> None:
    for size in ((1, 1), (12000, 40)):
        path = tmp_path / f"{size[0]}.png"
        Image.new("RGB", size, (1, 2, 3)).save(path)
        assert read_size(path) == (size[1], size[0])
        assert read_image(path)[0, 0].tolist() == [1, 2, 3]


def damaged(kind: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / f"bad.{kind}"
        whole = io.BytesIO()
        big = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(big).save(whole, format={"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}[kind])
        path.write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
        return path

    return make


def write(content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "bad.jpg").write_bytes(content)
        return folder / "bad.jpg"

    return make


def loop(folder: Path) -> Path:
    (folder / "a.jpg").symlink_to(folder / "b.jpg")
    (folder / "b.jpg").symlink_to(folder / "a.jpg")
    return folder / "a.jpg"


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.jpg")
    return folder / "pipe.jpg"


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "truncated jpeg": (damaged("jpg"), "is damaged"),
    "truncated png": (damaged("png"), "is damaged"),
    "truncated webp": (damaged("webp"), "is damaged"),
    "empty": (write(b""), "is empty"),
    "text": (write(b"hello, I am no image\n"), "is not a JPEG, PNG, TIFF, WebP or BMP image"),
    "gif": (write(b"GIF89a" + b"\0" * 50), "is a GIF file, not a JPEG"),
    "heic": (write(b"\0\0\0\x18ftypheic" + b"\0" * 50), "is a HEIC file, not a JPEG"),
    "web page": (write(b"<!DOCTYPE html><html>"), "is a web page and not an image; download the image itself"),
    "pointer": (write(b"version https://git-lfs.github.com/spec/v1\n"), "is a pointer of Git LFS and not the image"),
    "only tiff's signature": (write(b"II*\0"), "is damaged"),
    "only bmp's signature": (write(b"BM" + b"\0" * 12 + b"\x28\0\0\0"), "is damaged"),
    "only a signature": (write(b"\x89PNG\r\n\x1a\n"), "is damaged"),
    "only jpeg's signature": (write(b"\xff\xd8\xff\xe0"), "is damaged"),
    "missing": (lambda folder: folder / "none.jpg", "is not there"),
    "folder": (lambda folder: folder, "is a folder"),
    "link loop": (loop, "leads back to itself"),
    "pipe": (pipe, "no plain file"),
    "below a file": (lambda folder: write(b"x")(folder) / "x.jpg", "is not there"),
    "long name": (lambda folder: folder / ("x" * 300 + ".jpg"), "too long a name"),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_a_bad_file_is_one_sentence_with_file_and_mend(tmp_path: Path, name: str) -> None:
    make, told = BAD[name]
    path = make(tmp_path)
    with pytest.raises(ImageError, match=told) as caught:
        read_image(path)
    sentence = str(caught.value)
    assert sentence.startswith(str(path))
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert ";" in sentence or "check the list" in sentence


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_a_file_that_may_not_be_read_is_a_sentence(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    (tmp_path / "a.png").chmod(0)
    with pytest.raises(ImageError, match="permissions"):
        read_image(tmp_path / "a.png")


def test_permission_is_told_from_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")

    def refuse(*given: object, **more: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(ImageError, match="may not be read; change its permissions"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("size", [(60000, 60000), (10_000, 9_000), (2**31 - 1, 1)])
@pytest.mark.parametrize("filters", ["error", "always"])
def test_a_bomb_is_refused_from_its_header_without_a_warning(
    tmp_path: Path, size: tuple[int, int], filters: str
) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(*size))
    assert size[0] * size[1] > PIXEL_CAP
    for read in (read_image, read_size, read_palette_label):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter(filters)  # type: ignore[arg-type]
            with pytest.raises(ImageError, match=rf"{size[0]} x {size[1]} pixels, more than 64 million"):
                read(path)
        assert not caught


def test_images_are_decoded_in_many_threads_at_once(tmp_path: Path) -> None:
    paths = []
    for number in range(16):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(np.full((5, 5, 3), number, np.uint8)).save(paths[-1])
    barrier = threading.Barrier(8)

    def read(path: Path) -> int:
        barrier.wait(10)
        return int(read_image(path)[0, 0, 0])

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read, paths)) == list(range(16))


# -- label maps ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["L", "P"])
def test_a_label_is_its_ids_whatever_the_colours(tmp_path: Path, mode: str) -> None:
    ids = RNG.integers(0, 256, (7, 5), dtype=np.uint8)
    picture = Image.fromarray(ids)
    if mode == "P":
        picture = picture.copy()
        picture.putpalette(list(RNG.integers(0, 256, 768)))
    picture.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_palette_label(tmp_path / "a.png"), ids)


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("colour", [0, 3])
def test_labels_of_few_bits_keep_their_ids(tmp_path: Path, bits: int, colour: int) -> None:
    """Pillow scales grey values of 1, 2 and 4 bits to 255; ids must not be."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    ids = [0, 1, (1 << bits) - 1, 0]
    packed = 0
    for identity in ids:
        packed = packed << bits | identity
    row = (packed << (-4 * bits) % 8).to_bytes((4 * bits + 7) // 8, "big")
    parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 1, bits, colour, 0, 0, 0))]
    if colour == 3:
        parts.append(chunk(b"PLTE", bytes(range(3 * (1 << bits)))))
    parts += [chunk(b"IDAT", zlib.compress(b"\0" + row)), chunk(b"IEND", b"")]
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    assert read_palette_label(tmp_path / "a.png").tolist() == [ids]


def test_a_16_bit_label_is_fine_while_its_ids_are_small(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 3, 255]], np.uint16)).save(tmp_path / "a.png")
    assert read_palette_label(tmp_path / "a.png").tolist() == [[0, 3, 255]]
    Image.fromarray(np.array([[0, 300]], np.uint16)).save(tmp_path / "b.png")
    with pytest.raises(ImageError, match="the label 300"):
        read_palette_label(tmp_path / "b.png")


def test_a_label_in_colours_or_as_jpeg_is_refused(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    with pytest.raises(ImageError, match=r"holds colours \(RGB\)"):
        read_palette_label(tmp_path / "a.png")
    Image.fromarray(PIXELS[..., 0]).save(tmp_path / "b.png", format="JPEG")
    with pytest.raises(ImageError, match="is a JPEG, in which class ids may not be exact"):
        read_palette_label(tmp_path / "b.png")


# -- geometry -----------------------------------------------------------------------------------------------

SIDES = st.integers(1, 20_000)


@given(SIDES, SIDES, st.integers(16, 700), st.integers(700, 1500), st.sampled_from([8, 14, 16, 32]))
def test_input_sizes_are_multiples_within_bounds(h: int, w: int, shorter: int, longest: int, patch: int) -> None:
    height, width = patch_grid_size(h, w, shorter=shorter, longest=longest, patch=patch)
    assert height % patch == width % patch == 0
    assert patch <= height <= longest
    assert patch <= width <= longest
    scale = min(shorter / min(h, w), longest / max(h, w))
    for side, became in ((h, height), (w, width)):
        assert abs(became - side * scale) <= patch or became == patch or became + patch > longest


@given(SIDES, SIDES)
def test_height_and_width_are_treated_alike(h: int, w: int) -> None:
    turned = patch_grid_size(w, h, shorter=224, longest=1024, patch=16)
    assert patch_grid_size(h, w, shorter=224, longest=1024, patch=16) == turned[::-1]


@pytest.mark.parametrize(
    ("size", "became"),
    [((224, 224), (224, 224)), ((375, 500), (224, 304)), ((1, 1), (224, 224)), ((40, 12000), (16, 1024))],
)
def test_input_sizes_of_known_images(size: tuple[int, int], became: tuple[int, int]) -> None:
    assert patch_grid_size(*size, shorter=224, longest=1024, patch=16) == became


def test_without_bounds_an_image_keeps_its_size_but_for_the_patch() -> None:
    assert patch_grid_size(100, 33, shorter=None, longest=None, patch=16) == (96, 32)
    assert patch_grid_size(3, 500, shorter=None, longest=8, patch=16) == (16, 16)


def test_resizing_is_nothing_at_the_same_size_and_bicubic_else() -> None:
    image = torch.arange(3 * 8 * 8, dtype=torch.uint8).reshape(3, 8, 8)
    assert resize_uint8(image, (8, 8)) is image
    smaller = resize_uint8(image, (4, 6))
    assert smaller.shape == (3, 4, 6)
    assert smaller.dtype == torch.uint8
    flat = resize_uint8(torch.full((3, 5, 9), 77, dtype=torch.uint8), (16, 32))
    assert bool((flat == 77).all())


def test_to_pixels_follows_pixel_centres() -> None:
    """By hand: the value at a pixel's centre, interpolated between the centres of the patches."""
    ramp = torch.tensor([[0.0, 1.0, 2.0]])
    found = to_pixels(ramp, 1, 12)[0]
    centres = [min(max((x + 0.5) * 3 / 12 - 0.5, 0.0), 2.0) for x in range(12)]
    torch.testing.assert_close(found, torch.tensor(centres))


def test_to_pixels_keeps_leading_dimensions_and_their_maps_apart() -> None:
    maps = torch.rand(2, 3, 4, 5)
    grown = to_pixels(maps, 8, 7)
    assert grown.shape == (2, 3, 8, 7)
    torch.testing.assert_close(grown[1, 2], to_pixels(maps[1, 2], 8, 7))
    assert to_pixels(torch.zeros(0, 4, 5), 8, 7).shape == (0, 8, 7)
