"""Images of 16 bits that use few of them come out dark, and are told wherever images are read."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.faults.standin import make
from tests.wilss.data import data_on_disk as disk
from tests.wilss.data.test_tiff import tiff
from wilss.data.images import alpha_of
from wilss.data.layouts import ImageRecord, causes
from wilss.data.layouts.causes import dark_images, odd_looks, veiled_images
from wilss.data.manifest import load_manifest
from wilss_masks.manifest_tools.check import check_manifest


def deep(highest: int, channels: int = 1) -> NDArray[np.uint16]:
    pixels = np.linspace(0, highest, 32 * 24 * channels).round().astype(np.uint16).reshape(24, 32, channels)
    return pixels[..., 0] if channels == 1 else pixels


def records(folder: Path, **files: bytes | NDArray[Any]) -> list[ImageRecord]:
    found = []
    for name, content in files.items():
        path = folder / name.replace("_", ".")
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            Image.fromarray(content).save(path)
        found.append(ImageRecord(image_id=name, path=path))
    return found


def test_images_of_few_bits_are_told_with_their_greatest_value(tmp_path: Path) -> None:
    found = dark_images(records(tmp_path, a_png=deep(1000), b_png=deep(4095), c_png=deep(200).astype(np.uint8)))
    assert found is not None
    assert found.startswith(f"16-bit images such as {tmp_path / 'a.png'} hold no value above 4095 and come out dark")
    assert found.endswith(
        "if they are of 12 bits, write `bits: 12` beside `layout` in the manifest, which a trained model remembers, or "
        "save them again with their values multiplied by 16."
    )
    colours = dark_images(records(tmp_path, d_tif=tiff(deep(1023, 3))))
    assert colours is not None
    assert "no value above 1023 and" in colours
    assert "write `bits: 10` beside" in colours
    assert colours.endswith("multiplied by 64.")


def of_bits(bits: int, found: list[ImageRecord]) -> list[ImageRecord]:
    return [replace(record, bits=bits) for record in found]


def test_the_range_is_that_of_the_bits_that_are_read(tmp_path: Path) -> None:
    images = records(tmp_path, a_png=deep(1000), b_png=deep(3000), c_png=deep(200).astype(np.uint8))
    assert dark_images(of_bits(12, images)) is None
    dark = dark_images(of_bits(14, images))
    assert dark is not None
    assert "come out dark, since 0 to 16383 becomes 0 to 255; if they are of 12 bits, write `bits: 12`" in dark
    assert dark.endswith("multiplied by 4.")
    assert dark_images(of_bits(10, images)) == (
        f"16-bit images such as {tmp_path / 'b.png'} hold values up to 3000, and those above 1023 are refused, as the "
        "manifest says `bits: 10`; if they are of 12 bits, write `bits: 12` there."
    )


def test_each_data_set_has_its_own_range(tmp_path: Path) -> None:
    light, dark = records(tmp_path, a_png=deep(4000)), records(tmp_path, b_png=deep(4001))
    told = dark_images([*of_bits(12, light), *dark])
    assert told is not None
    assert f"such as {tmp_path / 'b.png'} hold no value above 4001" in told


@pytest.mark.parametrize(
    "files",
    [
        {"a_png": deep(60000)},
        {"a_png": deep(1000), "b_png": deep(60000)},
        {"a_png": deep(200).astype(np.uint8)},
        {"a_tif": tiff(deep(1000), t262=0)},
        {"a_png": b"damaged"},
        {"a_png": deep(0)},
        {},
    ],
    ids=["all bits", "one is light", "8 bits", "white is zero", "damaged", "black", "none"],
)
def test_others_are_not(tmp_path: Path, files: dict[str, Any]) -> None:
    assert dark_images(records(tmp_path, **files)) is None


def four_channels(alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.dstack([np.full((*alpha.shape, 3), 90, np.uint8), alpha])


INFRARED = np.random.default_rng(0).integers(1, 255, (24, 32)).astype(np.uint8)
CUT_OUT = np.array([[0] * 14 + [60, 120, 200] + [255] * 15] * 24, np.uint8)


@pytest.mark.parametrize(
    ("alpha", "is_told"), [(INFRARED, True), (CUT_OUT, False), (CUT_OUT * 0, False), (CUT_OUT // 4 + 64, True)]
)
def test_images_that_are_half_transparent_everywhere_are_told(
    tmp_path: Path, alpha: NDArray[np.uint8], is_told: bool
) -> None:
    plain = np.full((24, 32, 3), 90, np.uint8)
    told = veiled_images(records(tmp_path, a_png=plain, b_tif=four_channels(alpha), c_png=b"damaged"))
    assert (told is not None) == is_told
    if told:
        assert told.startswith(f"images such as {tmp_path / 'b.tif'} are half transparent nearly everywhere and ")
    assert list(odd_looks(records(tmp_path, b_tif=four_channels(alpha)))) == ([told] if is_told else [])


def test_a_fourth_channel_that_is_left_out_veils_nothing(tmp_path: Path) -> None:
    assert veiled_images(records(tmp_path, a_tif=tiff(four_channels(INFRARED)))) is None


def test_of_large_images_few_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`generate` looks at each second run of it, too, and takes less than a second where all is done."""
    opened: list[Path] = []
    monkeypatch.setattr(causes, "alpha_of", lambda path: opened.append(path) or alpha_of(path))
    monkeypatch.setattr(causes, "_ENOUGH_PIXELS", CUT_OUT.size + 1)
    clear = four_channels(CUT_OUT)
    veiled_images(records(tmp_path, plain_png=clear[..., :3], a_png=clear, b_png=clear, c_png=clear))
    assert [path.name for path in opened] == ["plain.png", "a.png", "b.png"]


def test_check_and_generate_tell_it(tmp_path: Path) -> None:
    for name in "ab":
        disk.label(tmp_path / f"data/labels/{name}.png", (1,))
        (tmp_path / "data/images").mkdir(exist_ok=True)
        Image.fromarray(deep(4095)[: disk.SIZE[0], : disk.SIZE[1]]).save(tmp_path / f"data/images/{name}.png")
    disk.text(tmp_path / "data/tags.csv", "a,cat", "b,cat")
    manifest = load_manifest(
        disk.manifest(tmp_path, layout="folder", splits={"train": "all"}, steps=[{"classes": [1]}])
    )
    assert any("step 0: 16-bit images such as" in warning for warning in check_manifest(manifest).warnings)
    assert any(
        "16-bit images such as" in warning for warning in make(tmp_path / "data/images", tmp_path / "s").warnings
    )
