"""Images and labels that are others than when the masks were made: noticed, named, and made again alone."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.faults import cli
from tests.faults.cli import IMAGES, SIZES, content, generate, wilss_masks
from tests.wilss.data import data_on_disk as disk
from wilss.data import contents
from wilss.data.layouts import ImageRecord
from wilss.store import MaskStore, MaskStoreWriter, changes, write_shard
from wilss_masks.make.made_with import attributes_of
from wilss_masks.make.plan import MaskPlan, make_plan

REFUSED = "or make it again with --overwrite; --update keeps what is the same."
COMPLETE = "was complete already"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = cli.data_set(tmp_path)
    age(root)
    return root


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The shards that were written, in the order in which they were."""
    shards: list[int] = []
    write = write_shard

    def noted(path: Path, layout: Any, shard: int, images: Any) -> Any:
        shards.append(shard)
        return write(path, layout, shard, images)

    monkeypatch.setattr("wilss_masks.make.run.write_shard", noted)
    return shards


def age(root: Path, seconds: int = 1000) -> None:
    """Make all files older: the time of a file that was written just now says nothing."""
    for path in root.rglob("data*/**/*"):
        state = path.stat()
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns - seconds * 10**9))


def label_of(root: Path, name: str, folder: str = "SegmentationClass") -> Path:
    return root / f"data/{folder}/{name}.png"


def fixed_label(root: Path) -> None:
    disk.label(label_of(root, "im4"), [0, 0, 0, 1, 3], SIZES[1])


def replaced_image(root: Path) -> None:
    disk.image(root / "data/JPEGImages/im4.jpg", SIZES[1], seed=77)


def resized_image(root: Path) -> None:
    """A larger photograph, and its label with it."""
    disk.image(root / "data/JPEGImages/im4.jpg", (20, 24))
    disk.label(label_of(root, "im4"), [1, 3], (20, 24))


def in_manifest(root: Path, **changes: Any) -> None:
    path = root / "data_manifest.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}, sort_keys=False))


def other_folder(root: Path) -> None:
    """Labels of the same images in another folder, of which one says something else."""
    shutil.copytree(root / "data/SegmentationClass", root / "data/Fixed")
    disk.label(label_of(root, "im0", "Fixed"), [0, 0, 0, 1, 3], SIZES[0])
    in_manifest(root, labels="Fixed")


def as_data_set(root: Path, names: tuple[str, ...]) -> None:
    in_manifest(root, path=None, splits=None, data={"pets": {"path": "data", "splits": {"train": "train"},
                                                           "names": list(names)}})  # fmt: skip
    path = root / "data_manifest.yaml"
    settings = {key: value for key, value in yaml.safe_load(path.read_text()).items() if value is not None}
    path.write_text(yaml.safe_dump(settings, sort_keys=False))


#: What happens -> step, source, what the refusal says, the shards that are made again.
CHANGES: dict[str, tuple[Callable[[Path], None], int, str, str, list[int]]] = {
    "a label": (fixed_label, 0, "annotation", "1 label has changed: {r}/data/SegmentationClass/im4.png", [1]),
    "an image of a label": (replaced_image, 0, "annotation", "", []),
    "a size": (resized_image, 0, "annotation", "1 image has another size: {r}/data/JPEGImages/im4.jpg", [1]),
    "an image": (replaced_image, 1, "standin", "1 image has changed: {r}/data/JPEGImages/im4.jpg", [1]),
    "a label beside tags": (fixed_label, 1, "standin", "", []),
    "another folder": (other_folder, 0, "annotation", 'data.labels: "Fixed" asked for, null in the store', [0]),
}


def test_an_export_tells_of_photographs_that_were_replaced_since(root: Path, tmp_path: Path) -> None:
    assert generate(root).code == 0

    def told(form: str) -> str:
        there = ("--manifest", root / "data_manifest.yaml", "--overwrite")
        exported = wilss_masks("export", form, root / "out/s.zarr", tmp_path / form, *there)
        assert exported.code == 0, exported.said
        return exported.err

    assert told("labelme") == ""
    replaced_image(root)
    for form in ("labelme", "voc"):
        assert "does not fit its images any more: 1 image has changed: " in told(form)


@pytest.mark.few(3)
@pytest.mark.parametrize("name", CHANGES)
def test_what_changed_in_place_is_noticed_and_made_again(root: Path, made: list[int], name: str) -> None:
    change, step, source, sentence, again = CHANGES[name]
    assert generate(root, source=source, step=step).code == 0
    change(root)
    refused = generate(root, source=source, step=step)
    if not sentence:
        assert COMPLETE in refused.out
    else:
        assert refused.code == 1
        assert sentence.format(r=root) in refused.err
        assert REFUSED in refused.err
        verified = wilss_masks("verify", root / "out/s.zarr", "--manifest", root / "data_manifest.yaml")
        assert verified.code == 1, verified.said
    made.clear()
    assert generate(root, "--update", source=source, step=step).code == 0
    assert made == again
    assert generate(root, source=source, step=step, out="out/start.zarr").code == 0
    assert content(root / "out/s.zarr") == content(root / "out/start.zarr")
    assert COMPLETE in generate(root, source=source, step=step).out
    verified = wilss_masks("verify", root / "out/s.zarr", "--manifest", root / "data_manifest.yaml")
    assert verified.code == 0, verified.said


def test_other_names_give_the_values_of_labels_another_meaning(root: Path) -> None:
    as_data_set(root, ("background", "cat", "dog", "horse"))
    assert generate(root, source="annotation", step=0).code == 0
    as_data_set(root, ("background", "dog", "cat", "horse"))
    refused = generate(root, source="annotation", step=0)
    assert refused.code == 1
    assert 'data.names.1: "dog" asked for, "cat" in the store' in refused.err
    assert REFUSED in refused.err
    assert generate(root, "--update", source="annotation", step=0).code == 0
    assert generate(root, source="annotation", step=0, out="out/start.zarr").code == 0
    assert content(root / "out/s.zarr") == content(root / "out/start.zarr")


def test_shapes_of_a_json_are_compared_by_image(tmp_path: Path, made: list[int]) -> None:
    images = {f"im{i}.jpg": [disk.box(2, 2, 4, 4, 10)] for i in range(6)}
    file = disk.coco(tmp_path / "data", "train2017", images, disk.CLASSES[1:])
    disk.manifest(tmp_path, layout="coco", splits=None, encoders=None)
    assert generate(tmp_path, source="annotation", step=0).code == 0
    edited = json.loads(file.read_text())
    edited["annotations"][4] = {**edited["annotations"][4], **disk.box(8, 2, 4, 4, 10)}
    file.write_text(json.dumps(edited))
    refused = generate(tmp_path, source="annotation", step=0)
    assert f"1 label has changed: {file} (im4)" in refused.err
    made.clear()
    assert generate(tmp_path, "--update", source="annotation", step=0).code == 0
    assert made == [1]
    (mask,) = MaskStore.open(tmp_path / "out/s.zarr").read("im4").masks
    assert np.flatnonzero(mask.any(axis=0)).tolist() == [8, 9, 10, 11]


def test_a_change_that_keeps_size_and_time_takes_check_digests(root: Path) -> None:
    path = label_of(root, "im4")
    for column in (1, 2):
        pixels = np.zeros(SIZES[1], np.uint8)
        pixels[:, column] = 2
        Image.fromarray(pixels).save(path, compress_level=0)
        os.utime(path, ns=(10**18, 10**18))
        if column == 1:
            assert generate(root, source="annotation", step=0).code == 0
    assert COMPLETE in generate(root, source="annotation", step=0).out
    refused = generate(root, "--check-digests", source="annotation", step=0)
    assert refused.code == 1
    assert f"1 label has changed: {path}" in refused.err
    words = ("verify", root / "out/s.zarr", "--manifest", root / "data_manifest.yaml")
    assert wilss_masks(*words).code == 0
    assert wilss_masks(*words, "--check-digests").code == 1


@pytest.mark.parametrize("lost", [False, True])
def test_a_copied_data_folder_is_read_once_and_found_the_same(root: Path, read: list[str], lost: bool) -> None:
    assert generate(root).code == 0
    if lost:
        (root / "out/s.zarr.stamps").unlink()
    else:
        age(root, seconds=5)
    read.clear()
    assert COMPLETE in generate(root).out
    assert len(read) == len(IMAGES)
    read.clear()
    assert COMPLETE in generate(root).out
    assert not read


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The images whose files are read to compare them with what masks were made of."""
    names: list[str] = []
    of = contents.content_of

    def noted(record: ImageRecord, made_of: contents.MadeOf) -> int:
        names.append(record.image_id)
        return of(record, made_of)

    monkeypatch.setattr(contents, "content_of", noted)
    return names


def test_what_a_run_made_that_was_stopped_is_not_read_again(
    root: Path, monkeypatch: pytest.MonkeyPatch, read: list[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(MaskStoreWriter, "seal", lambda writer: (_ for _ in ()).throw(OSError(5, "unplugged")))
        assert generate(root).code == 1
        read.clear()
        assert generate(root).code == 1
        assert not read
        (root / "out/s.zarr.stamps").unlink()  # as after a kill
        assert generate(root).code == 1
        assert len(read) == len(IMAGES)
    read.clear()
    assert generate(root).code == 0
    assert not read
    assert generate(root, out="out/start.zarr").code == 0
    assert content(root / "out/s.zarr") == content(root / "out/start.zarr")


def test_an_update_reads_every_file_once(root: Path, read: list[str], made: list[int]) -> None:
    assert generate(root).code == 0
    replaced_image(root)
    made.clear()
    read.clear()
    assert generate(root, "--update", "--check-digests").code == 0
    assert made == [1]
    assert sorted(read) == sorted(IMAGES)


def test_stamps_of_another_store_tell_nothing(root: Path) -> None:
    assert generate(root, source="annotation", step=0).code == 0
    shutil.copytree(root / "out/s.zarr", root / "old.zarr")
    fixed_label(root)
    age(root)
    assert generate(root, "--update", source="annotation", step=0).code == 0
    shutil.rmtree(root / "out/s.zarr")
    shutil.copytree(root / "old.zarr", root / "out/s.zarr")
    assert "1 label has changed" in generate(root, source="annotation", step=0).err


def test_a_run_that_was_stopped_does_not_go_on_over_a_change(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(MaskStoreWriter, "seal", lambda writer: (_ for _ in ()).throw(OSError(5, "unplugged")))
        assert generate(root, source="annotation", step=0).code == 1
    fixed_label(root)
    refused = generate(root, source="annotation", step=0)
    assert f"1 label has changed: {label_of(root, 'im4')}" in refused.err
    assert generate(root, "--update", source="annotation", step=0).code == 0
    assert generate(root, source="annotation", step=0, out="out/start.zarr").code == 0
    assert content(root / "out/s.zarr") == content(root / "out/start.zarr")


def test_a_label_decides_also_of_images_that_had_none_of_the_classes_or_no_label(root: Path, made: list[int]) -> None:
    (label_of(root, "im1")).rename(root / "im1.png")  # without labels
    path = root / "data/ImageSets/Main/dog_train.txt"
    path.write_text(path.read_text().replace("im3  1", "im3 -1"))  # without a tag of the step
    disk.label(label_of(root, "im3"), [3], SIZES[0])
    np.save(root / "data/train.npy", np.arange(len(IMAGES)))  # a selection, taken as it is
    in_manifest(root, splits={"train": {"list": "train.npy", "into": "train"}})
    age(root)
    assert generate(root, source="annotation", step=0).code == 0
    assert COMPLETE in generate(root, source="annotation", step=0).out
    disk.label(label_of(root, "im3"), [0, 1], SIZES[0])
    refused = generate(root, source="annotation", step=0)
    assert f"1 label has changed: {label_of(root, 'im3')}" in refused.err
    (root / "im1.png").rename(label_of(root, "im1"))
    assert "2 labels have changed" in generate(root, source="annotation", step=0).err
    made.clear()
    assert generate(root, "--update", source="annotation", step=0).code == 0
    assert made == [0, 1]
    assert generate(root, source="annotation", step=0, out="out/start.zarr").code == 0
    assert content(root / "out/s.zarr") == content(root / "out/start.zarr")


def test_tags_that_changed_beside_labels_are_told_as_that(root: Path) -> None:
    """Of a tag that the label does not bear out, it is known whose it was."""

    def change(name: str, before: str, after: str) -> None:
        path = root / f"data/ImageSets/Main/{name}_train.txt"
        path.write_text(path.read_text().replace(before, after))

    def told(before: str, after: str) -> str:
        change("dog", before, after)
        return generate(root, source="annotation", step=0).err.partition("images and tags: ")[2].partition("\n")[0]

    for name in ("im1", "im3"):
        change("cat", f"{name} -1", f"{name}  1")
    disk.label(label_of(root, "im1"), [1], SIZES[1])
    assert generate(root, source="annotation", step=0).code == 0
    assert told("im3  1", "im3 -1") == "tags of classes that their labels show, or of other steps"
    assert told("im0 -1", "im0  1") == "other tags of 1 image (im0)"
    assert told("im1  1", "im1 -1") == "other tags of 2 images (im0, im1)"


def test_what_is_gone_has_not_changed(root: Path) -> None:
    assert generate(root).code == 0
    (root / "data/JPEGImages/im4.jpg").rename(root / "im4.jpg")
    assert COMPLETE in generate(root, "--check-digests").out


def test_an_older_store_is_read_and_said_to_know_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def older_plan(**words: Any) -> MaskPlan:
        return make_plan(**{**words, "has_content": False})

    def older_attributes(*words: Any) -> dict[str, Any]:
        return {name: value for name, value in attributes_of(*words).items() if name not in ("made_of", "data")}

    with monkeypatch.context() as patch:
        patch.setattr("wilss_masks.make.request.make_plan", older_plan)
        patch.setattr("wilss_masks.make.generate.attributes_of", older_attributes)
        assert generate(root).code == 0
    again = generate(root)
    assert COMPLETE in again.out
    assert "was begun by an older wilss" in again.err
    verified = wilss_masks("verify", root / "out/s.zarr", "--manifest", root / "data_manifest.yaml")
    assert verified.code == 0
    assert "nobody can know whether they are still the same" in verified.out
    assert generate(root, "--update").code == 0
    assert generate(root, out="out/start.zarr").code == 0
    assert content(root / "out/s.zarr") == content(root / "out/start.zarr")


def test_of_many_that_changed_three_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = [ImageRecord(image_id=f"{i}", path=tmp_path / f"{i}.jpg", tags=()) for i in range(9)]
    named: list[str] = []
    name = changes._named
    monkeypatch.setattr(changes, "_named", lambda record, kind: named.append(record.image_id) or name(record, kind))
    nothing = np.zeros(9, np.uint64)
    told = changes.Comparison(
        made_of="images", rows=np.arange(9)[::-1], changed=np.arange(1, 9), resized=np.array([1, 2, 3, 4]),
        contents=nothing, stamps=nothing,
    )  # fmt: skip
    wanted = [f"4 images have {how}: %s, %s, %s, ..." for how in ("changed", "another size")]
    paths = [str(records[row].path) for row in (3, 2, 1, 7, 6, 5)]
    assert told.sentence(records) == "; ".join(wanted) % tuple(paths)
    assert named == ["3", "2", "1"]
