"""Images that came after the lists of a manifest were made are told, where they have tags or labels."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.faults.cli import wilss_masks
from tests.wilss.data import data_on_disk as disk
from wilss.data.layouts import listing
from wilss.data.layouts.listing import _found
from wilss.data.manifest import Manifest, load_manifest, told_unlisted
from wilss.disk import UrlPath
from wilss_masks.manifest_tools.check import check_manifest

STEPS = [{"classes": [1, 2, 3], "supervision": "pixel"}]


def pets(folder: Path, *listed: str, splits: dict[str, Any] | None = None, **changes: Any) -> Manifest:
    """Photographs a, b and c, of which b and c are labelled, and a list of those that are learnt from."""
    for number, name in enumerate("abc"):
        disk.image(folder / f"data/{name}.jpg", seed=number)
    for name in "bc":
        disk.label(folder / f"data/labels/{name}.png", [1])
    disk.text(folder / "pets-train.txt", *listed)
    splits = splits or {"train": "pets-train.txt"}
    return load_manifest(disk.manifest(folder, **{"layout": "folder", "splits": splits, "steps": STEPS, **changes}))


def test_a_labelled_image_on_no_list_is_told_by_check_and_generate(tmp_path: Path) -> None:
    manifest = pets(tmp_path, "b", tags={"from": "masks"})
    (told,) = told_unlisted(manifest, "main")
    assert told == (
        f"{tmp_path / 'data'} holds 1 image (c) with labels that no split of this manifest lists, left out of all "
        "steps; write those to learn from into a list (pets-train.txt), and leave others, as of a test, as they are."
    )
    assert told in check_manifest(manifest, weights=False).warnings
    words = ("generate", "--step", 0, "--manifest", manifest.path, "--out", tmp_path / "s.zarr")
    made, again = wilss_masks(*words), wilss_masks(*words)
    assert (made.code, again.code) == (0, 0)
    assert f"Warning: {told}" in made.err
    assert "was complete already" in again.out
    assert f"Warning: {told}" in again.err
    disk.text(tmp_path / "pets-train.txt", "b", "c")
    assert not [*told_unlisted(load_manifest(manifest.path), "main")]


def test_a_row_of_an_image_on_no_list_is_told_by_generate(tmp_path: Path) -> None:
    disk.text(tmp_path / "data/tags.csv", "b.jpg,cat", "c.jpg,dog", "d.jpg,dog")
    manifest = pets(tmp_path, "b", tags={"from": "csv", "file": "tags.csv"})
    made = wilss_masks("generate", "--step", 0, "--manifest", manifest.path, "--out", tmp_path / "s.zarr")
    assert made.code == 0, made.said
    assert "data/tags.csv has rows of 1 image (c.jpg) that no split of this manifest lists" in made.err


def test_an_image_in_the_folder_of_a_class_and_on_no_list_is_told(tmp_path: Path) -> None:
    for name in ("cat/1", "cat/2", "dog/1", "other/1"):
        disk.image(tmp_path / f"data/{name}.jpg")
    manifest = pets(tmp_path, "cat/1", tags={"from": "folders"})
    (told,) = told_unlisted(manifest, "main")
    assert "holds 2 images (cat/2, dog/1) with tags that no split" in told


@pytest.mark.parametrize(
    "changes",
    [
        {"splits": {"train": ""}},  # all images are its own
        {"layout": "voc", "splits": {"train": "pets-train.txt"}},  # whose lists leave most images out
        {"splits": {"train": "nothing.txt"}},  # which whoever reads it tells
    ],
)
def test_nothing_is_told_where_lists_say_nothing_of_the_rest(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert not [*told_unlisted(pets(tmp_path, "b", tags={"from": "masks"}, **changes), "main")]


def test_splits_with_folders_of_their_own_are_looked_through_in_these(tmp_path: Path) -> None:
    for name in ("img/train/1", "img/train/2", "img/val/1"):
        disk.image(tmp_path / f"data/{name}.jpg")
        disk.label(tmp_path / f"data/{name.replace('img', 'ann')}.png", [2])
    disk.text(tmp_path / "pets-val.txt", "1")
    split = {"images": "img/train", "labels": "ann/train", "list": "pets-train.txt"}
    other = {"images": "img/val", "labels": "ann/val", "list": "pets-val.txt"}
    manifest = pets(tmp_path, "1", splits={"train": split, "val": other}, tags={"from": "masks"})
    (told,) = told_unlisted(manifest, "main")
    assert "holds 1 image (2) with labels that no split of this manifest lists" in told


def test_images_of_a_list_are_not_looked_for_a_second_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finished store of many images is told as fast as the folder can be listed."""
    splits = {"train": "pets-train.txt", "val": "pets-train.txt"}
    manifest = pets(tmp_path, "b", tags={"from": "masks"}, splits=splits)
    for split in splits:
        manifest.listing("main", split)
    looked_for = list[str]()

    def found(spec: Any, folders: Any, labels: Any, entry: Any, source: Any) -> Any:
        looked_for.append(entry.image)
        return _found(spec, folders, labels, entry, source)

    monkeypatch.setattr(listing, "_found", found)
    assert len([*told_unlisted(manifest, "main")]) == 1
    assert looked_for == ["a.jpg", "c.jpg"], "which are on no list, once"


def test_a_bucket_is_not_listed_for_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk.text(tmp_path / "data/tags.csv", "b.jpg,cat", "c.jpg,dog")
    manifest = pets(tmp_path, "b", tags={"from": "csv", "file": "tags.csv"})
    assert len([*told_unlisted(manifest, "main")]) == 1
    far = manifest.data["main"].model_copy(update={"root": UrlPath("s3://bucket/data")})
    monkeypatch.setattr(Manifest, "listing", lambda *_, **__: pytest.fail("the bucket was asked"))
    assert not [*told_unlisted(replace(manifest, data={"main": far}), "main")]
