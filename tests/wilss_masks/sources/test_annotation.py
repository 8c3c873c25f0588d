"""Stores of pixel labels: the label decides what an image holds, whatever it is tagged with."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.wilss.data import data_on_disk as disk
from wilss.data.manifest import Manifest, load_manifest
from wilss.errors import ParameterError, StoreError
from wilss.store import MaskStore, Status
from wilss_masks.inspect.evaluate import evaluate
from wilss_masks.make.generate import generate
from wilss_masks.make.options import Options
from wilss_masks.make.summary import Summary
from wilss_masks.manifest_tools.check import check_manifest
from wilss_masks.sources.annotation import AnnotationSource
from wilss_masks.sources.fmwiss import FmwissSource

#: Stands for a source that needs a manifest to be made.
CLASSES_OF_STEP_1 = object()


def described(folder: Path, tags: str, labels: dict[str, tuple[int, ...]], **changes: Any) -> Manifest:
    """A plain folder with tags from a csv. labels: columns of classes by image; one that is missing has none."""
    for row in tags.splitlines():
        disk.image(folder / f"data/images/{row.split(',')[0]}.png")
    for name, values in labels.items():
        disk.label(folder / f"data/labels/{name}.png", values)
    disk.text(folder / "data/tags.csv", tags)
    more = {"layout": "folder", "splits": {"train": "all"}, "tags": {"from": "csv", "file": "tags.csv"}, **changes}
    return load_manifest(disk.manifest(folder, **more))


def made(manifest: Manifest, out: Path, **options: Any) -> Summary:
    source = AnnotationSource.from_manifest(manifest, 0)
    return generate(manifest, step=0, source=source, out=out, options=Options(shard_size=2, **options))


def test_a_class_that_is_labelled_but_not_tagged_keeps_its_pixels(tmp_path: Path) -> None:
    manifest = described(tmp_path, "a,cat\nb,cat;dog\n", {"a": (1, 2, 2), "b": (2,)})
    made(manifest, tmp_path / "m.zarr")
    store = MaskStore.open(tmp_path / "m.zarr")
    assert store.vector("tags").tolist() == [[True, True], [True, True]]
    high = disk.SIZE[0]
    assert store.vector("area").tolist() == [[high, 2 * high], [0, high]]
    assert store.read("a").masks[1, :, 1:3].all()
    assert store.vector("confidence")[0].tolist() == [1.0, 1.0]


def test_an_image_without_a_tag_of_the_step_is_made_where_its_label_holds_one(tmp_path: Path) -> None:
    """An index list is a selection already, so that tags leave out nobody."""
    np.save(tmp_path / "chosen.npy", np.array([0, 1]))
    disk.text(tmp_path / "all.txt", "a", "b")
    split = {"train": {"list": "chosen.npy", "into": "all.txt"}}
    manifest = described(tmp_path, "a,horse\nb,horse\n", {"a": (2,), "b": (3,)}, splits=split)
    summary = made(manifest, tmp_path / "m.zarr")
    assert (summary.done, summary.untagged) == (1, 1)
    assert MaskStore.open(tmp_path / "m.zarr").read("a").categories == (1,)


def test_labels_become_masks_without_waiting_for_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for opened in ("resolve_device", "use_threads"):
        monkeypatch.setattr(f"wilss_masks.make.job.{opened}", lambda *given: pytest.fail("asked for torch"))
    assert made(described(tmp_path, "a,cat\n", {"a": (1,)}), tmp_path / "m.zarr").done == 1


def test_images_without_labels_are_no_failures(tmp_path: Path) -> None:
    manifest = described(tmp_path, "a,cat\nb,cat\nc,dog\n", {"a": (1,)})
    summary = made(manifest, tmp_path / "m.zarr")
    assert (summary.done, summary.failed, summary.unlabelled) == (1, {}, 2)
    store = MaskStore.open(tmp_path / "m.zarr")
    assert store.vector("status").tolist() == [Status.DONE, Status.UNLABELLED, Status.UNLABELLED]
    with pytest.raises(StoreError, match="its status is unlabelled"):
        store.read("b")
    assert made(manifest, tmp_path / "m.zarr").made_now == 0


def test_a_step_of_which_no_image_has_labels_is_refused(tmp_path: Path) -> None:
    manifest = described(tmp_path, "a,cat\nb,dog\n", {})
    with pytest.raises(StoreError, match="none of the 2 images of step 0 has pixel labels .*supervision: tags"):
        made(manifest, tmp_path / "m.zarr")


def test_labels_that_cannot_be_read_fail_alone(tmp_path: Path) -> None:
    manifest = described(tmp_path, "a,cat\nb,dog\n", {"a": (1,), "b": (2,)})
    (tmp_path / "data/labels/b.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    summary = made(manifest, tmp_path / "m.zarr")
    assert (summary.done, list(summary.failed)) == (1, ["b"])


def test_a_class_that_is_tagged_and_labelled_nowhere_is_told(tmp_path: Path) -> None:
    manifest = described(tmp_path, "a,cat;dog\nb,cat\n", {"a": (1,), "b": (1,)})
    for _ in range(2):  # also by a run that finds the store complete
        (told,) = made(manifest, tmp_path / "m.zarr").warnings
        assert "'dog' is tagged in 1 image and no mask shows it: compare their tags" in told
    report = check_manifest(manifest)
    assert any("step 0: 'dog' is tagged in 1 image and labelled in none" in warning for warning in report.warnings)
    assert any("step 1: no image is tagged 'horse'" in warning for warning in report.warnings)
    judged = evaluate(MaskStore.open(tmp_path / "m.zarr"), manifest)
    assert any("'dog' is tagged in 1 of the counted images, and labelled in none" in told for told in judged.warnings)


def test_a_class_without_any_image_is_told(tmp_path: Path) -> None:
    manifest = described(tmp_path, "a,cat\n", {"a": (1,)})
    (told,) = made(manifest, tmp_path / "m.zarr").warnings
    assert "no image of step 0 is tagged 'dog'" in told


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (
            AnnotationSource(category_ids=(2, 1)),
            r"the source 'annotation' is for 2 classes \('dog', 'cat'\), and step 0 of pets brings 2 classes \('cat', ",
        ),
        (
            AnnotationSource(category_ids=(1, 9)),
            r"for 2 classes \(\.\.\., 'id 9'\), and step 0 of pets brings 2 classes \(\.\.\., 'dog'\); make it by",
        ),
        (
            AnnotationSource(category_ids=(1, 2, 3)),
            r"for 3 classes \('cat', 'dog', 'horse'\), and step 0 of pets brings 2 classes \('cat', 'dog'\)",
        ),
        (
            CLASSES_OF_STEP_1,
            r"the source 'fmwiss' is for 1 class \('horse'\), and step 0 of pets brings 2 classes \('cat', 'dog'\)",
        ),
        (
            "annotation",
            r"a source is an object such as wilss_masks\.FmwissSource\.from_manifest\(manifest, step=0\), n",
        ),
        (AnnotationSource, r"a source is an object such as .*, not <class '.*\.AnnotationSource'>; make one"),
    ],
)
def test_a_source_of_other_classes_than_the_steps_is_refused(tmp_path: Path, source: Any, told: str) -> None:
    """Their masks would lie in the store under the names of the step's classes."""
    manifest = described(tmp_path, "a,cat\n", {"a": (1, 2)})
    source = FmwissSource.from_manifest(manifest, 1) if source is CLASSES_OF_STEP_1 else source
    with pytest.raises(ParameterError, match=told):
        generate(manifest, step=0, source=source, out=tmp_path / "m.zarr")
    assert not (tmp_path / "m.zarr").exists()
