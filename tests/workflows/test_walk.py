"""The whole walk of the product on the built-in data, in its short form: every command, one after the other."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.built_in import QUICK_SETTINGS, manifest_of_few
from wilss.models.networks.checkpoint import read_info
from wilss_masks import cli as masks
from wilss_train import cli as train

ROOT = Path(__file__).parents[2]
SHORT = ("--split", "none", "-q")
PROGRAMS = {
    "wilss-masks": masks.main,
    "wilss-train": train.train,
    "wilss-eval": train.evaluate,
    "wilss-memory": train.memory,
}
#: Stands for a program: it only notes how it was called.
NOTED = """#!/usr/bin/env bash
printf '%q ' "$(basename "$0")" "$@" >> "$WALK_NOTES"
echo >> "$WALK_NOTES"
"""


@pytest.fixture
def surroundings(tmp_path: Path) -> dict[str, str]:
    manifest = manifest_of_few(tmp_path, drawn=(42, 4), seed=5386, **QUICK_SETTINGS)
    places = {"WILSS_OUT": "masks", "WILSS_RUNS": "runs", "WALK_NOTES": "notes"}
    return {
        "WILSS_MANIFEST": str(manifest),
        "WILSS_SHEET_COUNT": "2",
        **{name: str(tmp_path / place) for name, place in places.items()},
    }


def test_the_walk_goes_through_and_says_where_to_look(
    tmp_path: Path, surroundings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script's commands, one after the other in this process, which has the libraries imported."""
    (tmp_path / "bin").mkdir()
    for name in PROGRAMS:
        (tmp_path / "bin" / name).write_text(NOTED, encoding="utf-8")
        (tmp_path / "bin" / name).chmod(0o755)
    said = _walked({**surroundings, "BIN": str(tmp_path / "bin")})
    for name, value in surroundings.items():
        monkeypatch.setenv(name, value)
    for line in (tmp_path / "notes").read_text(encoding="utf-8").splitlines():
        program, *words = shlex.split(line)
        with pytest.raises(SystemExit) as ended:
            PROGRAMS[program](words)
        assert ended.value.code in (0, None), line
    _require_results(tmp_path, said)


@pytest.mark.long
def test_the_walk_as_programs(tmp_path: Path, surroundings: dict[str, str]) -> None:
    _require_results(tmp_path, _walked({**surroundings, "BIN": str(Path(sys.executable).parent)}))


def _walked(surroundings: dict[str, str]) -> str:
    walk = [str(ROOT / "workflows/shapes/run.sh"), *SHORT]
    done = subprocess.run(walk, env={**os.environ, **surroundings}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _require_results(place: Path, said: str) -> None:
    assert f"{place}/runs/step-1/report.html" in said
    base, new = (read_info(place / "runs" / step) for step in ("step-0", "step-1"))
    assert new.parent_digest == base.digest
    assert len(new.seen) == 21
    assert (place / "masks/step-1.png").stat().st_size > 10_000
    assert (place / "runs/step-1/confusion.png").exists()
    log = (place / "runs/step-1/log.jsonl").read_text(encoding="utf-8").splitlines()
    assert "seg" in json.loads(log[-2])["losses"]
