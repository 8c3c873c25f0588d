"""The built-in data over fewer drawings and with a smaller network: all of it takes longer than most tests."""

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
#: Of resnet18, with one block a stage; channels in multiples of eight, as published networks have.
NARROW: dict[str, Any] = {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}
SMALL_NETWORK: dict[str, Any] = {
    "backbone": "resnet18", "backbone_args": NARROW, "output_stride": 8, "head_width": 8,
    "rates": [1, 2], "crop": 32, "batch_size": 4, "epochs": 1, "precision": "fp32", "min_area": 4,
    "fmwiss": {"warmup_epochs": 0},
    "pseudoseg": {"width": 8},
    "panet": {"episodes": 4, "judged": 4, "batch_size": 2, "width": 8, "size": 0, "lr": 0.001},
}  # fmt: skip
#: Sections of the built-in manifest with which every command goes through in a moment, and learns nothing to speak of.
QUICK_SETTINGS: dict[str, Any] = {
    "train": {**SMALL_NETWORK, "base": {"epochs": 1}, "weak": {"epochs": 1}},
    "masks": {
        "fmwiss": {"clip_size": 0, "vit_size": 96, "templates": "plain"},
        "bank": {"features": "clip", "clip_size": 0, "vit_size": 96},
        "panet": {"vit_size": 96},
        "insid3": {"vit_size": 96},
    },
}


def built_in_manifest() -> dict[str, Any]:
    """The content of the manifest in the repository."""
    content: dict[str, Any] = yaml.safe_load((ROOT / "data_manifest.yaml").read_text(encoding="utf-8"))
    return content


def manifest_of_few(folder: Path, *, drawn: tuple[int, int], seed: int = 0, **sections: Any) -> Path:
    """Write the built-in manifest over so many drawings (train, val) into `folder`; they are drawn at first use.

    seed: which drawings. sections: take the place of its own.
    """
    content = built_in_manifest()
    generate = {**content["generate"], "train": drawn[0], "val": drawn[1], "seed": seed}
    path = folder / "data_manifest.yaml"
    path.write_text(yaml.safe_dump({**content, "path": "./shapes", "generate": generate, **sections}), encoding="utf-8")
    return path
