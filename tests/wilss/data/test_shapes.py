"""The built-in data: the same bytes always, exact masks, honest tags, and the folder layout of VOC 2012."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wilss.data.shapes import CLASS_NAMES, Drawing, Style, draw, write_voc
from wilss.data.shapes.textures import CLASS_FAMILIES, FAMILIES, FAVOURITE_HUES
from wilss.data.shapes.voc import STAMP, split_seed
from wilss.data.taxonomy import voc_palette
from wilss.errors import ManifestError

VOID = 255
SPLITS = {"train": 6, "val": 4}


@pytest.fixture(scope="module")
def drawings() -> list[Drawing]:
    return [draw(11, index) for index in range(60)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shapes") / "data"
    write_voc(root, splits=SPLITS, seed=5)
    return root


def ids_of(root: Path, split: str) -> list[str]:
    return (root / f"ImageSets/Segmentation/{split}.txt").read_text().split()


def snapshot(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_twenty_classes_and_a_background() -> None:
    assert CLASS_NAMES[0] == "background"
    assert len(CLASS_NAMES) == len(set(CLASS_NAMES)) == 21
    assert all(name.isascii() and name.islower() for name in CLASS_NAMES)


def test_every_family_is_shared_and_no_class_has_one_alone() -> None:
    assert set(CLASS_FAMILIES) == set(FAVOURITE_HUES) == set(CLASS_NAMES[1:])
    assert all(2 <= len(families) <= 3 for families in CLASS_FAMILIES.values())
    for family in FAMILIES:
        assert sum(family in worn for worn in CLASS_FAMILIES.values()) >= 5


def test_same_bytes_in_any_order() -> None:
    forwards = [draw(3, index) for index in range(4)]
    backwards = [draw(3, index) for index in reversed(range(4))][::-1]
    for one, other in zip(forwards, backwards, strict=True):
        assert one.image.tobytes() == other.image.tobytes()
        assert one.label.tobytes() == other.label.tobytes()
        assert one.tags == other.tags


def test_another_seed_or_index_is_another_picture() -> None:
    pictures = {draw(seed, index).image.tobytes() for seed in (0, 1) for index in (0, 1)}
    assert len(pictures) == 4


def test_sizes_vary_within_the_style(drawings: list[Drawing]) -> None:
    shapes = {drawing.image.shape for drawing in drawings}
    assert len(shapes) > 20
    for height, width, channels in shapes:
        assert channels == 3
        assert 136 <= min(height, width) <= max(height, width) <= 200
        assert max(height, width) <= round(min(height, width) * 4 / 3)


def test_tags_are_the_ids_in_the_label(drawings: list[Drawing]) -> None:
    for drawing in drawings:
        assert drawing.image.dtype == drawing.label.dtype == np.uint8
        assert drawing.image.shape[:2] == drawing.label.shape
        present = set(np.unique(drawing.label).tolist()) - {0, VOID}
        assert present == set(drawing.tags)
        assert tuple(sorted(drawing.tags)) == drawing.tags
        for tag in drawing.tags:
            assert np.mean(drawing.label == tag) >= 0.01


def test_no_two_ids_touch_without_void_between(drawings: list[Drawing]) -> None:
    for drawing in drawings:
        label = drawing.label.astype(int)
        for one, other in ((label[1:], label[:-1]), (label[:, 1:], label[:, :-1])):
            assert np.all((one == other) | (one == VOID) | (other == VOID))
        assert 0 < np.mean(label == VOID) < 0.15


def test_objects_cover_a_fair_share(drawings: list[Drawing]) -> None:
    cover = [np.mean((drawing.label > 0) & (drawing.label < VOID)) for drawing in drawings]
    assert 0.18 < np.mean(cover) < 0.4
    counts = {len(drawing.tags) for drawing in drawings}
    assert {1, 2, 3} <= counts <= {0, 1, 2, 3}


def test_every_class_appears() -> None:
    """In the first 120 at the latest."""
    missing, index = set(range(1, 21)), 0
    while missing and index < 120:
        missing -= set(draw(0, index).tags)
        index += 1
    assert not missing


def test_a_style_without_objects_has_no_tags() -> None:
    drawing = draw(0, 0, Style(objects=(0, 0)))
    assert drawing.tags == ()
    assert not drawing.label.any()


def test_palette_is_that_of_voc() -> None:
    palette = np.array(voc_palette()).reshape(256, 3)
    known = {
        0: (0, 0, 0),
        1: (128, 0, 0),
        2: (0, 128, 0),
        15: (192, 128, 128),
        20: (0, 64, 128),
        255: (224, 224, 192),
    }
    for class_id, colour in known.items():
        assert tuple(palette[class_id]) == colour


def test_layout(folder: Path) -> None:
    assert ids_of(folder, "train") == [f"train_{i:06d}" for i in range(6)]
    assert ids_of(folder, "val") == [f"val_{i:06d}" for i in range(4)]
    everything = ids_of(folder, "train") + ids_of(folder, "val")
    assert {p.stem for p in (folder / "JPEGImages").iterdir()} == set(everything)
    assert {p.stem for p in (folder / "SegmentationClass").iterdir()} == set(everything)
    assert len(list((folder / "ImageSets/Main").iterdir())) == 20 * 2
    assert not folder.with_name("data.building").exists()


@pytest.mark.parametrize("split", ["train", "val"])
def test_files_hold_the_drawings(folder: Path, split: str) -> None:
    for index, image_id in enumerate(ids_of(folder, split)):
        drawing = draw(split_seed(5, split), index)
        mask = Image.open(folder / f"SegmentationClass/{image_id}.png")
        assert mask.mode == "P"
        assert mask.getpalette() == voc_palette()
        assert np.array_equal(np.asarray(mask), drawing.label)
        photo = np.asarray(Image.open(folder / f"JPEGImages/{image_id}.jpg"), dtype=int)
        assert np.abs(photo - drawing.image).mean() < 4


def test_class_lists_hold_the_tags(folder: Path) -> None:
    tags = [draw(split_seed(5, "train"), index).tags for index in range(SPLITS["train"])]
    for class_id, name in enumerate(CLASS_NAMES[1:], start=1):
        lines = (folder / f"ImageSets/Main/{name}_train.txt").read_text().splitlines()
        assert len(lines) == len(tags)
        for index, line in enumerate(lines):
            tagged = class_id in tags[index]
            assert line == f"train_{index:06d} {' 1' if tagged else '-1'}"


def test_a_second_call_touches_nothing(folder: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    write_voc(folder, splits=SPLITS, seed=5)
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before


def test_an_interrupted_run_is_healed(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "data"
    saved = Image.Image.save
    written = 0

    def failing(image: Image.Image, target: object, **options: object) -> None:
        nonlocal written
        written += 1
        if written == 5:
            raise OSError("no space left on device")
        saved(image, target, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Image.Image, "save", failing)
    with pytest.raises(OSError, match="no space"):
        write_voc(root, splits=SPLITS, seed=5)
    assert not root.exists()
    monkeypatch.undo()
    write_voc(root, splits=SPLITS, seed=5)
    assert snapshot(root) == snapshot(folder)


def test_a_folder_of_another_seed_is_replaced(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_voc(root, splits={"train": 1}, seed=4)
    (tmp_path / "data.building").mkdir()
    write_voc(root, splits=SPLITS, seed=5)
    assert snapshot(root) == snapshot(folder)
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == ["data"]


@pytest.mark.parametrize("stamp", [None, "broken", '{"seed": 5}', "[]"])
def test_a_folder_of_someone_else_is_left_alone(tmp_path: Path, stamp: str | None) -> None:
    (tmp_path / "JPEGImages").mkdir()
    (tmp_path / "JPEGImages/holiday.jpg").write_bytes(b"years of work")
    if stamp is not None:
        (tmp_path / STAMP).write_text(stamp)
    with pytest.raises(ManifestError, match="was not drawn by wilss"):
        write_voc(tmp_path, splits=SPLITS, seed=5)
    assert (tmp_path / "JPEGImages/holiday.jpg").read_bytes() == b"years of work"
