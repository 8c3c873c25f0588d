"""The table of drills in CONTRIBUTING.md names the drills that there are."""

import json

from tests.objects.tally import DRILLS, FIGURES


def test_the_table_is_of_these_drills() -> None:
    """A drill that is renamed, added or dropped is run again, and the table written anew: see `tally`."""
    rows = json.loads(FIGURES.read_text(encoding="utf-8"))["rows"]
    told = {row["key"]: (row["name"], row["where"]) for row in rows}
    assert told == {drill: (name, f"`{where}`") for drill, (name, _, where) in DRILLS.items()}
    assert list(told) == list(DRILLS)
