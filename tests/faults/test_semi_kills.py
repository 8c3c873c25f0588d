"""SIGKILL in a run of pseudoseg or unimatch: going on gives the bytes of an undisturbed run, its labeller's too."""

from pathlib import Path

import pytest

from tests.drills import turns
from tests.faults.killing import finish, kill_at_random, kill_at_rename, renames_of
from tests.faults.train_cli import IMAGES, course_of, data_set, make_masks, wilss_train, words
from tests.wilss.data import data_on_disk as disk
from wilss.models.networks.checkpoint_header import MODEL_FILE
from wilss.models.networks.labeller_file import LABELLER_FILE

EPOCHS = 4
#: Eleven unlabelled images make two optimiser steps of four an epoch.
STEPS = 2 * EPOCHS
Result = tuple[bytes, bytes, list[dict[str, object]]]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = data_set(tmp_path_factory.mktemp("data"))
    make_masks(root, 0)
    disk.text(root / "labelled.txt", *IMAGES[:3])
    return root


def semi(root: Path, out: str, *more: object) -> list[str]:
    own = ("--method", "pseudoseg", "--set", f"labelled={root / 'labelled.txt'}", "--set", "width=4")
    return words(root, out, *own, "--epochs", EPOCHS, *more, step=0)


def result(run: Path) -> Result:
    return (run / MODEL_FILE).read_bytes(), (run / LABELLER_FILE).read_bytes(), course_of(run)


def resumed(root: Path, out: str) -> Result:
    finish(semi(root, out, "--resume"), root / out)
    return result(root / out)


@pytest.fixture(scope="module")
def whole(root: Path) -> Result:
    """What an uninterrupted run leaves."""
    made = wilss_train(*semi(root, "whole"))
    assert made.code == 0, made.said
    return result(root / "whole")


@pytest.mark.parametrize("number", turns(range(4), short=[0]))
def test_a_killed_run_goes_on_to_the_same_bytes(root: Path, whole: Result, number: int) -> None:
    out = f"killed-{number}"
    kill_at_random(semi(root, out), root / out, f"semi kill {number}", before_step=STEPS - 2)
    assert resumed(root, out) == whole


@pytest.mark.long  # the labeller, the checkpoint and the mark, each at one moment: test_points
@pytest.mark.parametrize("from_the_end", [1, 2, 3])
def test_killed_before_a_result_gets_its_name(root: Path, whole: Result, from_the_end: int) -> None:
    """The last three files are the labeller, the checkpoint and the mark of a finished run."""
    out = f"rename-{from_the_end}"
    kill_at_rename(semi(root, out), root / out, renames_of(semi(root, "counted", "--overwrite")) + 1 - from_the_end)
    assert (root / out / LABELLER_FILE).exists() == (from_the_end < 3)
    assert resumed(root, out) == whole


def test_a_mean_teacher_goes_on_to_the_same_bytes(root: Path) -> None:
    """Of `unimatch`, whose teacher is in no optimiser and changes after every step."""

    def words_of(out: str, *more: object) -> list[str]:
        own = ("--method", "unimatch", "--set", f"labelled={root / 'labelled.txt'}", "--set", "threshold=0")
        return words(root, out, *own, "--epochs", EPOCHS, *more, step=0)

    assert wilss_train(*words_of("teacher")).code == 0
    kill_at_random(words_of("teacher-killed"), root / "teacher-killed", "teacher kill", before_step=STEPS - 2)
    finish(words_of("teacher-killed", "--resume"), root / "teacher-killed")
    results = [((root / out / MODEL_FILE).read_bytes(), course_of(root / out)) for out in ("teacher", "teacher-killed")]
    assert results[0] == results[1]
    assert all(line["losses"]["cons"] > 0 for line in course_of(root / "teacher") if "losses" in line), "it labels none"


def test_bad_lists_are_one_sentence(root: Path) -> None:
    other = disk.text(root / "other.txt", "nobody")
    for word, code, said in (
        ("labelled=", 2, "nothing says which are labelled"),
        (f"labelled={other}", 2, "holds no such image"),
        (f"labelled={root}", 2, "is not there; write it, one image id a line"),
        (f"targets={root / 'none.zarr'}", 1, "none.zarr does not exist"),
        (f"targets={root / 'masks/step-0.zarr'}", 1, "holds no soft labels of pseudoseg"),
    ):
        made = wilss_train(*semi(root, "bad", "--set", word))
        assert made.code == code
        assert said in made.err
        assert "Traceback" not in made.said
        assert not (root / "bad" / MODEL_FILE).exists()
