"""The lock file: lists and weights that changed are refused, naming both digests."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.wilss.data import data_on_disk as disk
from wilss.data.manifest import (
    LockedWeights,
    Manifest,
    content_digests_of,
    list_digests,
    load_manifest,
    lock_path,
    record_hub_digest,
    require_locked_contents,
    write_lock,
)
from wilss.errors import ManifestError, StoreError

CLIP = {"library": "open_clip", "model": "ViT-B-32", "pretrained": "openai"}
DIGEST = "ab" * 32


def pets(folder: Path, **changes: Any) -> Manifest:
    disk.voc(folder / "data", {"a": (1,), "b": (3,)})
    return load_manifest(disk.manifest(folder, **changes))


def locked(folder: Path, **changes: Any) -> Manifest:
    manifest = pets(folder, **changes)
    weights = {"clip": LockedWeights(encoder=manifest.encoders.clip.title, sha256=DIGEST)}
    write_lock(manifest, lists=list_digests(manifest), weights=weights)
    return load_manifest(manifest.path)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_lock_that_holds_changes_nothing_but_the_weights_digest(tmp_path: Path) -> None:
    manifest = locked(tmp_path)
    assert [record.image_id for record in manifest.records(0).records] == ["a"]
    assert manifest.encoders.clip.sha256 == DIGEST
    assert manifest.encoders.clip.sha256_from == str(tmp_path / "data_manifest.lock.yaml")
    assert manifest.encoders.vit.sha256 is None


@pytest.mark.parametrize(
    ("file", "key"),
    [("ImageSets/Segmentation/train.txt", r"splits\.train"), ("ImageSets/Main/cat_train.txt", r"tags\.train")],
)
def test_a_list_that_changed_is_refused_with_both_digests_and_the_mend(tmp_path: Path, file: str, key: str) -> None:
    manifest = locked(tmp_path)
    (kept,) = [v for k, v in list_digests(manifest).items() if k == key.replace("\\", "")]
    with (tmp_path / "data" / file).open("a") as more:
        more.write("a 1\n" if "Main" in file else "c\n")
    with pytest.raises(ManifestError, match=rf"\({key}\) has sha256 \w{{64}}, but .*lock\.yaml keeps {kept}; .*lock`?"):
        load_manifest(manifest.path)
    load_manifest(manifest.path, check_lock=False)


def test_the_digest_of_a_list_is_that_of_its_bytes(tmp_path: Path) -> None:
    manifest = pets(tmp_path)
    assert list_digests(manifest)["splits.train"] == sha256(tmp_path / "data/ImageSets/Segmentation/train.txt")


def test_a_list_that_is_gone_is_told_when_it_is_wanted(tmp_path: Path) -> None:
    manifest = locked(tmp_path)
    (tmp_path / "data/ImageSets/Segmentation/train.txt").unlink()
    with pytest.raises(ManifestError, match="the list 'train' is not there"):
        load_manifest(manifest.path).records(0)


def test_another_encoder_is_not_held_to_the_digest_of_the_first(tmp_path: Path) -> None:
    locked(tmp_path)
    manifest = load_manifest(disk.manifest(tmp_path, encoders={"clip": CLIP}))
    assert manifest.encoders.clip.sha256 is None


def test_a_digest_in_the_manifest_that_is_not_the_locks_is_refused(tmp_path: Path) -> None:
    locked(tmp_path, encoders={"clip": CLIP})
    file = disk.manifest(tmp_path, encoders={"clip": {**CLIP, "sha256": "cd" * 32}})
    with pytest.raises(ManifestError, match=rf"encoders\.clip\.sha256 is {'cd' * 32}, but .* keeps {DIGEST}; correct"):
        load_manifest(file)


def test_hub_weights_are_recorded_at_first_use_only(tmp_path: Path) -> None:
    manifest = pets(tmp_path, encoders={"clip": CLIP})
    assert record_hub_digest(manifest, "clip", DIGEST)
    again = load_manifest(manifest.path)
    assert again.encoders.clip.sha256 == DIGEST
    assert not record_hub_digest(again, "clip", "cd" * 32)
    assert not record_hub_digest(manifest, "clip", "cd" * 32)
    assert record_hub_digest(again, "vit", "ef" * 32)
    last = load_manifest(manifest.path)
    assert (last.encoders.clip.sha256, last.encoders.vit.sha256) == (DIGEST, "ef" * 32)
    assert yaml.safe_load(lock_path(manifest.path).read_text())["lists"] == {}
    assert [path.name for path in tmp_path.iterdir() if "lock" in path.name] == ["data_manifest.lock.yaml"]


@pytest.mark.parametrize("clip", [{"sha256": DIGEST}, {"pretrained": "random:3"}, {"pretrained": None, "file": "x.pt"}])
def test_weights_whose_digest_is_known_or_that_have_none_are_not_recorded(tmp_path: Path, clip: dict[str, Any]) -> None:
    entry = {key: value for key, value in {**CLIP, **clip}.items() if value is not None}
    manifest = pets(tmp_path, encoders={"clip": entry})
    assert not record_hub_digest(manifest, "clip", DIGEST)
    assert not lock_path(manifest.path).exists()


def test_a_folder_that_may_not_be_written_is_no_reason_to_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = pets(tmp_path)

    def refuse(*given: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.replace", refuse)
    assert not record_hub_digest(manifest, "clip", DIGEST)
    with pytest.raises(StoreError, match=r"lock\.yaml cannot be written \(Permission denied\)"):
        write_lock(manifest, lists={}, weights={})
    monkeypatch.undo()
    assert not [path for path in tmp_path.iterdir() if "lock" in path.name]


@pytest.mark.parametrize("text", ["lock_version: 2\nmanifest: x\n", "[]\n", "lists: {a: 1}\n"])
def test_a_damaged_lock_is_refused(tmp_path: Path, text: str) -> None:
    manifest = pets(tmp_path)
    disk.text(lock_path(manifest.path), text)
    with pytest.raises(ManifestError, match=r"lock\.yaml is no lock file .* remove it and lock again"):
        load_manifest(manifest.path)


def test_lists_of_other_data_sets_are_locked_under_their_names(tmp_path: Path) -> None:
    disk.voc(tmp_path / "new", {"x": (3,)}, split="extra")
    data = {"new": {"path": "new", "splits": {"extra": "extra"}}}
    manifest = pets(tmp_path, data=data)
    assert sorted(list_digests(manifest)) == [
        "data.new.splits.extra",
        "data.new.tags.extra",
        "splits.train",
        "tags.train",
    ]


def test_images_and_labels_that_changed_are_refused_by_whoever_asks(tmp_path: Path) -> None:
    manifest = pets(tmp_path)
    contents = content_digests_of(manifest, "main", "train")
    assert sorted(contents) == ["images.train", "labels.train"]
    write_lock(manifest, lists=list_digests(manifest), weights={}, contents=contents)
    require_locked_contents(load_manifest(manifest.path), 0)
    disk.label(tmp_path / "data/SegmentationClass/a.png", [0, 0, 1])
    changed = load_manifest(manifest.path)
    with pytest.raises(ManifestError, match=r"labels\.train hold something else than .*lock\.yaml keeps"):
        require_locked_contents(changed, 0)
    (tmp_path / "data/SegmentationClass/a.png").rename(tmp_path / "data/SegmentationClass/gone.png")
    with pytest.raises(ManifestError, match=r"labels\.train hold something else"):
        require_locked_contents(load_manifest(manifest.path), 0)


def test_a_lock_of_before_knows_no_contents(tmp_path: Path) -> None:
    manifest = locked(tmp_path)
    assert "contents:" not in lock_path(manifest.path).read_text()
    require_locked_contents(manifest, 0)
