"""Supports from the manifest, a file and a folder: what they say, and one sentence for everything that is wrong."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.wilss.data import data_on_disk as disk
from wilss.data.manifest import Manifest, load_manifest
from wilss.data.supports.maps import BACKGROUND, FOREGROUND, UNKNOWN
from wilss.data.supports.reading import SupportSet, problems_of, read_supports
from wilss.data.taxonomy import VOID
from wilss.errors import ManifestError, WilssError

IMAGES = {"a": (1,), "b": (2, 3), "c": (3,), "2007_000033": (1, 3), "e": ()}
HEIGHT, WIDTH = disk.SIZE
BOX = {"image": "c", "class": "horse", "box": [2, 3, 9, 10]}


def pets(folder: Path, **changes: Any) -> Manifest:
    disk.voc(folder / "data", IMAGES)
    return load_manifest(disk.manifest(folder, **changes))


def listed(folder: Path, *rows: Any) -> Path:
    path = folder / "sup" / "supports.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(list(rows)))
    return path


def read(folder: Path, *rows: Any) -> SupportSet:
    return read_supports(pets(folder), 1, listed(folder, *rows))


def png(folder: Path, values: Any, name: str = "map.png") -> str:
    (folder / "sup").mkdir(exist_ok=True)
    Image.fromarray(np.asarray(values, np.uint8)).save(folder / "sup" / name)
    return name


def half() -> Any:
    found = np.full(disk.SIZE, UNKNOWN)
    found[:, :5], found[:, 12:] = FOREGROUND, BACKGROUND
    return found


def test_numbers_become_maps(tmp_path: Path) -> None:
    line = {"image": "b", "class": 3, "points": [[1, 1], [6, 1]], "background": [[0, 11], [15, 11]]}
    scribble, box = read(tmp_path, BOX, line).supports
    assert (scribble.spec.kind, box.spec.kind) == ("scribble", "box")
    assert (box.map[3:10, 2:9] == FOREGROUND).all()
    assert (box.map == FOREGROUND).sum() == 49
    assert scribble.map[1, 1:7].tolist() == [FOREGROUND] * 6
    assert (scribble.map[11] == BACKGROUND).all()
    assert (scribble.map == UNKNOWN).sum() == HEIGHT * WIDTH - 6 - 16


def test_a_mask_is_a_file_or_the_label_of_the_data_set(tmp_path: Path) -> None:
    drawn = {"image": "b", "class": "horse", "kind": "mask", "file": png(tmp_path, half())}
    disk.label(tmp_path / "label.png", [3])
    found = read(tmp_path, drawn, {"image": "c", "class": "horse", "kind": "mask"})
    by_file, by_label = found.supports
    assert (by_file.map == half()).all()
    assert (by_label.map == FOREGROUND)[:, 0].all()
    assert (by_label.map == FOREGROUND).sum() == HEIGHT


def test_void_of_the_label_is_unknown(tmp_path: Path) -> None:
    manifest = pets(tmp_path)
    disk.label(tmp_path / "data/SegmentationClass/c.png", [3, VOID, 1])
    (found,) = read_supports(manifest, 1, listed(tmp_path, {"image": "c", "class": "horse"})).supports
    assert found.map[0, :4].tolist() == [FOREGROUND, UNKNOWN, BACKGROUND, BACKGROUND]


def test_the_manifest_names_a_path_or_holds_the_rows(tmp_path: Path) -> None:
    listed(tmp_path, BOX)
    by_path = read_supports(pets(tmp_path, supports={1: "sup"}), 1)
    inline = read_supports(pets(tmp_path, supports={1: [BOX]}), 1)
    assert by_path.digest == inline.digest
    assert pets(tmp_path).digest == pets(tmp_path, supports={1: [BOX]}).digest, "masks may be made of other supports"


def test_neither_order_nor_form_changes_the_digest_but_a_pixel_does(tmp_path: Path) -> None:
    other = {"image": "b", "class": 3, "box": [0, 0, 5, 12]}
    whole = np.full(disk.SIZE, BACKGROUND)
    whole[3:10, 2:9] = FOREGROUND
    digest = read(tmp_path, BOX, other).digest
    assert read(tmp_path, other, {**BOX, "class": 3}).digest == digest
    by_file = {"image": "c", "class": "horse", "kind": "mask", "file": png(tmp_path, whole)}
    assert read(tmp_path, by_file, other).digest != digest, "an image keeps a mask that was drawn whole"
    assert read(tmp_path, {**BOX, "box": [2, 3, 9, 11]}, other).digest != digest


def test_shots_are_drawn_by_name(tmp_path: Path) -> None:
    rows = [{"image": name, "class": "horse", "box": [0, 0, 4, 4]} for name in ("b", "c", "2007_000033")]
    found = read(tmp_path, *rows)
    drawn = {tuple(one.spec.image_id for one in found.shots(1, seed).supports) for seed in range(20)}
    assert len(drawn) == 3
    assert found.shots(2, 7).digest == read(tmp_path, *rows[::-1]).shots(2, 7).digest
    assert set(found.shots(1, 7).supports) < set(found.shots(2, 7).supports)
    assert found.shots(0).supports == found.supports


def bad(**changes: Any) -> dict[str, Any]:
    return {key: value for key, value in {**BOX, **changes}.items() if value is not None}


FAULTS: list[tuple[Any, str]] = [
    (bad(image="d"), r"supports\.yaml, line \d, 0\.image: 'd' is no image of step 1's list"),
    (bad(image=2007000033), r"YAML reads this as 2007000033; put it in quotes"),
    (bad(**{"class": "hors"}), r"0\.class: 'hors' is no class in `names`; did you mean 'horse'\."),
    (bad(**{"class": "cat"}), r"'cat' is no class of step 1; its classes are horse\."),
    (bad(**{"class": 9}), r"class 9 is not among the classes 1 to 3"),
    (bad(**{"class": None}), r"this key is missing; add it"),
    (bad(kind="circle"), r"it must be 'mask', 'box' or 'scribble'"),
    (bad(kind="mask"), r"a mask is given by file, not by box\."),
    (bad(box=None, kind="box"), r"a box needs box or boxes; add it\."),
    (bad(file="map.png"), r"a box is given by box or boxes, not by file and box\."),
    (bad(boxx=[1, 2, 3, 4]), r"'boxx' is not a key here; did you mean 'box'\."),
    (bad(box=[1, 2, 3]), r"0\.box: is \[1, 2, 3\]; list should have at least 4 items"),
    (bad(box=[1, 2, 1, 4]), r"the box \[1, 2, 1, 4\], which holds no pixel; write left, top, right, bottom"),
    (bad(box=[1, 2, "x", 4]), r"0\.box\.2: is 'x'; input should be a valid integer"),
    (bad(box=None, kind="scribble"), r"a scribble needs file or points; add it\."),
    (bad(background=[[1, 1]]), r"`background`|background: goes with `points`"),
    ("c horse", r"0: is 'c horse'; it must be a mapping of keys"),
]


@pytest.mark.parametrize(("row", "words"), FAULTS, ids=range(len(FAULTS)))
def test_a_wrong_row_is_refused_in_a_sentence(tmp_path: Path, row: Any, words: str) -> None:
    with pytest.raises(ManifestError, match=words) as error:
        read(tmp_path, row)
    assert "\n" not in str(error.value)


def files(folder: Path) -> dict[str, tuple[dict[str, Any], str]]:
    mask = {"image": "c", "class": "horse", "kind": "mask"}
    (folder / "sup").mkdir(exist_ok=True)
    (folder / "sup" / "notes.png").write_text("no picture")
    (folder / "sup" / "folder").mkdir(exist_ok=True)
    return {
        "missing": ({**mask, "file": "none.png"}, r"none\.png is not there; copy it there"),
        "folder": ({**mask, "file": "folder"}, r"folder is a folder, not an image"),
        "size": (
            {**mask, "file": png(folder, np.ones((5, 5)), "small.png")},
            r"small\.png is 5 x 5 pixels, its image 16",
        ),
        "values": (
            {**mask, "file": png(folder, np.full(disk.SIZE, 7), "7.png")},
            r"7\.png holds the value 7; a map is 1",
        ),
        "empty": (
            {**mask, "file": png(folder, np.zeros(disk.SIZE), "0.png")},
            r"no pixel of the class on it in .*0\.png",
        ),
        "white": ({**mask, "file": png(folder, np.full(disk.SIZE, 255), "w.png")}, r"255 where nobody knows"),
        "text": ({**mask, "file": "notes.png"}, r"notes\.png is not a JPEG, PNG, TIFF, WebP or BMP image"),
        "label": ({**mask, "image": "a"}, r"has no pixel of the class on it; a map is 1"),
        "box": (
            {**BOX, "box": [2, 3, 17, 10]},
            r"reaches the pixel \(16, 9\), but the image is 16 pixels wide and 12 high",
        ),
        "point": ({**BOX, "box": None, "points": [[0, 12]]}, r"reaches the pixel \(0, 12\)"),
        "minus": ({**BOX, "box": [-1, 0, 4, 4]}, r"reaches the pixel \(-1, 0\)"),
    }


@pytest.mark.parametrize(
    "fault", ["missing", "folder", "size", "values", "empty", "white", "text", "label", "box", "point", "minus"]
)
def test_a_map_that_cannot_be_used_is_a_sentence(tmp_path: Path, fault: str) -> None:
    row, words = files(tmp_path)[fault]
    row = {key: value for key, value in row.items() if value is not None}
    with pytest.raises(WilssError, match=words) as error:
        _ = read(tmp_path, row).digest
    assert "\n" not in str(error.value)


def test_an_image_that_cannot_be_opened_is_a_sentence(tmp_path: Path) -> None:
    manifest = pets(tmp_path)
    (tmp_path / "data/JPEGImages/c.jpg").unlink()
    with pytest.raises(ManifestError, match=r"line 1, 0: .*JPEGImages/c is named in .*, but is not there"):
        read_supports(manifest, 1, listed(tmp_path, BOX))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", r"is empty; `wilss-masks supports draw` writes one"),
        ("[]", r"is no list of supports; write e\.g\."),
        ("image: c", r"is no list of supports"),
        ("- {image: c", r"is not plain YAML"),
        ("- !!python/object:os.system {}", r"is not plain YAML"),
        ("- {image: c, image: d}", r"stands there twice"),
        ("\xff\xfe\x00", r"is not plain YAML"),
    ],
)
def test_nonsense_is_refused_in_a_sentence(tmp_path: Path, content: str, words: str) -> None:
    (path := tmp_path / "supports.yaml").write_bytes(content.encode("latin1"))
    with pytest.raises(ManifestError, match=words) as error:
        read_supports(pets(tmp_path), 1, path)
    assert "\n" not in str(error.value)


def test_a_list_that_is_not_there(tmp_path: Path) -> None:
    manifest = pets(tmp_path)
    (tmp_path / "sup").mkdir()
    with pytest.raises(ManifestError, match=r"sup is a folder without supports\.yaml; correct the path"):
        read_supports(manifest, 1, tmp_path / "sup")
    with pytest.raises(ManifestError, match=r"none is not there; correct the path"):
        read_supports(manifest, 1, tmp_path / "none")
    with pytest.raises(ManifestError, match=r"names no supports of step 1; add `supports: \{1: FOLDER\}`"):
        read_supports(manifest, 1)


def test_classes_need_supports_and_enough_of_them(tmp_path: Path) -> None:
    found = read_supports(pets(tmp_path), 0, listed(tmp_path, {"image": "a", "class": "cat", "box": [0, 0, 4, 4]}))
    with pytest.raises(ManifestError, match=r"has no support of the class 'dog'; annotate an image of it"):
        found.shots(0)
    with pytest.raises(ManifestError, match=r"has 1 support\(s\) of the class 'cat', fewer than the 5 shots"):
        found.shots(5)


def test_twice_the_same_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"line \d, 1: is the same image and class as .*line 1, 0; keep one"):
        read(tmp_path, BOX, {**BOX, "box": [0, 0, 3, 3]})


def test_all_problems_at_once(tmp_path: Path) -> None:
    rows = [BOX, bad(image="d"), {"image": "b", "class": "horse", "box": [0, 0, 99, 4]}]
    found = read_supports(pets(tmp_path), 1, listed(tmp_path, *rows), every=False)
    problems = list(problems_of(found))
    assert [("'d'" in one, "(98, 3)" in one) for one in problems] == [(True, False), (False, True)]
    assert [one.spec.image_id for one in found.usable().supports] == ["c"]


@pytest.mark.parametrize(
    ("supports", "words"),
    [
        ({2: "sup"}, r"line \d+, supports\.2: 2 is no step of .*; its steps are 0 to 1"),
        ("sup", r"supports: must name supports by step; write e\.g\. `supports: \{1: supports\.yaml\}`"),
        ({1: 7}, r"supports\.1: is no list of supports"),
        ({1: [{**BOX, "box": "x"}]}, r"supports\.1\.0\.box: is 'x'"),
    ],
)
def test_the_manifest_refuses_what_is_no_list(tmp_path: Path, supports: Any, words: str) -> None:
    with pytest.raises(ManifestError, match=words):
        pets(tmp_path, supports=supports)


def test_images_are_all_of_the_split_whatever_their_tags(tmp_path: Path) -> None:
    manifest = pets(tmp_path)
    assert [record.image_id for record in manifest.images(1).records] == list(IMAGES)
    assert not manifest.images(1).warnings
    (tmp_path / "data/ImageSets/Main/cat_train.txt").unlink()
    assert len(pets_again(tmp_path).images(1).records) == len(IMAGES), "nobody asks for tags"


def pets_again(folder: Path) -> Manifest:
    return load_manifest(folder / "data_manifest.yaml")


def test_a_step_may_come_with_shots(tmp_path: Path) -> None:
    manifest = pets(tmp_path, steps=[{"classes": [1, 2]}, {"classes": [3], "supervision": "shots"}])
    assert [manifest.supervision(step) for step in (0, 1)] == ["pixel", "shots"]


def test_a_drawn_mask_and_a_scribble_of_the_same_pixels_are_told_apart(tmp_path: Path) -> None:
    """An image keeps its own mask where somebody drew all of it."""
    (tmp_path / "sup").mkdir()
    rows = [
        {"image": "c", "class": "horse", "kind": kind, "file": png(tmp_path, half())} for kind in ("mask", "scribble")
    ]
    found = [read(tmp_path, row) for row in rows]
    np.testing.assert_array_equal(found[0].supports[0].map, found[1].supports[0].map)
    assert found[0].digest != found[1].digest
