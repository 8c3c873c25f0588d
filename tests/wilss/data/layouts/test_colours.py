"""Label files in which colours say what is what, and labelmap.txt beside files of values."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.wilss.data import data_on_disk as disk
from wilss.data.layouts.colours import read_labelmap
from wilss.data.manifest import Manifest, load_manifest
from wilss.data.taxonomy import VOID, voc_palette
from wilss.errors import ImageError, ManifestError

PALETTE = np.array(voc_palette(), np.uint8).reshape(-1, 3)
#: The names of the manifest are cat 1, dog 2, horse 3; here dog is row 3.
CVAT = (
    "# label:color_rgb:parts:actions",
    "background:0,0,0::",
    "horse:250,50,83::",
    "cat:10,20,30::",
    "dog:0,0,200::",
    "void:224,224,192::",
)


def folder(root: Path, pixels: Any, palette: Any = None, labelmap: tuple[str, ...] = CVAT, **changes: Any) -> Manifest:
    """One image `a` whose label holds `pixels`, one row of values [W] or of colours [W, 3], as often as it is high."""
    disk.image(root / "data/images/a.png")
    row = np.zeros((disk.SIZE[1], *np.shape(pixels)[1:]), np.uint8)
    row[: len(pixels)] = pixels
    picture = Image.fromarray(np.broadcast_to(row, (disk.SIZE[0], *row.shape)).copy())
    if palette is not None:
        padded = np.ones((256, 3), np.uint8)  # of 256 colours, since Pillow would save fewer as values of fewer bits
        padded[: len(palette)] = palette
        picture.putpalette(padded.ravel().tolist())
    (root / "data/labels").mkdir()
    picture.save(root / "data/labels/a.png")
    disk.text(root / "data/tags.csv", "a,cat")
    if labelmap:
        disk.text(root / "data/labelmap.txt", *labelmap)
    return load_manifest(disk.manifest(root, layout="folder", splits={"train": "all"}, **changes))


def first_row(manifest: Manifest, count: int) -> list[int]:
    (record,) = manifest.listing("main", "train").records
    assert record.label is not None
    return [int(value) for value in record.label.read()[0, :count]]


COLOURS = [[10, 20, 30], [224, 224, 192], [0, 0, 200], [250, 50, 83], [0, 0, 0]]


def test_colours_are_read_by_labelmap(tmp_path: Path) -> None:
    assert first_row(folder(tmp_path, COLOURS), 5) == [1, VOID, 2, 3, 0]


def test_the_manifest_says_colours_without_a_labelmap(tmp_path: Path) -> None:
    colors = {"background": ["#000000", "250, 50, 83"], "cat": [10, 20, 30], "void": "#e0e0c0", "dog": "0,0,200"}
    assert first_row(folder(tmp_path, COLOURS, labelmap=(), colors=colors), 5) == [1, VOID, 2, 0, 0]


def test_the_manifest_goes_over_a_labelmap(tmp_path: Path) -> None:
    assert first_row(folder(tmp_path, COLOURS, colors={"horse": [0, 0, 200]}), 5) == [1, VOID, 3, 3, 0]


@pytest.mark.parametrize("palette", [None, PALETTE, PALETTE[[0, 30, 20, 10, 40]]])
def test_values_are_rows_of_labelmap_unless_the_palette_is_its(tmp_path: Path, palette: Any) -> None:
    """Grey, and a palette of other colours than the map's: 3 is dog by its row, not horse as in `names`."""
    assert first_row(folder(tmp_path, [3, 2, 1, 4, 0], palette), 5) == [2, 1, 3, VOID, 0]


def test_a_palette_of_labelmaps_colours_decides(tmp_path: Path) -> None:
    """As a reader sees it that turns palettes into colours, which is what labelmap.txt is made for."""
    palette = [[0, 0, 0], [10, 20, 30], [0, 0, 200], [250, 50, 83]]
    assert first_row(folder(tmp_path, [1, 2, 3, 255, 0], palette), 5) == [1, 2, 3, VOID, 0]


def test_single_values_that_the_manifest_says_go_over_the_palette(tmp_path: Path) -> None:
    palette = [[0, 0, 0], [10, 20, 30], [0, 0, 200], [250, 50, 83]]
    assert first_row(folder(tmp_path, [1, 2, 3], palette, values={2: "horse"}), 4) == [1, 3, 3, 0]


def test_a_labelmap_without_colours_has_vocs(tmp_path: Path) -> None:
    rows = ("background:::", "dog:::", "cat:::")
    assert first_row(folder(tmp_path, PALETTE[[2, 1, 0]], labelmap=rows), 3) == [1, 2, 0]


@pytest.mark.parametrize(
    ("pixels", "palette", "told"),
    [
        ([[1, 2, 3], [4, 5, 6]], None, r"a\.png holds the colour \[1, 2, 3\] \(and 1 colours more\), which no map"),
        ([[0, 64, 0]], None, r"colour \[0, 64, 0\], which is 'gnu', no class of the manifest"),
        ([1, 2], [[0, 0, 0], [10, 20, 30], [9, 9, 9]], r"such as that of value 2, are not.*`values: \{2: NAME\}`"),
        ([5], None, "holds the label 5"),
        ([[1, 2, 3, 128]], None, "transparent pixels"),
    ],
)
def test_what_no_map_has_is_refused_by_its_colour(tmp_path: Path, pixels: Any, palette: Any, told: str) -> None:
    with pytest.raises(ImageError, match=told):
        first_row(folder(tmp_path, pixels, palette, (*CVAT, "gnu:0,64,0::")), 1)


def test_colours_without_a_map_are_refused_with_a_way_on(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"holds colours \(RGB\), not class ids; say which .*`colors: \{background"):
        first_row(folder(tmp_path, COLOURS, labelmap=()), 1)


def test_grey_values_in_an_rgb_file_are_values(tmp_path: Path) -> None:
    assert first_row(folder(tmp_path, [[2, 2, 2], [1, 1, 1], [255] * 3], labelmap=()), 4) == [2, 1, VOID, 0]


@pytest.mark.parametrize(
    ("line", "told"),
    [("cat", "has the line 'cat', which is not"), ("cat:1,2::", "is not a colour"), ("cat:1,2,300::", "1,2,300")],
)
def test_a_labelmap_of_another_kind_is_refused(tmp_path: Path, line: str, told: str) -> None:
    with pytest.raises(ManifestError, match=told):
        read_labelmap(disk.text(tmp_path / "labelmap.txt", "background:0,0,0::", line))


@pytest.mark.parametrize(
    ("colors", "told"),
    [
        ({"cat": [1, 2]}, r"is \[1, 2\]; a colour is"),
        ({"cat": "red"}, "a colour is"),
        ({"gnu": [1, 2, 3]}, r"colors\.gnu: 'gnu' is not a class"),
        ({"cat": [1, 2, 3], "dog": [1, 2, 3]}, r"\[1, 2, 3\], which is 'cat' as well"),
    ],
)
def test_colours_that_cannot_be_meant_are_refused(tmp_path: Path, colors: Any, told: str) -> None:
    with pytest.raises(ManifestError, match=told):
        first_row(folder(tmp_path, COLOURS, labelmap=(), colors=colors), 1)


def test_names_that_a_labelmap_contradicts_are_refused(tmp_path: Path) -> None:
    folder(tmp_path, [1])
    data = {"s": {"path": "data", "layout": "folder", "names": ["background", "cat"], "splits": {"train": "all"}}}
    file = disk.manifest(tmp_path, path=None, splits=None, data=data)
    with pytest.raises(ManifestError, match=r"data\.s\.names\.1: is 'cat', but row 1 of .*labelmap.txt .* is 'horse'"):
        load_manifest(file).listing("s", "train")


def test_reduce_zero_label_is_mmsegmentations(tmp_path: Path) -> None:
    """0 is void, every other value the class of the value below: ADE's 1 is `wall`, the first of its names."""
    disk.image(tmp_path / "data/images/a.png")
    disk.label(tmp_path / "data/labels/a.png", (1, 2, VOID, 3))
    disk.text(tmp_path / "data/tags.csv", "a,cat")
    own = {"path": "data", "layout": "folder", "names": ["dog", "horse", "cat"], "splits": {"train": "all"}}
    data = {"s": {**own, "reduce_zero_label": True}}
    (record,) = load_manifest(disk.manifest(tmp_path, path=None, splits=None, data=data)).listing("s", "train").records
    assert record.label is not None
    assert record.label.read()[0, :5].tolist() == [2, 3, VOID, 1, VOID]


def test_what_colours_mean_is_part_of_the_digest(tmp_path: Path) -> None:
    first = folder(tmp_path, COLOURS).digest
    disk.text(tmp_path / "data/labelmap.txt", *CVAT[:-1])
    second = load_manifest(tmp_path).digest
    (tmp_path / "data/labelmap.txt").unlink()
    assert len({first, second, load_manifest(tmp_path).digest}) == 3


def test_a_step_says_by_what_its_labels_are_read(tmp_path: Path) -> None:
    """Kept in a store, so that another labelmap.txt is refused with the difference."""
    manifest = folder(tmp_path, COLOURS, colors={"horse": [0, 0, 200]}, void=[9, 9])
    assert manifest.described(0) == {
        "layout": "folder",
        "labels": None,
        "void": [9],
        "colors": {"horse": [(0, 0, 200)]},
        "labelmap": [row.removesuffix("::") for row in CVAT[1:]],
    }
