"""`make demo` and `make test`, timed as a user runs them after the set-up; `--figures` writes them into commands.json.

Nothing else should run meanwhile. The demo goes into an empty folder; what this checkout has drawn before stays drawn.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tables import measured_now

from .builds import CORES, ROOT, Spent, spent
from .common import row

FILE = "commands.json"
#: What is timed, and what the table calls it.
TIMED = {"demo": "`make demo`, after the set-up", "test": "`make test`"}


def measure(scratch: Path, quick: bool) -> list[dict[str, Any]]:
    """Minutes of each. quick: make only says what it would do."""
    words = ("--dry-run",) if quick else ()
    folder = scratch / "commands-demo"
    shutil.rmtree(folder, ignore_errors=True)
    _make("setup", *words)
    facts: dict[str, Any] = {
        "cores": CORES,
        "measured": measured_now("python workflows/benchmark/run.py --only commands"),
    }
    return [
        row(f"make {name}, minutes", f"{_make(name, f'DEMO={folder}', *words).wall / 60:.1f}", key=name, **facts)
        for name in TIMED
    ]


def _make(*words: str) -> Spent:
    """As from a shell, whoever called the benchmark."""
    return spent(["make", *words], ROOT, {"MAKEFLAGS": "", "MAKELEVEL": "0"})


def figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The table of commands.json."""
    return {
        "title": "What the two commands take in a clone that is set up",
        "measured": rows[0]["measured"],
        "columns": {"minutes": f"minutes on {rows[0]['cores']} cores"},
        "rows": [{"key": one["key"], "name": TIMED[one["key"]], "minutes": one["figure"]} for one in rows],
    }
