"""The manifest of the built-in data over fewer drawings: drawing seven hundred takes longer than most tests."""

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]


def manifest_of_few(folder: Path, *, train: int, val: int, **changes: Any) -> Path:
    """Write the built-in manifest, with so many drawings, into `folder`; they are drawn there at first use."""
    content: dict[str, Any] = yaml.safe_load((ROOT / "data_manifest.yaml").read_text(encoding="utf-8"))
    drawn = {**content["generate"], "train": train, "val": val}
    path = folder / "data_manifest.yaml"
    path.write_text(yaml.safe_dump({**content, "path": "./shapes", "generate": drawn, **changes}), encoding="utf-8")
    return path
