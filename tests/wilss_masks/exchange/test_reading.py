"""What was drawn and said in other tools, as corrections; and a sentence for what does not fit."""

import json
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.wilss_masks.exchange.drawn import CLASSES, ring, store_of
from wilss.data.annotations.runs import packed_brush, runs_by_rows
from wilss.data.taxonomy import VOID
from wilss.errors import ManifestError
from wilss.store import MaskStore
from wilss_masks.exchange import Reading, read
from wilss_masks.exchange.cvat import export_cvat
from wilss_masks.exchange.fiftyone import export_fiftyone
from wilss_masks.exchange.folders import export_voc
from wilss_masks.exchange.labelme import export_labelme
from wilss_masks.exchange.panoptic import export_panoptic
from wilss_masks.review.corrections import TIME_UNKNOWN

LEFT, RIGHT = np.indices((6, 7))[1] < 3, np.indices((6, 7))[1] >= 5


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> MaskStore:
    images = {"a/1": {1: ring(), 2: RIGHT}, "b/1": {1: LEFT}, "c": {3: LEFT}, "untagged": {}}
    return store_of(tmp_path_factory.mktemp("s") / "s.zarr", images)


def said(reading: Reading) -> list[tuple[str, int, str]]:
    return [(one.image_id, one.category, one.verdict) for one in reading]


# -- verdicts and masks ---------------------------------------------------------------------------------------


def edited(store: MaskStore, folder: Path, edit: Callable[[str], str]) -> Reading:
    out = folder / "a.xml"
    export_cvat(store, out)
    out.write_text(edit(out.read_text(encoding="utf-8")), encoding="utf-8")
    return read(out, store)


def test_verdicts_of_cvat_come_back_beside_masks(store: MaskStore, tmp_path: Path) -> None:
    """Of a/1 the first is accepted and the second gone; of b/1 the only one is rejected, of c it is another one."""

    def edit(text: str) -> str:
        one, two, b, c = (line for line in text.splitlines() if "<mask" in line)
        text = text.replace(one, one.replace(">unjudged<", ">accepted<")).replace(two + "\n", "")
        text = text.replace(b, b.replace(">unjudged<", ">rejected<"))
        runs = ", ".join(map(str, runs_by_rows(~LEFT).tolist()))
        where = f'<mask label="{CLASSES[3]}" rle="{runs}" left="0" top="0" width="7" height="6"/>'
        return text.replace(c, where)

    reading = edited(store, tmp_path, edit)
    found = list(reading)
    assert [(one.image_id, one.category, one.verdict) for one in found] == [
        ("a/1", 1, "accepted"), ("a/1", 2, "rejected"), ("b/1", 1, "rejected"), ("c", 3, "corrected"),
    ]  # fmt: skip
    assert found[3].mask is not None
    np.testing.assert_array_equal(found[3].mask, ~LEFT)
    assert {(one.author, one.at, one.origin) for one in found} == {("", TIME_UNKNOWN, "cvat")}
    assert not reading.problems
    assert reading.notes == [
        f"{tmp_path}/a.xml: masks of the store are missing, 1 in 1 image (a/1), and count as rejected."
    ]


def test_images_are_counted_once_however_many_of_their_masks_are_missing(store: MaskStore, tmp_path: Path) -> None:
    def edit(text: str) -> str:
        return "\n".join(line for line in text.splitlines() if "<mask" not in line)

    reading = edited(store, tmp_path, edit)
    assert len(said(reading)) == 4
    assert "masks of the store are missing, 4 in 3 images (a/1, b/1, c), and count as rejected." in reading.notes[0]


def test_a_shape_of_an_unknown_class_may_be_of_the_one_that_is_missing(store: MaskStore, tmp_path: Path) -> None:
    """Only in its own image; and all the same in every form."""

    def edit(text: str) -> str:
        one, _, b, _ = (line for line in text.splitlines() if "<mask" in line)
        return text.replace(one, one.replace(f'"{CLASSES[1]}"', '"mug"')).replace(b + "\n", "")

    reading = edited(store, tmp_path, edit)
    assert said(reading) == [("b/1", 1, "rejected")]
    assert "'mug' is no class of" in reading.problems[0]
    assert reading.notes[:2] == [
        f"{tmp_path}/a.xml: masks of the store are missing, 1 in 1 image (b/1), and count as rejected.",
        f"{tmp_path}/a.xml: masks of the store are missing, 1 in 1 image (a/1), beside shapes of an unknown class that "
        "may be theirs; they are left as they are.",
    ]
    export_labelme(store, tmp_path / "lm")
    path = tmp_path / "lm/c.json"
    path.write_text(json.dumps({**(document := json.loads(path.read_text(encoding="utf-8"))),
                                "shapes": [{**document["shapes"][0], "label": "mug"}]}), encoding="utf-8")  # fmt: skip
    assert said(read(tmp_path / "lm", store)) == []


def test_a_class_that_the_file_does_not_know_is_left_as_it_is(store: MaskStore, tmp_path: Path) -> None:
    def edit(text: str) -> str:
        kept = "\n".join(line for line in text.splitlines() if "<mask" not in line)
        return kept.replace("<label><name>cat</name>", "<label><name>dog</name>")

    assert said(edited(store, tmp_path, edit)) == [("a/1", 2, "rejected"), ("c", 3, "rejected")]


def test_who_and_when_come_from_the_file(store: MaskStore, tmp_path: Path) -> None:
    def edit(text: str) -> str:
        about = "<owner><username>boss</username></owner><assignee><username>ann</username></assignee>"
        text = text.replace("</task>", f"{about}</task><dumped>2026-03-01 10:00:00.5+00:00</dumped>")
        return text.replace(">unjudged<", ">accepted<")

    found = list(edited(store, tmp_path, edit))
    assert {(one.author, one.at) for one in found} == {("ann", datetime(2026, 3, 1, 10, 0, 0, 500_000, UTC))}


def label_studio(path: Path, *tasks: tuple[str, dict[str, Any]]) -> Path:
    content = [{"data": {"image": image}, "annotations": [annotation]} for image, annotation in tasks]
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def brush(mask: np.ndarray, *names: str, **more: Any) -> dict[str, Any]:
    size = {"original_height": mask.shape[0], "original_width": mask.shape[1]}
    value = {"format": "rle", "rle": packed_brush(mask), "brushlabels": list(names)}
    return {"id": "x", "type": "brushlabels", "to_name": "image", "value": value, **size, **more}


def test_what_was_submitted_in_label_studio_is_judged(store: MaskStore, tmp_path: Path) -> None:
    shape = {"completed_by": {"email": "ann@example.org"}, "updated_at": "2026-03-01T10:00:00Z"}
    path = label_studio(
        tmp_path / "t.json",
        ("/data/local-files/?d=photos/a/1.jpg", {**shape, "result": [brush(ring(), "cat")]}),
        ("/data/upload/3/0123abcd-c.jpg", {**shape, "result": []}),
        ("s3://bucket/x/b/1.png", {**shape, "result": [brush(RIGHT, "cat")], "was_cancelled": True}),
    )
    found = list(read(path, store))
    assert [(one.image_id, one.category, one.verdict) for one in found] == [
        ("a/1", 1, "accepted"), ("a/1", 2, "rejected"), ("c", 3, "rejected"),
    ]  # fmt: skip
    assert {(one.author, one.at, one.origin) for one in found} == {
        ("ann@example.org", datetime(2026, 3, 1, 10, tzinfo=UTC), "labelstudio")
    }


def test_names_and_choices_may_stand_in_results_of_their_own(store: MaskStore, tmp_path: Path) -> None:
    bare = brush(LEFT)
    del bare["value"]["brushlabels"]
    name = {"id": "x", "type": "labels", "value": {"labels": ["cat"]}}
    choice = {"id": "x", "type": "choices", "value": {"choices": ["rejected"]}}
    assert said(read(label_studio(tmp_path / "t.json", ("b/1.jpg", {"result": [bare, name, choice]})), store)) == [
        ("b/1", 1, "rejected")
    ]


def test_the_last_annotation_of_a_task_counts_or_the_true_one(store: MaskStore, tmp_path: Path) -> None:
    early = {"updated_at": "2026-01-01T00:00:00Z", "result": [brush(RIGHT, "cat")]}
    late = {"updated_at": "2026-02-01T00:00:00Z", "result": [brush(~LEFT, "cat")]}
    for annotations, mask in (((late, early), ~LEFT), ((late, {**early, "ground_truth": True}), RIGHT)):
        task = {"data": {"image": "b/1.jpg"}, "annotations": list(annotations)}
        (tmp_path / "t.json").write_text(json.dumps([task]), encoding="utf-8")
        (one,) = read(tmp_path / "t.json", store)
        assert one.mask is not None
        np.testing.assert_array_equal(one.mask, mask)


def test_predictions_that_nobody_looked_at_are_none(store: MaskStore, tmp_path: Path) -> None:
    task = {"data": {"image": "b/1.jpg"}, "predictions": [{"result": [brush(RIGHT, "cat")]}]}
    (tmp_path / "t.json").write_text(json.dumps([task]), encoding="utf-8")
    reading = read(tmp_path / "t.json", store)
    assert said(reading) == []
    assert "nobody has annotated an image in it" in reading.notes[0]


def test_flags_of_labelme_judge_a_shape_or_an_image(store: MaskStore, tmp_path: Path) -> None:
    export_labelme(store, tmp_path / "out")
    for name, edit in (("a/1", '"rejected": false'), ("c", '"flags": {},\n')):
        file = tmp_path / f"out/{name}.json"
        text = file.read_text(encoding="utf-8")
        new = edit.replace("false", "true").replace("{}", '{"accepted": true}')
        assert edit in text
        file.write_text(text.replace(edit, new, 1), encoding="utf-8")
    assert said(read(tmp_path / "out", store)) == [("a/1", 1, "rejected"), ("c", 3, "accepted")]


def test_tags_of_fiftyone_judge_a_mask_or_an_image(store: MaskStore, tmp_path: Path) -> None:
    export_fiftyone(store, tmp_path / "out")
    file = tmp_path / "out/samples.json"
    samples = json.loads(file.read_text(encoding="utf-8"))
    samples["samples"][0]["masks"]["detections"][1]["tags"] = ["seen", "rejected"]
    samples["samples"][2]["tags"].append("accepted")
    file.write_text(json.dumps(samples), encoding="utf-8")
    assert said(read(tmp_path / "out", store)) == [("a/1", 2, "rejected"), ("c", 3, "accepted")]


def test_void_is_corrected_where_the_file_has_it(tmp_path: Path) -> None:
    void = np.eye(6, 7, dtype=bool)
    store = store_of(tmp_path / "s.zarr", {"a": {1: LEFT}}, void={"a": void})
    export_voc(store, tmp_path / "voc", grey=True)
    file = tmp_path / "voc/SegmentationClass/a.png"
    labels = np.array(Image.open(file))
    labels[0, 0] = 1
    Image.fromarray(labels).save(file)
    one, two = read(tmp_path / "voc", store)
    assert (one.category, two.category) == (1, VOID)
    assert one.mask is not None
    assert two.mask is not None
    np.testing.assert_array_equal(one.mask, labels == 1)
    np.testing.assert_array_equal(two.mask, labels == 255)


def test_an_image_without_tags_may_be_drawn_on(store: MaskStore, tmp_path: Path) -> None:
    path = label_studio(tmp_path / "t.json", ("untagged.jpg", {"result": [brush(RIGHT, "cat")]}))
    assert said(read(path, store)) == [("untagged", 1, "corrected")]


def test_ellipses_of_label_studio_and_cvat_are_the_pixels_inside(store: MaskStore, tmp_path: Path) -> None:
    """Of an image of 6 rows and 7 columns the columns 1 to 5 of row 2, which a quarter turn of rows 5 by 1 gives."""
    value = {"x": 50, "y": 250 / 6, "radiusX": 60 / 7, "radiusY": 260 / 6, "rotation": 90, "ellipselabels": ["cat"]}
    tasks = label_studio(tmp_path / "t.json", ("b/1.jpg", {"result": [{**brush(LEFT, "cat"), "value": value}]}))
    xml = tmp_path / "t.xml"
    xml.write_text(
        '<annotations><image name="b/1.jpg" width="7" height="6"><ellipse label="cat" cx="3.5" cy="2.5" rx="0.6" '
        'ry="2.6" rotation="90"/></image></annotations>'
    )
    for path in (tasks, xml):
        reading = read(path, store)
        (one,) = reading
        assert (one.image_id, one.verdict, reading.problems) == ("b/1", "corrected", [])
        assert np.argwhere(np.asarray(one.mask)).tolist() == [[2, column] for column in range(1, 6)]


# -- what does not fit ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "result", "told"),
    [
        ("unknown.jpg", brush(LEFT, "cat"), "'unknown.jpg' is no image of"),
        ("1.jpg", brush(LEFT, "cat"), "or could be several"),
        ("c.png", brush(LEFT, "cat"), "'c.png' is 'c', which was there before; only the first is read."),
        ("b/1.jpg", brush(np.ones((3, 3), bool), "cat"), "'b/1' is 3 x 3 pixels there and 7 x 6 in"),
        ("b/1.jpg", brush(LEFT, "horse"), "'horse' is no class of"),
        ("b/1.jpg", brush(LEFT, "cat", image_rotation=90), "turned in Label Studio"),
        ("b/1.jpg", brush(np.zeros((6, 7), bool), "cat"), "it covers no pixel"),
        ("b/1.jpg", {**brush(LEFT, "cat"), "value": {"rle": [1, 2], "brushlabels": ["cat"]}}, "its run lengths are of"),
        ("b/1.jpg", {**brush(LEFT, "cat"), "value": {"points": [[1]], "polygonlabels": ["cat"]}}, "no pairs"),
        ("b/1.jpg", {**brush(LEFT, "cat"), "value": {"radiusX": 3, "ellipselabels": ["cat"]}}, "not understood: 'x'"),
        ("b/1.jpg", {**brush(LEFT, "cat"), "value": {"x": 3, "y": 4, "keypointlabels": ["cat"]}}, "kind 'point', "),
        ("b/1.jpg", {**brush(LEFT, "cat"), "value": {"width": 9, "rectanglelabels": ["cat"]}}, "not understood: 'x'"),
        ("b/1.jpg", {**brush(LEFT, "cat"), "value": {"choices": True}}, "'b/1': is not as the tool writes it: 'bool'"),
    ],
)
def test_a_sentence_for_what_does_not_fit_and_the_rest_goes_on(
    store: MaskStore, tmp_path: Path, image: str, result: dict[str, Any], told: str
) -> None:
    """No correction comes from it, nor that b/1 shows no cat where its shape is of an unknown class."""
    tasks = [("c.jpg", {"result": [brush(RIGHT, CLASSES[3])]}), (image, {"result": [result]})]
    path = label_studio(tmp_path / "t.json", *tasks)
    reading = read(path, store)
    found = said(reading)
    assert found[0] == ("c", 3, "corrected")
    assert found[1:] == []
    (problem,) = reading.problems
    assert problem.startswith(f"{path}: ")
    assert told in problem
    assert problem.endswith(".")


def test_boxes_count_as_filled_and_that_is_told(store: MaskStore, tmp_path: Path) -> None:
    export_cvat(store, tmp_path / "a.xml", shapes="box")
    reading = read(tmp_path / "a.xml", store)
    assert said(reading) == [("a/1", 1, "corrected")]  # the others are boxes
    assert reading.notes[0] == f"{tmp_path}/a.xml: 4 boxes without an outline count as filled."


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.xml", b"<annotations><image", "cannot be read"),
        ("a.xml", b'<!DOCTYPE a [<!ENTITY x "y">]><annotations/>', "declares a document type"),
        ("a.xml", b'<annotations><track id="0"/></annotations>', "CVAT for video"),
        ("a.json", b"{", "no whole json"),
        ("a.json", b'{"a": 1}', "no file of an annotation tool"),
        ("a.json", b'[{"image": "x"}]', "not as JSON-MIN"),
        ("a.json", b'{"samples": 3}', "no list of samples"),
        ("a.txt", b"", "no file of an annotation tool"),
        ("a.zip", b"", "damaged or incomplete"),
        ("a.zip", b"PK\x03\x04 and so on", "damaged or incomplete"),
        ("a.parquet", b"PAR1", "cannot be read"),
    ],
)
def test_files_of_no_use_are_refused_in_a_sentence(
    store: MaskStore, tmp_path: Path, name: str, content: bytes, told: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ManifestError, match=told):
        list(read(tmp_path / name, store))


def test_an_image_whose_json_is_not_the_tools_is_a_problem_of_its_own(store: MaskStore, tmp_path: Path) -> None:
    """Its masks do not count as missing."""
    export_fiftyone(store, tmp_path / "out")
    samples = json.loads((tmp_path / "out/samples.json").read_text(encoding="utf-8"))
    samples["samples"][0]["masks"]["detections"] = True
    (tmp_path / "out/samples.json").write_text(json.dumps(samples), encoding="utf-8")
    export_panoptic(store, tmp_path / "p.json")
    panoptic = json.loads((tmp_path / "p.json").read_text(encoding="utf-8"))
    panoptic["annotations"][0]["segments_info"][0]["category_id"] = []
    (tmp_path / "p.json").write_text(json.dumps(panoptic), encoding="utf-8")
    for name in ("out", "p.json"):
        reading = read(tmp_path / name, store)
        assert said(reading) == []
        (problem,) = reading.problems
        assert "'a/1': is not as the tool writes it: " in problem


def test_a_zip_that_is_damaged_anywhere_is_refused_in_a_sentence(store: MaskStore, tmp_path: Path) -> None:
    """Every byte of its heads, its names and its directory, and some of the packed xml; a byte may not matter."""
    export_cvat(store, tmp_path / "a.zip")
    whole = (tmp_path / "a.zip").read_bytes()
    path, told = tmp_path / "b.zip", []
    for where in [*range(60), *range(60, len(whole) - 90, 25), *range(len(whole) - 90, len(whole))]:
        for byte in (9, 255):
            path.write_bytes(whole[:where] + bytes([byte]) + whole[where + 1 :])
            try:
                list(read(path, store))
            except ManifestError as error:
                told.append(str(error))
    assert len(told) > 100
    assert all(str(path) in sentence for sentence in told)


def test_a_zip_without_annotations_and_a_missing_file_are_refused(store: MaskStore, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("labelmap.txt", "")
    for name, told in (("a.zip", "without annotations.xml"), ("b.zip", "is not there")):
        with pytest.raises(ManifestError, match=told):
            list(read(tmp_path / name, store))
