"""The run's folder: begun, gone on with, refused."""

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from wilss.errors import CheckpointError
from wilss.models.networks.checkpoint_header import MODEL_FILE
from wilss_train.run_folder import MEMORY, RUN_FILE, STATES, is_complete, mark_complete, prepare

IDENTITY: dict[str, Any] = {"method": "fmwiss", "seed": 0, "params": {"lr": 0.1, "crop": 64, "scale": (0.5, 2.0)}}


def begun(run: Path, identity: dict[str, Any]) -> None:
    """A run that has saved a state."""
    assert not prepare(run, identity, resume=False, overwrite=False)
    (run / STATES / "step-000000001").mkdir(parents=True)


def test_a_run_is_begun_gone_on_with_and_completed(tmp_path: Path) -> None:
    run = tmp_path / "deep/run"
    begun(run, IDENTITY)
    assert (run / RUN_FILE).exists()
    with pytest.raises(CheckpointError, match=r"run that is not finished; resume it with --resume, or start again"):
        prepare(run, IDENTITY, resume=False, overwrite=False)
    assert prepare(run, IDENTITY, resume=True, overwrite=False)
    assert not is_complete(run)
    mark_complete(run)
    assert is_complete(run)
    assert prepare(run, IDENTITY, resume=False, overwrite=False)


def test_a_run_that_has_saved_nothing_is_begun_anew(tmp_path: Path) -> None:
    prepare(tmp_path, IDENTITY, resume=False, overwrite=False)
    assert not prepare(tmp_path, {**IDENTITY, "seed": 1}, resume=False, overwrite=False)
    (tmp_path / f"{RUN_FILE}.{uuid.uuid4().hex}.partial").write_text("x")
    assert not prepare(tmp_path, {**IDENTITY, "seed": 1}, resume=True, overwrite=False)
    assert [path.name for path in tmp_path.iterdir()] == [RUN_FILE]


def test_resume_begins_where_nothing_is(tmp_path: Path) -> None:
    assert not prepare(tmp_path / "run", IDENTITY, resume=True, overwrite=False)


@pytest.mark.parametrize("complete", [False, True])
def test_other_parameters_are_refused_and_named(tmp_path: Path, complete: bool) -> None:
    begun(tmp_path / "run", IDENTITY)
    if complete:
        mark_complete(tmp_path / "run")
    other = {**IDENTITY, "seed": 1, "params": {**IDENTITY["params"], "lr": 0.2}}
    sentence = (
        r"run holds a run that was started otherwise: params\.lr was 0\.1 and is now 0\.2; seed was 0 and is now 1\."
    )
    with pytest.raises(CheckpointError, match=sentence):
        prepare(tmp_path / "run", other, resume=True, overwrite=False)
    bare = {name: value for name, value in IDENTITY.items() if name != "method"}
    begun(tmp_path / "bare", bare)
    with pytest.raises(CheckpointError, match=r"method was null and is now \"fmwiss\""):
        prepare(tmp_path / "bare", IDENTITY, resume=True, overwrite=False)


def test_what_is_the_same_by_another_name_is_no_difference(tmp_path: Path) -> None:
    begun(tmp_path / "run", {**IDENTITY, "method": "formerly"})
    assert prepare(
        tmp_path / "run", IDENTITY, renew=lambda was: {**was, "method": "fmwiss"}, resume=True, overwrite=False
    )

    def refused(was: Mapping[str, Any]) -> Mapping[str, Any]:
        raise CheckpointError(f"{was['method']} is no more")

    with pytest.raises(
        CheckpointError, match=r"run that was started otherwise: formerly is no more\. Give another --out"
    ):
        prepare(tmp_path / "run", IDENTITY, renew=refused, resume=True, overwrite=False)


def test_many_differences_are_cut_short(tmp_path: Path) -> None:
    begun(tmp_path / "run", {str(n): 0 for n in range(9)})
    with pytest.raises(
        CheckpointError, match=r"0 was 0 and is now .{37}\.\.\.; 1 was .*; 3 was .*; \.\.\.\. Give another"
    ):
        prepare(tmp_path / "run", {str(n): "x" * 99 for n in range(9)}, resume=True, overwrite=False)


def test_overwrite_removes_what_a_run_writes_and_nothing_else(tmp_path: Path) -> None:
    run = tmp_path / "run"
    begun(run, IDENTITY)
    for name in (
        f"{STATES}/step-1/x",
        f"{MEMORY}/x",
        MODEL_FILE,
        "log.jsonl",
        "report.json",
        "report.html",
        "notes.txt",
    ):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("x")
    mark_complete(run)
    assert not prepare(run, {**IDENTITY, "seed": 1}, resume=False, overwrite=True)
    assert sorted(path.name for path in run.iterdir()) == ["notes.txt", RUN_FILE]
    (run / MODEL_FILE).write_text("x")
    assert prepare(run, {**IDENTITY, "seed": 1}, resume=True, overwrite=False)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(CheckpointError, match=r"is not empty and holds no run of wilss-train; give another --out"):
        prepare(tmp_path, IDENTITY, resume=False, overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_damaged_run_file_is_named_and_overwrite_mends_it(tmp_path: Path) -> None:
    begun(tmp_path / "run", IDENTITY)
    (tmp_path / "run" / RUN_FILE).write_text("{")
    with pytest.raises(CheckpointError, match=r"run\.json cannot be read .*; start again with --overwrite"):
        prepare(tmp_path / "run", IDENTITY, resume=True, overwrite=False)
    assert not prepare(tmp_path / "run", IDENTITY, resume=False, overwrite=True)
    assert '"method": "fmwiss"' in (tmp_path / "run" / RUN_FILE).read_text()
