"""What a user waits for before anything happens: help, and a second run that finds all done."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from measure import figure, interleaved

from .common import built_in_source, end_to_end, manifest_over, row

PROGRAM = str(Path(sys.executable).parent / "wilss-masks")


def measure(scratch: Path, quick: bool) -> list[dict[str, Any]]:
    """Wall seconds of whole processes."""
    count = 32 if quick else 1000
    manifest = manifest_over(scratch, count)
    store = scratch / "start.zarr"
    end_to_end(manifest, built_in_source(manifest), store)
    commands = {
        "wilss-masks --help": [PROGRAM, "--help"],
        "wilss-masks generate --help": [PROGRAM, "generate", "--help"],
        f"warm second run of {count} images": [
            *(PROGRAM, "generate", "--step", "0"), "--manifest", str(manifest.path), "--out", str(store)],
    }  # fmt: skip
    actions = {
        name: (lambda command=command: subprocess.run(command, check=True, capture_output=True))
        for name, command in commands.items()
    }
    taken = interleaved(actions, 3 if quick else 9)
    asked = {"warm": "under 3", "wilss-masks": "under 0.7"}
    return [row(f"{name}, s", figure(taken[name]), asked[name.split()[0]]) for name in commands]
