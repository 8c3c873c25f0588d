"""The whole walk of the product on the built-in data, in its short form: every command, one after the other."""

import json
import os
import subprocess
import sys
from pathlib import Path

from wilss.models.networks.checkpoint import read_info

ROOT = Path(__file__).parents[2]
SHORT = ("--epochs", "3", "--crop", "64", "--split", "none", "-q")


def test_the_walk_goes_through_and_says_where_to_look(tmp_path: Path) -> None:
    environment = {**os.environ, "BIN": str(Path(sys.executable).parent), "WILSS_OUT": str(tmp_path / "masks"),
                   "WILSS_RUNS": str(tmp_path / "runs")}  # fmt: skip
    walk = [ROOT / "workflows/shapes/run.sh", *SHORT]
    done = subprocess.run(walk, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{tmp_path}/runs/step-1/report.html" in done.stdout
    base, new = (read_info(tmp_path / "runs" / step) for step in ("step-0", "step-1"))
    assert new.parent_digest == base.digest
    assert len(new.seen) == 21
    assert (tmp_path / "masks/step-1.png").stat().st_size > 10_000
    assert (tmp_path / "runs/step-1/confusion.png").exists()
    log = (tmp_path / "runs/step-1/log.jsonl").read_text(encoding="utf-8").splitlines()
    assert "seg" in json.loads(log[-2])["losses"]
