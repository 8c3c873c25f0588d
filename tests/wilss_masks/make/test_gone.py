"""What `generate` says of data or images that are gone beside a complete store, and of masks that all are empty."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from tests.faults.cli import wilss_masks
from tests.faults.standin import StandInSource
from tests.wilss.data import data_on_disk as disk
from wilss.data.manifest import load_manifest
from wilss.errors import ManifestError
from wilss.store import ImageContent
from wilss_masks import generate
from wilss_masks.manifest_tools.check import check_manifest
from wilss_masks.sources.base import ImageTask

CSV = {"from": "csv", "file": "tags.csv"}


def made(folder: Path, *, layout: str = "folder", path: str = "./data") -> tuple[str, ...]:
    """The words that make masks of the labels of a, b and c, whose list and table lie beside the manifest."""
    for number, name in enumerate("abc"):
        disk.image(folder / f"data/{name}.jpg", seed=number)
        disk.label(folder / f"data/labels/{name}.png", [1, 2])
    disk.text(folder / "train.txt", *"abc")
    disk.text(folder / "tags.csv", *(f"{name},cat;dog" for name in "abc"))
    file = disk.manifest(folder, layout=layout, splits={"train": "train.txt"}, tags=CSV, path=path)
    return ("generate", "--step", "0", "--manifest", str(file), "--out", str(folder / "s.zarr"))


@pytest.mark.parametrize(("path", "told"), [("./dta", "is not there; copy or link"), ("./tags.csv", "is no folder")])
def test_a_misspelt_path_beside_a_complete_store_is_no_nothing_to_do(tmp_path: Path, path: str, told: str) -> None:
    words = made(tmp_path)
    assert wilss_masks(*words).code == 0
    refused = wilss_masks(*made(tmp_path, path=path))
    assert refused.code == 2
    assert "path: " in refused.err
    assert told in refused.err
    assert "complete already" not in refused.out
    manifest = load_manifest(tmp_path / "data_manifest.yaml")
    assert told in str(check_manifest(manifest, weights=False).faults)
    assert wilss_masks("sheet", tmp_path / "s.zarr", "--manifest", manifest.path).code == 2


def test_images_that_are_gone_are_named_and_their_masks_stay(tmp_path: Path) -> None:
    words = made(tmp_path)
    assert wilss_masks(*words).code == 0
    (tmp_path / "data/b.jpg").unlink()
    again = wilss_masks(*words)
    assert again.code == 0
    assert "complete already: 3 done" in again.out
    assert f"s.zarr keeps masks of 1 image (b), which cannot be used any more: {tmp_path / 'data/b'}" in again.err
    assert "is not there; copy it there, or take it off the list." in again.err


def test_a_coco_data_folder_that_is_not_there(tmp_path: Path) -> None:
    json = disk.coco(tmp_path / "data", "train", {"1.jpg": [disk.box(0, 0, 4, 4, 10)]}, disk.CLASSES[1:])
    json.rename(tmp_path / "train.json")
    splits = {"train": {"annotations": "train.json", "images": "train"}}
    manifest = load_manifest(disk.manifest(tmp_path, layout="coco", splits=splits, path="./dta"))
    with pytest.raises(ManifestError, match=r"path: the data folder .*/dta is not there"):
        manifest.records(0)


@dataclass(frozen=True, kw_only=True)
class Blind(StandInSource):
    """Asks for all classes and finds none."""

    uses_tags: ClassVar[bool] = False

    def _one(self, task: ImageTask, pixels: Any) -> ImageContent:
        content = super()._one(task, pixels)
        masks = {place: np.zeros_like(mask) for place, mask in content.planes["mask"].items()}
        return replace(content, planes={**content.planes, "mask": masks}, area=dict.fromkeys(content.area, 0))


def test_a_store_without_any_mask_is_told(tmp_path: Path) -> None:
    disk.voc(tmp_path / "data", {"a": (1,), "b": (2,)})
    manifest = load_manifest(disk.manifest(tmp_path))
    empty = generate(manifest, step=0, source=Blind(), out=tmp_path / "s.zarr")
    assert [warning for warning in empty.warnings if "has no mask in any of 2 images: standin found none" in warning]
    found = generate(manifest, step=0, source=StandInSource(), out=tmp_path / "t.zarr")
    assert not [warning for warning in found.warnings if "has no mask" in warning]
