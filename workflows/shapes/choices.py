"""What the paper's recipe was chosen from: one parameter after the other, on the pictures of tuning.yaml.

    python workflows/shapes/choices.py        # into figures/tuning.json

Rows that are done are not made again. The manifest's own recipe, which came later, has no part in it.
"""

from collections.abc import Mapping
from typing import Any

from masks import FORMER, judged
from runs import HERE, Cell, keep_figures, spread

import wilss
from wilss_masks import FmwissSource

#: What a row has that says nothing else: the pictures at their own size, nine seeds drawn once.
_PLAIN: dict[str, Any] = {**FORMER, "vit_size": 0, "draws": 1, "threshold": 0.7}
ROWS: dict[str, Mapping[str, Any]] = {
    "threshold-0.5": {"threshold": 0.5},
    "threshold-0.7": {},
    "threshold-0.8": {"threshold": 0.8},
    "threshold-0.9": {"threshold": 0.9},
    "margin": {"background": "margin"},
    "value": {"form": "value"},
    "seeds-25": {"seeds": 25},
    "draws-5": {"draws": 5},
    "vit-224": {"vit_size": 224},
    "surer-224": {"threshold": 0.9, "vit_size": 224},
    "surer-224-draws": {"threshold": 0.9, "vit_size": 224, "draws": 5},
    "surer-224-draws-kk": {"threshold": 0.9, "vit_size": 224, "draws": 5, "affinity": "kk"},
    "surer-256-draws": {"threshold": 0.9, "vit_size": 256, "draws": 5},
}
_MASKS = ("init", "seeds", "intersection", "union")


def main() -> None:
    """Masks by every row, both maps alone and fused either way."""
    manifest = wilss.load_manifest(HERE / "tuning.yaml")
    cells: dict[str, dict[str, Cell]] = {}
    for key, changed in ROWS.items():
        source = FmwissSource.from_manifest(manifest, step=0, values={**_PLAIN, **changed})
        found = judged(manifest, "val", source, f"choice-{key}", ablation=True)
        cells[key] = {name: spread([found[name]["mean_iou"]]) for name in _MASKS}
    keep_figures("tuning", cells, seeds=1)


if __name__ == "__main__":
    main()
