"""Logs of runs, compared."""

import json
from pathlib import Path
from typing import Any


def untimed_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a log without their "timing": equal for a run that was killed and one that was not."""
    entries = [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]
    return [{key: value for key, value in entry.items() if key != "timing"} for entry in entries]
