"""Measured tables between their markers in a README, so that nobody types them."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import past_one_machine, stage_table


def write(path: Path, results: Mapping[str, Any]) -> None:
    """Put the tables of benchmark.json between `<!-- name -->` and `<!-- /name -->`; one without rows stays."""
    text, rows = path.read_text(encoding="utf-8"), results["rows"]
    for name, table in tables(rows, results["machine"]).items():
        text = between(text, name, table)
    path.write_text(text, encoding="utf-8")


def tables(rows: Sequence[Mapping[str, Any]], machine: Mapping[str, Any]) -> dict[str, str]:
    """What there is, by marker."""
    found = {}
    if any("stage" in row for row in rows):
        found["stages"] = stage_table.markdown(rows, machine)
    if any("plan" in row for row in rows):
        found["plan"] = past_one_machine.markdown(rows)
    return found


def between(text: str, name: str, table: str) -> str:
    """`text` with `table` between the markers `name`. Raises ValueError where they are not there once each."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise ValueError(f"the markers <!-- {name} --> and <!-- /{name} --> must be there, once each.")
    return pattern.sub(lambda found: f"{found[1]}{table}\n{found[2]}", text)
