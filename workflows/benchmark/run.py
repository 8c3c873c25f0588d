"""The speed table: what masks cost beside what they must cost, measured side by side in one run.

    python workflows/benchmark/run.py                 # everything, prints a table and writes benchmark.json
    python workflows/benchmark/run.py --only read     # one part
    python workflows/benchmark/run.py --quick         # small counts, to see that it runs

Parts: forward (end to end over the bare forward passes, built-in encoders), large (the same with ViT-B/16 at 224,
untrained weights), scripts (the way research scripts do it over the pipeline), host (processor time beside decoding
and forward passes), growth (time and memory against the number of images), read (one image's masks from store, PNG
and npz), start (help and a warm second run); of learning: training (the trainer over a bare loop on batches in
memory, loader waits, saved states), processes (two with gloo over one), evaluation (over bare forward passes),
training-growth (peak memory against the number of images), pseudoseg (the trainer over bare forward and backward
passes), episodes (judging and training over bare loops on cached features).
"""

import contextlib
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

sys.path.insert(0, str(Path(__file__).parent))
from parts import (
    episodes,
    evaluation,
    forward,
    growth,
    host,
    processes,
    pseudoseg,
    read,
    start,
    training,
    training_growth,
)

PARTS: dict[str, Callable[[Path, bool], list[dict[str, Any]]]] = {
    "forward": forward.built_in,
    "large": forward.large,
    "scripts": forward.scripts,
    "host": host.measure,
    "growth": growth.measure,
    "read": read.measure,
    "start": start.measure,
    "training": training.measure,
    "processes": processes.measure,
    "evaluation": evaluation.measure,
    "training-growth": training_growth.measure,
    "pseudoseg": pseudoseg.measure,
    "episodes": episodes.measure,
}


@click.command()
@click.option("--only", type=click.Choice(list(PARTS)), multiple=True, help="Parts to measure; all by default.")
@click.option("--quick", is_flag=True, help="Small counts, to see that it runs; the figures mean little.")
@click.option("--scratch", type=click.Path(path_type=Path), help="Keep drawn images and the like here, for next time.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("workflows/benchmark/results/benchmark.json"))
def main(only: tuple[str, ...], quick: bool, scratch: Path | None, out: Path) -> None:
    """Measure, print the table, write it as json."""
    rows: list[dict[str, Any]] = []
    with _scratch(scratch) as folder:
        for name in only or PARTS:
            print(f"measuring {name} ...", file=sys.stderr, flush=True)
            for row in PARTS[name](folder, quick):
                rows.append({"part": name, **row})
                print(_line(rows[-1]), flush=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"machine": machine(), "quick": quick, "rows": rows}, indent=2) + "\n", encoding="utf-8")
    print(f"written to {out}", file=sys.stderr)


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
