"""The table of drills in CONTRIBUTING.md counts what there is."""

import json
from pathlib import Path

from tests.faults.breaking import KINDS_OF_WRITE
from tests.faults.scenes import SCENES
from tests.faults.test_bad_table import ALONE, REFUSED
from tests.faults.test_damage import BEGUN, COUNT, COUNT_LONG, GONE_ON, PARTS, TRAINED_LONG, long_turns, short_turns
from tests.faults.test_fuzz import LONG, QUICK, TARGETS
from tests.faults.test_parts import AT_ONCE, AT_ONCE_SHORT, KILLS, KILLS_SHORT
from tests.faults.test_points import BROKEN_TWICE
from tests.faults.test_train_kills import BEFORE, KILLED, KILLED_LONG, OTHERS, OTHERS_SHORT

ROWS = {row["key"]: row for row in json.loads(Path(__file__).with_name("drills.json").read_text("utf-8"))["rows"]}


def test_kinds_of_write() -> None:
    assert ROWS["writes"]["name"].startswith(f"{len(KINDS_OF_WRITE)} kinds of write")
    assert ROWS["writes"]["short"] == f"each by a kill, {len(BROKEN_TWICE)} in another way as well, once"
    assert ROWS["writes"]["long"].endswith(f"in {len(SCENES)} scenes")


def test_kinds_of_bad_input() -> None:
    assert ROWS["input"]["short"] == str(len(REFUSED) + len(ALONE))


def test_parts() -> None:
    """Those that machines alike are killed at are all of the long form."""
    killed, short = (sum(count for count, _ in kills) for kills in (KILLS, KILLS_SHORT))
    assert ROWS["parts"]["short"] == f"{short}; {len(AT_ONCE_SHORT)}"
    assert ROWS["parts"]["long"] == f"{2 * killed - short}; {len(AT_ONCE) - len(AT_ONCE_SHORT)}"


def test_kills_of_training() -> None:
    """At random, of other methods, and again and again; then of the program, and before a file gets its name."""
    assert ROWS["train-kills"]["short"] == str(1 + len(OTHERS_SHORT) + 1)
    others = len(OTHERS) - len(OTHERS_SHORT)
    assert ROWS["train-kills"]["long"] == str(len(KILLED) - 1 + others + 1 + len(BEFORE) + len(KILLED_LONG))


def test_damages() -> None:
    """Of a store, a memory bank, a saved state and an unfinished store; of what a run starts from."""
    short, every = 3 * COUNT + BEGUN + sum(len(short_turns(part)) for part in PARTS), 4 * COUNT_LONG
    assert ROWS["damage"]["short"] == f"{short + 1}"
    assert ROWS["damage"]["long"] == f"{every + TRAINED_LONG * len(PARTS) - short + len(GONE_ON) - 1:,}"
    for part in PARTS:
        assert sorted((*short_turns(part), *long_turns(part))) == list(range(TRAINED_LONG))


def test_targets_of_fuzzing() -> None:
    assert ROWS["fuzz"]["short"] == f"{len(TARGETS)} targets, {QUICK.max_examples} times each"
    assert ROWS["fuzz"]["long"] == f"{LONG.max_examples:,} times each"
