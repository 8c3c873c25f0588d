"""From a store back to its images: the manifest that it was made from, or one to which only classes and steps came."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.faults import train_cli
from tests.faults.cli import wilss_masks
from tests.wilss.data import data_on_disk as disk
from wilss.data.manifest import load_manifest
from wilss.errors import StoreError
from wilss.store import MaskStore
from wilss.store.records import records_for
from wilss_masks.review.opening import Asked, open_session

CLASSES = disk.CLASSES[:3]
IMAGES = {"a": (1,), "b": (2,), "c": (1, 2), "d": (2,)}
BEFORE: dict[str, Any] = {"names": list(CLASSES), "steps": [{"classes": [1, 2]}]}
GROWN: dict[str, Any] = {
    "names": [*CLASSES, "horse", "emu"],
    "steps": [{"classes": [1, 2]}, {"classes": [3]}, {"classes": [4]}],
}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store of cats and dogs from pixel labels; horse and emu are no classes yet."""
    disk.voc(tmp_path / "data", IMAGES, classes=GROWN["names"])
    disk.manifest(tmp_path, **BEFORE)
    return train_cli.make_masks(tmp_path, 0)


def opened(store: Path) -> Any:
    return records_for(MaskStore.open(store), load_manifest(store.parents[1] / "data_manifest.yaml"))


def refused(store: Path) -> str:
    with pytest.raises(StoreError) as refusal:
        opened(store)
    assert "was made from other data than" in str(refusal.value)
    return str(refusal.value)


def test_every_command_takes_a_manifest_that_has_only_grown(store: Path, tmp_path: Path) -> None:
    before = wilss_masks("evaluate", store, "--manifest", tmp_path / "data_manifest.yaml")
    path = disk.manifest(tmp_path, **GROWN)
    for words in (
        ("sheet", store, "--out", tmp_path / "sheet.png"),
        ("verify", store),
        ("export", "voc", store, tmp_path / "voc"),
        ("export", "coco", store, tmp_path / "coco.json"),
        ("audit", store, "--out", tmp_path / "audit"),
    ):
        done = wilss_masks(*words, "--manifest", path)
        assert done.code == 0, done.said
    assert "Its labels are those that it was made of" in wilss_masks("verify", store, "--manifest", path).out
    after = wilss_masks("evaluate", store, "--manifest", path)
    assert (before.code, after.code) == (0, 0)
    assert after.out == before.out
    session = open_session(store, load_manifest(path), Asked(author="me"))
    assert {name: record.tags for name, record in session.records.items()} == IMAGES


def test_a_grown_manifest_trains_the_older_step(store: Path, tmp_path: Path) -> None:
    disk.manifest(tmp_path, **GROWN, train=train_cli.TRAIN)
    done = train_cli.wilss_train(*train_cli.words(tmp_path, "base", step=0))
    assert done.code == 0, done.said


def test_photographs_and_tags_of_the_classes_that_came_change_nothing(store: Path, tmp_path: Path) -> None:
    disk.voc(tmp_path / "data", {**IMAGES, "e": (3,), "f": (4,)}, classes=GROWN["names"])
    disk.manifest(tmp_path, **GROWN)
    assert {name: record.tags for name, record in opened(store).items()} == IMAGES


def _inserted(root: Path) -> None:
    names = [*CLASSES[:2], "horse", CLASSES[2]]
    disk.manifest(root, names=names, steps=[{"classes": ["cat", "dog"]}, {"classes": ["horse"]}])


def _swapped(root: Path) -> None:
    disk.manifest(root, names=["background", "dog", "cat", "horse"], steps=[{"classes": [1, 2]}, {"classes": [3]}])


def _renamed(root: Path) -> None:
    disk.manifest(root, names=[*CLASSES[:2], "hound", "horse"], steps=[{"classes": [1, 2]}, {"classes": [3]}])


def _taken_away(root: Path) -> None:
    disk.manifest(root, names=list(CLASSES), steps=[{"classes": [1]}, {"classes": [2]}])


def _other_setting(root: Path) -> None:
    disk.manifest(root, **GROWN, setting="disjoint")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_inserted, "class 2 is 'dog' to the store and 'horse' to the manifest"),
        (_swapped, "class 1 is 'cat' to the store and 'dog' to the manifest"),
        (_renamed, "class 2 is 'dog' to the store and 'hound' to the manifest"),
        (_taken_away, "step 0 brings cat, dog to the store and cat to the manifest"),
        (_other_setting, "manifest digest"),
    ],
)
def test_what_is_more_than_growth_is_refused(
    store: Path, tmp_path: Path, change: Callable[[Path], None], told: str
) -> None:
    change(tmp_path)
    assert told in refused(store)


def test_changed_labels_are_refused_beside_classes_that_came(store: Path, tmp_path: Path) -> None:
    label = tmp_path / "data/SegmentationClass/b.png"
    disk.label(label, [2, 2, 2])
    disk.manifest(tmp_path, **GROWN)
    assert f"1 label has changed: {label}" in refused(store)


@pytest.fixture
def guessed(store: Path, tmp_path: Path) -> Path:
    """A store of the same classes from tags."""
    made = tmp_path / "masks/tags.zarr"
    disk.manifest(tmp_path, **{**BEFORE, "steps": [{"classes": [1, 2], "supervision": "tags"}]})
    words = ("--manifest", tmp_path / "data_manifest.yaml", "--source", "cam", "--out", made, "--device", "cpu")
    quick = ("backbone=resnet18", "weights=", "epochs=0", "size=64", "learn_size=64", "crop=32")
    done = wilss_masks("generate", "--step", 0, *words, *(word for value in quick for word in ("--set", value)))
    assert done.code == 0, done.said
    return made


def test_changed_images_are_refused_beside_classes_that_came(guessed: Path, tmp_path: Path) -> None:
    disk.manifest(tmp_path, **GROWN)
    assert {name: record.tags for name, record in opened(guessed).items()} == IMAGES
    disk.image(tmp_path / "data/JPEGImages/c.jpg", seed=99)
    assert f"1 image has changed: {tmp_path / 'data/JPEGImages/c.jpg'}" in refused(guessed)


def test_masks_by_tags_are_judged_by_labels_of_classes_that_came(guessed: Path, tmp_path: Path) -> None:
    disk.label(tmp_path / "data/SegmentationClass/a.png", [1, 3, 3])
    path = disk.manifest(tmp_path, **GROWN)
    judged = wilss_masks("evaluate", guessed, "--manifest", path)
    assert judged.code == 0, judged.said
    assert set(opened(guessed)["a"].label.read().ravel().tolist()) == {0, 1, 3}


def test_a_store_that_does_not_know_its_images_wants_its_manifest(
    store: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("wilss.store.changes.made_of", lambda store: None)
    disk.manifest(tmp_path, **GROWN)
    assert "did not note what its images were" in refused(store)


def test_names_values_and_colours_of_a_data_set_of_its_own_may_come_too(tmp_path: Path) -> None:
    for number, (name, ids) in enumerate(IMAGES.items()):
        disk.image(tmp_path / f"data/{name}.jpg", seed=number)
        pixels = np.zeros((*disk.SIZE, 3), np.uint8)
        for column, identity in enumerate(ids):
            pixels[:, column] = 40 * identity
        (tmp_path / "data/labels").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / f"data/labels/{name}.png")
    colours = {name: [40 * i] * 3 for i, name in enumerate(["background", "cat", "dog", "horse"])}

    def data(known: int) -> dict[str, Any]:
        some = dict(list(colours.items())[:known])
        values = {7: "cat", **({8: "horse"} if known > 3 else {})}
        return {"layout": "folder", "tags": {"from": "masks"}, "splits": None, "colors": some, "values": values}

    disk.manifest(tmp_path, **BEFORE, **data(3))
    store = train_cli.make_masks(tmp_path, 0)
    disk.manifest(tmp_path, **GROWN, **data(4))
    assert {name: record.tags for name, record in opened(store).items()} == IMAGES
    shutil.copy(tmp_path / "data/labels/a.png", tmp_path / "data/labels/b.png")
    assert "1 label has changed" in refused(store)


@pytest.mark.parametrize("names", [("background", "horse", "emu"), ("background", "cat", "horse", "dog")])
def test_a_data_set_whose_own_names_are_others_is_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    disk.voc(tmp_path / "data", IMAGES, classes=CLASSES)

    def data(own: tuple[str, ...]) -> dict[str, Any]:
        described = {"path": "./data", "names": dict(enumerate(own)), "splits": {"train": "train"}}
        return {"path": None, "splits": None, "data": {"photos": described}}

    disk.manifest(tmp_path, **BEFORE, **data(CLASSES))
    store = train_cli.make_masks(tmp_path, 0)
    disk.voc(tmp_path / "data", IMAGES, classes=GROWN["names"])
    disk.manifest(tmp_path, **GROWN, **data(names))
    assert "(labels cannot be read by the store's classes alone)" in refused(store)


def test_annotations_of_classes_that_came_to_a_json_change_nothing(tmp_path: Path) -> None:
    cat, dog, horse = (disk.box(4 * i, 2, 3, 6, 10 * (i + 1)) for i in range(3))
    images = {"a.jpg": [cat, horse], "b.jpg": [dog]}
    disk.coco(tmp_path / "data", "train", images, ["cat", "dog", "horse"])
    data = {"layout": "coco", "splits": {"train": "train"}}
    disk.manifest(tmp_path, **BEFORE, **data)
    store = train_cli.make_masks(tmp_path, 0)
    disk.manifest(tmp_path, **GROWN, **data)
    assert set(opened(store)) == {"a", "b"}
    disk.coco(tmp_path / "data", "train", {**images, "b.jpg": [dog, cat]}, ["cat", "dog", "horse"])
    assert "1 label has changed" in refused(store)
