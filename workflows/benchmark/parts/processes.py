"""Training by two processes with gloo, one core each, over training by one process with the same cores."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from measure import figure, ratios

from .common import row
from .learning import CORES, folder_of

_CHILD = """
import json, os, sys
from pathlib import Path
sys.path.insert(0, {here!r})
import torch
from parts.learning import Learning, trained
torch.set_num_threads({threads})
timing = trained(Learning(folder=Path({folder!r}), epochs={epochs}))
if os.environ["RANK"] == "0":
    print(json.dumps(timing.rate), flush=True)
if torch.distributed.is_initialized():
    torch.distributed.destroy_process_group()
"""


def measure(scratch: Path, quick: bool) -> list[dict[str, Any]]:
    """In turn, both started by torchrun; the batch is the same, its halves are shared out."""
    folder, epochs = folder_of(scratch), 1 if quick else 3
    found: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(1 if quick else 3):
        for processes, rates in found.items():
            rates.append(_rate(scratch, folder, processes, epochs))
    return [
        row("two processes / one, the same cores, images/s", ratios(found[2], found[1])),
        row("two processes, images/s", figure(found[2])),
        row("one process, images/s", figure(found[1])),
    ]


def _rate(scratch: Path, folder: Path, processes: int, epochs: int) -> float:
    """Images/s of all processes together, without the first ten steps."""
    here, threads = str(Path(__file__).parent.parent), max(1, CORES // processes)
    script = scratch / f"train-{processes}.py"
    script.write_text(_CHILD.format(here=here, threads=threads, folder=str(folder), epochs=epochs), encoding="utf-8")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    done = subprocess.run([*launcher, script], capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1]))
