"""Images that are known to show none of a step's classes: done, without a tag, a mask or a network's word."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.faults.cli import wilss_masks
from tests.faults.standin import StandInSource
from tests.wilss.data import data_on_disk as disk
from wilss.data.manifest import Manifest, load_manifest
from wilss.errors import StoreError
from wilss.store import ImageContent, MaskStore, Status, shows_none, write_shard
from wilss.store.changes import require_unchanged
from wilss.store.records import records_for
from wilss.store.tags import other_tags
from wilss_masks.inspect.evaluate import evaluate
from wilss_masks.make.generate import generate
from wilss_masks.make.options import Options, Part
from wilss_masks.review.index import NO_CLASS, build_index
from wilss_masks.revision.images import revised_content
from wilss_masks.sources.annotation import AnnotationSource
from wilss_masks.sources.base import ImageTask

#: Step 0 brings cat and dog; im1 holds a horse, im2 and im4 nothing.
IMAGES = {"im0": (1,), "im1": (3,), "im2": (), "im3": (2, 1), "im4": ()}
LACKING = [False, True, True, False, True]


@dataclass(frozen=True, kw_only=True)
class AskedSource(StandInSource):
    """Refuses to be asked of an image without a tag of the step."""

    def propose(self, tasks: Sequence[ImageTask], loaded: Sequence[Any]) -> list[ImageContent]:
        assert all(task.categories for task in tasks)
        return super().propose(tasks, loaded)


def pets(root: Path, *, complete: bool = True, images: Any = IMAGES, kind: str = "voc-main") -> Manifest:
    root.mkdir(exist_ok=True)
    if not (root / "data").exists():
        disk.voc(root / "data", images)
    return load_manifest(disk.manifest(root, tags={"from": kind, **({"complete": True} if complete else {})}))


def make(manifest: Manifest, out: Path, source: Any = None, **options: Any) -> MaskStore:
    how = Options(device="cpu", **{"shard_size": 2, **options})
    generate(manifest, step=0, source=source or AskedSource(), out=out, options=how)
    return MaskStore.open(out, allow_partial=True)


def by_labels(manifest: Manifest, out: Path, **options: Any) -> MaskStore:
    return make(manifest, out, AnnotationSource.from_manifest(manifest, step=0), **options)


def test_they_are_done_and_nothing_is_asked_of_them(tmp_path: Path) -> None:
    store = make(pets(tmp_path), tmp_path / "masks.zarr")
    assert list(store.image_ids) == list(IMAGES)
    assert store.current_status().tolist() == [Status.DONE] * 5
    assert shows_none(store).tolist() == LACKING
    assert not store.vector("area")[LACKING].any()
    assert (store.vector("content") > 0).all()
    read = store.read("im2")
    assert (read.categories, read.masks.shape) == ((), (0, *disk.SIZE))
    assert not list(store.verify())


def test_without_complete_tags_a_store_is_what_it_was(tmp_path: Path) -> None:
    """Images without the classes come to no step, and no image of a store counts as one."""
    store = make(pets(tmp_path, complete=False), tmp_path / "masks.zarr")
    assert list(store.image_ids) == ["im0", "im3"]
    assert not shows_none(store).any()


def test_masks_of_the_others_are_those_of_a_store_without_them(tmp_path: Path) -> None:
    with_all = make(pets(tmp_path / "a"), tmp_path / "a.zarr")
    alone = make(pets(tmp_path / "b", complete=False), tmp_path / "b.zarr")
    for name in alone.image_ids:
        assert np.array_equal(with_all.read(name).masks, alone.read(name).masks)


def test_parts_and_a_resumed_run_make_the_same_bytes(tmp_path: Path) -> None:
    manifest = pets(tmp_path)
    whole = make(manifest, tmp_path / "whole.zarr")
    for index in (2, 1):
        make(manifest, tmp_path / "parts.zarr", part=Part(index, 2))
    assert MaskStore.open(tmp_path / "parts.zarr").digest == whole.digest


def test_an_update_makes_an_image_again_that_has_become_one(tmp_path: Path) -> None:
    before = pets(tmp_path)
    make(before, tmp_path / "masks.zarr")
    disk.text(
        tmp_path / "data/ImageSets/Main/cat_train.txt", *(f"{name} {1 if name == 'im0' else -1}" for name in IMAGES)
    )
    disk.text(tmp_path / "data/ImageSets/Main/dog_train.txt", *(f"{name} -1" for name in IMAGES))
    now = load_manifest(before.path)
    with pytest.raises(StoreError, match="1 image \\(im3\\)"):
        make(now, tmp_path / "masks.zarr")
    store = make(now, tmp_path / "masks.zarr", update=True)
    assert shows_none(store).tolist() == [False, True, True, True, True]
    assert store.digest == make(now, tmp_path / "new.zarr").digest
    assert other_tags(store, records_for(store, now)) is None


def test_complete_tags_are_another_manifest_and_an_update_takes_them_up(tmp_path: Path) -> None:
    store = tmp_path / "masks.zarr"
    make(pets(tmp_path, complete=False), store)
    now = pets(tmp_path)
    with pytest.raises(StoreError, match="manifest_sha256"):
        make(now, store)
    assert shows_none(make(now, store, update=True)).tolist() == LACKING
    assert make(now, store).digest == make(now, tmp_path / "new.zarr").digest


def test_an_update_makes_their_shards_alone_where_nothing_was_known_of_images_or_an_image_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a list that is a step's selection already, and keeps its images without a tag."""
    made: list[int] = []

    def noted(path: Path, layout: Any, shard: int, images: Any) -> Any:
        made.append(shard)
        return write_shard(path, layout, shard, images)

    monkeypatch.setattr("wilss_masks.make.run.write_shard", noted)
    disk.voc(tmp_path / "data", {"im5": (1,), "im6": (2,), **IMAGES})
    np.save(tmp_path / "chosen.npy", np.arange(7))
    whole: dict[str, Any] = {"splits": {"train": {"list": "chosen.npy", "into": "train"}}}
    before = load_manifest(disk.manifest(tmp_path, tags={"from": "voc-main"}, **whole))
    store = make(before, tmp_path / "masks.zarr")
    assert (store.current_status() == Status.UNTAGGED).tolist() == [False, False, *LACKING]
    assert not shows_none(store).any()
    now = load_manifest(disk.manifest(tmp_path, tags={"from": "voc-main", "complete": True}, **whole))
    made.clear()
    store = make(now, tmp_path / "masks.zarr", update=True)
    assert made == [1, 2, 3], "the first shard has none of them"
    assert shows_none(store).tolist() == [False, False, *LACKING]
    disk.image(tmp_path / "data/JPEGImages/im6.jpg", seed=9)
    made.clear()
    assert make(now, tmp_path / "masks.zarr", update=True).digest == make(now, tmp_path / "new.zarr").digest
    assert made == [0, 0, 1, 2, 3]


def test_a_label_s_void_is_kept_and_one_without_a_label_is_empty(tmp_path: Path) -> None:
    manifest = pets(tmp_path)
    disk.label(tmp_path / "data/SegmentationClass/im2.png", (0, 255, 3))
    (tmp_path / "data/SegmentationClass/im4.png").unlink()
    store = by_labels(manifest, tmp_path / "masks.zarr")
    assert shows_none(store).tolist() == LACKING
    void = np.asarray(store.read("im2").void)
    assert np.flatnonzero(void.any(axis=0)).tolist() == [1]
    assert not np.any(store.read("im4").void)
    assert store.vector("content").astype(bool).tolist() == [True, True, True, True, False]


def test_a_label_that_came_later_is_noticed(tmp_path: Path) -> None:
    manifest = pets(tmp_path)
    (tmp_path / "data/SegmentationClass/im4.png").unlink()
    store = by_labels(manifest, tmp_path / "masks.zarr")
    require_unchanged(store, records_for(store, manifest))
    disk.label(tmp_path / "data/SegmentationClass/im4.png", (1,))
    now = load_manifest(manifest.path)
    with pytest.raises(StoreError, match=r"1 label has changed: .*im4\.png"):
        require_unchanged(store, records_for(store, now))
    store = by_labels(now, tmp_path / "masks.zarr", update=True)
    assert shows_none(store).tolist() == [*LACKING[:4], False], "its label shows a cat, whatever the tags say"


def test_labels_of_background_alone_are_such_images(tmp_path: Path) -> None:
    store = by_labels(pets(tmp_path, kind="masks"), tmp_path / "masks.zarr")
    assert shows_none(store).tolist() == LACKING


def test_an_image_that_cannot_be_opened_is_none_of_them(tmp_path: Path) -> None:
    manifest = pets(tmp_path)
    (tmp_path / "data/JPEGImages/im2.jpg").write_bytes(b"no picture")
    store = make(manifest, tmp_path / "masks.zarr")
    assert store.current_status()[2] == Status.FAILED
    assert shows_none(store).tolist() == [False, True, False, False, True]


def test_they_are_judged_as_all_background(tmp_path: Path) -> None:
    """A label that shows a class all the same counts as missed."""
    manifest = pets(tmp_path)
    store = make(manifest, tmp_path / "masks.zarr", keep_scores=True)
    disk.label(tmp_path / "data/SegmentationClass/im4.png", (2, 2))
    found = evaluate(store, load_manifest(manifest.path))
    assert (found.counted, found.without) == (5, 3)
    assert found.as_json()["images"]["without_the_classes"] == 3
    assert found.scores["stored"].matrix[2, 0] >= 2 * disk.SIZE[0]


def test_people_see_them_and_what_they_say_counts(tmp_path: Path) -> None:
    store = make(pets(tmp_path), tmp_path / "masks.zarr")
    index = build_index(store)
    assert index.image[index.category == NO_CLASS].tolist() == [1, 2, 4]
    content = ImageContent(status=Status.DONE)
    bare, tagged = np.zeros(2, bool), np.array([True, False])
    how: Any = {"has_void": False, "uses_tags": True}
    assert revised_content(content, disk.SIZE, bare, {}, "void", **how).status is Status.DONE
    none = dataclasses.replace(content, status=Status.UNTAGGED)
    assert revised_content(none, disk.SIZE, bare, {}, "void", **how).status is Status.UNTAGGED
    assert revised_content(content, disk.SIZE, tagged & False, {}, "void", **how).status is Status.DONE


def test_commands_say_how_many_they_are(tmp_path: Path) -> None:
    manifest, store = pets(tmp_path), tmp_path / "masks.zarr"
    made = wilss_masks("generate", "--step", 0, "--manifest", manifest.path, "--out", store)
    assert "5 done (3 without the step's classes), 0 failed" in made.out
    assert "without the step's classes: 3 of those that are done" in wilss_masks("info", store).out
    assert wilss_masks("verify", store, "--manifest", manifest.path).code == 0
    told = wilss_masks("evaluate", store, "--manifest", manifest.path)
    assert "5 images counted (3 without the step's classes), 0 failed, 0 left out" in told.out
    assert wilss_masks("export", "voc", store, tmp_path / "out").code == 0
    with Image.open(tmp_path / "out/SegmentationClass/im2.png") as label:
        assert not np.asarray(label).any()
    assert wilss_masks("sheet", store, "--manifest", manifest.path, "--out", tmp_path / "sheet.png").code == 0
