"""`make demo` and `make test`, timed as a user runs them after the set-up; `--figures` writes them into commands.json.

With `--beside CHECKOUT` its `make test` comes first. Nothing else should run meanwhile. The demo goes into an empty
folder; what this checkout has drawn before stays drawn.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tables import measured_now
from versions import commit_of

from .builds import CORES, ROOT, Spent, spent
from .common import row

FILE = "commands.json"
#: What is timed, and what the table calls it.
TIMED = {"demo": "`make demo`, after the set-up", "test": "`make test`"}


def measure(scratch: Path, quick: bool, beside: Path | None = None) -> list[dict[str, Any]]:
    """Minutes of each. quick: make only says what it would do. beside: another checkout, set up."""
    words = ("--dry-run",) if quick else ()
    folder = scratch / "commands-demo"
    shutil.rmtree(folder, ignore_errors=True)
    _make(ROOT, "setup", *words)
    facts: dict[str, Any] = {
        "cores": CORES,
        "measured": measured_now("python workflows/benchmark/run.py --only commands"),
    }
    rows = []
    if beside is not None:
        before = f"`make test` of {commit_of(beside.resolve())}"
        rows.append(_timed(before, _make(beside, "test", *words), key="test-before", **facts))
    return rows + [
        _timed(told, _make(ROOT, name, f"DEMO={folder}", *words), key=name, **facts) for name, told in TIMED.items()
    ]


def _timed(name: str, taken: Spent, **facts: Any) -> dict[str, Any]:
    return row(name, f"{taken.wall / 60:.1f}", **facts)


def _make(folder: Path, *words: str) -> Spent:
    """As from a shell, whoever called the benchmark."""
    return spent(["make", *words], folder, {"MAKEFLAGS": "", "MAKELEVEL": "0"})


def figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The table of commands.json."""
    return {
        "title": "What the two commands take in a clone that is set up",
        "measured": rows[0]["measured"],
        "columns": {"minutes": f"minutes on {rows[0]['cores']} cores"},
        "rows": [{"key": one["key"], "name": one["what"], "minutes": one["figure"]} for one in rows],
    }
