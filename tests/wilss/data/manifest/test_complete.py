"""Complete tags: an image without a tag of a step's classes is a picture without them, and not one unknown."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.wilss.data import data_on_disk as disk
from wilss.data.manifest import Manifest, load_manifest
from wilss.data.protocol import StepProtocol
from wilss.data.taxonomy import VOID, Taxonomy
from wilss_masks.manifest_tools.check import check_manifest

#: The digest of the manifest below, before there were complete tags.
DIGEST = "c6a3cd79ef254a2ed1194d467d5551c49bc3dd51e71e8b5a055e1155d7a3da3e"
IMAGES = {"a": (1,), "b": (2, 3), "c": (3,), "d": (1, 2), "e": ()}
FILES = tuple("abcde")


def pets(folder: Path, **tags: Any) -> Manifest:
    """Step 0 brings cat and dog, step 1 horse."""
    disk.voc(folder / "data", IMAGES)
    return load_manifest(disk.manifest(folder, tags={"from": "voc-main", **tags}))


def ids(manifest: Manifest, step: int) -> str:
    return "".join(record.image_id[0] for record in manifest.records(step).records)


def folder_of(root: Path, **tags: Any) -> Manifest:
    for name in FILES:
        disk.image(root / f"data/{name}.png")
    return load_manifest(disk.manifest(root, layout="folder", splits={"train": "all"}, tags=tags))


def table_of_names(root: Path) -> Manifest:
    disk.text(root / "data/tags.csv", "image,tags", "a,cat", "b,dog;horse", "c,horse", "d,cat;dog", "e,")
    return folder_of(root, **{"from": "csv", "complete": True})


def table_of_numbers(root: Path) -> Manifest:
    disk.text(
        root / "data/tags.csv", "image,cat,dog,horse", "a,1,0,0", "b,0,1,1", "c,0,0,1", "d,1,1,0", "e,0,0,0"
    )  # fmt: skip
    return folder_of(root, **{"from": "csv", "complete": True})


def a_word_for_none(root: Path) -> Manifest:
    disk.text(root / "data/tags.csv", "image,tags", "a,cat", "b,dog;horse", "c,horse", "d,cat;dog", "e,good")
    return folder_of(root, **{"from": "csv", "complete": True, "ignore": ["good"]})


def flags(root: Path) -> Manifest:
    return pets(root, complete=True)


def label_maps(root: Path) -> Manifest:
    return pets(root, **{"from": "masks", "complete": True})


def numbers(root: Path) -> Manifest:
    manifest = pets(root, **{"from": "npy", "file": "tags.npy", "complete": True})
    np.save(
        root / "tags.npy", np.array([[identity in held for identity in (1, 2, 3)] for held in IMAGES.values()], int)
    )
    return manifest


def annotations(root: Path) -> Manifest:
    boxes = {name: [disk.box(0, 0, 4, 4, 10 * identity) for identity in held] for name, held in IMAGES.items()}
    disk.coco(root / "data", "train", {f"{name}.jpg": held for name, held in boxes.items()}, disk.CLASSES[1:])
    return load_manifest(
        disk.manifest(root, layout="coco", splits={"train": "train"}, tags={"from": "coco", "complete": True})
    )


LAYOUTS = (table_of_names, table_of_numbers, a_word_for_none, flags, label_maps, numbers, annotations)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_step_gets_the_images_without_its_classes_as_well(tmp_path: Path, layout: Callable[[Path], Manifest]) -> None:
    manifest = layout(tmp_path)
    assert (ids(manifest, 0), ids(manifest, 1)) == ("abcde", "abcde")
    assert {record.image_id[0]: record.tags for record in manifest.records(1).records} == IMAGES
    assert not [warning for warning in manifest.records(1).warnings if "no class and so no step" in warning]
    assert all(record.problem is None for record in manifest.records(1).records)


def test_a_folder_of_good_ones_is_a_folder_without_the_classes(tmp_path: Path) -> None:
    for name in ("cat/a", "dog/b", "good/c", "good/d"):
        disk.image(tmp_path / f"data/{name}.png")
    tags = {"from": "folders", "ignore": ["good"], "complete": True}
    manifest = load_manifest(disk.manifest(tmp_path, layout="folder", splits={"train": "all"}, tags=tags))
    assert [record.image_id for record in manifest.records(0).records] == ["cat/a", "dog/b", "good/c", "good/d"]


def test_what_nothing_is_known_of_stays_unknown(tmp_path: Path) -> None:
    """An image without a row, and one without the label that its tags would be read from."""
    disk.text(tmp_path / "csv/data/tags.csv", "image,tags", "a,cat", "b,dog", "c,", "d,horse")
    by_table = folder_of(tmp_path / "csv", **{"from": "csv", "complete": True})
    problems = {record.image_id: record.problem for record in by_table.records(0).records}
    assert [name for name, problem in problems.items() if problem is None] == list("abcd")
    assert "e.png has no tags (from csv, tags.csv)" in str(problems["e"])
    (tmp_path / "masks").mkdir()
    by_labels = pets(tmp_path / "masks", **{"from": "masks", "complete": True})
    (tmp_path / "masks/data/SegmentationClass/e.png").unlink()
    (tmp_path / "masks/data/SegmentationClass/c.png").unlink()
    by_labels = load_manifest(by_labels.path)
    unknown = [record.image_id for record in by_labels.records(0).records if record.tags_unknown]
    assert unknown == ["c", "e"]


def test_the_digest_of_a_manifest_that_does_not_say_it_is_what_it_was(tmp_path: Path) -> None:
    """So every store that was made before is still of its manifest."""
    assert pets(tmp_path).digest == pets(tmp_path, complete=False).digest == DIGEST
    assert pets(tmp_path, complete=True).digest != DIGEST
    assert (ids(pets(tmp_path), 0), ids(pets(tmp_path), 1)) == ("abd", "bc")


def test_whoever_has_such_images_is_told_what_to_write(tmp_path: Path) -> None:
    (warning,) = pets(tmp_path).records(0).warnings
    assert warning.endswith("if they show none of the classes, write `complete: true` under `tags`.")


@pytest.mark.parametrize(("setting", "lacking"), [("overlap", "bce"), ("disjoint", "e")])
def test_a_disjoint_step_gets_none_that_holds_a_later_class(setting: Any, lacking: str) -> None:
    taxonomy = Taxonomy(name="pets", class_names=disk.CLASSES)
    protocol = StepProtocol(name="1-2", taxonomy=taxonomy, steps=((1,), (2, 3)), setting=setting)
    assert "".join(name for name, held in IMAGES.items() if protocol.lacks(held, 0)) == lacking
    assert protocol.lacks((1,), 1)
    assert protocol.lacks((VOID,), 0)
    assert not replace(protocol, setting="overlap").lacks((1, 2), 0)


def test_check_counts_them_and_asks_no_label_of_them(tmp_path: Path) -> None:
    manifest = pets(tmp_path, complete=True)
    (tmp_path / "data/SegmentationClass/e.png").unlink()
    report = check_manifest(manifest)
    assert [(counts.images, counts.without) for counts in report.counts] == [(5, 2), (5, 3)]
    assert not any("no pixel labels" in warning for warning in report.warnings)
    (tmp_path / "data/SegmentationClass/a.png").unlink()
    assert any(
        "1 image (a) have no pixel labels" in warning
        for warning in check_manifest(load_manifest(manifest.path)).warnings
    )
