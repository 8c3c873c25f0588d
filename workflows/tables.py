"""The tables of all pages, made from the figures that are committed beside them, so that nobody types a number.

    python workflows/tables.py            # or `make tables`: writes the tables into the pages
    python workflows/tables.py --check    # names the pages whose tables are not those of the figures

A page says where a table stands, and what of which file it shows (a path relative to the page):

    <!-- table: figures/learning.json rows=finetune,fmwiss columns=old,all -->
    <!-- /table -->

`figures.json` of the benchmark holds several tables; there a word says which: speed, stages or plan.
"""

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from versions import version_now, version_of_runs

ROOT = Path(__file__).resolve().parents[1]
_MARKED = re.compile(r"(<!-- table: (\S+)((?: \S+)*) -->\n).*?(<!-- /table -->)", re.DOTALL)
_SEEDS = {1: "one seed", 2: "two seeds: mean ± standard deviation", 3: "three seeds: mean ± standard deviation"}


def main(words: Sequence[str]) -> None:
    """Write the pages, or look at them."""
    stale = [page for page in pages() if rendered(page) != page.read_text(encoding="utf-8")]
    for page in stale:
        print(page.relative_to(ROOT))
        if "--check" not in words:
            page.write_text(rendered(page), encoding="utf-8")
    if "--check" in words and stale:
        sys.exit("the tables of these pages are not those of the figures; run `make tables`.")


def pages() -> Iterator[Path]:
    """Every page of the project."""
    for folder in (ROOT, *(ROOT / name for name in ("pipeline", "train", "workflows", "tests"))):
        yield from sorted(folder.glob("*.md") if folder == ROOT else folder.rglob("*.md"))


def rendered(page: Path) -> str:
    """The text of a page with its tables as the figures give them."""

    def put(found: re.Match[str]) -> str:
        figures = json.loads((page.parent / found[2]).read_text(encoding="utf-8"))
        return f"{found[1]}{table_of(figures, found[3].split())}\n{found[4]}"

    return _MARKED.sub(put, page.read_text(encoding="utf-8"))


def table_of(figures: Mapping[str, Any], words: Sequence[str] = ()) -> str:
    """A table in Markdown. words: `rows=a,b` and `columns=a,b` to show less than all, or the name of a special one."""
    options = dict(word.split("=", 1) for word in words if "=" in word)
    names = [word for word in words if "=" not in word]
    if names:
        return _special(names[0])(figures)
    columns = _chosen(dict(figures["columns"].items()), options.get("columns"), keys=True)
    rows = _chosen({row["key"]: row for row in figures["rows"]}, options.get("rows"))
    rows = [row for row in rows if any(row.get(key) is not None for key in columns)]  # the others are to be measured
    heads = [figures.get("heading", ""), *(figures["columns"][key] for key in columns)]
    lines = [_line(heads), "|---" * len(heads) + "|", *(_row(row, columns) for row in rows)]
    return "\n".join([*lines, "", source_of(figures["measured"])])


def source_of(measured: Mapping[str, Any]) -> str:
    """By which command, version and when the figures were measured, as a line below a table."""
    count = measured.get("seeds")
    seeds = f", {_SEEDS.get(count, f'{count} seeds')}" if count else ""
    release = f"wilss {measured['version']} ({measured['commit']}), {measured['date']}"
    return f"Measured by `{measured['command']}`, {release}{seeds}."


def measured_now(command: str, **more: Any) -> dict[str, Any]:
    """What `source_of` says of figures that have just been measured by `command`."""
    return {"command": command, **version_now(), **more}


def measured_by(command: str, runs: Iterable[Path], **more: Any) -> dict[str, Any]:
    """What `source_of` says of figures that rest on these training runs: by which versions they were trained."""
    return {"command": command, **version_of_runs(runs), **more}


def as_text(figures: Mapping[str, Any]) -> str:
    """Figures as they are committed: JSON with a line for each row, so that a change of one is seen."""
    heads = [f"  {json.dumps(key)}: {_json(value)}," for key, value in figures.items() if key != "rows"]
    rows = ",\n".join(f"    {_json(row)}" for row in figures["rows"])
    return "\n".join(["{", *heads, '  "rows": [', rows, "  ]", "}"]) + "\n"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def shown(cell: Any) -> str:
    """A figure as a page shows it: one decimal, with its spread where there is one."""
    if isinstance(cell, dict) and "mean" in cell:
        return f"{cell['mean']:.1f} ± {cell['sd']:.1f}"
    if isinstance(cell, dict):
        low, high = (f"{cell[end]:.0f}" for end in ("low", "high"))
        return low if low == high else f"{low} to {high}"
    return "-" if cell is None else cell if isinstance(cell, str) else f"{cell:.1f}"


def _row(row: Mapping[str, Any], columns: Sequence[str]) -> str:
    name = f"**{row['name']}**" if row.get("bold") else row["name"]
    return _line([name, *(shown(row.get(key)) for key in columns)])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |".replace("|  |", "| |")


def _chosen(known: Mapping[str, Any], asked: str | None, *, keys: bool = False) -> list[Any]:
    wanted = list(known) if asked is None else asked.split(",")
    return [key if keys else known[key] for key in wanted]


def _special(name: str) -> Callable[[Mapping[str, Any]], str]:
    """The benchmark's own tables."""
    benchmark = str(ROOT / "workflows/benchmark")
    if benchmark not in sys.path:
        sys.path.insert(0, benchmark)
    from parts import past_one_machine, speed_table, stage_table

    def with_source(render: Callable[[Mapping[str, Any]], str]) -> Callable[[Mapping[str, Any]], str]:
        return lambda figures: f"{render(figures)}\n\n{source_of(figures['measured'])}"

    return {
        "speed": with_source(lambda figures: speed_table.markdown(figures["rows"], figures["measured"])),
        "builds": lambda figures: speed_table.builds_markdown(figures["rows"]) or "Not measured yet.",
        "stages": with_source(lambda figures: stage_table.markdown(figures["rows"], figures["machine"])),
        "plan": with_source(lambda figures: past_one_machine.markdown(figures["rows"])),
    }[name]


if __name__ == "__main__":
    main(sys.argv[1:])
