"""What the values of label files mean: 0 may be a class or void, 255 a class, and others void."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.wilss.data import data_on_disk as disk
from wilss.data.layouts import why_no_pixel
from wilss.data.manifest import Manifest, load_manifest
from wilss.data.taxonomy import BACKGROUND, VOID, meaning_of
from wilss.errors import ManifestError


def folder(root: Path, held: tuple[int, ...], own: Any = None, **changes: Any) -> Manifest:
    """One image `a` with these values in its label, tagged cat. own: a data set's own names and other keys."""
    disk.image(root / "data/images/a.png")
    disk.label(root / "data/labels/a.png", held)
    disk.text(root / "data/tags.csv", "a,cat")
    keys = {"path": "data", "layout": "folder", "splits": {"train": "all"}, **changes}
    if own is None:
        return load_manifest(disk.manifest(root, **keys))
    return load_manifest(
        disk.manifest(root, path=None, splits=None, data={"s": {**keys, "names": own}}, steps=[{"classes": [1, 2, 3]}])
    )


def first_row(manifest: Manifest, count: int) -> list[int]:
    (record,) = next(iter(manifest.listing(name, "train") for name in manifest.data)).records
    assert record.label is not None
    return [int(value) for value in record.label.read()[0, :count]]


def test_value_zero_is_a_class_where_the_names_say_so(tmp_path: Path) -> None:
    """Cityscapes' train ids, ADE's reduced ones: 0 is the first class and 255 void."""
    manifest = folder(tmp_path, (1, 2, VOID), own={0: "cat", 1: "horse", 2: "dog"})
    assert first_row(manifest, 4) == [3, 2, VOID, 1]


@pytest.mark.parametrize(("word", "identity"), [("background", BACKGROUND), ("_background_", 0), ("BG", 0),
                                                ("void", VOID), ("__ignore__", VOID), ("Unlabeled", VOID)])  # fmt: skip
def test_any_spelling_of_background_and_void_is_known(tmp_path: Path, word: str, identity: int) -> None:
    manifest = folder(tmp_path, (1,), own={0: word, 1: "dog", 2: "ignored"})
    assert first_row(manifest, 2) == [2, identity]
    assert meaning_of(word) == identity
    assert meaning_of("cat") is None


def test_a_word_for_value_zero_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"data\.s\.names\.0: 'sky' is not a class of pets; there are .*void"):
        folder(tmp_path, (1,), own={0: "sky", 1: "dog"}).listing("s", "train")


@pytest.mark.parametrize(
    ("changes", "values", "expected"),
    [
        ({"values": {255: "cat"}}, (255, 1), [1, 1, 0]),
        ({"void": [11]}, (11, 1), [VOID, 1, 0]),
        ({"void": [0]}, (1, 2), [1, 2, VOID]),
        ({"values": {1: "dog", 2: "background", 7: "void"}, "void": [3]}, (1, 2, 7, 3), [2, 0, VOID, VOID]),
    ],
)
def test_the_manifest_says_what_single_values_are(
    tmp_path: Path, changes: Any, values: tuple[int, ...], expected: list[int]
) -> None:
    manifest = folder(tmp_path, values, **changes)
    assert first_row(manifest, len(expected)) == expected
    assert manifest.digest != load_manifest(disk.manifest(tmp_path, layout="folder", splits={"train": "all"})).digest


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"values": {1: "gnu"}}, r"values\.1: 'gnu' is not a class of pets"),
        ({"values": {300: "cat"}}, r"values\.300"),
        ({"void": [-1]}, r"void\.0"),
        ({"layout": "coco", "void": [0]}, "is for label files"),
        ({"crowd": "void"}, "crowd: is for COCO's annotations"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, changes: Any, told: str) -> None:
    with pytest.raises(ManifestError, match=told):
        folder(tmp_path, (1,), **changes).listing("main", "train")


def test_tags_are_named_by_the_own_names_of_classes_alone(tmp_path: Path) -> None:
    """An array of tags has a column for every class, also where value 0 is one and another is void."""
    np.save(tmp_path / "tags.npy", np.array([[1, 0, 1]]))
    disk.text(tmp_path / "data/train.txt", "a")
    manifest = folder(tmp_path, (1,), own={0: "cat", 1: "dog", 2: "void", 3: "horse"}, splits={"train": "train"},
                      tags={"from": "npy", "file": "tags.npy"}, images="images")  # fmt: skip
    (record,) = manifest.listing("s", "train").records
    assert record.tags == (1, 3)


def cause(manifest: Manifest, identity: int = 1) -> str:
    return why_no_pixel(manifest.listing("main", "train").records, identity, manifest.taxonomy)


def test_causes_of_a_class_without_pixels(tmp_path: Path) -> None:
    assert "`values: {255: cat}`" in cause(folder(tmp_path / "binary", (255,)))
    other = cause(folder(tmp_path / "shifted", (2,)))
    assert "1 of 1 of their label files hold 'dog' without a tag of it" in other
    assert "`values: {2: cat}`" in other
    assert "compare their tags" in cause(folder(tmp_path / "empty", ()))
    bare = folder(tmp_path / "bare", ())
    (tmp_path / "bare/data/labels/a.png").unlink()
    assert "none of these images has pixel labels" in cause(bare)


@pytest.mark.parametrize(("more", "told"), [({"iscrowd": 1}, "iscrowd 1"), ({"segmentation": []}, "boxes without")])
def test_causes_in_coco(tmp_path: Path, more: dict[str, Any], told: str) -> None:
    annotations = [{**disk.box(0, 0, 3, 3, 10), **more}, disk.box(5, 5, 3, 3, 20)]
    disk.coco(tmp_path / "data", "train2017", {"a.jpg": annotations}, ["cat", "dog"])
    manifest = load_manifest(disk.manifest(tmp_path, layout="coco", splits=None, crowd="void"))
    assert told in cause(manifest)
