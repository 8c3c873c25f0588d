"""The speed table: what masks cost beside what they must cost, measured side by side in one run.

    python workflows/benchmark/run.py                 # everything, prints a table and writes benchmark.json
    python workflows/benchmark/run.py --only read     # one part; the other parts' rows in benchmark.json stay
    python workflows/benchmark/run.py --quick         # small counts, to see that it runs; writes nothing
    python workflows/benchmark/run.py --figures       # also takes the rows over into figures.json and the pages

What the parts are: README.md.
"""

import contextlib
import importlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import torch

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
#: Where each part's function lies; `plan` reads what the others found.
PARTS = {
    "forward": "parts.forward:built_in",
    "large": "parts.forward:large",
    "scripts": "parts.forward:scripts",
    "precision": "parts.precision:measure",
    "host": "parts.host:measure",
    "stages": "parts.stages:measure",
    "growth": "parts.growth:measure",
    "growth-records": "parts.growth_records:measure",
    "records": "parts.growth_records:beginnings",
    "update": "parts.updating:measure",
    "scaling": "parts.scaling:measure",
    "read": "parts.read:measure",
    "start": "parts.start:measure",
    "training": "parts.training:measure",
    "training-stages": "parts.training_stages:measure",
    "processes": "parts.processes:measure",
    "evaluation": "parts.evaluation:measure",
    "training-growth": "parts.training_growth:measure",
    "pseudoseg": "parts.pseudoseg:measure",
    "episodes": "parts.episodes:measure",
    "encoders": "parts.encoders:measure",
    "stages-of-masks": "parts.mask_stages:measure",
    "review": "parts.review:measure",
    "features": "parts.features:measure",
    "gpu": "parts.gpu:measure",
    "builds": "parts.builds:measure",
    "builds-training": "parts.builds:measure_training",
    "builds-demo": "parts.builds:measure_demo",
    "builds-own": "parts.builds:measure_own",
    "commands": "parts.commands:measure",
    "plan": "parts.past_one_machine:measure",
}
RESULTS = Path("workflows/benchmark/results/benchmark.json")


@click.command()
@click.option("--only", type=click.Choice(list(PARTS)), multiple=True, help="Parts to measure; all by default.")
@click.option("--quick", is_flag=True, help="Small counts, to see that it runs; the figures mean little.")
@click.option("--scratch", type=click.Path(path_type=Path), help="Keep drawn images and the like here, for next time.")
@click.option("--out", type=click.Path(path_type=Path), help=f"[default: {RESULTS}, nowhere with --quick]")
@click.option("--device", default="cuda", show_default=True, help="Of the part `gpu`; cpu to try it.")
@click.option(
    "--beside",
    type=click.Path(path_type=Path, exists=True),
    help="Another checkout, for `builds`, `features`, `commands`.",
)
@click.option("--figures", "take_over", is_flag=True, help="Take the rows over into figures.json and the pages.")
def main(
    only: tuple[str, ...],
    quick: bool,
    scratch: Path | None,
    out: Path | None,
    device: str,
    beside: Path | None,
    take_over: bool,
) -> None:
    """Measure, print the table, write it as json."""
    # An environment that forbids bytecode would have every command that is timed compile every source again.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    results = out or (None if quick else RESULTS)
    more: dict[str, dict[str, Any]] = {
        "gpu": {"device": device},
        **{name: {"beside": beside} for name in PARTS if name.startswith("builds") or name in ("features", "commands")},
        "plan": {"results": out or RESULTS},
    }
    with _scratch(scratch) as folder:
        for name in only or [part for part in PARTS if beside or not part.startswith("builds")]:
            print(f"measuring {name} ...", file=sys.stderr, flush=True)
            rows = [{"part": name, **row} for row in _part(name)(folder, quick, **more.get(name, {}))]
            for row in rows:
                print(_line(row), flush=True)
            if results is not None:
                _keep(results, name, rows, quick)
    if take_over:
        _take_over(_kept(out or RESULTS))


def _part(name: str) -> Callable[..., list[dict[str, Any]]]:
    """Imported when it is wanted: a part that only reads masks should not wait for a trainer."""
    module, function = PARTS[name].split(":")
    found: Callable[..., list[dict[str, Any]]] = getattr(importlib.import_module(module), function)
    return found


def _keep(path: Path, part: str, rows: list[dict[str, Any]], quick: bool) -> None:
    """Put a part's rows in the place of its former ones, so that a run that ends early has kept what it measured."""
    before = _kept(path)["rows"] if path.exists() else []
    order = list(PARTS)
    kept = [row for row in before if row["part"] != part and row["part"] in order] + rows
    kept.sort(key=lambda row: order.index(row["part"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine(), "quick": quick, "rows": kept}, indent=2) + "\n", encoding="utf-8")
    print(f"written to {path}", file=sys.stderr)


def _kept(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _take_over(results: dict[str, Any]) -> None:
    """Put measured rows in the place of the committed ones of the same part, and the tables into the pages."""
    import tables
    from parts import commands

    if own := [row for row in results["rows"] if row["part"] == "commands"]:
        (HERE / commands.FILE).write_text(tables.as_text(commands.figures(own)), encoding="utf-8")
        results = {**results, "rows": [row for row in results["rows"] if row not in own]}
    path = HERE / "figures.json"
    before, measured = _kept(path), tables.measured_now("make benchmark")
    parts = {row["part"] for row in results["rows"]}
    older = [row for row in before["rows"] if row["part"] not in parts]
    taken = results["rows"]
    if older:  # what stands below the tables goes on to be true of most rows; the new ones say their own
        taken = [{"version": f"{measured['version']} ({measured['commit']})", **row} for row in taken]
        results, measured = before, before["measured"]
    rows = sorted([*older, *taken], key=lambda row: list(PARTS).index(row["part"]))
    path.write_text(tables.as_text({**results, "measured": measured, "rows": rows}), encoding="utf-8")
    tables.main(())


@contextlib.contextmanager
def _scratch(kept: Path | None) -> Iterator[Path]:
    """The folder that stays, or one that goes at the end."""
    if kept is None:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
        return
    kept.mkdir(parents=True, exist_ok=True)
    yield kept.resolve()


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "torchvision", "open_clip_torch", "timm", "zarr", "numpy")},
    }


def _processor() -> str:
    listed = subprocess.run(["lscpu"], capture_output=True, text=True, check=False).stdout
    names = [line.split(":", 1)[1].strip() for line in listed.splitlines() if line.startswith("Model name")]
    return names[0] if names else platform.processor()


def _line(row: dict[str, Any]) -> str:
    asked = f"  (asked: {row['asked']})" if row.get("asked") else ""
    return f"{row['part']:15} {row['what']:70} {row['figure']}{asked}"


if __name__ == "__main__":
    main()
