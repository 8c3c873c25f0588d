"""`audit` on drawings with errors of every kind, its scores, its page, and the command with its exit codes."""

import json
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result
from PIL import Image

from tests.wilss_masks.stores import CLASS_NAMES as STORE_NAMES
from tests.wilss_masks.stores import IMAGES, make_annotation_store, make_manifest, make_store
from wilss.data.manifest import Manifest, load_manifest
from wilss.data.protocol import StepProtocol
from wilss.data.shapes.drawing import draw
from wilss.data.shapes.outlines import CLASS_NAMES
from wilss.errors import CheckpointError, ManifestError
from wilss.models.networks.checkpoint import write_model
from wilss.models.networks.segmenter import build
from wilss.models.networks.spec import SegmenterSpec
from wilss.store import MaskStore
from wilss_masks import AnnotationSource, audit, generate
from wilss_masks.auditing import evidence as evidence_module
from wilss_masks.auditing import hashes as hashes_module
from wilss_masks.auditing.decisions import class_findings, error_scores, tag_doubts
from wilss_masks.auditing.evidence import FACTS, Evidence, Item, evidence_of
from wilss_masks.auditing.findings import KINDS, Audit, ErrorScores
from wilss_masks.auditing.hashes import hashes_of, numbers_of
from wilss_masks.auditing.page import render
from wilss_masks.auditing.predictors import predictor_of
from wilss_masks.cli import cli

DRAWINGS = [draw(3, number) for number in range(10)]
NAMES = [f"p{number}" for number in range(10)]
TRAIN, VAL = NAMES[:7], NAMES[7:]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WILSS_CACHE", str(tmp_path / "cache"))


def tags_of(number: int) -> list[str]:
    return [CLASS_NAMES[identity] for identity in DRAWINGS[number].tags]


def other_than(number: int) -> str:
    return next(name for name in CLASS_NAMES[1:] if name not in tags_of(number))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten drawings with their labels and tags, seven to train on and three to judge on."""
    data = tmp_path / "data"
    (data / "labels").mkdir(parents=True)
    (data / "images").mkdir()
    for name, drawing in zip(NAMES, DRAWINGS, strict=True):
        Image.fromarray(drawing.image).save(data / f"images/{name}.jpg", quality=95)
        Image.fromarray(drawing.label).save(data / f"labels/{name}.png")
    write_tags(tmp_path)
    write_lists(tmp_path, TRAIN, VAL)
    content = {
        "schema_version": 1,
        "name": "drawn",
        "path": "./data",
        "layout": "folder",
        "names": list(CLASS_NAMES),
        "splits": {"train": "train.txt", "val": "val.txt"},
        "tags": {"from": "csv", "file": "tags.csv"},
        "steps": [{"classes": list(range(1, len(CLASS_NAMES))), "supervision": "pixel"}],
    }
    (tmp_path / "data_manifest.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return tmp_path


def write_tags(folder: Path, **changed: list[str]) -> None:
    tags = {name: tags_of(number) for number, name in enumerate(NAMES)} | changed
    rows = [f"{name}.jpg,{';'.join(names)}\n" for name, names in tags.items()]
    (folder / "data/tags.csv").write_text("".join(rows), encoding="utf-8")


def write_lists(folder: Path, train: list[str], val: list[str]) -> None:
    for split, names in (("train", train), ("val", val)):
        (folder / f"data/{split}.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def copied(folder: Path, name: str, copy: str, **how: Any) -> None:
    """A copy of a picture without labels. how: turn, scale, quality."""
    picture: Image.Image = Image.open(folder / f"data/images/{name}.jpg")
    if "turn" in how:
        picture = picture.transpose(how["turn"])
    if "scale" in how:
        picture = picture.resize((round(picture.width * how["scale"]), round(picture.height * how["scale"])))
    picture.save(folder / f"data/images/{copy}.jpg", quality=how.get("quality", 95))


def manifest_in(folder: Path) -> Manifest:
    return load_manifest(folder / "data_manifest.yaml")


def only(found: Audit, kind: str) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    return [(one.images, one.classes) for one in found.of(kind)]


# -- lists and pictures -----------------------------------------------------------------------------------------


def test_drawings_without_errors_are_clean(folder: Path) -> None:
    found = audit(manifest_in(folder))
    assert found.findings == ()
    assert found.images == 10
    assert list(found.counts) == list(KINDS)
    assert found.looked_at["lists"] == {"main, train": 7, "main, val": 3}
    scores = found.scores.as_json()
    assert set(scores) == set(TRAIN)
    assert all(value == 0 for row in scores.values() for value in row.values())


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({}, "alike"),
        ({"quality": 40}, "alike"),
        ({"scale": 0.6}, "alike"),
        ({"turn": Image.Transpose.FLIP_LEFT_RIGHT, "quality": 60}, "mirrored"),
        ({"turn": Image.Transpose.ROTATE_90}, "turned by 90 degrees"),
    ],
)
def test_a_copy_in_the_other_list_is_a_leak(folder: Path, how: dict[str, Any], said: str) -> None:
    copied(folder, "p2", "copy", **how)
    write_tags(folder, copy=tags_of(2))
    write_lists(folder, TRAIN, [*VAL, "copy"])
    found = audit(manifest_in(folder))
    assert only(found, "leaks") == [(("p2", "copy"), ())]
    assert said in found.of("leaks")[0].sentence
    assert found.of("leaks")[0].places == ("main, train", "main, val")
    assert not found.of("duplicates")


def test_the_same_pixels_in_another_file_are_told_as_such_and_within_a_list_are_duplicates(folder: Path) -> None:
    for copy in ("a", "b"):
        picture = Image.open(folder / "data/images/p2.jpg")
        picture.save(folder / f"data/images/{copy}.png")
    write_tags(folder, a=tags_of(2), b=[other_than(2)])
    write_lists(folder, [*TRAIN, "a", "b"], VAL)
    found = audit(manifest_in(folder))
    assert only(found, "duplicates") == [(("p2", "a"), ()), (("p2", "b"), ())]
    assert found.of("duplicates")[0].sentence == "p2 (main, train) and a (main, train) are the same pixels."
    (conflict,) = found.of("tag-conflicts")
    assert conflict.images == ("p2", "b")
    assert set(conflict.classes) == {*tags_of(2), other_than(2)}


def test_one_file_in_both_lists_is_a_leak(folder: Path) -> None:
    write_lists(folder, TRAIN, [*VAL, "p0"])
    found = audit(manifest_in(folder))
    assert only(found, "leaks") == [(("p0",), ())]
    assert "both lists" in found.of("leaks")[0].sentence


def test_two_lists_that_tag_an_image_otherwise(tmp_path: Path) -> None:
    from tests.wilss.data import data_on_disk as disk

    disk.voc(tmp_path / "data", {"a": (1,), "b": (2,)})
    disk.voc(tmp_path / "data", {"b": (1, 2), "c": (3,)}, split="val")
    found = audit(load_manifest(disk.manifest(tmp_path, splits={"train": "train", "val": "val"})), labels=False)
    conflicts = [one for one in found.of("tag-conflicts") if one.images == ("b",)]
    assert [one.sentence for one in conflicts] == ["b is tagged otherwise in main, train than in main, val: cat."]


def test_an_image_of_two_lists_is_looked_at_once(tmp_path: Path) -> None:
    from tests.wilss.data import data_on_disk as disk

    disk.voc(tmp_path / "data", {"a": (1,), "b": (2,)})
    disk.voc(tmp_path / "data", {"b": (2,), "c": (3,)}, split="more")
    steps = [{"classes": [1, 2]}, {"classes": [3], "split": "more"}]
    splits = {"train": "train", "more": "more"}
    found = audit(load_manifest(disk.manifest(tmp_path, splits=splits, steps=steps)), duplicates=False)
    assert found.looked_at["lists"] == {"main, train": 2, "main, more": 2}
    assert found.looked_at["tags_of"] == 3


def test_an_image_of_which_nobody_knows_what_it_shows_misses_no_tag(tmp_path: Path) -> None:
    from tests.wilss.data import data_on_disk as disk

    disk.voc(tmp_path / "data", {"a": (1,), "b": (2,), "c": (3,)})
    (tmp_path / "data/SegmentationClass/c.png").unlink()
    (tmp_path / "predicted").mkdir()
    for name, shown in {"a": 1, "b": 2, "c": 3}.items():
        disk.label(tmp_path / f"predicted/{name}.png", [shown])
    manifest = load_manifest(disk.manifest(tmp_path, tags="masks"))
    found = audit(manifest, predictions=tmp_path / "predicted", duplicates=False)
    assert (found.looked_at["tags_of"], found.findings) == (2, ())


def test_a_list_that_is_trained_on_and_judged_on_is_a_leak(tmp_path: Path) -> None:
    from tests.wilss.data import data_on_disk as disk

    disk.voc(tmp_path / "data", {"a": (1,), "b": (2,)})
    manifest = load_manifest(disk.manifest(tmp_path, evaluation={"val": [{"data": "main", "split": "train"}]}))
    (leak,) = audit(manifest, duplicates=False).findings
    assert (leak.kind, leak.sentence) == ("leaks", "main, train: 2 images, trained on and judged on.")


def test_steps_from_supports_alone_have_no_tags_to_look_at(tmp_path: Path) -> None:
    from tests.wilss.data import data_on_disk as disk

    disk.voc(tmp_path / "data", {"a": (1,)})
    steps = [{"classes": [1, 2, 3], "supervision": "shots"}]
    found = audit(load_manifest(disk.manifest(tmp_path, steps=steps)))
    assert found.looked_at["tags_of"] == 0
    assert "nothing is said of tags" in found.warnings[0]


def test_hashes_are_kept_and_read_again_only_where_a_file_changed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (folder / "data/images").iterdir():
        os.utime(path, (1, 1))
    records = list(manifest_in(folder).listing("main", "train").records)
    first = hashes_of(records, threads=1)
    with monkeypatch.context() as patch:
        patch.delattr(hashes_module, "read_image")
        again = hashes_of(records)
    np.testing.assert_array_equal(first.turns, again.turns)
    np.testing.assert_array_equal(first.digests, again.digests)
    Image.fromarray(DRAWINGS[9].image).save(folder / "data/images/p0.jpg")
    changed = hashes_of(records, threads=3)
    assert (changed.turns[0] != first.turns[0]).any()
    np.testing.assert_array_equal(changed.turns[1:], first.turns[1:])


def test_an_audit_that_stopped_resumes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (folder / "data/images").iterdir():
        os.utime(path, (1, 1))
    records = list(manifest_in(folder).listing("main", "train").records)
    monkeypatch.setattr(hashes_module, "_SAVED_EVERY", 2)

    stopped, begun = threading.Event(), list[int]()

    def waits_after_four(image: Any) -> Any:
        begun.append(1)
        assert len(begun) <= 4 or stopped.wait(60)  # the thread that reads may be ahead of what is told
        return numbers_of(image)

    def stop(done: int, total: int) -> None:
        if done == 4:
            stopped.set()
            raise KeyboardInterrupt

    monkeypatch.setattr(hashes_module, "numbers_of", waits_after_four)
    with pytest.raises(KeyboardInterrupt):
        hashes_of(records, threads=1, progress=stop)
    read: list[int] = []
    monkeypatch.setattr(hashes_module, "numbers_of", lambda image: read.append(1) or numbers_of(image))
    hashes_of(records, threads=1)
    assert len(read) == len(records) - 4


def test_an_image_that_cannot_be_read_costs_itself(folder: Path) -> None:
    (folder / "data/images/p1.jpg").write_bytes(b"no picture")
    found = audit(manifest_in(folder))
    assert list(found.failed) == ["p1"]
    assert found.findings == ()


def test_many_equal_pictures_are_no_square_of_pairs() -> None:
    from wilss_masks.auditing import duplicates

    turns = np.zeros((400, 8), np.uint64)
    assert len(duplicates._candidates(turns)) < 400 * duplicates._COMPARED_WITH * 8


# -- tags ---------------------------------------------------------------------------------------------------------


def test_tags_are_held_against_labels(folder: Path) -> None:
    write_tags(folder, p0=[*tags_of(0), other_than(0)], p1=tags_of(1)[1:] or [other_than(1)])
    found = audit(manifest_in(folder))
    assert (("p0",), (other_than(0),)) in only(found, "unsupported-tags")
    assert (("p1",), (tags_of(1)[0],)) in only(found, "missing-tags")
    scores = found.scores.as_json()
    assert scores["p0"][other_than(0)] == 1
    assert scores["p1"][tags_of(1)[0]] == 1
    assert scores["p2"][tags_of(2)[0]] == 0
    assert not audit(manifest_in(folder), labels=False).findings


def test_predictions_of_a_folder_doubt_tags(folder: Path) -> None:
    """A class's own labels are taken for what a network predicted."""
    write_tags(folder, p0=[*tags_of(0), other_than(0)])
    shutil.move(folder / "data/labels", folder / "predicted")
    found = audit(manifest_in(folder), predictions=folder / "predicted")
    unsupported = only(found, "unsupported-tags")
    counts = sum(other_than(0) in tags_of(number) for number in range(7))
    assert ((("p0",), (other_than(0),)) in unsupported) or counts == 0
    assert found.looked_at["predictions"] == "predicted"
    assert found.scores.as_json()["p0"][other_than(0)] == 1


def test_classes_that_label_maps_never_show_are_warned_of_and_maps_of_none_refused(folder: Path) -> None:
    """Such as the new classes, where the maps are those of the step before."""
    name, identity = tags_of(0)[0], DRAWINGS[0].tags[0]
    shutil.move(folder / "data/labels", folder / "predicted")
    for path in (folder / "predicted").iterdir():
        label = np.array(Image.open(path))
        label[label == identity] = 0
        Image.fromarray(label).save(path)
    found = audit(manifest_in(folder), predictions=folder / "predicted", duplicates=False)
    (warning,) = found.warnings
    assert f"predicted shows {name} on no image" in warning
    for path in (folder / "predicted").iterdir():
        Image.fromarray(np.zeros_like(DRAWINGS[0].label)).save(path)
    with pytest.raises(ManifestError, match="says nothing of any image or class"):
        audit(manifest_in(folder), predictions=folder / "predicted", duplicates=False)


def test_a_map_of_another_size_than_the_label_costs_that_image(folder: Path) -> None:
    shutil.copytree(folder / "data/labels", folder / "predicted")
    Image.fromarray(DRAWINGS[0].label[:10, :10]).save(folder / "predicted/p0.png")
    found = audit(manifest_in(folder), predictions=folder / "predicted", duplicates=False)
    assert list(found.failed) == ["p0"]
    assert "its predictions 10 x 10" in found.failed["p0"]


def test_predictions_that_are_none_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ManifestError, match="holds no label maps"):
        audit(manifest_in(folder), predictions=tmp_path / "empty")
    with pytest.raises(ManifestError, match="neither a run"):
        audit(manifest_in(folder), predictions=tmp_path / "nowhere")
    (tmp_path / "other").mkdir()
    Image.fromarray(DRAWINGS[0].label).save(tmp_path / "other/unknown.png")
    with pytest.raises(ManifestError, match="says nothing of any image"):
        audit(manifest_in(folder), predictions=tmp_path / "other", duplicates=False)
    (tmp_path / "model.safetensors").write_bytes(b"{}")
    with pytest.raises(CheckpointError):
        audit(manifest_in(folder), predictions=tmp_path / "model.safetensors", duplicates=False)


def checkpoint(folder: Path, protocol: StepProtocol) -> Path:
    """A run whose network has learnt nothing."""
    spec = SegmenterSpec(
        backbone="resnet18", args={"channels": [4, 4, 4, 4]}, output_stride=16, head_width=4, rates=(1,),
        num_channels=len(protocol.seen(0)),
    )  # fmt: skip
    facts = {
        "method": "fmwiss", "step": 0, "mean": [0.5] * 3, "std": [0.5] * 3, "params": {}, "seed": 0, "iterations": 1,
        "parent_digest": None, "store_digest": None, "manifest_name": "drawn", "manifest_digest": "",
    }  # fmt: skip
    folder.mkdir()
    write_model(
        folder / "model.safetensors", build(spec, seed=0).state_dict(), spec=spec, protocol=protocol, facts=facts
    )
    return folder


def test_a_network_says_how_present_its_classes_are_and_is_refused_where_it_means_others(folder: Path) -> None:
    manifest = manifest_in(folder)
    run = checkpoint(folder / "run", manifest.protocol)
    predictor = predictor_of(run, manifest, (1, 2))
    record = manifest.listing("main", "train").records[0]
    predicted = predictor(record)
    assert predicted is not None
    assert predicted.labels.shape == DRAWINGS[0].label.shape
    assert set(predicted.present) == set(range(1, len(CLASS_NAMES)))
    assert all(0 < share < 1 for share in predicted.present.values())
    found = audit(manifest, predictions=run, duplicates=False, labels=False)
    assert all(0 <= score <= 1 for row in found.scores.as_json().values() for score in row.values())
    content = yaml.safe_load((folder / "data_manifest.yaml").read_text(encoding="utf-8"))
    content["names"][1:3] = content["names"][2:0:-1]
    (folder / "data_manifest.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"takes class 1 for 'star', and .* for 'heart'"):
        audit(manifest_in(folder), predictions=run, duplicates=False)


def test_an_image_that_is_gone_is_told(folder: Path) -> None:
    (folder / "data/images/p1.jpg").rename(folder / "elsewhere.jpg")
    assert list(audit(manifest_in(folder)).failed) == ["p1"]


def made_up(**facts: Any) -> Evidence:
    """Evidence of eight images and two classes, all of the first tagged with it, four with the second."""
    from wilss.data.layouts import ImageRecord

    shape = (8, 2)
    tags = np.zeros(shape, bool)
    tags[:, 0], tags[:4, 1] = True, True
    given = {name: np.full(shape, np.nan, np.float32) for name in FACTS}
    given |= {name: np.asarray(values, np.float32) for name, values in facts.items()}
    items = [Item(ImageRecord(image_id=f"i{n}", path=Path(f"i{n}.png")), n, "main, train") for n in range(8)]
    zero = np.zeros((3, 3), np.int64)
    return Evidence(
        items=items, class_ids=(1, 2), names=("cat", "dog"), tags=tags, facts=given, matrix=zero, images=zero,
        reference="",
    )  # fmt: skip


def test_a_score_far_below_what_is_usual_doubts_a_tag_unless_a_network_finds_the_class() -> None:
    score = np.full((8, 2), np.nan)
    score[:, 0], score[:4, 1] = 0.5, 0.5
    score[2, 0] = 0.1
    predicted = np.full((8, 2), 0.1)
    predicted[:4, 1] = 0.9
    doubts = tag_doubts(made_up(score=score))
    assert np.argwhere(doubts.unsupported).tolist() == [[2, 0]]
    assert doubts.error[2, 0] == pytest.approx(0.8)
    score[2, 0], score[2, 1] = 0.5, 0.1
    assert not tag_doubts(made_up(score=score, predicted=predicted)).unsupported.any()
    predicted[2, 1] = 0.05
    assert np.argwhere(tag_doubts(made_up(score=score, predicted=predicted)).unsupported).tolist() == [[2, 1]]


def test_an_empty_mask_and_a_mask_without_a_tag_and_labels_that_decide() -> None:
    area = np.full((8, 2), np.nan)
    area[:, 0] = 0.2
    area[3, 0], area[6, 1] = 0, 0.1
    doubts = tag_doubts(made_up(area=area))
    assert np.argwhere(doubts.unsupported).tolist() == [[3, 0]]
    assert np.argwhere(doubts.missing).tolist() == [[6, 1]]
    label = made_up().tags.astype(float)
    assert not tag_doubts(made_up(area=area, label=label)).unsupported.any()
    assert not tag_doubts(made_up(area=area, label=label)).missing.any()


def test_areas_whole_images_and_rims() -> None:
    rng = np.random.default_rng(0)
    area = np.full((8, 2), np.nan)
    area[:, 0] = rng.uniform(0.15, 0.25, 8)
    area[5, 0] = 0.0005
    area[:4, 1] = 1.0
    rim = np.full((8, 2), 0.1)
    rim[:4, 1] = 0.95
    kinds = [(one.kind, one.images, one.classes) for one in class_findings(made_up(area=area, rim=rim),
                                                                          tag_doubts(made_up(area=area)))]  # fmt: skip
    assert ("odd-areas", ("i5",), ("cat",)) in kinds
    assert [one for one in kinds if one[0] == "odd-masks"] == [("odd-masks", (), ("dog",))] * 2
    assert not [one for one in kinds if one[0] == "odd-areas" and one[1] != ("i5",)]
    (odd,) = (one for one in class_findings(made_up(area=area), tag_doubts(made_up(area=area)))
              if one.kind == "odd-areas")  # fmt: skip
    usual = np.median(area[:, 0])
    assert odd.sentence.endswith(f"covers 0.05 % of the image, where {100 * usual:.2g} % is usual.")
    scores = error_scores(made_up(area=area), tag_doubts(made_up(area=area))).as_json()
    assert scores["i5"]["cat"] > 0.5
    assert "dog" not in scores["i7"]


def test_tags_that_stand_for_another_class_are_confused_classes() -> None:
    label = made_up().tags.astype(float)
    label[4:7, 0], label[4:7, 1] = 0, 1
    evidence = made_up(label=label)
    found = [one for one in class_findings(evidence, tag_doubts(evidence)) if one.kind == "confused-classes"]
    assert [one.sentence for one in found] == ["3 images are tagged 'cat' and show 'dog' instead."]


def test_of_an_id_that_stands_there_twice_the_worse_score_is_told() -> None:
    values = np.array([[0.9, np.nan], [0.1, 0.2]], np.float32)
    scores = ErrorScores(image_ids=("a", "a"), classes=("cat", "dog"), values=values)
    assert scores.as_json() == {"a": {"cat": 0.9, "dog": 0.2}}


# -- masks of a store -----------------------------------------------------------------------------------------------


@pytest.fixture
def store(folder: Path) -> MaskStore:
    """Masks from labels to which errors were added: a speck, one class drawn as another."""
    label = np.array(Image.open(folder / "data/labels/p1.png"))
    identity = DRAWINGS[1].tags[0]
    rows, columns = np.nonzero(label == identity)
    far_row = 2 if rows.mean() > label.shape[0] / 2 else label.shape[0] - 4
    far_column = 2 if columns.mean() > label.shape[1] / 2 else label.shape[1] - 4
    changed = label.copy()
    changed[far_row : far_row + 2, far_column : far_column + 2] = identity
    Image.fromarray(changed).save(folder / "data/labels/p1.png")
    manifest = manifest_in(folder)
    source = AnnotationSource.from_manifest(manifest, step=0)
    generate(manifest, step=0, source=source, out=folder / "step-0.zarr")
    Image.fromarray(label).save(folder / "data/labels/p1.png")
    return MaskStore.open(folder / "step-0.zarr")


def test_masks_of_a_store_are_looked_at(folder: Path, store: MaskStore) -> None:
    found = audit(manifest_in(folder), store)
    name = CLASS_NAMES[DRAWINGS[1].tags[0]]
    assert only(found, "stray-parts") == [(("p1",), (name,))]
    assert found.scores.as_json()["p1"][name] > 0.2
    assert found.looked_at["held_against"] == "labels"
    assert (
        audit(manifest_in(folder), store, threads=1).as_json() == audit(manifest_in(folder), store, threads=4).as_json()
    )


def test_a_store_with_scores_is_held_against_them(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path / "images")
    store = make_store(tmp_path / "step-1.zarr")
    records = {record.image_id: record for record in manifest.records_}
    items = [Item(records[drawn.image_id], row, "voc, train") for row, drawn in enumerate(IMAGES) if row not in (3, 4)]
    found = evidence_of(items, store.category_ids, store.category_names, store=store, labels=False)
    assert found.reference == "scores"
    assert found.names == STORE_NAMES
    known = ~np.isnan(found.facts["score"])
    np.testing.assert_array_equal(known, store.vector("tags")[[0, 1, 2, 5]])
    assert found.matrix[1:, 1:].sum() > 0  # of the one image with two tags
    assert np.diagonal(found.matrix)[1:].sum() > 0.9 * found.matrix.sum()
    by_labels = evidence_of(items, store.category_ids, store.category_names, store=store)
    assert by_labels.reference == "labels"
    assert (by_labels.facts["disagreement"][known] < 1).all()

    class Nothing:
        name = "nothing"

        def __call__(self, record: Any) -> evidence_module.Prediction:
            label = record.label.read()
            return evidence_module.Prediction(np.zeros_like(label), {16: 0.5})

    without = [item._replace(row=-1) for item in items]
    beside = evidence_of(without, store.category_ids, store.category_names, store=store, predictor=Nothing())
    assert not beside.matrix.any(), "an image without masks says nothing of masks"
    annotated = make_annotation_store(tmp_path / "a.zarr")
    perfect = evidence_of(items, annotated.category_ids, annotated.category_names, store=annotated)
    assert np.nanmax(perfect.facts["disagreement"]) == 0
    assert perfect.images.tolist() == np.diag([4, 2, 1, 2]).tolist()


def test_predictions_of_another_size_cost_that_image(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path / "images", labelled=False)
    store = make_store(tmp_path / "step-1.zarr", keep=False)
    records = {record.image_id: record for record in manifest.records_}
    items = [Item(records[IMAGES[0].image_id], 0, "voc, train")]

    class Small:
        name = "small"

        def __call__(self, record: Any) -> evidence_module.Prediction:
            return evidence_module.Prediction(np.zeros((3, 3), np.uint8), {16: 0.5})

    found = evidence_of(items, store.category_ids, store.category_names, store=store, predictor=Small())
    assert "3 x 3 pixels" in found.failed["2007_000033"]


# -- the page and the command ---------------------------------------------------------------------------------------


def run(folder: Path, *words: Any) -> Result:
    given = ["audit", *map(str, words), "--manifest", str(folder / "data_manifest.yaml"), "--out", str(folder / "out")]
    return CliRunner().invoke(cli, given, catch_exceptions=False)


def test_the_command_writes_both_files_and_fails_on_what_it_is_asked(folder: Path, store: MaskStore) -> None:
    copied(folder, "p2", "copy", quality=50)
    write_tags(folder, copy=tags_of(2), p0=[*tags_of(0), other_than(0)])
    write_lists(folder, TRAIN, [*VAL, "copy"])
    assert run(folder).exit_code == 0
    result = run(folder, "--fail-on", "leaks,unsupported-tags=1")
    assert result.exit_code == 1
    assert "--fail-on asks: leaks (1)" in result.stderr
    assert "unsupported-tags  " in result.stdout
    assert "p0 is tagged" in result.stdout
    assert run(folder, "--fail-on", "duplicates,stray-parts,leaks=1").exit_code == 0
    assert run(folder, "--fail-on", "any").exit_code == 1
    assert run(folder, "--fail-on", "leeks").exit_code == 2
    document = json.loads((folder / "out/audit.json").read_text(encoding="utf-8"))
    assert document["counts"]["leaks"] == 1
    assert document["scores"]["p0"][other_than(0)] == 1
    quality = json.loads((folder / "out/quality.json").read_text(encoding="utf-8"))
    assert quality["p0"] == {name: pytest.approx(1 - score) for name, score in document["scores"]["p0"].items()}
    page = (folder / "out/audit.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg") >= 3
    assert "http" not in page.replace("http-equiv", "")
    piped = run(folder, "--json", "-", "--no-duplicates")
    assert json.loads(piped.stdout)["counts"]["leaks"] == 0


def test_the_command_names_what_comes_next(folder: Path, store: MaskStore) -> None:
    last = run(folder, store.path, "--no-duplicates").stdout.splitlines()[-1]
    assert last.startswith(f"Next: wilss-masks review {store.path} --label-quality {folder / 'out/quality.json'} ")


def test_exit_codes_of_what_could_not_run_and_of_images_that_failed(folder: Path) -> None:
    assert run(folder, folder / "nowhere.zarr").exit_code == 2
    (folder / "data/images/p1.jpg").write_bytes(b"no picture")
    result = run(folder)
    assert result.exit_code == 3
    assert "Failed: p1" in result.stderr
    assert "could not be looked at" in (folder / "out/audit.html").read_text(encoding="utf-8")


def test_the_page_shows_masks_and_escapes_what_comes_from_outside(folder: Path, store: MaskStore) -> None:
    found = audit(manifest_in(folder), store, duplicates=False)
    page = render(Audit(**{**vars(found), "title": "<b>"}), store)
    assert "<h1>&lt;b&gt;</h1>" in page
    assert "data:image/jpeg" in page
    shutil.rmtree(folder / "data/images")
    assert "data:image/jpeg" not in render(found, store)
