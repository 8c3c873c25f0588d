"""SIGKILL in a run of panet: going on gives the bytes of a run that nobody disturbed. Its words, refused and shown."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.drills import turns
from tests.faults.killing import finish, kill_at_random, kill_at_rename
from tests.faults.train_cli import course_of, data_set, make_masks, walk, wilss_train, words
from wilss.models.networks.checkpoint_header import MODEL_FILE
from wilss_train import cli as train_cli

#: The built-in encoder of the manifest is made small and random.
ENCODERS: dict[str, Any] = {
    "clip": {"library": "open_clip", "config": "builtin:clip.json", "pretrained": "random:0"},
    "vit": {
        "library": "timm",
        "model": "vit_tiny_patch16_224",
        "pretrained": "random:0",
        "args": {"img_size": 32, "patch_size": 8, "embed_dim": 12, "depth": 1, "num_heads": 2},
    },
}
OWN = ("--method", "panet", "--set", "episodes=12", "--set", "width=6", "--set", "size=0", "--epochs", 4)
STEPS = 12
Result = tuple[bytes, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = data_set(tmp_path_factory.mktemp("data"), encoders=ENCODERS)
    make_masks(root, 0)
    return root


def panet(root: Path, out: str, *more: object) -> list[str]:
    return words(root, out, *OWN, *more, step=0)


def result(run: Path) -> Result:
    return (run / MODEL_FILE).read_bytes(), course_of(run)


@pytest.fixture(scope="module")
def whole(root: Path) -> Result:
    """What an uninterrupted run leaves."""
    made = wilss_train(*panet(root, "whole"))
    assert made.code == 0, made.said
    return result(root / "whole")


def resumed(root: Path, out: str) -> Result:
    finish(panet(root, out, "--resume"), root / out)
    return result(root / out)


@pytest.mark.parametrize("number", turns(range(4), short=[0]))
def test_a_killed_run_goes_on_to_the_same_bytes(root: Path, whole: Result, number: int) -> None:
    out = f"killed-{number}"
    kill_at_random(panet(root, out), root / out, f"panet kill {number}", before_step=STEPS - 3)
    assert resumed(root, out) == whole


@pytest.mark.long  # files of the same kinds: test_points
@pytest.mark.parametrize("number", [1, 4, 8])
def test_killed_before_a_file_gets_its_name(root: Path, whole: Result, number: int) -> None:
    out = f"rename-{number}"
    kill_at_rename(panet(root, out), root / out, number)
    assert resumed(root, out) == whole


def test_more_loader_threads_are_the_same_bytes(root: Path, whole: Result) -> None:
    made = wilss_train(*panet(root, "threads", "--workers", 3))
    assert made.code == 0, made.said
    assert result(root / "threads") == whole


def wilss_eval(capsys: pytest.CaptureFixture[str], *given: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        train_cli.evaluate([str(word) for word in given])
    said = capsys.readouterr()
    return int(end.value.code or 0), said.out, said.err


def test_an_embedding_is_judged_on_episodes(root: Path, whole: Result, capsys: pytest.CaptureFixture[str]) -> None:
    fixed = ("--manifest", root / "data_manifest.yaml", "--device", "cpu", "--runs", 2, "--episodes", 3)
    code, out, err = wilss_eval(capsys, root / "whole", *fixed, "--json", root / "scores.json")
    assert code == 0, err
    assert "1-way 1-shot, supports as mask, 2 x 3 episodes" in out
    assert "foreground mIoU" in out
    scores = json.loads((root / "scores.json").read_text())
    assert list(scores["iou"]) == ["horse"]
    assert len(scores["mean_iou"]["runs"]) == 2
    code, out, err = wilss_eval(capsys, "--frozen", *fixed, "--support", "scribble", "--metric", "panet")
    assert code == 0, err
    assert out.startswith("frozen features: pets ")


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        (("whole", "--shots", 5), 2, "horse is in 2 images, and 5 shots and a query need 6; lower --shots"),
        (("whole", "--protocol", "wilson"), 2, "--protocol is for segmenters"),
        (("whole", "--frozen"), 2, "--frozen judges the manifest's features and takes no CHECKPOINT"),
        ((), 2, "name a run's folder, or say --frozen"),
        (("base", "--episodes", 3), 1, "holds a segmenter (fmwiss), and this takes an embedding"),
        (("whole", "--episodes", 0), 2, "--episodes"),
    ],
)
def test_words_that_make_no_sense_are_one_sentence(
    segmenters: Path, whole: Result, root: Path, capsys: pytest.CaptureFixture[str], given: tuple[Any, ...], code: int,
    said: str,
) -> None:  # fmt: skip
    places = {"whole": root / "whole", "base": segmenters / "base"}
    real = [places.get(word, word) for word in given]
    found, _, err = wilss_eval(capsys, *real, "--manifest", root / "data_manifest.yaml", "--device", "cpu")
    assert found == code, err
    assert said in err
    assert "Traceback" not in err


@pytest.fixture(scope="module")
def segmenters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return walk(tmp_path_factory.mktemp("segmenters"), encoders=ENCODERS)


def test_a_segmenter_does_not_go_on_from_an_embedding(
    segmenters: Path, root: Path, whole: Result, capsys: pytest.CaptureFixture[str]
) -> None:
    made = wilss_train(*words(segmenters, "on", "--from", root / "whole"))
    assert made.code == 1
    assert "holds an embedding (panet)" in made.err
    assert "Traceback" not in made.said


def test_a_later_step_is_refused(segmenters: Path) -> None:
    made = wilss_train(*words(segmenters, "later", "--method", "panet"))
    assert made.code == 1
    assert "panet learns to compare from the classes of step 0" in made.err
