"""`bits` in a manifest: of which data sets it is, what is refused, and whose digest it changes."""

from pathlib import Path
from typing import Any

import pytest

from tests.wilss.data import data_on_disk as disk
from wilss.data.manifest import Manifest, load_manifest
from wilss.errors import ManifestError

IMAGES = {"a": [1], "b": [2, 3]}


def pets(root: Path, **changes: Any) -> Manifest:
    disk.voc(root / "data", IMAGES)
    return load_manifest(disk.manifest(root, **changes))


def test_the_images_of_a_data_set_have_its_bits(tmp_path: Path) -> None:
    disk.voc(tmp_path / "data", IMAGES)
    disk.coco(tmp_path / "coco", "train", {"c.png": [disk.box(0, 0, 4, 4, 30)]}, disk.CLASSES[1:])
    data = {
        "voc": {"path": "data", "splits": {"train": "train"}, "bits": 12},
        "coco": {"path": "coco", "layout": "coco", "splits": {"train": "train"}, "bits": 10},
        "photos": {"path": "data", "layout": "folder", "splits": {"train": "all"}, "tags": "masks"},
    }
    manifest = load_manifest(disk.manifest(tmp_path, path=None, splits=None, data=data))
    found = {name: {record.bits for record in manifest.listing(name, "train", lenient=True).records} for name in data}
    assert found == {"voc": {12}, "coco": {10}, "photos": {16}}
    assert {record.bits for record in manifest.evaluation("train").records} == {12}


@pytest.mark.parametrize("bits", [7, 17, 0, -12, 12.0, 12.5, "12", True, [12]])
def test_what_is_no_number_of_bits_is_refused(tmp_path: Path, bits: Any) -> None:
    with pytest.raises(ManifestError) as raised:
        pets(tmp_path, bits=bits)
    assert str(raised.value).endswith(
        f"bits: is {bits!r}; it is how many bits of 16-bit images hold values, a whole number from 8 to 16, as in "
        "`bits: 12` where they go from 0 to 4095."
    )
    assert "data_manifest.yaml, line " in str(raised.value)


def test_without_bits_the_digest_is_what_it_was_and_with_bits_another(tmp_path: Path) -> None:
    plain = pets(tmp_path)
    assert plain.digest == "e9c5e6c95fb2a8b6097aa6e9fac6dd738b70c9f6df3206f3af5b05c118eb2384"
    assert "bits" not in plain.described(0)
    assert pets(tmp_path, bits=16).digest == plain.digest
    twelve = pets(tmp_path, bits=12)
    assert len({plain.digest, twelve.digest, pets(tmp_path, bits=10).digest}) == 3
    assert twelve.described(0)["bits"] == 12
