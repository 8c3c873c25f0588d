"""The table of drills in CONTRIBUTING.md counts what there is."""

import json
from pathlib import Path

from tests.faults.breaking import KINDS_OF_WRITE
from tests.faults.scenes import SCENES
from tests.faults.test_bad_table import ALONE, REFUSED
from tests.faults.test_fuzz import LONG, QUICK, TARGETS
from tests.faults.test_points import KILLED_ALONE

ROWS = {row["key"]: row for row in json.loads(Path(__file__).with_name("drills.json").read_text("utf-8"))["rows"]}


def test_kinds_of_write() -> None:
    assert ROWS["writes"]["name"].startswith(f"{len(KINDS_OF_WRITE)} kinds of write")
    assert ROWS["writes"]["short"] == (
        f"each by a kill, {len(KINDS_OF_WRITE) - len(KILLED_ALONE)} in another way as well, once"
    )
    assert ROWS["writes"]["long"].endswith(f"in {len(SCENES)} scenes")


def test_kinds_of_bad_input() -> None:
    assert ROWS["input"]["short"] == str(len(REFUSED) + len(ALONE))


def test_targets_of_fuzzing() -> None:
    assert ROWS["fuzz"]["short"] == f"{len(TARGETS)} targets, {QUICK.max_examples} times each"
    assert ROWS["fuzz"]["long"] == f"{LONG.max_examples:,} times each"
