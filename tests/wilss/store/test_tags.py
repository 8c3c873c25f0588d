"""Tags that were changed after the masks: told by `verify` and before training, where tags made the masks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.faults import cli
from tests.wilss_masks.stores import make_store
from wilss.data.layouts import ImageRecord
from wilss.data.manifest import load_manifest
from wilss.store import MaskStore, tags
from wilss.store.tags import other_tags
from wilss_train.inputs import open_inputs


def records_of(store: MaskStore) -> dict[str, ImageRecord]:
    """A record for each image, tagged as it is in the store, and with a class of another step."""
    columns = np.array(store.category_ids)
    return {
        name: ImageRecord(image_id=name, path=Path(f"{name}.jpg"), tags=(1, *columns[row].tolist()))
        for name, row in zip(store.image_ids, store.vector("tags"), strict=True)
    }


def tagged(records: dict[str, ImageRecord], name: str, *identities: int) -> dict[str, ImageRecord]:
    return {**records, name: ImageRecord(image_id=name, path=Path(f"{name}.jpg"), tags=identities)}


def test_a_tag_that_came_or_went_is_told_by_image(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s.zarr")
    records, (first, second, *_) = records_of(store), store.image_ids
    assert other_tags(store, records) is None
    told = other_tags(store, tagged(records, first))
    assert told is not None
    assert told.startswith(f"the tags of 1 image ({first}) are no longer those that the masks were made by")
    told = other_tags(store, tagged(tagged(records, first), second, *store.category_ids))
    assert told is not None
    assert f"2 images ({first}, {second})" in told


@pytest.mark.parametrize("attributes", [{"uses_tags": False}, {"made_of": "labels"}])
def test_tags_that_made_no_mask_may_change(tmp_path: Path, attributes: dict[str, Any]) -> None:
    store = make_store(tmp_path / "s.zarr", **attributes)
    assert other_tags(store, tagged(records_of(store), store.image_ids[0])) is None


def test_what_somebody_judged_is_not_held_against_the_tags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make_store(tmp_path / "s.zarr")
    first, second = store.image_ids[:2]
    verdicts = np.zeros((len(store.image_ids), len(store.category_ids)), np.int8)
    verdicts[0, -1] = 3
    monkeypatch.setattr(tags, "verdicts_of", lambda store: verdicts)
    records = tagged(records_of(store), first)
    assert other_tags(store, records) is None
    assert f"1 image ({second})" in str(other_tags(store, tagged(records, second)))


def test_verify_and_a_run_tell_it_until_the_masks_are_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = cli.data_set(tmp_path, steps=[{"classes": [1, 2, 3], "supervision": "tags"}])
    assert cli.generate(root, step=0).code == 0
    manifest = root / "data_manifest.yaml"

    def told() -> list[bool]:
        verified = cli.wilss_masks("verify", root / "out/s.zarr", "--manifest", manifest)
        assert verified.code == 0, verified.said
        inputs = open_inputs(load_manifest(manifest), root / "out/s.zarr", None, "fmwiss")
        sentence = "the tags of 1 image (im2) are no longer those"
        return [sentence in said for said in (verified.err, " ".join(inputs.warnings))]

    assert told() == [False, False]
    flags = root / "data/ImageSets/Main/horse_train.txt"
    flags.write_text(flags.read_text().replace("im2  1", "im2 -1"))
    assert told() == [True, True]
    with monkeypatch.context() as patch:  # as of a store of an older wilss
        patch.setattr("wilss.store.changes.made_of", lambda store: None)
        assert told() == [True, True]
        assert "does not say what" in cli.wilss_masks("verify", root / "out/s.zarr", "--manifest", manifest).out
    assert "other tags of 1 image (im2)" in cli.generate(root, step=0).err
    assert cli.generate(root, "--update", step=0).code == 0
    assert told() == [False, False]
