"""What drills in buckets really did, for the table in CONTRIBUTING.md.

    WILSS_DRILLS=short.jsonl pytest tests/objects
    WILSS_DRILLS=long.jsonl pytest -m long tests/objects
    python -m tests.objects.tally short.jsonl long.jsonl

Each drill adds a line to the file that WILSS_DRILLS names; the last command sums them up in drills.json. `make test`
runs what the first does, `make test-long` what the second does.
"""

import contextlib
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

VARIABLE = "WILSS_DRILLS"
FIGURES = Path(__file__).with_name("drills.json")
_DIFFERENT = "different"
#: What each drill does, what is counted of it, and where it stands.
DRILLS = {
    "requests": ("a process ends at a certain request that writes, of a run of ten images", "kills", "test_drills.py"),
    "update": ("the same of an update", "kills", "test_drills.py"),
    "kills": ("SIGKILL of a writer at a random moment; the next one goes on", "kills", "test_drills.py"),
    "parts": ("64 parts of one store, every other process killed and started again", "kills", "test_parts.py"),
    "machines": ("parts of one store on two machines that make other bytes, likewise", "kills", "test_parts.py"),
    "races": ("parts of one store that start at the same moment", "races", "test_parts.py"),
    "faults": (
        "a tenth or a quarter of all requests slow, answered 500 or 503, refused, cut off or in vain; listings late",
        "faults",
        "test_drills.py",
    ),
}


@contextlib.contextmanager
def tallied(drill: str) -> Iterator[Counter[str]]:
    """What one turn of a drill did is counted by its body: `stores` that were compared, and what the drill is of.

    A turn that is interrupted is none.
    """
    assert drill in DRILLS
    done = Counter[str]()
    try:
        yield done
    except Exception:
        done[_DIFFERENT] += 1
        _note(drill, done)
        raise
    _note(drill, done)


def _note(drill: str, done: Mapping[str, int]) -> None:
    if (place := os.environ.get(VARIABLE)) is not None:
        with Path(place).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"drill": drill, **done}) + "\n")


def summed(log: Path) -> dict[str, Counter[str]]:
    """By drill, what all its turns did."""
    found = {drill: Counter[str]() for drill in DRILLS}
    for line in log.read_text(encoding="utf-8").splitlines():
        said = json.loads(line)
        found[said.pop("drill")] += Counter(said)
    return found


def figures(short: Path, long: Path) -> dict[str, Any]:
    """The table of drills in buckets."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "workflows"))
    from tables import measured_now

    quick, slow = summed(short), summed(long)
    return {
        "title": "What the drills break in a bucket, and what came of it",
        "measured": measured_now("python -m tests.objects.tally short.jsonl long.jsonl"),
        "heading": "drill",
        "columns": {
            "short": "`make test`",
            "long": "long form",
            "stores": "stores compared",
            "different": "not the bytes of an undisturbed run",
            "where": "in tests/objects",
        },
        "rows": [_row(drill, quick[drill], slow[drill]) for drill in DRILLS if quick[drill] or slow[drill]],
    }


def _row(drill: str, short: Mapping[str, int], long: Mapping[str, int]) -> dict[str, Any]:
    name, counted, where = DRILLS[drill]
    return {
        "key": drill,
        "name": name,
        "short": _told(short, counted),
        "long": _told(long, counted),
        "stores": f"{short['stores'] + long['stores']:,}",
        "different": str(short[_DIFFERENT] + long[_DIFFERENT]),
        "where": f"`{where}`",
    }


def _told(done: Mapping[str, int], counted: str) -> str | None:
    """None for a drill that was not run."""
    count = done.get(counted, 0)
    return f"{count:,} {counted if count != 1 else counted.removesuffix('s')}" if done else None


def main(short: str, long: str) -> None:
    """Write what two runs did into drills.json."""
    written = figures(Path(short), Path(long))
    from tables import as_text

    FIGURES.write_text(as_text(written), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
