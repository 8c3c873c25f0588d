"""Names belong to values: what `manifest init` reads beside label files, and what it and `check` doubt."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from tests.wilss.data import data_on_disk as disk
from wilss.data.layouts.colours import voc_colour
from wilss.data.manifest import Manifest, load_manifest
from wilss.data.taxonomy import VOC, VOID, voc_palette
from wilss.errors import ManifestError
from wilss_masks.commands.manifest import command
from wilss_masks.manifest_tools.check import check_manifest
from wilss_masks.manifest_tools.init import doubts_of, init_manifest


def data(root: Path, values: tuple[int, ...] = (1, 2, 3), palette: Any = None) -> Path:
    """A VOC folder without tags, whose one label holds `values`."""
    disk.voc(root, {"a": values}, classes=())
    if palette is not None:
        with Image.open(root / "SegmentationClass/a.png") as image:
            picture = Image.fromarray(np.array(image))
        picture.putpalette(np.resize(np.asarray(palette, np.uint8), (256, 3)).ravel().tolist())
        picture.save(root / "SegmentationClass/a.png")
    return root


def init(root: Path, **options: Any) -> tuple[Manifest, list[str]]:
    text = init_manifest("voc", root, root / "m.yaml", device="cpu", **options)
    return load_manifest(disk.text(root / "m.yaml", text)), doubts_of(text)


def meant(manifest: Manifest, count: int = 3) -> list[str]:
    """What the first columns of the label are."""
    (record,) = manifest.images(0).records
    assert record.label is not None
    ids = record.label.read()[0, :count].tolist()
    return ["void" if identity == VOID else manifest.taxonomy.name_of(identity) for identity in ids]


@pytest.mark.parametrize(
    ("file", "lines", "values", "expected"),
    [
        ("class_names.txt", ("_background_", "cat", "dog"), (1, 2, 0), ["cat", "dog", "background"]),
        ("labels.txt", ("__ignore__", "_background_", "cat", "dog"), (1, 2, 255), ["cat", "dog", "void"]),
        ("classes.txt", ("Void", "cat", "dog"), (0, 1, 2), ["void", "cat", "dog"]),
        ("classes.txt", ("void", "background", "cat", "dog"), (1, 2, 3), ["background", "cat", "dog"]),
        ("classes.txt", ("0 background", "3 cat", "7 dog"), (3, 7, 0), ["cat", "dog", "background"]),
        ("classes.txt", ("1 cat", "2 dog"), (1, 2, 0), ["cat", "dog", "background"]),
        ("classes.txt", ("_background_", "2 wheeler", "4 stroke"), (1, 2, 0), ["2 wheeler", "4 stroke", "background"]),
        ("classes.txt", ("background", "cat", "unlabeled", "dog"), (1, 2, 3), ["cat", "void", "dog"]),
        ("classes.txt", ("0: background", "3: cat", "7: dog", "9: ignore"), (3, 7, 9), ["cat", "dog", "void"]),
        ("labelmap.txt", ("background:0,0,0::", "dog:::", "void:::", "cat:::"), (1, 2, 3), ["dog", "void", "cat"]),
    ],
)
def test_names_beside_label_files_belong_to_their_values(
    tmp_path: Path, file: str, lines: tuple[str, ...], values: tuple[int, ...], expected: list[str]
) -> None:
    root = data(tmp_path, values)
    disk.text(root / file, *(line.replace(":::", f":{i},9,9::") for i, line in enumerate(lines)))
    manifest, doubts = init(root)
    assert (meant(manifest), doubts) == (expected, [])


def test_names_that_may_be_shifted_are_doubtful(tmp_path: Path) -> None:
    disk.text(tmp_path / "classes.txt", "cat", "dog", "horse")
    _, (doubt,) = init(data(tmp_path, (1, 2)))
    assert "names no background, so its first name is taken to be that of value 1" in doubt


def test_as_many_values_above_0_as_names_may_be_background_first_or_void_last(tmp_path: Path) -> None:
    names = ("cat", "dog", "horse")
    disk.text(tmp_path / "classes.txt", *names)
    manifest, (doubt,) = init(data(tmp_path))
    assert meant(manifest) == list(names)
    assert "if 0 is 'cat' and 3 is void, as CamVid has it, write `void: [3]`" in doubt
    tagged = tmp_path / "tagged"
    for value, name in enumerate(names, start=1):
        disk.image(tagged / f"{name}.jpg")
        disk.label(tagged / f"labels/{name}.png", (value,))
    disk.text(tagged / "tags.csv", *(f"{name},{name}" for name in names))
    disk.text(tagged / "classes.txt", *names)
    assert doubts_of(init_manifest("folder", tagged, tmp_path / "t.yaml", device="cpu")) == []


def test_a_value_without_a_name_is_doubtful(tmp_path: Path) -> None:
    disk.text(tmp_path / "classes.txt", "background", "cat")
    _, (doubt,) = init(data(tmp_path, (1, 4)))
    assert "hold the value 4, for which" in doubt


@pytest.mark.parametrize(
    ("file", "row", "taken"),
    [
        ("classes.txt", "other", "background"),
        ("classes.txt", "unknown", "void"),
        ("labelmap.txt", "rest", "background"),
    ],
)
def test_a_word_among_the_classes_that_may_be_one_is_doubtful(tmp_path: Path, file: str, row: str, taken: str) -> None:
    lines = ("background", "cat", row, "dog")
    ends = [f":{i},9,9::" if file == "labelmap.txt" else "" for i in range(4)]
    disk.text(tmp_path / file, *(line + end for line, end in zip(lines, ends, strict=True)))
    manifest, (doubt,) = init(data(tmp_path))
    assert meant(manifest) == ["cat", taken, "dog"]
    assert f"value 2 of the label files, {row!r} in {tmp_path / file}, is taken for {taken}; if it is a class" in doubt


def test_a_void_before_background_that_may_be_labelmes_is_doubtful(tmp_path: Path) -> None:
    disk.text(tmp_path / "classes.txt", "void", "background", "cat", "dog")
    manifest, (doubt,) = init(data(tmp_path, (1, 2)))
    assert meant(manifest, 2) == ["cat", "dog"]
    assert "is taken to be value 255 and 'background' value 0, as labelme has them; if 'void' is 0, write" in doubt


def test_a_number_twice_is_refused(tmp_path: Path) -> None:
    disk.text(tmp_path / "classes.txt", "0 background", "1 cat", "2 dog", "2 cow")
    with pytest.raises(ManifestError, match=r"classes\.txt names the value 2 twice; write one line for each value\."):
        init(data(tmp_path, (1, 2)))


def test_names_that_begin_with_numbers_are_names(tmp_path: Path) -> None:
    disk.text(tmp_path / "classes.txt", "2 wheeler", "4 stroke")
    manifest, doubts = init(data(tmp_path, (1, 2)))
    assert meant(manifest, 2) == ["2 wheeler", "4 stroke"]
    assert "do not run from 0 or 1, and are taken for parts of the names, as in '2 wheeler'; if" in doubts[0]


def test_values_without_names_are_vocs_where_the_protocol_says_so(tmp_path: Path) -> None:
    root = data(tmp_path, (1, 20), palette=voc_palette())
    manifest, doubts = init(root, protocol="15-5")
    assert (manifest.taxonomy, doubts) == (VOC, [])
    plain, (doubt,) = init(root)
    assert plain.taxonomy.name_of(20) == "class 20"
    assert "`names: voc` for VOC's" in doubt


def test_a_palette_of_vocs_colours_in_another_order_is_doubtful(tmp_path: Path) -> None:
    """Value 1 is painted as VOC's dog, value 2 as its cat; in VOC's order a palette says nothing."""
    palette = [(0, 0, 0), voc_colour(12), voc_colour(8)]
    disk.text(tmp_path / "classes.txt", "background", "cat", "dog")
    manifest, doubts = init(data(tmp_path, (1, 2), palette))
    assert "value 1 is named 'cat'" in doubts[0]
    assert "VOC's colour of 'dog'; if it is that, write `values: {1: dog}`" in doubts[0]
    assert [warning for warning in check_manifest(manifest).warnings if "VOC's colour" in warning]
    _, doubts = init(data(tmp_path / "in order", (1, 2), voc_palette()))
    assert not any("VOC's colour" in doubt for doubt in doubts)


@pytest.mark.parametrize(("value", "read_as"), [(1, "'cat'"), (255, "void")])
def test_binary_masks_of_several_classes_are_doubtful(tmp_path: Path, value: int, read_as: str) -> None:
    disk.text(tmp_path / "classes.txt", "background", "cat", "dog")
    manifest, doubts = init(data(tmp_path, (value,)))
    told = f"hold 0 and {value} alone, and {value} is read as {read_as}. If they are masks of one class, write"
    assert told in doubts[-1]
    assert any(told in warning for warning in check_manifest(manifest).warnings)
    assert not any(told in warning for warning in check_manifest(manifest, labels=False).warnings)


@pytest.mark.parametrize("value", [1, 255])
def test_binary_masks_whose_value_is_written_down_are_not(tmp_path: Path, value: int) -> None:
    disk.voc(tmp_path / "data", {"a": (value,), "b": (value,)})

    def warned(values: dict[int, str]) -> list[str]:
        tags = {"from": "masks"}
        manifest = load_manifest(disk.manifest(tmp_path, values=values, tags=tags, splits={"train": "train"}))
        return [warning for warning in check_manifest(manifest).warnings if "alone, and" in warning]

    assert warned({value: disk.CLASSES[1]}) == []
    assert warned({7: disk.CLASSES[1]})


def test_masks_of_0_and_1_of_one_class_are_not(tmp_path: Path) -> None:
    disk.text(tmp_path / "classes.txt", "background", "cat")
    assert init(data(tmp_path, (1,)))[1] == []


def test_rgb_masks_without_a_map_are_named_by_who_comes_with_whom(tmp_path: Path) -> None:
    """Tags name which image holds what; a colour comes and goes with one of them."""
    red, blue = (200, 0, 0), (0, 0, 200)
    disk.voc(tmp_path, {"a": (1,), "b": (2,), "c": (1, 2)}, classes=("background", "cat", "ant"))
    for name, colours in {"a": [red], "b": [blue], "c": [red, blue]}.items():
        pixels = np.zeros((*disk.SIZE, 3), np.uint8)
        pixels[:, : len(colours)] = colours
        Image.fromarray(pixels).save(tmp_path / f"SegmentationClass/{name}.png")
    manifest, doubts = init(tmp_path)
    assert doubts == []
    assert {tuple(c[0]): name for name, c in (manifest.data["main"].colors or {}).items()} == {
        (0, 0, 0): "background",
        red: "cat",
        blue: "ant",
    }


def test_colours_that_labelmap_does_not_have_are_doubtful(tmp_path: Path) -> None:
    disk.text(tmp_path / "labelmap.txt", "background:0,0,0::", "cat:1,2,3::")
    pixels = np.zeros((*disk.SIZE, 3), np.uint8)
    pixels[:, :2] = [[1, 2, 3], [224, 224, 192]]
    Image.fromarray(pixels).save(data(tmp_path) / "SegmentationClass/a.png")
    manifest, (doubt,) = init(tmp_path)
    assert "hold the colour [224, 224, 192], VOC's for void, which" in doubt
    assert meant(manifest, 3) == ["cat", "void", "background"]
    pixels[:, 2] = (7, 7, 8)
    Image.fromarray(pixels).save(tmp_path / "SegmentationClass/a.png")
    assert "hold the colour [7, 7, 8], which" in init(tmp_path)[1][1]


def test_rgb_masks_without_tags_are_a_guess(tmp_path: Path) -> None:
    pixels = np.zeros((*disk.SIZE, 3), np.uint8)
    pixels[:, :2] = [[1, 2, 3], [4, 5, 6]]
    Image.fromarray(pixels).save(data(tmp_path) / "SegmentationClass/a.png")
    manifest, (doubt,) = init(tmp_path)
    assert "which colour is which class is a guess: correct `colors`" in doubt
    assert meant(manifest, 3) == ["class 1", "class 2", "background"]


def test_a_palette_that_says_other_than_its_rows_is_told(tmp_path: Path) -> None:
    disk.text(tmp_path / "labelmap.txt", "background:0,0,0::", "dog:9,9,9::", "cat:5,5,5::")
    manifest, _ = init(data(tmp_path, (1, 2), palette=[(0, 0, 0), (5, 5, 5), (9, 9, 9)]))
    assert meant(manifest, 2) == ["cat", "dog"]
    for kind in ("JPEGImages/{}.jpg", "SegmentationClass/{}.png"):  # a second image that says the same is no news
        shutil.copy(tmp_path / kind.format("a"), tmp_path / kind.format("b"))
    disk.text(tmp_path / "ImageSets/Segmentation/train.txt", "a", "b")
    first, second = [w for w in check_manifest(load_manifest(tmp_path / "m.yaml")).warnings if "by its colour" in w]
    assert "value 1 is read as 'cat' by its colour" in first
    assert "though row 1 of labelmap.txt is 'dog'; if rows count, write `values: {1: dog}`" in first
    assert "value 2 is read as 'dog' by its colour" in second


def test_reduce_zero_label_over_names_with_background_is_told(tmp_path: Path) -> None:
    disk.text(tmp_path / "classes.txt", "background", "cat", "dog", "horse")
    init(data(tmp_path))
    text = (tmp_path / "m.yaml").read_text().replace("layout: voc", "layout: voc\nreduce_zero_label: true")
    warnings = check_manifest(load_manifest(disk.text(tmp_path / "m.yaml", text))).warnings
    assert "value 1 of the label files is background and value 2 is 'cat'" in warnings[0]


def test_the_init_command_says_what_is_doubtful(tmp_path: Path) -> None:
    root = data(tmp_path / "data", (1, 2))
    result = CliRunner().invoke(command, ["init", str(root), "--out", str(tmp_path / "m.yaml")], obj={})
    assert "Doubtful: nothing here says what the values of the label files are called" in result.stderr
    assert "# doubtful: nothing here says" in (tmp_path / "m.yaml").read_text()
