"""Figures of a checkpoint against loops over pixels, and the command that shows them."""

import io
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image

from tests.wilss_train.colours import NAMES, PROTOCOL, TAXONOMY, ColourNet, blocks, info, picture, save
from wilss.data.layouts import ImageRecord, Listing, Records, Selection
from wilss.data.protocol import StepProtocol
from wilss.data.taxonomy import VOID, Taxonomy
from wilss.equations.metrics import Scores
from wilss.errors import CheckpointError, ImageError, ManifestError
from wilss_train.commands.evaluate import command
from wilss_train.results.confusion_picture import draw_confusion
from wilss_train.results.evaluate import Evaluation, evaluate, read_labelled, wilson_view
from wilss_train.results.report.figures import row_shares

IDS = [[0, 1, 2], [4, 0], [3, 1], [0, 2, VOID, 4], [0], [3, 0]]


@dataclass(frozen=True)
class FixedLabel:
    labels: NDArray[np.uint8]

    def read(self) -> NDArray[np.uint8]:
        return self.labels


@dataclass(frozen=True)
class FakeData:
    layout: str = "folder"


@dataclass(frozen=True)
class FakeManifest:
    records: tuple[ImageRecord, ...]
    path: Path = Path("pets.yaml")
    taxonomy: Taxonomy = TAXONOMY
    protocol: StepProtocol = PROTOCOL

    def evaluation(self, split: str = "val") -> Selection:
        return Selection(records=self.records, warnings=("one image is listed twice.",))

    def list_of(self, step: int, split: str = "train") -> tuple[str, str]:
        return "main", split

    @property
    def data(self) -> dict[str, FakeData]:
        return {"main": FakeData()}

    def supervision(self, step: int) -> str:
        return "tags"

    def has_read(self, data: str, split: str, *, strictly: bool = False) -> bool:
        return not strictly

    def listing(self, data: str, split: str, *, lenient: bool | None = False) -> Listing:
        return Listing(records=Records(self.records[:2]))


@pytest.fixture
def records(tmp_path: Path) -> list[ImageRecord]:
    made = []
    for number, ids in enumerate(IDS):
        labels = blocks(ids, (24, 32 + 4 * (number % 2)))
        path = save(tmp_path / f"im{number}.png", picture(labels))
        made.append(ImageRecord(image_id=f"im{number}", path=path, label=FixedLabel(labels)))
    return made


def slow_matrix(records: list[ImageRecord], step: int) -> np.ndarray:
    """What a network at full resolution that knows the colours gives: pixel by pixel."""
    seen = PROTOCOL.seen(step)
    colours = [picture(np.array([[identity]], np.uint8))[0, 0].astype(float) for identity in seen]
    matrix = np.zeros((len(seen), len(seen)), int)
    for record in records:
        assert record.label is not None
        truth = record.label.read()
        shown = picture(truth).astype(float)
        for y in range(truth.shape[0]):
            for x in range(truth.shape[1]):
                true = int(truth[y, x])
                if true == VOID:
                    continue
                away = [((shown[y, x] - colour) ** 2).sum() for colour in colours]
                matrix[seen.index(true) if true in seen else 0, int(np.argmin(away))] += 1
    return matrix


@pytest.mark.parametrize("step", [0, 1, 2])
def test_the_matrix_is_a_loop_over_pixels(records: list[ImageRecord], step: int) -> None:
    told, progress = info(step), list[tuple[int, int]]()
    net = ColourNet(told.seen, stride=1)
    found = evaluate(net, told, records, batch_size=2, progress=lambda *at: progress.append(at))
    np.testing.assert_array_equal(found.scores.matrix, slow_matrix(records, step))
    assert found.scores.names == tuple(NAMES[identity] for identity in told.seen)
    assert found.counted == 6
    assert progress == [(done, 6) for done in range(7)]
    assert found.seconds > 0


def hand_made(step: int, matrix: list[list[int]]) -> Evaluation:
    told = info(step)
    scores = Scores(names=told.channel_names, matrix=np.array(matrix))
    return Evaluation(info=told, split="val", mode="full", scores=scores, counted=3, failed={}, seconds=2.0)


def test_old_new_and_all_by_hand() -> None:
    """Channels of step 1: background, dog, cat (old), cow (new)."""
    found = hand_made(1, [[6, 2, 0, 0], [0, 4, 0, 0], [0, 0, 0, 0], [1, 0, 0, 1]])
    background, dog, cow = 6 / 9, 4 / 6, 1 / 2
    assert found.old_iou == pytest.approx(dog), "the cat is nowhere, and no part of a mean"
    assert found.new_iou == pytest.approx(cow)
    assert found.all_iou == pytest.approx((background + dog + cow) / 3)
    assert found.classes_iou == pytest.approx((dog + cow) / 2)
    assert found.harmonic == pytest.approx(2 / (1 / dog + 1 / cow))
    assert found.mean_iou([0, 4]) == pytest.approx((background + cow) / 2)
    assert found.all_iou == pytest.approx(found.scores.mean_iou)


def test_limits() -> None:
    base = hand_made(0, [[1, 0, 0], [0, 1, 0], [0, 0, 1]])
    assert (base.old_iou, base.harmonic, base.new_iou, base.all_iou) == (None, None, 1.0, 1.0)
    lost = hand_made(1, [[1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
    assert (lost.old_iou, lost.harmonic) == (0.0, 0.0)
    none = hand_made(1, [[0] * 4] * 4)
    assert (none.old_iou, none.new_iou, none.all_iou, none.harmonic) == (None, None, None, None)
    neither = hand_made(1, [[0, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]])
    assert neither.harmonic == 0.0


def test_json_has_no_nan_and_stable_keys() -> None:
    told = hand_made(1, [[6, 2, 0, 0], [0, 4, 0, 0], [0, 0, 0, 0], [1, 0, 0, 1]]).as_json()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert list(told) == [
        "checkpoint", "protocol", "setting", "step", "split", "mode", "images", "seconds", "mean_iou_old",
        "mean_iou_new", "harmonic_mean", "mean_iou", "mean_iou_without_background", "iou", "precision", "recall",
        "confusion",
    ]  # fmt: skip
    assert told["iou"]["cat"] is None
    assert told["confusion"]["pixels"][0] == [6, 2, 0, 0]
    assert hand_made(0, [[1, 0, 0]] * 3).as_json()["mean_iou_old"] is None


def test_what_cannot_be_judged_is_named(records: list[ImageRecord], tmp_path: Path) -> None:
    small = FixedLabel(np.zeros((3, 4), np.uint8))
    (tmp_path / "im1.png").write_bytes(b"")
    changed = [replace(records[0], label=small), records[1], replace(records[2], label=None), *records[3:]]
    told = info()
    found = evaluate(ColourNet(told.seen, stride=1), told, changed)
    assert list(found.failed) == ["im0", "im1", "im2"]
    assert "the labels of im0 are 4 x 3 pixels" in found.failed["im0"]
    assert "im1.png is empty" in found.failed["im1"]
    assert "im2.png has no pixel labels; add" in found.failed["im2"]
    np.testing.assert_array_equal(found.scores.matrix, slow_matrix(records[3:], 1))
    assert found.counted == 3
    for nothing in ([], [replace(record, label=None) for record in records]):
        with pytest.raises(ManifestError, match=r"none of the \d images of the split 'val' has pixel labels"):
            evaluate(ColourNet(told.seen), told, nothing)


# -- WILSON's view ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(375, 500), (500, 333), (512, 512), (100, 101), (7, 300)])
def test_wilsons_view_is_the_nearest_pixel_of_the_centre(height: int, width: int) -> None:
    truth = np.random.default_rng(0).integers(0, 21, (height, width)).astype(np.uint8)
    image, labels = wilson_view(np.repeat(truth[..., None], 3, axis=2), truth)
    assert image.shape == (512, 512, 3)
    assert labels.shape == (512, 512)
    short = min(height, width)
    tall, wide = 512 * height // short, 512 * width // short
    for y, x in [(0, 0), (511, 511), (100, 400), (256, 256), (37, 491)]:
        row = int((y + round((tall - 512) / 2) + 0.5) * height / tall)
        column = int((x + round((wide - 512) / 2) + 0.5) * width / wide)
        assert labels[y, x] == truth[row, column]


def test_wilsons_view_leaves_its_own_size_alone_and_smooths_images() -> None:
    truth = np.random.default_rng(0).integers(0, 21, (512, 512)).astype(np.uint8)
    image, labels = wilson_view(np.repeat(truth[..., None], 3, axis=2), truth)
    np.testing.assert_array_equal(labels, truth)
    np.testing.assert_array_equal(image[..., 0], truth)
    stripes = np.zeros((2048, 2048), np.uint8)
    stripes[:, ::2] = 200
    image, labels = wilson_view(np.repeat(stripes[..., None], 3, axis=2), stripes)
    assert abs(image[8:-8, 8:-8].astype(int) - 100).max() <= 2
    assert set(np.unique(labels).tolist()) <= {0, 200}


def test_wilsons_protocol_judges_what_it_sees(records: list[ImageRecord]) -> None:
    told = info()
    found = evaluate(ColourNet(told.seen), told, records[:2], mode="wilson")
    assert found.scores.matrix.sum() == 2 * 512 * 512
    assert found.all_iou is not None
    assert found.all_iou > 0.8
    with pytest.raises(ImageError, match="has no pixel labels"):
        read_labelled(replace(records[0], label=None))


# -- checkpoint and manifest --------------------------------------------------------------------------------


def test_other_classes_or_steps_are_refused_by_name() -> None:
    told = info()
    told.require_same_classes(FakeManifest(()))  # type: ignore[arg-type]
    names = Taxonomy(name="pets", class_names=("background", "cat", "wolf", "horse", "cow"))
    fewer = Taxonomy(name="pets", class_names=NAMES[:-1])
    cases = {
        r"pets\.yaml: class 2 is 'dog' to the checkpoint and 'wolf' to the manifest; pass": replace(
            PROTOCOL, taxonomy=names
        ),
        "class 4 is 'cow' to the checkpoint and unknown to": replace(PROTOCOL, taxonomy=fewer, steps=((2, 1), (3,))),
        "step 1 brings cow to the checkpoint and horse": replace(PROTOCOL, steps=((2, 1), (3,), (4,))),
        "has learnt step 1, and the manifest's last step is 0": replace(PROTOCOL, steps=((2, 1),)),
    }
    for sentence, other in cases.items():
        with pytest.raises(CheckpointError, match=sentence):
            told.require_same_classes(FakeManifest((), protocol=other))  # type: ignore[arg-type]
    disjoint = replace(PROTOCOL, setting="disjoint")
    told.require_same_classes(FakeManifest((), protocol=disjoint))  # type: ignore[arg-type]


@pytest.mark.parametrize("steps", [((2, 1), (4,)), ((2, 1), (4,), (5,)), ((2, 1), (4,), (3,), (5,))])
def test_what_was_not_learnt_yet_may_be_other_classes(steps: tuple[tuple[int, ...], ...]) -> None:
    grown = Taxonomy(name="pets", class_names=("background", "cat", "dog", "pony", "cow", "hen"))
    later = replace(PROTOCOL, taxonomy=grown, steps=steps)
    info(step=1).require_same_classes(FakeManifest((), protocol=later))  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="class 3 is 'horse' to the checkpoint and 'pony' to the manifest"):
        info(step=2).require_same_classes(FakeManifest((), protocol=later))  # type: ignore[arg-type]


@pytest.fixture
def invoke(records: list[ImageRecord], monkeypatch: pytest.MonkeyPatch) -> Any:
    told = info()
    monkeypatch.setattr("wilss.data.manifest.load_manifest", lambda path: FakeManifest(tuple(records)))
    monkeypatch.setattr("wilss.models.networks.checkpoint.read_info", lambda path: told)
    monkeypatch.setattr("wilss.models.networks.checkpoint.load_segmenter", lambda told, device: ColourNet(told.seen, 1))
    return lambda *words: CliRunner().invoke(
        command, ["runs/step-1", "--device", "cpu", *map(str, words)], catch_exceptions=False
    )


def test_the_table(invoke: Any) -> None:
    result = invoke()
    assert result.exit_code == 0
    assert "Warning: one image is listed twice." in result.stderr
    stands = "of the split 'val' stand in the list of main, train as well, so that"
    assert f"Warning: pets.yaml: 2 images (im0, im1) {stands}" in result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].endswith("fmwiss, step 1 of pets 2-1-1 (overlap), val, whole images")
    assert lines[1].startswith("6 images counted, 0 failed; ")
    table = lines[3:]
    assert table[0].split() == ["%", "step", "IoU", "precision", "recall"]
    assert [row.split()[:2] for row in table[3:6]] == [["dog", "0"], ["cat", "0"], ["cow", "1"]]
    assert [row.rsplit(maxsplit=1)[0].strip() for row in table[7:]] == [
        "old classes", "new classes", "all with background", "all without background", "harmonic mean of old and new",
    ]  # fmt: skip
    assert invoke("--protocol", "wilson").stdout.splitlines()[0].endswith("shorter side 512, centre crop 512")


def test_json_and_the_picture(invoke: Any, tmp_path: Path) -> None:
    result = invoke("--json", "-", "--confusion", tmp_path / "c.png")
    told = json.loads(result.stdout)
    assert told["mean_iou_new"] == pytest.approx(1.0, abs=0.2)
    assert invoke("--json", tmp_path / "new/scores.json").exit_code == 0
    again = json.loads((tmp_path / "new/scores.json").read_text())
    assert {**again, "seconds": 0} == {**told, "seconds": 0}
    with Image.open(tmp_path / "c.png") as drawn:
        assert drawn.format == "PNG"
    wrong = invoke("--confusion", "c.jpg")
    assert wrong.exit_code == 2
    assert "does not end in .png" in wrong.stderr


def test_broken_images_end_in_3(invoke: Any, tmp_path: Path) -> None:
    (tmp_path / "im0.png").write_bytes(b"")
    result = invoke()
    assert result.exit_code == 3
    assert "Failed: im0: " in result.stderr
    assert "5 images counted, 1 failed" in result.stdout


# -- the picture --------------------------------------------------------------------------------------------


def test_rows_of_the_picture_are_shares() -> None:
    scores = Scores(names=("background", "a", "b"), matrix=np.array([[6, 2, 0], [1, 3, 0], [0, 0, 0]]))
    np.testing.assert_allclose(row_shares(scores.matrix), [[0.75, 0.25, 0], [0.25, 0.75, 0], [np.nan] * 3])


@pytest.mark.few(1)
@pytest.mark.parametrize(("size", "side"), [(2, 400), (21, 1200), (81, 1800)])
def test_the_picture_grows_with_the_classes(size: int, side: int) -> None:
    rng = np.random.default_rng(0)
    names = ("background", "a $5 hat", *(f"class {i}" for i in range(size - 2)))
    scores = Scores(names=names, matrix=rng.integers(0, 9, (size, size)) + 900 * np.eye(size, dtype=int))
    drawn = draw_confusion(scores, title="a $ sign", rules=(1,))
    width, height = Image.open(io.BytesIO(drawn)).size
    assert side <= min(width, height) <= max(width, height) <= 2600
