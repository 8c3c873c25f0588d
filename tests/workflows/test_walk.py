"""The whole walk of the product on the built-in data, in its short form: every command, one after the other."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from wilss.models.networks.checkpoint import read_info

ROOT = Path(__file__).parents[2]
SHORT = ("--epochs", "3", "--crop", "64", "--split", "none", "-q")
#: The built-in manifest over fewer drawings, so that most of the time is not spent on what other tests see as well.
FEW = "generate: {with: shapes, train: 60, val: 4, seed: 0}"


def test_the_walk_goes_through_and_says_where_to_look(tmp_path: Path) -> None:
    manifest = tmp_path / "data_manifest.yaml"
    text, changed = re.subn(r"generate: \{.*\}", FEW, (ROOT / "data_manifest.yaml").read_text(encoding="utf-8"))
    assert changed == 1
    manifest.write_text(text, encoding="utf-8")
    environment = {**os.environ, "BIN": str(Path(sys.executable).parent), "WILSS_OUT": str(tmp_path / "masks"),
                   "WILSS_RUNS": str(tmp_path / "runs"), "WILSS_MANIFEST": str(manifest),
                   "WILSS_DATA": str(tmp_path / "data")}  # fmt: skip
    walk = [str(ROOT / "workflows/shapes/run.sh"), *map(str, SHORT)]
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
